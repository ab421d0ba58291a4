"""Check the output folder of a training run, read its log, and describe the result.

A folder can hold a finished run (adapter and log), a checkpoint of an interrupted run, or unrelated files. A
LoRA adapter has two small matrices for each of some matrices of a model; their product is added to it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from course_lib.errors import CourseError
from course_lib.models.drivers.adapters import WEIGHTS_FILE

CHECKPOINT, LOG = "checkpoint.safetensors", "training-log.json"
# Names of settings in logs and checkpoints of version 0.1 -> their present names.
# fmt: off
NEW_NAMES = {
    "recipe": "config", "targets": "target_modules", "at_once": "micro_batch_size", "rate": "learning_rate",
    "warm_up": "warmup_steps", "clip": "max_grad_norm", "longest": "max_length",
    "validate_every": "eval_steps", "save_every": "save_seconds", "kept": "best_step",
}
# fmt: on


@dataclass
class TrainingResult:
    """A trained adapter's folder and the statistics of its training.

    parameters: the number of weights of the adapter; losses: the loss of each step per token, in nats
    (natural logarithm); validation: {step: loss}; tokens: the training tokens, without padding; stopped:
    "steps" or "early"; micro_batch_size: the examples per forward pass; best_step: the step whose weights
    were saved, or 0 for the last step if there were no validation examples.
    """

    folder: Path
    parameters: int = 0
    losses: list[float] = field(default_factory=list)
    validation: dict[int, float] = field(default_factory=dict)
    tokens: int = 0
    seconds: float = 0.0
    stopped: str = ""
    micro_batch_size: int = 0
    best_step: int = 0

    @property
    def steps(self) -> int:
        """The number of completed steps."""
        return len(self.losses)

    def __repr__(self) -> str:
        losses = f", loss {self.losses[0]:.3f} to {self.losses[-1]:.3f}" if self.losses else ""
        best = f", best_step={self.best_step}" if self.validation else ""
        size = (
            f"{self.parameters:,} weights, {self.steps} steps, {self.tokens:,} tokens, {self.seconds:.0f} s"
        )
        return f"TrainingResult({str(self.folder)!r}, {size}{losses}{best})"


def with_new_names(value: Any) -> Any:
    """Rename the settings in the JSON of a log or checkpoint from version 0.1 to their present names."""
    if not isinstance(value, dict):
        return value
    return {NEW_NAMES.get(key, key): with_new_names(item) for key, item in value.items()}


def result_from(folder: Path, log: dict[str, Any]) -> TrainingResult:
    """Build the result from a log. The steps in `validation` are strings in JSON and become integers."""
    log = with_new_names(log)
    validation = {int(step): loss for step, loss in log["validation"].items()}
    return TrainingResult(folder, **log | {"validation": validation})


def check_folder(folder: Path) -> None:
    """Delete partial files of a killed run. Raises CourseError if the folder holds unrelated files."""
    fix = 'train(base, examples, "another-folder")'
    if folder.exists() and not folder.is_dir():
        raise CourseError(f"{folder} is a file", fix)
    for partial in folder.glob(".*.partial"):
        partial.unlink()
    if folder.exists() and any(folder.iterdir()) and not (folder / CHECKPOINT).exists():
        raise CourseError(f"{folder} holds other files already", fix)


def finished_run(folder: Path, made_of: dict[str, Any]) -> TrainingResult | None:
    """Return the result of a finished run of the same call, or None if there is no finished run.

    made_of: the settings of the call and the hashes of its data. Raises CourseError if those of the run
    differ.
    """
    if not all((folder / name).is_file() for name in (LOG, WEIGHTS_FILE)):
        return None
    fix = 'train(base, examples, "another-folder")'
    try:
        log = json.loads((folder / LOG).read_text("utf-8"))
        before, result = with_new_names(log.pop("made_of")), result_from(folder, log)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CourseError(f"{folder / LOG} is damaged: {error}"[:300], fix) from error
    if before != made_of:
        raise CourseError(f"{folder} holds an adapter made with {differences(before, made_of)}", fix)
    return result


def differences(before: dict[str, Any], made_of: dict[str, Any]) -> str:
    """Describe how the settings of a run on disk differ from those of the call."""
    old, new = ({**settings, **settings.get("config", {}), "config": None} for settings in (before, made_of))
    changed = [f"{k}={old.get(k)!r:.60}, not {v!r:.60}" for k, v in new.items() if old.get(k) != v]
    return ", ".join(changed) or "another version of the course"
