"""The folder of models: whole or not there, whatever happens to it."""

import asyncio
import contextlib
import json
import os
import shutil
import threading
from pathlib import Path

import pytest

from course_lib.data import sha256
from course_lib.errors import CourseError
from course_lib.models.schema import Generation
from course_lib.serve import limits
from course_lib.serve import store as storing
from course_lib.serve.completion import CompletionRequest
from course_lib.serve.errors import ApiError
from course_lib.serve.model_info import details, model_info
from course_lib.serve.store import Store
from course_lib.serve.tags import Tag
from course_lib.serve.worker import Worker

NAME = "haneul-300k:q4_0"


def completed(worker, request):
    tag = worker.store.find(NAME)
    return asyncio.run(worker.run(lambda channel: worker.complete(tag, request, 0, channel), worker.texts))


@pytest.fixture
def small(exports, tmp_path, monkeypatch):
    monkeypatch.setenv(
        "COURSE_MODELS_DIR", str(tmp_path / "none")
    )  # what this machine has pulled would be there
    store = Store(tmp_path / "models")
    assert list(store.pull(NAME))[-1] == {"status": "success"}
    return store


def test_a_store_is_found_again_and_filled_only_once(small):
    again = Store(small.manifests.parent)
    before = again.find(NAME)
    again.add_shipped()
    assert again.find(NAME) == before and {t.name for t in again.tags()} > {
        NAME,
        "haneul-4m:latest",
        "all-minilm:latest",
    }
    times = {p: p.stat().st_mtime_ns for p in again.blobs.iterdir()}
    again.add_shipped()
    assert {p: p.stat().st_mtime_ns for p in again.blobs.iterdir()} == times


def test_tags_of_one_file_share_it_until_the_last_is_gone(small):
    small.copy(NAME, "a")
    small.copy("a", "b:c")
    assert small.find("a:latest").digest == small.find("b:c").digest and len(list(small.blobs.iterdir())) == 1
    assert small.find("a").key == small.find(NAME).key
    assert small.delete(NAME) is None and small.delete("a") is None
    last = small.delete("b:c")
    assert last is not None and list(small.blobs.iterdir()) == [] and small.tags() == []
    assert list(small.manifests.iterdir()) == [], "folders of deleted models are left"


def test_clients_cannot_fill_the_store_with_names(small, monkeypatch):
    """Every list of models reads them all."""
    monkeypatch.setattr(limits, "MAX_MODELS", 3)
    for name in ("a", "b", "a"):
        small.copy(NAME, name)
    with pytest.raises(ApiError, match="the store has 3 names, its most") as refused:
        small.copy(NAME, "c")
    assert refused.value.status == 507 and len(small.tags()) == 3
    list(small.pull("haneul-300k:q8_0"))  # the library is finite
    small.delete("a")
    small.delete("b")
    small.copy(NAME, "c")


def test_a_pull_that_is_left_leaves_nothing(small):
    before = set(small.blobs.iterdir())
    lines = small.pull("haneul-1m:f32")
    while "completed" not in next(lines):
        pass
    lines.close()
    assert set(small.blobs.iterdir()) == before
    with pytest.raises(ApiError, match="not found"):
        small.find("haneul-1m:f32")


