"""Failures while downloading from a hub: no incomplete model remains, and each error names its fix."""

import contextlib
import json
import os
import signal
import socket
import time
import traceback
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from course_lib.errors import CourseError
from course_lib.models.drivers import load
from course_lib.models.files import hub_cache
from course_lib.models.files.hub_download import is_unsafe
from tests.models.hub import git_sha1, sha256
from tests.models.hub_client import (
    BIG,
    PARTIAL,
    TINY,
    WEIGHTS,
    cached,
    download,
    download_error,
    start_pull,
    wait,
)

pytest_plugins = ["tests.models.hub_fixtures"]
CHUNK_BYTES = 10 * 2**20  # how much huggingface_hub receives before it writes to disk


# -- interruptions ---------------------------------------------------------------------------------


def test_an_interrupted_download_leaves_no_snapshot_and_the_next_one_resumes(big_hub, offline, tmp_path):
    big_hub.plant("model.safetensors", stall=24_000_000)
    process = start_pull("o/big")
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError):  # it is made anew when the download begins
            if sum(p.stat().st_size for p in cached(tmp_path, "o/big").glob(PARTIAL)) >= 20_000_000:
                break
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    code, out, err = wait(process)
    assert (code, out) == (130, "") and "interrupted" in err
    [partial] = cached(tmp_path, "o/big").glob(PARTIAL)
    received = partial.stat().st_size
    assert 20_000_000 <= received < len(BIG) and not any(cached(tmp_path, "o/big").glob("snapshots/*"))
    offline()
    download_error(
        r"missing files of o/big at main .*: model\.safetensors \(26\.0 MB\)\. Downloads are off", "o/big"
    )
    big_hub.reset()
    code, out, err = wait(start_pull("o/big"))
    assert code == 0 and f"verified, at commit {big_hub.commit('o/big')}" in out and "26.0M/26.0M" in err
    assert big_hub.bytes_sent("model.safetensors") == len(BIG) - received
    assert (download("o/big") / "model.safetensors").read_bytes() == BIG


def test_a_process_killed_before_linking_loses_no_downloads(hub, tmp_path, offline):
    """If all blobs are in the cache, the snapshot is created without the hub."""
    folder = download()
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    (cached(tmp_path) / "refs" / "main").unlink()
    offline()
    assert (download() / "model.safetensors").read_bytes() == WEIGHTS


def test_a_failed_update_leaves_the_old_snapshot(online, monkeypatch):
    new = TINY | {
        "model.safetensors": save({"w": np.ones(100, dtype=np.float32)}),
        "config.json": b'{"new": 1}',
    }
    hub = online({"o/tiny": {"main": TINY, "next": new}})
    old = download()
    hub.repositories["o/tiny"]["main"] = hub.repositories["o/tiny"]["next"]
    hub.plant("model.safetensors", status=500)
    download_error("server error")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert download() == old and (old / "config.json").read_bytes() == b"{}"
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    hub.reset()
    assert download() != old and (download() / "config.json").read_bytes() == b'{"new": 1}'
    assert len(hub.requests_for("config.json")) == 0  # downloaded by the first attempt


def test_a_download_resumes_after_a_lost_connection(big_hub, no_retry_delay):
    big_hub.plant("model.safetensors", cut=15_000_000, times=1)
    assert (download("o/big") / "model.safetensors").read_bytes() == BIG
    first, second = big_hub.requests_for("model.safetensors")
    assert first.range == "" and second.range == f"bytes={CHUNK_BYTES}-"
    assert second.sent == len(BIG) - CHUNK_BYTES


def test_a_download_restarts_if_the_hub_ignores_ranges(big_hub, no_retry_delay):
    big_hub.plant("model.safetensors", cut=15_000_000, times=1)
    big_hub.plant("model.safetensors", no_ranges=True)
    assert (download("o/big") / "model.safetensors").read_bytes() == BIG


def test_a_connection_that_is_always_lost_is_reported(big_hub, no_retry_delay):
    big_hub.plant("model.safetensors", cut=1000)
    download_error("connection to http://127.0.0.1:.* was lost.*course models pull o/big  # resumes", "o/big")


def test_two_simultaneous_downloads_fetch_each_file_once(big_hub, tmp_path):
    assert [wait(p)[0] for p in [start_pull("o/big"), start_pull("o/big")]] == [0, 0]
    assert big_hub.bytes_sent("/resolve/") == sum(map(len, (TINY | {"model.safetensors": BIG}).values()))


# -- faults of the hub -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_wrong_hash_is_reported_with_both_values_and_the_file_is_removed(hub, tmp_path, name):
    hub.plant(name, flip=3)
    stated = (sha256 if name == "model.safetensors" else git_sha1)(TINY[name])[:12]
    error = download_error(
        rf"o/tiny/{name} arrived with hash [0-9a-f]{{12}}\.\.\., but the hub states {stated}\.\.\."
    )
    assert stated not in error.what.split("states")[0]
    assert not any(cached(tmp_path).glob("snapshots/*")) and not any(cached(tmp_path).glob(PARTIAL))
    hub.reset()
    assert (download() / name).read_bytes() == TINY[name]


