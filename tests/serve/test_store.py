"""The folder of models: whole or not there, whatever happens to it."""

import asyncio
import threading

import pytest

from course_lib.data import sha256
from course_lib.errors import CourseError
from course_lib.models.schema import Generation
from course_lib.serve.completion import CompletionRequest
from course_lib.serve.errors import ApiError
from course_lib.serve.store import Store
from course_lib.serve.worker import Worker

NAME = "haneul-300k:q4_0"


def completed(worker, request):
    tag = worker.store.find(NAME)
    return asyncio.run(worker.run(lambda channel: worker.complete(tag, request, 0, channel)))


@pytest.fixture
def small(tmp_path):
    store = Store(tmp_path / "models")
    assert list(store.pull(NAME))[-1] == {"status": "success"}
    return store


def test_a_store_is_found_again_and_filled_only_once(small):
    again = Store(small.manifests.parent)
    before = again.find(NAME)
    again.fill()
    assert again.find(NAME) == before and {t.name for t in again.tags()} > {
        NAME,
        "haneul-4m:latest",
        "all-minilm:latest",
    }
    times = {p: p.stat().st_mtime_ns for p in again.blobs.iterdir()}
    again.fill()
    assert {p: p.stat().st_mtime_ns for p in again.blobs.iterdir()} == times


def test_tags_of_one_file_share_it_until_the_last_is_gone(small):
    small.copy(NAME, "a")
    small.copy("a", "b:c")
    assert small.find("a:latest").digest == small.find("b:c").digest and len(list(small.blobs.iterdir())) == 1
    assert small.spec(small.find("a")) == small.spec(small.find(NAME))
    assert small.delete(NAME) is None and small.delete("a") is None
    last = small.delete("b:c")
    assert last is not None and list(small.blobs.iterdir()) == [] and small.tags() == []


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
    good = completed(worker, request).text
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(CourseError, match=r"missing or altered\n.*pull it again"):
        completed(worker, request)
    list(small.pull(NAME))
    assert completed(worker, request).text == good
    file.unlink()
    with pytest.raises(ApiError, match="not found"):
        completed(worker, request)
    worker.close()


def test_a_damaged_manifest_is_named(small):
    path = next(small.manifests.glob("*/*.json"))
    for text in ("{", "[]", '{"name": "x"}', "5"):
        path.write_text(text)
        for call in (small.tags, lambda: small.find(NAME)):
            with pytest.raises(CourseError, match=f"the manifest haneul-300k/{path.name} is damaged"):
                call()
    list(small.pull(NAME))
    assert small.find(NAME).name == NAME
