"""What does not fit into memory at once is read in parts: the limit is a real one, that of a process."""

import pytest

from course_lib.tuning.config import Example
from course_lib.tuning.training import train
from tests.tuning.conftest import llama
from tests.tuning.processes import begin

LONG = [
    Example(f"Count to {i}.", " ".join(f"{i + j}" for j in range(60))) for i in range(32)
]  # of each token 4096 scores
SETTINGS = {"steps": 2, "batch_size": 32, "learning_rate": 1e-2, "warmup_steps": 0, "precision": "float32"}
ROOMS = (700, 600, 500, 420, 350, 300, 250, 210, 180)  # MB, of which torch, peft and the model take some 150


def run(base, folder, room, settings):
    """What a process did with so much room: its exit status, and what it wrote."""
    bar = folder.with_suffix(".bar")
    process = begin(bar, base, LONG, folder, room=room * 2**20, **settings)
    process.join(120)
    return process.exitcode, bar.read_text()


def in_parts(base, folder, settings):
    """The run with the most room of ROOMS in which not everything fits at once."""
    for room in ROOMS:
        code, wrote = run(base, folder / str(room), room, settings)
        assert code == 0, wrote
        split = train(base, LONG, folder / str(room), **settings)
        if split.micro_batch_size < 32:
            return split
    raise AssertionError("everything fits everywhere")


def test_a_batch_that_does_not_fit_is_read_in_parts_and_learns_the_same(tiny, tmp_path):
    at_once, split = train(tiny, LONG, tmp_path / "whole", **SETTINGS), in_parts(tiny, tmp_path, SETTINGS)
    assert at_once.micro_batch_size == 32 and 1 <= split.micro_batch_size <= 16
    assert split.losses == pytest.approx(at_once.losses, abs=1e-4)
    assert split.tokens <= at_once.tokens  # parts are padded less, and what did not fit is not counted


def test_validation_examples_that_do_not_fit_are_read_in_parts(tiny, tmp_path):
    settings = SETTINGS | {"batch_size": 1, "micro_batch_size": 32, "validation": LONG}
    at_once, split = train(tiny, LONG, tmp_path / "whole", **settings), in_parts(tiny, tmp_path, settings)
    assert split.validation == pytest.approx(at_once.validation, abs=1e-4) and split.losses == pytest.approx(
        at_once.losses, abs=1e-4
    )


def test_one_example_that_does_not_fit_is_told(tmp_path):
    """Of 300,000 words: the scores of one example take 200 MB, and their gradients as much again."""
    base = llama(tmp_path / "many-words", vocab_size=300_000)
    code, wrote = run(base, tmp_path / "run", 450, SETTINGS)
    assert (
        code == 1
        and "one example at once does not fit into memory" in wrote
        and "gradient_checkpointing=True" in wrote
    )
