"""From a source to files: complete ones are found, damaged and unsafe ones refused with a fix."""

import json
import pickle
import shutil
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.data import MODELS
from course_lib.errors import CourseError
from course_lib.models import catalog
from course_lib.models.drivers import load
from course_lib.models.files import resolve
from course_lib.models.files.headers import gguf_models, shards, weight_files
from course_lib.models.gguf import export
from course_lib.models.schema import LocalSource, ModelSpec

NAME = "haneul-300k"


@pytest.fixture(scope="module")
def gguf(tmp_path_factory):
    return export(MODELS / NAME, tmp_path_factory.mktemp("gguf") / "m.gguf", "q8_0")


@pytest.fixture
def folder(tmp_path):
    """A model of one's own: a copy of a shipped one."""
    return shutil.copytree(MODELS / NAME, tmp_path / "model")


def local(path, **more):
    return resolve(LocalSource(path=path, **more))


# -- what is found ---------------------------------------------------------------------------------


def test_a_folder_and_a_gguf_file_are_found(folder, gguf):
    assert local(folder) == folder
    assert local(gguf) == gguf


def test_a_shipped_model_is_checked_against_its_sums(monkeypatch, folder):
    assert local(MODELS / NAME) == MODELS / NAME
    (folder / "config.json").write_text("{}")
    monkeypatch.setattr("course_lib.data.MODELS", folder.parent)
    with pytest.raises(CourseError, match=r"model/config\.json is not the published file"):
        local(folder)


def test_a_folder_given_with_a_tilde_is_found_in_the_home_folder(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert local("~/model") == folder


def test_the_home_of_nobody_is_told():
    with pytest.raises(CourseError, match="cannot be read"):
        local("~nobody-of-this-name/model")


@pytest.mark.parametrize("given_in", ["NFC", "NFD"])
@pytest.mark.parametrize("named_in", ["NFC", "NFD"])
def test_a_korean_folder_is_found_in_either_unicode_form(folder, named_in, given_in):
    named = folder.rename(folder.with_name(unicodedata.normalize(named_in, "하늘은행")))
    assert local(folder.with_name(unicodedata.normalize(given_in, "하늘은행"))) == named


def test_of_two_folders_that_differ_in_their_form_alone_the_one_given_is_taken(folder):
    names = [unicodedata.normalize(form, "하늘") for form in ("NFC", "NFD")]
    assert names[0] != names[1]
    both = [shutil.copytree(folder, folder.with_name(n)) for n in names]
    assert [local(p) for p in both] == both


def test_links_are_followed_as_a_hub_cache_needs_it(folder):
    linked = folder.with_name("linked")
    linked.mkdir()
    for path in folder.iterdir():
        (linked / path.name).symlink_to(path)
    assert local(linked) == linked


def test_a_folder_with_one_gguf_file_means_that_file(tmp_path, gguf):
    path = shutil.copy(gguf, tmp_path / "only.gguf")
    assert local(tmp_path) == path
    assert local(tmp_path, format="gguf") == path


def test_several_gguf_files_are_listed_to_choose_from(tmp_path, gguf):
    for name in ("a.gguf", "b.gguf"):
        shutil.copy(gguf, tmp_path / name)
    with pytest.raises(CourseError, match=r"2 GGUF models: a\.gguf, b\.gguf"):
        local(tmp_path)


def test_a_folder_that_holds_both_is_read_as_format_says(folder, gguf):
    shutil.copy(gguf, folder / "m.gguf")
    assert local(folder) == folder
    assert local(folder, format="safetensors") == folder
    assert local(folder, format="gguf") == folder / "m.gguf"


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "said", "found"),
    [("folder", "gguf", "safetensors"), ("file", "safetensors", "gguf"), ("shipped", "gguf", "safetensors")],
)
def test_a_format_that_disagrees_is_refused(where, said, found, folder, gguf):
    path = {"folder": folder, "file": gguf, "shipped": MODELS / NAME}[where]
    with pytest.raises(CourseError, match=f'format: \'{said}\', but .* is {found}.*\n.*"format": "{found}"'):
        local(path, format=said)


def test_a_folder_of_gguf_is_not_safetensors(tmp_path, gguf):
    shutil.copy(gguf, tmp_path / "only.gguf")
    with pytest.raises(CourseError, match=r"format: 'safetensors', but .* is gguf"):
        local(tmp_path, format="safetensors")


@pytest.mark.parametrize("path", ["/no/such/model", "./no-such-model", "/dev/null"])
def test_a_path_without_a_model_does_not_exist(path):
    with pytest.raises(CourseError, match=f"{path.removeprefix('./')} does not exist"):
        local(path)


