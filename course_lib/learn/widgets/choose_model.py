"""Chapter 01: which model fits under a limit of memory and a wish for speed?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from course_lib.learn.widgets.explorer import Explorer, Range, Shown
from course_lib.plots import bounded_choice


class Candidate(NamedTuple):
    """A measured model: megabytes of weights, tokens written per second, share of right answers (0-1)."""

    name: str
    megabytes: float
    speed: float
    right: float


def choose(candidates: Sequence[Candidate], megabytes: float, speed: float) -> Candidate | None:
    """The model with most right answers among those that fit and are fast enough; None where none is. Ties go to the smaller."""
    fitting = [c for c in candidates if c.megabytes <= megabytes and c.speed >= speed]
    return max(fitting, key=lambda c: (c.right, -c.megabytes), default=None)


def say(candidates: Sequence[Candidate], megabytes: float, speed: float) -> str:
    """The choice and, for every other model, what speaks against it."""
    chosen = choose(candidates, megabytes, speed)
    lines = [
        f"Choose {chosen.name}: {chosen.right:.0%} right, {chosen.megabytes:.1f} MB, {chosen.speed:.0f} tokens/s."
        if chosen
        else "None of them. Give more memory, or wait longer for an answer."
    ]
    for c in candidates:
        against = [f"it takes {c.megabytes:.1f} MB"] * (c.megabytes > megabytes) + [
            f"it writes {c.speed:.0f} tokens/s"
        ] * (c.speed < speed)
        if c is not chosen:
            lines.append(f"Not {c.name}: {' and '.join(against) or f'it answers {c.right:.0%}'}.")
    return "\n".join(lines)


def model_chooser(candidates: Sequence[Candidate]) -> Explorer:
    """The explorer over measured candidates. Raises ValueError for none."""
    if not candidates:
        raise ValueError("no candidates to choose from")
    largest, fastest = max(c.megabytes for c in candidates), max(c.speed for c in candidates)

    def show(megabytes: float, speed: float) -> Shown:
        chosen = choose(candidates, megabytes, speed)
        points = {c.name: (c.megabytes, c.right) for c in candidates}
        picture = bounded_choice(
            points,
            megabytes,
            chosen.name if chosen else None,
            x="weights, MB",
            y="right answers, %",
            title="Filled: the choice; dashed: your limit",
        )
        return Shown(say(candidates, megabytes, speed), picture)

    return Explorer(
        "choose-model",
        "Choose a model",
        show,
        {
            "megabytes": Range(
                "memory for weights, at most", 0, round(1.2 * largest, 1), round(1.2 * largest, 1), 0.5, "MB"
            ),
            "speed": Range("writing speed, at least", 0, round(1.2 * fastest), 0, 1, "tokens/s"),
        },
    )
