"""Download models from the Hugging Face hub: which files, by which revision, checked, and offline.

The hub is a local test server, tests/models/hub.py.
"""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import HfApi, hf_hub_download, scan_cache_dir, snapshot_download

from course_lib.data import MODELS, ROOT
from course_lib.models.drivers import load
from course_lib.models.files.hub import snapshot_commit
from course_lib.models.gguf import export
from tests.models.hub import sha256
from tests.models.hub_client import (
    GGUF,
    NAME,
    REPOSITORY,
    TINY,
    WEIGHTS,
    cached,
    download,
    download_error,
    start_pull,
    wait,
)

pytest_plugins = ["tests.models.hub_fixtures"]


# -- the test hub works with huggingface_hub ---------------------------------------------------------


def test_huggingface_hub_downloads_a_complete_repository_from_the_test_hub(hub, tmp_path):
    folder = Path(snapshot_download(REPOSITORY, endpoint=hub.url, cache_dir=tmp_path / "all"))
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {
        p.name: p.read_bytes() for p in (MODELS / NAME).iterdir()
    }
    path = hf_hub_download(REPOSITORY, "config.json", endpoint=hub.url, cache_dir=tmp_path / "one")
    assert Path(path).read_bytes() == (MODELS / NAME / "config.json").read_bytes()
    infos = HfApi(endpoint=hub.url).get_paths_info(REPOSITORY, ["model.safetensors"])
    assert infos[0].lfs.sha256 == sha256((MODELS / NAME / "model.safetensors").read_bytes())


def test_files_cached_by_huggingface_hub_are_used(hub, offline, tmp_path):
    snapshot_download("o/tiny", endpoint=hub.url)
    hub.reset()
    offline()
    assert download() / "x" == cached(tmp_path) / "snapshots" / hub.commit("o/tiny") / "x"
    (download() / "model.safetensors").resolve().write_bytes(bytes(len(WEIGHTS)))
    download_error(r"model\.safetensors .*which was damaged and has been removed.*course models pull o/tiny")
    assert hub.requests == []


def test_huggingface_hub_uses_and_deletes_files_cached_by_the_course(hub, tmp_path):
    ours = download()
    assert Path(snapshot_download("o/tiny", local_files_only=True, cache_dir=tmp_path / "cache")) == ours
    cache_info = scan_cache_dir(tmp_path / "cache")
    assert cache_info.warnings == []
    cache_info.delete_revisions(ours.name).execute()
    assert not cached(tmp_path).exists()


# -- downloaded files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("driver", ["huggingface", "llamacpp"])
def test_a_downloaded_model_gives_the_same_answers_as_the_shipped_one(hub, offline, driver):
    download(REPOSITORY)
    offline()
    with_hub = load({"source": {"type": "huggingface", "repository": REPOSITORY}, "driver": driver})
    assert with_hub.generate(["When do you open?"]) == load(NAME, driver=driver).generate(
        ["When do you open?"]
    )


def test_only_needed_files_are_downloaded(online):
    needed = {
        "config.json",
        "tokenizer.json",
        "vocab.txt",
        "chat_template.jinja",
        "tokenizer.model",
        "model.safetensors",
        "1_Pooling/config.json",
        "modules.json",
    }
    unneeded = {
        "pytorch_model.bin",
        "pytorch_model.bin.index.json",
        "onnx/model.onnx",
        "README.md",
        "tf_model.h5",
        "consolidated.safetensors",
        "m.gguf",
        "run.py",
        ".gitattributes",
    }
    hub = online(
        {"o/all": dict.fromkeys(needed | unneeded, b"{}") | {"model.safetensors": WEIGHTS, "vocab.txt": b""}}
    )
    folder = download("o/all")
    assert {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} == needed
    assert {r.path.split(f"{hub.commit('o/all')}/")[1] for r in hub.requests_for("/resolve/")} == needed - {
        "vocab.txt"
    }  # an empty file needs no request


def test_an_adapters_config_weights_and_base_record_are_downloaded(online, offline):
    needed = {
        "adapter_config.json": b"{}",
        "adapter_model.safetensors": WEIGHTS,
        "base.json": b'{"model": "x"}',
    }
    hub = online(
        {
            "o/lora": needed
            | {"README.md": b"#", "optimizer.pt": b"\x80", "merged/model.safetensors": WEIGHTS},
            "o/half": {"adapter_config.json": b"{}"},
            "o/old": {"adapter_config.json": b"{}", "adapter_model.bin": b""},
        }
    )
    folder = download("o/lora")
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == needed
    assert wait(start_pull("o/lora"))[0] == 0
    download_error(r"o/half has no \.safetensors and no \.gguf", "o/half")
    download_error(r"o/old/adapter_model\.bin is a pickle", "o/old")
    assert {r.path.rpartition("/")[2] for r in hub.requests_for("/resolve/")} == needed.keys()
    offline()
    assert download("o/lora") == folder
    (folder / "adapter_model.safetensors").resolve().write_bytes(bytes(len(WEIGHTS)))
    download_error(r"adapter_model\.safetensors .*which was damaged.*course models pull o/lora", "o/lora")


