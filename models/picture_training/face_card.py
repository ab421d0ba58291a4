"""Measures haneul-faces on identities that it never saw, and writes its model card."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from bankworld.pictures.faces import View, face
from pretraining.publish import seal

from course_lib import load
from course_lib.measure import machine
from course_lib.measure.intervals import Estimate
from course_lib.measure.verification import Pairs, all_pairs, far_and_tar, tar_at_far, threshold_at

CARD = Path(__file__).with_name("face_card.md")
IDENTITIES, VIEWS = 120, 8
FAR = 0.001  # at which the threshold is chosen on validation identities


def pairs_of(model: Any, split: str) -> tuple[Pairs, list[View]]:
    """All pairs of the pictures of a split's identities, and each picture's view."""
    drawn = [face(split, identity, view) for identity in range(IDENTITIES) for view in range(VIEWS)]
    identities = np.repeat(np.arange(IDENTITIES), VIEWS)
    return all_pairs(model.embed_faces([picture for picture, _ in drawn]), list(identities)), [
        view for _, view in drawn
    ]


def evaluate(folder: Path, log: Path) -> None:
    """Write evaluation.json, the training log, the card and the checksums of the model in `folder`.

    log: of the training.
    """
    shutil.copy(log, folder / "training-log.jsonl")
    model: Any = load(str(folder), task="face-embedding")
    validation, _ = pairs_of(model, "validation")
    test, views = pairs_of(model, "test")
    threshold = threshold_at(validation, FAR)
    found: dict[str, Any] = {"threshold": threshold, "weights": model.parameters, "groups": {}}
    for rate in (0.01, 0.001):
        found[f"tar at far {rate:g}"] = tar_at_far(test, rate)
    for name, chosen in groups(test, views).items():
        part = test.where(chosen)
        far, tar = far_and_tar(part, threshold)
        counts = {"same": int(part.same.sum()), "different": int((~part.same).sum())}
        found["groups"][name] = {"far": far, "tar": tar, **counts}
    text = json.dumps(found, indent=1, default=lambda estimate: [estimate.value, estimate.low, estimate.high])
    (folder / "evaluation.json").write_text(text + "\n", "utf-8")
    write_card(folder)


def groups(pairs: Pairs, views: list[View]) -> dict[str, Any]:
    """Which pairs belong to each group, as masks."""

    def count(attribute: Any) -> Any:
        has = np.array([attribute(view) for view in views])
        return has[pairs.first].astype(int) + has[pairs.second]

    glasses, dark = count(lambda view: view.glasses), count(lambda view: view.dark_lenses)
    dim, even = count(lambda view: view.light == "dim"), count(lambda view: view.light == "even")
    return {
        "all pairs": glasses >= 0,
        "no glasses": glasses == 0,
        "glasses on one": glasses == 1,
        "glasses on both": glasses == 2,
        "dark lenses on one or both": dark > 0,
        "both in even light": even == 2,
        "one or both in dim light": dim > 0,
    }


def write_card(folder: Path) -> None:
    """Write the model card in `folder` from evaluation.json and the training log, and the checksums."""
    found = json.loads((folder / "evaluation.json").read_text("utf-8"))
    last = json.loads((folder / "training-log.jsonl").read_text("utf-8").splitlines()[-1])
    rows = [
        f"| {name} | {row['same']:,} | {share(row['tar'])} | {row['different']:,} | {share(row['far'], 2)} |"
        for name, row in found["groups"].items()
    ]
    text = CARD.read_text("utf-8").format(
        weights=found["weights"],
        megabytes=(folder / "model.safetensors").stat().st_size / 1e6,
        steps=last["step"],
        minutes=last["seconds"] / 60,
        processor=machine()["processor"],
        identities=IDENTITIES,
        views=VIEWS,
        threshold=found["threshold"],
        at_100=share(found["tar at far 0.01"]),
        at_1000=share(found["tar at far 0.001"]),
        rows="\n".join(rows),
    )
    (folder / "README.md").write_text(text, "utf-8")
    seal(folder)


def share(estimate: list[float] | Estimate, digits: int = 1) -> str:
    """A share with its interval: 97.1% (95.9% to 98.2%)."""
    value, low, high = (
        estimate if isinstance(estimate, list) else (estimate.value, estimate.low, estimate.high)
    )
    return f"{value:.{digits}%} ({low:.{digits}%} to {high:.{digits}%})"
