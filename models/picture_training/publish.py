"""Complete a trained model's folder in models/: log, evaluation, checksums, and README.md, the model card."""

from __future__ import annotations

import argparse
import json
import math
import shutil
from pathlib import Path
from typing import Any

from pretraining.publish import write_manifest

from course_lib.measure import machine
from course_lib.models.files.headers import read_safetensors_header
from picture_training.run import Run

CARDS = Path(__file__).parent


def read_options(about: str | None, steps: int, *, pausable: bool = False) -> argparse.Namespace:
    """Return the options of a training script: `resume`, `steps` and, if it is pausable, `until`."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resume", action="store_true", help="continue from the last checkpoint")
    parser.add_argument("--steps", type=int, default=steps, help=f"steps in all (default: {steps})")
    if pausable:
        parser.add_argument("--until", type=int, help="stop at this step; --resume continues later")
    return parser.parse_args()


def publish(run: Run, folder: Path, evaluation: dict[str, Any], **figures: Any) -> None:
    """Complete the folder with the saved model.

    The model card is `NAME_card.md`, filled in with the figures.
    """
    shutil.copy(run.log, folder / "training-log.jsonl")
    (folder / "evaluation.json").write_text(json.dumps(evaluation, indent=1) + "\n", "utf-8")
    weights = folder / "model.safetensors"
    tensors = read_safetensors_header(weights).values()
    card = (CARDS / f"{run.name.removeprefix('haneul-')}_card.md").read_text("utf-8")
    text = card.format(
        name=run.name,
        parameters=sum(math.prod(tensor.shape) for tensor in tensors),
        megabytes=weights.stat().st_size / 1e6,
        steps=run.step,
        minutes=run.seconds / 60,
        processor=machine()["processor"],
        **figures,
    )
    (folder / "README.md").write_text(text, "utf-8")
    write_manifest(folder)