def test_a_partial_file_with_other_content_is_removed(hub, tmp_path):
    blob = cached(tmp_path) / "blobs" / f"{sha256(WEIGHTS)}.incomplete"
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"something else")
    download_error("arrived with hash")
    assert (download() / "model.safetensors").read_bytes() == WEIGHTS
    blob.write_bytes(bytes(10_000))  # longer than the complete file
    (download() / "model.safetensors").resolve().unlink()
    assert (download() / "model.safetensors").read_bytes() == WEIGHTS


def test_a_file_smaller_than_stated_is_refused(online):
    online({"o/tiny": TINY}, stated_sizes={"model.safetensors": len(WEIGHTS) + 100})
    download_error("a different size than the hub states")
    download_error("HTTP 416|different size")  # the partial file cannot be resumed, and is removed
    download_error("a different size than the hub states")


def test_a_file_larger_than_stated_is_refused(online):
    online({"o/tiny": TINY}, stated_sizes={"model.safetensors": 10})
    download_error("sends more than the stated 10 bytes of model.safetensors")


def test_an_endless_file_is_stopped(hub, tmp_path):
    hub.plant("model.safetensors", extra=50_000_000)
    download_error(f"sends more than the stated {len(WEIGHTS):,} bytes of model.safetensors")
    assert sum(p.stat().st_size for p in cached(tmp_path).rglob("*") if p.is_file()) < 20_000_000


def test_a_full_disk_is_reported_with_sizes_before_any_download(online):
    hub = online({"o/tiny": TINY}, stated_sizes={"model.safetensors": 10**16})
    download_error(r"o/tiny needs 10,000,000,000 MB, but [\d,]+ MB are free at (.|\n)*HF_HUB_CACHE")
    assert not hub.requests_for("/resolve/")


def test_an_unwritable_cache_is_reported(hub, tmp_path):
    (tmp_path / "file").write_text("")
    download_error("cannot be written: Not a directory.*HF_HUB_CACHE", cache_dir=tmp_path / "file" / "cache")


@pytest.mark.parametrize(
    ("where", "fault", "match"),
    [
        (
            "/api/",
            {"status": 401, "message": "Invalid credentials in Authorization header"},
            "rejects the token.*hf auth login",
        ),
        ("/api/", {"status": 401}, "or it is private"),
        ("/api/", {"status": 404, "code": "RepoNotFound"}, "or it is private"),
        ("/api/", {"status": 404}, "or it is private"),
        ("/api/", {"status": 404, "code": "RevisionNotFound"}, "no revision"),
        ("/api/", {"status": 403}, "may not read o/tiny.*settings/tokens"),
        ("/api/", {"status": 429}, "too many requests.*in a few minutes"),
        ("/api/", {"status": 500}, "server error.*later"),
        ("/api/", {"status": 503}, "server error"),
        ("/api/", {"status": 400}, "refuses o/tiny .HTTP 400"),
        ("/api/", {"status": 418}, "refuses o/tiny .HTTP 418"),
        (
            "/api/",
            {"body": b"<html>not here</html>"},
            "does not answer like a Hugging Face hub.*unset HF_ENDPOINT",
        ),
        ("/api/", {"body": b"[]"}, "does not answer like a Hugging Face hub"),
        ("/api/", {"body": b"{}"}, "does not answer like a Hugging Face hub"),
        ("/api/", {"body": b"\xff\xfe"}, "does not answer like a Hugging Face hub"),
        (
            "/api/",
            {"body": json.dumps({"id": "x", "sha": "../../x", "siblings": []}).encode()},
            "does not answer like a Hugging Face hub",
        ),
        ("/api/", {"stall": 5}, "sent nothing for 0.3 s.*HF_HUB_DOWNLOAD_TIMEOUT="),
        ("/api/", {"cut": 5}, "was lost"),
        (
            "/resolve/",
            {"status": 403, "code": "GatedRepo"},
            "gated.*hf auth login.*accept them at http.*/o/tiny$",
        ),
        ("/resolve/", {"status": 404, "code": "EntryNotFound"}, "lists a file of o/tiny but does not have"),
        ("model.safetensors", {"stall": 100}, "sent nothing for 0.3 s"),
        ("model.safetensors", {"status": 500}, "server error"),
    ],
)
def test_every_hub_error_has_its_message_and_fix(hub, request, where, fault, match):
    request.getfixturevalue("short_timeout" if "stall" in fault else "no_retry_delay")
    hub.plant(where, **fault)
    download_error(match)
    hub.reset()
    assert download().is_dir()  # the failed attempt has left nothing behind


def test_the_error_for_a_gated_model_links_to_its_conditions(online):
    online({"o/tiny": TINY}, gated=("o/tiny",))
    download_error(r"o/tiny is gated.*HF_TOKEN.*accept them at http://127\.0\.0\.1:\d+/o/tiny$")


def test_a_hub_that_cannot_be_reached(online, monkeypatch, no_retry_delay):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # reserves a port without listening
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{closed.getsockname()[1]}")
        download_error("cannot be reached.*online")


