"""The widget of chapter 01: choose the most accurate model under a memory limit and above a minimum speed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from course_lib.learn.widgets.explorer import Explorer, Output, Range
from course_lib.plots import bounded_choice


class Candidate(NamedTuple):
    """A measured model: size of the weights in MB, speed in generated tokens/s, and accuracy from 0 to 1."""

    name: str
    megabytes: float
    speed: float
    right: float


def choose(candidates: Sequence[Candidate], megabytes: float, speed: float) -> Candidate | None:
    """Return the most accurate model that fits and is fast enough, or None; on a tie, the smallest."""
    fitting = [c for c in candidates if c.megabytes <= megabytes and c.speed >= speed]
    return max(fitting, key=lambda c: (c.right, -c.megabytes), default=None)


def describe(candidates: Sequence[Candidate], megabytes: float, speed: float) -> str:
    """Return a text that names the choice and, for every other model, why it was not chosen."""
    best = choose(candidates, megabytes, speed)
    lines = [
        f"Choose {best.name}: {best.right:.0%} right, {best.megabytes:.1f} MB, {best.speed:.0f} tokens/s."
        if best
        else "None fits. Allow more memory or a lower speed."
    ]
    for c in candidates:
        reasons = [f"it takes {c.megabytes:.1f} MB"] if c.megabytes > megabytes else []
        reasons += [f"it writes {c.speed:.0f} tokens/s"] if c.speed < speed else []
        if c is not best:
            lines.append(f"Not {c.name}: {' and '.join(reasons) or f'it answers {c.right:.0%}'}.")
    return "\n".join(lines)


def model_chooser(candidates: Sequence[Candidate]) -> Explorer:
    """Return the widget for measured candidates. Raises ValueError if there are none."""
    if not candidates:
        raise ValueError("no candidates to choose from")
    largest = round(1.2 * max(c.megabytes for c in candidates), 1)
    fastest = round(1.2 * max(c.speed for c in candidates))

    def show(megabytes: float, speed: float) -> Output:
        best = choose(candidates, megabytes, speed)
        picture = bounded_choice(
            {c.name: (c.megabytes, c.right) for c in candidates},
            megabytes,
            best.name if best else None,
            x="weights, MB",
            y="right answers, %",
            title="Filled: the choice; dashed: your limit",
        )
        return Output(describe(candidates, megabytes, speed), picture)

    controls = {
        "megabytes": Range("memory for weights, at most", 0, largest, largest, 0.5, "MB"),
        "speed": Range("writing speed, at least", 0, fastest, 0, 1, "tokens/s"),
    }
    return Explorer("choose-model", "Choose a model", show, controls)
