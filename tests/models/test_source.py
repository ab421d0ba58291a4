"""Finding a model's files by its source; damaged, incomplete and unsafe files are refused."""

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
    """A copy of a shipped model, which a test may change."""
    return shutil.copytree(MODELS / NAME, tmp_path / "model")


def resolve_path(path, **more):
    """Resolve a source of type local."""
    return resolve(LocalSource(path=path, **more))


# -- accepted ---------------------------------------------------------------------------------


def test_a_folder_and_a_gguf_file_are_found(folder, gguf):
    assert resolve_path(folder) == folder
    assert resolve_path(gguf) == gguf


def test_a_shipped_model_is_checked_by_its_sha256(monkeypatch, folder):
    assert resolve_path(MODELS / NAME) == MODELS / NAME
    (folder / "config.json").write_text("{}")
    monkeypatch.setattr("course_lib.data.MODELS", folder.parent)
    with pytest.raises(CourseError, match=r"model/config\.json is not the published file"):
        resolve_path(folder)


def test_a_tilde_path_is_found_in_the_home_folder(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert resolve_path("~/model") == folder


def test_the_home_folder_of_an_unknown_user_is_reported():
    with pytest.raises(CourseError, match="~nobody-of-this-name/model does not exist"):
        resolve_path("~nobody-of-this-name/model")


@pytest.mark.parametrize("given_in", ["NFC", "NFD"])
@pytest.mark.parametrize("named_in", ["NFC", "NFD"])
def test_a_korean_folder_is_found_in_either_unicode_form(folder, named_in, given_in):
    named = folder.rename(folder.with_name(unicodedata.normalize(named_in, "하늘은행")))
    assert resolve_path(folder.with_name(unicodedata.normalize(given_in, "하늘은행"))) == named


def test_of_two_folders_that_differ_only_in_unicode_form_the_given_one_is_used(folder):
    names = [unicodedata.normalize(form, "하늘") for form in ("NFC", "NFD")]
    assert names[0] != names[1]
    both = [shutil.copytree(folder, folder.with_name(n)) for n in names]
    assert [resolve_path(p) for p in both] == both


def test_symbolic_links_are_followed(folder):
    linked = folder.with_name("linked")
    linked.mkdir()
    for path in folder.iterdir():
        (linked / path.name).symlink_to(path)
    assert resolve_path(linked) == linked


def test_a_folder_with_one_gguf_file_resolves_to_that_file(tmp_path, gguf):
    path = shutil.copy(gguf, tmp_path / "only.gguf")
    assert resolve_path(tmp_path) == path
    assert resolve_path(tmp_path, format="gguf") == path


def test_the_error_for_several_gguf_files_lists_them(tmp_path, gguf):
    for name in ("a.gguf", "b.gguf"):
        shutil.copy(gguf, tmp_path / name)
    with pytest.raises(CourseError, match=r"2 GGUF models: a\.gguf, b\.gguf"):
        resolve_path(tmp_path)


def test_format_chooses_between_safetensors_and_gguf_in_a_folder(folder, gguf):
    shutil.copy(gguf, folder / "m.gguf")
    assert resolve_path(folder) == folder
    assert resolve_path(folder, format="safetensors") == folder
    assert resolve_path(folder, format="gguf") == folder / "m.gguf"


# -- refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "stated", "actual"),
    [("folder", "gguf", "safetensors"), ("file", "safetensors", "gguf"), ("shipped", "gguf", "safetensors")],
)
def test_a_wrong_format_is_refused(where, stated, actual, folder, gguf):
    path = {"folder": folder, "file": gguf, "shipped": MODELS / NAME}[where]
    with pytest.raises(
        CourseError, match=f'format: \'{stated}\', but .* is {actual}.*\n.*"format": "{actual}"'
    ):
        resolve_path(path, format=stated)


def test_a_folder_of_gguf_is_not_safetensors(tmp_path, gguf):
    shutil.copy(gguf, tmp_path / "only.gguf")
    with pytest.raises(CourseError, match=r"format: 'safetensors', but .* is gguf"):
        resolve_path(tmp_path, format="safetensors")


@pytest.mark.parametrize("path", ["/no/such/model", "./no-such-model", "/dev/null"])
def test_a_missing_path_is_reported(path):
    with pytest.raises(CourseError, match=f"{path.removeprefix('./')} does not exist"):
        resolve_path(path)