def test_a_name_that_no_file_can_have_is_told():
    with pytest.raises(CourseError, match=r"cannot be read: .*too long"):
        local("/tmp/" + "x" * 300)


class Evil:
    """Unpickling it would make a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.ckpt", "model.pkl"])
def test_a_pickle_is_refused_with_the_reason_and_never_read(tmp_path, name):
    (tmp_path / name).write_bytes(pickle.dumps(Evil(tmp_path / "made")))
    (tmp_path / "config.json").write_text("{}")
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(CourseError, match=rf"{name} is a pickle.*any code.*\n.*\.safetensors or \.gguf"):
            local(path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "model.gguf"])
def test_a_pickle_under_another_name_is_no_model(folder, name):
    (folder / name).write_bytes(pickle.dumps(Evil(folder / "made")))
    with pytest.raises(CourseError, match=r"is not a (safetensors|GGUF) file: .*begins with b'.x80"):
        local(folder if name == "model.safetensors" else folder / name)
    assert not (folder / "made").exists()


@pytest.mark.parametrize("keep", [0, 5, 100, 200_000, -1])
def test_truncated_safetensors_are_found_before_they_are_loaded(folder, keep):
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:keep])
    with pytest.raises(CourseError, match=r"safetensors"):
        local(folder)
    if keep in (200_000, -1):
        with pytest.raises(
            CourseError,
            match=rf"has {len(whole[:keep]):,} bytes, but should have {len(whole):,} by its header",
        ):
            load({"source": {"type": "local", "path": folder}})


@pytest.mark.parametrize("keep", [0, 3, 10, 1000, 200_000, -1])
def test_a_truncated_gguf_is_told_and_not_loaded(tmp_path, gguf, keep):
    path = tmp_path / "cut.gguf"
    path.write_bytes(gguf.read_bytes()[:keep])
    with pytest.raises(CourseError, match=r"cut\.gguf.*\n.*again|cut\.gguf is not a GGUF file"):
        load({"source": {"type": "local", "path": path}, "driver": "llamacpp"})


@pytest.mark.parametrize("name", ["model.safetensors", "m.gguf"])
def test_a_pointer_of_git_lfs_is_told_as_such(folder, name):
    (folder / name).write_text(
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 690856\n"
    )
    with pytest.raises(CourseError, match=r"is a Git LFS pointer.*\n.*git -C .* lfs pull"):
        local(folder if name == "model.safetensors" else folder / name)


def test_the_weights_alone_are_not_a_model(folder):
    with pytest.raises(CourseError, match=f"has only the weights.*\n.*{folder}"):
        local(folder / "model.safetensors")
    (folder / "config.json").unlink()
    with pytest.raises(CourseError, match=r"no config\.json"):
        local(folder)


def test_a_missing_part_of_the_weights_is_named(folder):
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    with pytest.raises(CourseError, match=r"model-00002-of-00002\.safetensors is missing"):
        local(folder)


def test_an_empty_folder_holds_no_weights(tmp_path):
    with pytest.raises(CourseError, match=r"no \.safetensors and no \.gguf file"):
        local(tmp_path)


def test_a_model_on_a_server_has_no_files():
    with pytest.raises(CourseError, match="is on a server"):
        resolve(ModelSpec.parse("llama3.2:1b", driver="ollama").source)


# -- which files -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["model.safetensors", "consolidated.safetensors", "model.fp16.safetensors"], ["model.safetensors"]),
        (
            ["model-00002-of-00002.safetensors", "consolidated.safetensors"],
            ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
        ),
        (["onnx/model.safetensors", "weights.safetensors"], ["weights.safetensors"]),
        (["onnx/model.safetensors", "pytorch_model.bin"], []),
    ],
)
def test_the_weights_are_those_that_transformers_reads(names, expected):
    assert weight_files(names) == expected


@given(st.integers(1, 30), st.data())
def test_any_part_names_all_parts_and_they_count_as_one_model(count, draw):
    names = [f"m-{i:05}-of-{count:05}.gguf" for i in range(1, count + 1)]
    one = draw.draw(st.sampled_from(names))
    assert shards(one) == names
    assert gguf_models(names) == gguf_models([one]) == names[:1]


@given(st.text(min_size=1))
def test_a_file_that_was_not_split_is_its_only_part(name):
    assert shards(name) == [name] or "-of-" in name


def test_every_shipped_model_is_in_order():
    for name in catalog.shipped():
        assert resolve(ModelSpec.parse(name).source) == MODELS / name
        assert json.loads((MODELS / name / "config.json").read_text())["architectures"]
