"""map_batches in this process; with workers: serve/test_cluster.py. The output file: rag/test_batches.py."""

import sys
from functools import partial

import pytest

from course_lib.batch import map_batches, model_function
from course_lib.errors import CourseError
from course_lib.models import load
from course_lib.ray_connection import INSTALL

TEXTS = ["a fee", "a card", "an account"]


def lengths():
    return lambda batch: [(len(text), None) for text in batch]


def test_values_are_as_json_gives_them_computed_or_read_from_the_file(tmp_path):
    for _ in range(2):
        assert map_batches(lengths, TEXTS, output=tmp_path / "out") == [[5, None], [6, None], [10, None]]
    assert map_batches(lengths, TEXTS) == [[5, None], [6, None], [10, None]]
    assert map_batches(lengths, []) == []


def test_the_model_is_loaded_once_and_only_if_something_is_to_be_done(tmp_path):
    loaded = []

    def load_lengths():
        loaded.append(1)
        return lengths()

    for _ in range(2):
        map_batches(load_lengths, TEXTS, batch_size=1, output=tmp_path / "out")
    assert loaded == [1]


def test_a_method_of_a_model_is_a_function_of_a_batch():
    with load("haneul-300k") as engine:
        replies = [str(reply) for reply in engine.generate(TEXTS, max_output_length=4)]
    generate = partial(model_function, "haneul-300k", "generate", max_output_length=4)
    assert map_batches(generate, TEXTS) == replies
    embedder = {"source": "haneul-300k", "task": "text-embedding"}
    with load(embedder) as engine:
        vectors = engine.embed(TEXTS).tolist()
    assert map_batches(partial(model_function, embedder, "embed"), TEXTS) == vectors


def test_a_function_that_returns_too_few_values_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="returned 2 values for 3 items"):
        map_batches(lambda: lambda batch: batch[1:], TEXTS, output=tmp_path / "out")


@pytest.mark.parametrize("workers", [0, -1])
def test_fewer_than_one_worker_is_an_error(workers):
    with pytest.raises(CourseError, match=f"workers={workers}"):
        map_batches(lengths, TEXTS, address="local", workers=workers)


def test_without_ray_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(CourseError, match="needs Ray") as caught:
        map_batches(lengths, TEXTS, address="local")
    assert caught.value.fix == INSTALL


def test_workers_without_an_address_are_refused():
    with pytest.raises(CourseError, match="workers=2, gpus=None without an address"):
        map_batches(lengths, TEXTS, workers=2)