def test_a_file_name_that_is_too_long_is_reported():
    with pytest.raises(CourseError, match=r"cannot be read: .*too long"):
        resolve_path("/tmp/" + "x" * 300)


class Evil:
    """An object whose unpickling creates the file `path`."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.ckpt", "model.pkl"])
def test_a_pickle_is_refused_with_the_reason_and_never_loaded(tmp_path, name):
    (tmp_path / name).write_bytes(pickle.dumps(Evil(tmp_path / "created")))
    (tmp_path / "config.json").write_text("{}")
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(CourseError, match=rf"{name} is a pickle.*any code.*\n.*\.safetensors or \.gguf"):
            resolve_path(path)
    assert not (tmp_path / "created").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "model.gguf"])
def test_a_pickle_with_another_suffix_is_refused(folder, name):
    (folder / name).write_bytes(pickle.dumps(Evil(folder / "created")))
    with pytest.raises(CourseError, match=r"is not a (safetensors|GGUF) file: .*begins with b'.x80"):
        resolve_path(folder if name == "model.safetensors" else folder / name)
    assert not (folder / "created").exists()


@pytest.mark.parametrize("kept_bytes", [0, 5, 100, 200_000, -1])
def test_truncated_safetensors_are_refused_before_loading(folder, kept_bytes):
    path = folder / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:kept_bytes])
    with pytest.raises(CourseError, match=r"safetensors"):
        resolve_path(folder)
    if kept_bytes in (200_000, -1):
        with pytest.raises(
            CourseError,
            match=rf"has {len(content[:kept_bytes]):,} bytes, but should have {len(content):,} by its header",
        ):
            load({"source": {"type": "local", "path": folder}})


@pytest.mark.parametrize("kept_bytes", [0, 3, 10, 1000, 200_000, -1])
def test_a_truncated_gguf_file_is_refused(tmp_path, gguf, kept_bytes):
    path = tmp_path / "cut.gguf"
    path.write_bytes(gguf.read_bytes()[:kept_bytes])
    with pytest.raises(CourseError, match=r"cut\.gguf.*\n.*again|cut\.gguf is not a GGUF file"):
        load({"source": {"type": "local", "path": path}, "driver": "llamacpp"})


@pytest.mark.parametrize("name", ["model.safetensors", "m.gguf"])
def test_a_git_lfs_pointer_is_recognized(folder, name):
    (folder / name).write_text(
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 690856\n"
    )
    with pytest.raises(CourseError, match=r"is a Git LFS pointer.*\n.*git -C .* lfs pull"):
        resolve_path(folder if name == "model.safetensors" else folder / name)


def test_weights_without_their_folder_or_config_are_refused(folder):
    with pytest.raises(CourseError, match=f"has only the weights.*\n.*{folder}"):
        resolve_path(folder / "model.safetensors")
    (folder / "config.json").unlink()
    with pytest.raises(CourseError, match=r"no config\.json"):
        resolve_path(folder)


def test_a_missing_shard_is_named(folder):
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    with pytest.raises(CourseError, match=r"model-00002-of-00002\.safetensors is missing"):
        resolve_path(folder)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(CourseError, match=r"no \.safetensors and no \.gguf file"):
        resolve_path(tmp_path)


def test_a_server_model_has_no_local_files():
    with pytest.raises(CourseError, match="is on a server"):
        resolve(ModelSpec.parse("llama3.2:1b", driver="ollama").source)


# -- file names -----------------------------------------------------------------------------------


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
def test_any_shard_gives_all_shards_of_one_model(count, data):
    names = [f"m-{i:05}-of-{count:05}.gguf" for i in range(1, count + 1)]
    shard = data.draw(st.sampled_from(names))
    assert shards(shard) == names
    assert gguf_models(names) == gguf_models([shard]) == names[:1]


@given(st.text(min_size=1))
def test_an_unsplit_file_is_its_only_shard(name):
    assert shards(name) == [name] or "-of-" in name


def test_every_shipped_model_is_complete():
    for name in catalog.shipped():
        assert resolve(ModelSpec.parse(name).source) == MODELS / name
        assert json.loads((MODELS / name / "config.json").read_text())["architectures"]
