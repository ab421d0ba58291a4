"""Evaluate haneul-faces on identities (persons) that it did not see in training, and write its model card.

FAR, the false accept rate, is the share of pairs of two persons that are taken for one; TAR, the true accept
rate, that of pairs of one person that are. A view is one drawing of an identity.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from bankworld.pictures.faces import View, face
from pretraining.publish import write_manifest

from course_lib import load
from course_lib.measure import machine
from course_lib.measure.intervals import Estimate
from course_lib.measure.verification import Pairs, all_pairs, far_and_tar, tar_at_far, threshold_at

CARD = Path(__file__).with_name("face_card.md")
IDENTITIES, VIEWS = 120, 8  # identities of each split, drawings of each identity
FAR = 0.001  # the threshold is chosen for this FAR on the validation identities


def pairs_of(model: Any, split: str) -> tuple[Pairs, list[View]]:
    """Return all pairs of a split's pictures, and the view of each picture."""
    drawn = [face(split, identity, view) for identity in range(IDENTITIES) for view in range(VIEWS)]
    identities = np.repeat(np.arange(IDENTITIES), VIEWS)
    return all_pairs(model.embed_faces([picture for picture, _ in drawn]), list(identities)), [
        view for _, view in drawn
    ]


def evaluate(folder: Path, log: Path) -> None:
    """Write evaluation.json, the training log, the model card and the checksums into `folder`.

    log: the file of the training log.
    """
    shutil.copy(log, folder / "training-log.jsonl")
    model: Any = load(str(folder), task="face-embedding")
    validation, _ = pairs_of(model, "validation")
    test, views = pairs_of(model, "test")
    threshold = threshold_at(validation, FAR)
    values: dict[str, Any] = {"threshold": threshold, "weights": model.parameters, "groups": {}}
    for rate in (0.01, 0.001):
        values[f"tar at far {rate:g}"] = tar_at_far(test, rate)
    for name, chosen in groups(test, views).items():
        part = test.where(chosen)
        far, tar = far_and_tar(part, threshold)
        counts = {"same": int(part.same.sum()), "different": int((~part.same).sum())}
        values["groups"][name] = {"far": far, "tar": tar, **counts}
    text = json.dumps(
        values, indent=1, default=lambda estimate: [estimate.value, estimate.low, estimate.high]
    )
    (folder / "evaluation.json").write_text(text + "\n", "utf-8")
    write_card(folder)


def groups(pairs: Pairs, views: list[View]) -> dict[str, Any]:
    """Return group -> mask of the pairs that belong to it."""

    def count(attribute: Any) -> Any:
        """Return, for each pair, how many of its two pictures have an attribute."""
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
    """Write the model card from evaluation.json and the training log, then the checksums."""
    values = json.loads((folder / "evaluation.json").read_text("utf-8"))
    last = json.loads((folder / "training-log.jsonl").read_text("utf-8").splitlines()[-1])
    rows = [
        f"| {name} | {row['same']:,} | {share(row['tar'])} | {row['different']:,} | {share(row['far'], 2)} |"
        for name, row in values["groups"].items()
    ]
    text = CARD.read_text("utf-8").format(
        weights=values["weights"],
        megabytes=(folder / "model.safetensors").stat().st_size / 1e6,
        steps=last["step"],
        minutes=last["seconds"] / 60,
        processor=machine()["processor"],
        identities=IDENTITIES,
        views=VIEWS,
        threshold=values["threshold"],
        at_100=share(values["tar at far 0.01"]),
        at_1000=share(values["tar at far 0.001"]),
        rows="\n".join(rows),
    )
    (folder / "README.md").write_text(text, "utf-8")
    write_manifest(folder)


def share(estimate: list[float] | Estimate, digits: int = 1) -> str:
    """Return a share with its interval as text, such as 97.1% (95.9% to 98.2%)."""
    value, low, high = (
        estimate if isinstance(estimate, list) else (estimate.value, estimate.low, estimate.high)
    )
    return f"{value:.{digits}%} ({low:.{digits}%} to {high:.{digits}%})"