def test_pulls_of_one_model_at_once_do_not_disturb_each_other(small):
    last_lines = []
    threads = [
        threading.Thread(target=lambda: last_lines.append(list(small.pull(NAME))[-1])) for _ in range(4)
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert last_lines == [{"status": "success"}] * 4
    assert (
        sha256(small.file(small.find(NAME))) == small.find(NAME).digest
        and len(list(small.blobs.iterdir())) == 1
    )


def test_an_altered_file_is_not_loaded_and_the_next_pull_mends_it(small):
    worker, file = Worker(small), small.file(small.find(NAME))
    request = CompletionRequest([{"role": "user", "content": "Hi"}], Generation(), num_predict=4)
    good = completed(worker, request).piece.text
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(CourseError, match=r"missing or altered\n.*pull it again"):
        completed(worker, request)
    list(small.pull(NAME))
    assert completed(worker, request).piece.text == good
    file.unlink()
    with pytest.raises(ApiError, match="not found"):
        completed(worker, request)
    worker.close()


def test_what_is_deleted_while_it_is_pulled_or_read_is_not_found(small, monkeypatch):
    """The pull ended in "internal server error"; the manifest counted as damaged."""
    pulling = small.pull(NAME)
    while next(pulling) != {"status": "verifying sha256 digest"}:
        pass
    read = storing._read

    def late(path):
        path.unlink(missing_ok=True)
        return read(path)

    small.delete(NAME)
    with pytest.raises(ApiError) as pulled:
        list(pulling)
    list(small.pull(NAME))
    monkeypatch.setattr(storing, "_read", late)
    with pytest.raises(ApiError) as found:
        small.find(NAME)
    assert (pulled.value.status, found.value.status) == (404, 404)


def test_a_damaged_manifest_is_named_and_harms_no_other_model(small, caplog):
    small.copy(NAME, "other")
    path = small.manifests / "library" / "haneul-300k" / "q4_0.json"
    for text in ("{", "[]", '{"name": "x"}', "5"):
        path.write_text(text)
        assert [tag.name for tag in small.tags()] == ["other:latest"]
        assert "the manifest of haneul-300k:q4_0 is damaged" in caplog.text
        with pytest.raises(CourseError, match="the manifest of haneul-300k:q4_0 is damaged"):
            small.find(NAME)
    list(small.pull(NAME))
    assert small.find(NAME).name == NAME
    path.write_text("{")
    small.delete(NAME)
    assert not path.exists() and small.file(small.find("other")).is_file()


@pytest.mark.parametrize("text", ["{", '{"name": "x"}', "newer"])
def test_a_manifest_that_cannot_be_read_costs_nobody_a_file(small, text):
    """The blob of a damaged manifest, or of one by a newer version, was removed as a leftover."""
    path, blob = small.manifests / "library" / "haneul-300k" / "q4_0.json", small.file(small.find(NAME))
    small.copy(NAME, "other")
    newer = json.dumps(json.loads(path.read_text()) | {"new_field": 1})
    path.write_text(newer if text == "newer" else text)
    small.delete("other")
    os.utime(blob, (0, 0))
    (orphan := small.blob("0" * 64)).write_text("")
    os.utime(orphan, (0, 0))
    Store(small.manifests.parent)
    assert blob.is_file() and orphan.is_file()
    path.unlink()
    Store(small.manifests.parent)
    assert not blob.exists() and not orphan.exists()


def test_a_pulled_model_that_is_deleted_is_gone(small, smollm2, monkeypatch):
    """The first list after the deletion wrote its manifest again."""
    monkeypatch.setenv("COURSE_MODELS_DIR", str(smollm2.parent))
    assert list(small.pull("smollm2:135m"))[-1] == {"status": "success"}
    assert small.delete("smollm2:135m") is not None
    assert not [tag for tag in small.tags() if "smollm2" in tag.name] and smollm2.is_file()


def test_a_list_needs_no_disk_that_can_be_written(small, smollm2, monkeypatch, caplog):
    monkeypatch.setenv("COURSE_MODELS_DIR", str(smollm2.parent))
    before = [tag.name for tag in small.tags()]
    again = Store(small.manifests.parent)
    small.delete("smollm2-135m-instruct")
    with monkeypatch.context() as full:
        full.setattr(storing, "atomic_write_text", lambda path, text: Path("/dev/full").write_text(text))
        assert [tag.name for tag in again.tags()] == [NAME]
    assert "smollm2-135m-instruct is left out: the store cannot be written" in caplog.text
    assert [tag.name for tag in again.tags()] == before


def test_a_truncated_file_is_told_in_show_without_its_path(small):
    tag = small.find(NAME)
    small.file(tag).write_bytes(small.file(tag).read_bytes()[:100])
    with pytest.raises(CourseError, match=r"^the file sha256-\w+\.gguf is damaged"):
        model_info(small, tag, verbose=False)


def test_names_are_ollamas(small):
    small.copy(NAME, "Me/MyModel")
    for text in ("me/mymodel", "ME/MYMODEL:LATEST", "registry.ollama.ai/me/mymodel"):
        assert small.find(text).name == "Me/MyModel:latest"
    for text in ("library/haneul-300k:q4_0", "Haneul-300k:Q4_0"):
        assert small.find(text).name == NAME
    small.copy(NAME, "a:b.json")
    small.copy(NAME, "a/b.json")
    assert {tag.name for tag in small.tags()} >= {"a:b.json", "a/b.json:latest"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a full disk is simulated on Linux")
def test_a_full_disk_is_told(small, monkeypatch):
    @contextlib.contextmanager
    def full_disk(path):
        yield Path("/dev/full")

    monkeypatch.setattr(storing, "atomic_file", full_disk)
    with pytest.raises(CourseError, match="the store cannot be written: No space left on device"):
        list(small.pull("haneul-1m:f32"))
    monkeypatch.setattr(storing, "atomic_write_text", lambda path, text: Path("/dev/full").write_text(text))
    with pytest.raises(CourseError, match="No space left on device"):
        small.copy(NAME, "x")


def test_manifests_that_cannot_be_read_are_left_out(store):
    """A pipe made the list wait for ever, and deep nesting kept the server from starting."""
    folder = store.manifests / "library" / "odd"
    folder.mkdir()
    os.mkfifo(folder / "pipe.json")
    (folder / "deep.json").write_text("[" * 100_000)
    assert all(not tag.name.startswith("odd") for tag in store.tags())
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("count", "size"), [(0, "0"), (999, "999"), (4_456_448, "4.46M"), (999_600_000, "1B"), (8e9, "8B")]
)
def test_the_number_of_weights_is_told_as_ollama_tells_it(count, size):
    tag = Tag("a:latest", "", "F32", 1, int(count), "", "llama", 64)
    assert details(tag)["parameter_size"] == size