def test_all_shards_of_the_weights_are_downloaded(online):
    split = {f"model-0000{i}-of-00002.safetensors": WEIGHTS for i in (1, 2)}
    online(
        {
            "o/split": split | {"config.json": b"{}"},
            "o/half": {"model-00001-of-00002.safetensors": WEIGHTS, "config.json": b"{}"},
        }
    )
    assert split.keys() <= {p.name for p in download("o/split").iterdir()}
    download_error(r"has no model-00002-of-00002\.safetensors", "o/half")


def test_a_second_download_only_checks_the_branch(hub):
    download()
    hub.requests.clear()
    download()
    assert [r.path for r in hub.requests] == ["/api/models/o/tiny/revision/main"]  # the branch may have moved


def test_files_are_hashed_again_only_when_they_have_changed(hub, offline):
    """A file with other content but unchanged size and modification time is not hashed again."""
    folder = download()
    path = (folder / "model.safetensors").resolve()
    stat = path.stat()
    path.write_bytes(WEIGHTS[:-1] + b"x")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    offline()
    assert download() == folder
    os.utime(path)
    download_error("damaged and has been removed")


def test_a_damaged_file_is_downloaded_again_when_online(hub, offline, monkeypatch):
    path = download() / "model.safetensors"
    path.resolve().write_bytes(bytes(len(WEIGHTS)))
    offline()
    download_error(r"missing files of o/tiny at main .*: model\.safetensors \(.* bytes\), which was damaged")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    hub.reset()
    assert (download() / "model.safetensors").read_bytes() == WEIGHTS
    assert len(hub.requests_for("/resolve/")) == 1


def test_without_symbolic_links_the_snapshot_contains_the_files(hub, offline, monkeypatch):
    def no_links(*_):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "symlink_to", no_links)
    folder = download()
    offline()
    assert download() == folder and not any(p.is_symlink() for p in folder.iterdir())
    (folder / "config.json").write_bytes(b"[]")
    download_error(r"config\.json .*damaged")


# -- fields of the source --------------------------------------------------------------------------


def test_files_are_stored_in_cache_dir(hub, tmp_path):
    assert download(cache_dir=tmp_path / "elsewhere").is_relative_to(tmp_path / "elsewhere")
    assert not cached(tmp_path).exists()


def test_local_files_only_sends_no_requests(hub):
    download_error("every file of o/tiny at main is missing", local_files_only=True)
    download()
    hub.reset()
    assert download(local_files_only=True) == download(local_files_only=True, revision=hub.commit("o/tiny"))
    assert hub.requests == []


def test_a_revision_is_a_branch_a_tag_or_a_commit(online):
    hub = online(
        {
            "o/tiny": {
                "main": TINY,
                "v1": TINY | {"config.json": b'{"v": 1}'},
                "refs/pr/1": TINY | {"config.json": b"[]"},
            }
        }
    )
    for revision, config in (
        ("main", "{}"),
        ("v1", '{"v": 1}'),
        ("refs/pr/1", "[]"),
        (hub.commit("o/tiny", "v1"), '{"v": 1}'),
    ):
        folder = download(revision=revision)
        assert (folder / "config.json").read_text() == config
        assert (
            folder.name
            == snapshot_commit(folder)
            == (hub.commit("o/tiny", revision) if len(revision) < 40 else revision)
        )
    download_error(r"no revision 'v2'.*/o/tiny/tree/main", revision="v2")


def test_a_cached_commit_needs_no_requests(hub):
    commit = hub.commit("o/tiny")
    folder = download(revision=commit)
    hub.reset()
    assert download(revision=commit) == folder and hub.requests == []


@pytest.mark.parametrize("revision", ["../../x", "/etc/x", "a//b", "."])
def test_a_revision_that_is_a_path_is_refused(hub, revision):
    download_error("not a valid branch, tag or commit", revision=revision)
    assert hub.requests == []


def test_filename_selects_one_gguf_file_with_its_shards(online, tmp_path):
    parts = {f"q4/m-0000{i}-of-00002.gguf": GGUF for i in (1, 2)}
    hub = online(
        {"o/gguf": {"a.gguf": GGUF, "README.md": b""} | parts, "o/one": {"m.gguf": GGUF, "README.md": b""}}
    )
    assert download("o/gguf", filename="a.gguf").name == "a.gguf"
    assert len(hub.requests_for("/resolve/")) == 1
    first = download("o/gguf", filename="q4/m-00001-of-00002.gguf")
    assert first.read_bytes() == first.with_name("m-00002-of-00002.gguf").read_bytes() == GGUF
    download_error(
        r"has no b\.gguf; its GGUF files: a\.gguf, q4/m-00001-of-00002\.gguf", "o/gguf", filename="b.gguf"
    )
    download_error(r"2 GGUF models: a\.gguf, q4/.*course models pull o/gguf --file a\.gguf", "o/gguf")
    assert download("o/one").name == "m.gguf"