@pytest.mark.parametrize(
    "address", ["ftp://x", "http://", "http://user:hf_secret@x", "nonsense", "http://[x", "http://a b"]
)
def test_a_malformed_hub_url_is_refused(online, monkeypatch, address):
    monkeypatch.setenv("HF_ENDPOINT", address)
    assert "secret" not in str(download_error("HF_ENDPOINT is not a valid URL.*unset HF_ENDPOINT"))


def test_if_the_hub_fails_load_warns_and_uses_cached_files_but_pull_raises(hub):
    folder = download()
    hub.plant("/api/", status=503)
    with pytest.warns(
        UserWarning,
        match=f"server error.*using the cached copy of o/tiny, commit {hub.commit('o/tiny')[:12]}",
    ):
        assert download() == folder
    download_error("server error", pull=True)


@pytest.mark.parametrize("where", ["/api/", "/resolve/"])
def test_a_token_is_never_shown_even_if_the_hub_repeats_it(hub, monkeypatch, where):
    monkeypatch.setenv("MY_TOKEN", "hf_secret")
    hub.token = "hf_secret"
    hub.plant(where, status=400, message="your token is hf_secret")
    with pytest.raises(CourseError) as caught:
        download(token="${env.MY_TOKEN}")
    assert "hf_secret" not in "".join(traceback.format_exception(caught.value))
    assert hub.requests_for(where)[0].token == "hf_secret"


@pytest.mark.parametrize("token", ["hf_secret\n", "hf secret", "하늘secret"])
def test_a_malformed_token_is_refused_and_not_shown(hub, monkeypatch, token):
    monkeypatch.setenv("MY_TOKEN", token)
    assert "secret" not in str(
        download_error("MY_TOKEN contains a character that is not allowed", token="${env.MY_TOKEN}")
    )
    monkeypatch.setenv("HF_TOKEN", f"hf_x {token}")
    assert "secret" not in str(download_error("HF_TOKEN contains a character"))
    assert hub.requests == []


# -- unsafe repositories ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pickles", [["pytorch_model.bin"], ["model.ckpt"], ["tf_model.h5", "flax_model.msgpack"]]
)
def test_a_repository_with_only_pickles_is_refused_before_any_download(online, pickles):
    hub = online({"o/evil": {"config.json": b"{}"} | dict.fromkeys(pickles, b"\x80")})
    download_error(
        r"o/evil/\S+ is a pickle or a similar format: loading it can run any code.*\.safetensors or \.gguf",
        "o/evil",
    )
    assert not hub.requests_for("/resolve/")


def test_a_repository_without_a_model_is_refused_before_any_download(online):
    hub = online(
        {
            "o/none": {"README.md": b""},
            "o/half": {"generation_config.json": b"{}", "model.safetensors": WEIGHTS},
        }
    )
    download_error(r"no \.safetensors and no \.gguf", "o/none")
    download_error(r"has model\.safetensors but no config\.json", "o/half")
    assert not hub.requests_for("/resolve/")


@pytest.mark.parametrize(
    "name",
    [
        "../evil.json",
        "../../../evil.json",
        "/tmp/course-evil.json",
        "a/../../evil.json",
        "..\\evil.json",
        "C:evil.json",
        "\\\\host\\evil.json",
        "a//evil.json",
        "./evil.json",
        "e\nvil.json",
    ],
)
def test_a_file_name_outside_the_folder_is_refused_and_nothing_is_written(online, tmp_path, name):
    online({"o/evil": TINY | {name: b"{}"}})
    download_error("o/evil has a file named .*outside its folder.*do not use", "o/evil")
    assert not list(tmp_path.rglob("*evil.json")) and not Path("/tmp/course-evil.json").exists()


@given(st.text(st.sampled_from("a/\\.:C~ \n\0"), min_size=1, max_size=12))
def test_a_safe_name_stays_in_its_folder(name):
    if not is_unsafe(name):
        assert os.path.normpath(os.path.join("/r/s", name)).startswith("/r/s/")


def test_a_symbolic_link_in_a_repository_is_stored_as_text(online, tmp_path):
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    (folder / "tokenizer.json").write_text("{}")
    (folder / "config.json").symlink_to("/etc/passwd")
    online({"o/evil": folder})
    assert (download("o/evil") / "config.json").read_text() == "/etc/passwd"
    with pytest.raises(CourseError):
        load({"source": {"type": "huggingface", "repository": "o/evil"}})


def test_a_damaged_record_is_written_again(hub, tmp_path, offline):
    download()
    for path in (cached(tmp_path) / "course").glob("*.json"):
        path.write_text("{ nonsense")
    assert download().is_dir()
    offline()
    assert download().is_dir()


def test_hash_file_uses_git_sha1_or_sha256(tmp_path):
    (tmp_path / "x").write_bytes(b"Hello, World!")
    assert (
        hub_cache.hash_file(tmp_path / "x", "0" * 40) == "b45ef6fec89518d314f546fd6c3025367b721684"
    )  # git hash-object
    assert hub_cache.hash_file(tmp_path / "x", "0" * 64) == sha256(b"Hello, World!")
