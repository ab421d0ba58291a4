"""The shipped adapters are what `python -m finetuning` trains: the same settings and examples."""

import json
import shutil

import pytest
from finetuning.adapters import ADAPTERS, card

from course_lib import data
from course_lib.tuning import train, training

BOTH = pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda adapter: adapter.name)


@pytest.fixture
def result(adapter, tmp_path, monkeypatch):
    """What `train` finds in a copy of a shipped folder, whose log has the names of version 0.1."""
    monkeypatch.setattr(training, "_TrainingRun", None)  # nothing is trained
    folder = shutil.copytree(data.MODELS / adapter.name, tmp_path / adapter.name)
    examples, validation = adapter.examples(), adapter.validation()
    return train("haneul-4m", examples, folder, validation=validation, config=adapter.config)


@BOTH
def test_the_same_call_finds_the_shipped_adapter_finished(adapter, result):
    log = json.loads((data.MODELS / adapter.name / "training-log.json").read_text())
    assert log["made_of"]["recipe"]["rate"] == adapter.config.learning_rate
    assert (result.losses, result.best_step) == (log["losses"], log["kept"])
    assert result.steps == adapter.config.steps and result.micro_batch_size == log["at_once"]


@BOTH
def test_its_card_would_be_written_with_the_same_figures(adapter, result):
    folder = data.MODELS / adapter.name
    evaluation = json.loads((folder / "evaluation.json").read_text())
    new, shipped = (
        [line for line in text.splitlines() if not line.startswith("| training |")]
        for text in (card(adapter, result, evaluation), (folder / "README.md").read_text())
    )
    assert new == shipped  # but for the line that names this machine