def test_a_gguf_file_from_the_hub_is_loaded(online, tmp_path, offline):
    file = export(MODELS / NAME, tmp_path / "m-q8_0.gguf", "q8_0")
    online({"o/gguf": {file.name: file.read_bytes()}})
    model = load(
        {
            "source": {"type": "huggingface", "repository": "o/gguf", "filename": file.name},
            "driver": "llamacpp",
        }
    )
    assert model.parameters == 344384


def test_the_token_is_read_from_its_variable_and_gives_access_to_a_private_model(online, monkeypatch):
    hub = online({"o/tiny": TINY}, private=("o/tiny",))
    monkeypatch.setenv("MY_TOKEN", "hf_right")
    download_error(r"has no o/tiny, or it is private.*hf auth login")
    assert download(token="${env.MY_TOKEN}").is_dir()
    assert {r.token for r in hub.requests} == {None, "hf_right"}
    monkeypatch.delenv("MY_TOKEN")
    download_error(r"variable MY_TOKEN.*export MY_TOKEN=", token="${env.MY_TOKEN}")


def test_without_a_token_in_the_source_hf_token_is_used(online, monkeypatch):
    hub = online({"o/tiny": TINY}, gated=("o/tiny",))
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    download()
    assert {r.token for r in hub.requests} == {"hf_right"}


def test_a_wrong_sha256_is_refused_before_the_download(hub):
    download_error(
        rf"model\.safetensors .*SHA-256 {sha256(WEIGHTS)[:12]}\.\.\., but sha256 expects 000000000000\.\.\.",
        sha256={"model.safetensors": "0" * 64},
    )
    assert not hub.requests_for("/resolve/")
    right = {"model.safetensors": sha256(WEIGHTS), "tokenizer.json": sha256(TINY["tokenizer.json"])}
    assert download(sha256=right).is_dir()
    download_error(r"tokenizer\.json .*but sha256 expects 111111111111", sha256={"tokenizer.json": "1" * 64})
    download_error(
        "model.bin, which is not among the files used: config.json", sha256={"model.bin": "1" * 64}
    )


def test_a_sha256_that_the_hub_does_not_state_is_compared_after_the_download(hub):
    download_error(r"tokenizer\.json .*but sha256 expects 111111111111", sha256={"tokenizer.json": "1" * 64})


# -- offline ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["1", "ON", "yes", "true"])
def test_offline_no_request_is_sent_and_the_error_names_the_command(hub, monkeypatch, value):
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    download_error(r"every file of o/tiny at main is missing .*Fix: course models pull o/tiny$")
    download_error(
        r"a\.gguf of o/tiny at v1 .*pull o/tiny --revision v1 --file a\.gguf$",
        revision="v1",
        filename="a.gguf",
    )
    assert hub.requests == []


@pytest.mark.parametrize("value", ["0", "", "false", "OFF"])
def test_these_values_mean_online(hub, monkeypatch, value):
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    assert download().is_dir()


def test_transformers_offline_also_switches_downloads_off(hub, monkeypatch):
    monkeypatch.setenv("TRANSFORMERS_OFFLINE", "1")
    download_error("downloads are off")


def test_hf_hub_offline_is_read_at_each_call_not_at_import(hub):
    code = (
        "import os; os.environ['HF_HUB_OFFLINE'] = '1'; import huggingface_hub.constants\n"
        "os.environ['HF_HUB_OFFLINE'] = '0'\n"
        "from course_lib.models.schema import ModelSpec; from course_lib.models.files import resolve\n"
        "print(resolve(ModelSpec.parse('o/tiny').source).name)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True).strip() == hub.commit(
        "o/tiny"
    )


def test_the_error_names_the_missing_file_and_a_command_that_downloads_it(hub, offline, tmp_path):
    file = download() / "tokenizer.json"
    file.resolve().unlink()
    file.unlink()
    hub.reset()
    offline()
    error = download_error(
        r"missing files of o/tiny at main \([0-9a-f]{12}\): tokenizer\.json \(8 bytes\)\. Downloads are off"
    )
    command = shlex.split(error.fix)
    assert command[:3] == ["course", "models", "pull"]
    assert wait(start_pull(*command[3:]))[0] == 0
    assert download().is_dir() and len(hub.requests_for("/resolve/")) == 1


def test_the_download_command_includes_the_cache_folder_and_the_token_variable(offline, tmp_path):
    offline()
    error = download_error("missing", cache_dir=tmp_path / "a b", token="${env.MY_TOKEN}")
    assert error.fix == f"HF_TOKEN=\"$MY_TOKEN\" course models pull o/tiny --cache-dir '{tmp_path}/a b'"


@pytest.mark.parametrize("name", ["haneul-2m", "Qwen2.5-0.5B-Instruct"])
def test_for_a_name_without_an_owner_the_shipped_models_are_listed(hub, offline, name):
    for _ in range(2):
        error = download_error(rf"the course ships .*haneul-1m, haneul-300k.*but no {name}", name)
        assert ("on the hub it is Qwen/" in error.what) == (name[0] == "Q")
        offline()


def test_a_partial_download_by_another_program_is_not_taken_as_complete(hub, offline):
    hf_hub_download("o/tiny", "config.json", endpoint=hub.url)
    offline()
    download_error(r"missing files of o/tiny at main .*: \*\.safetensors\.")
