"""Claims: measured numbers and comparisons that a chapter's text states, asserted when the chapter runs.

Each claim is also recorded, so that tests can compare the text with it.
"""

from __future__ import annotations

import json
import operator
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from course_lib.measure import machine

Relation = Literal["<", "<=", ">", ">="]
RELATIONS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


@dataclass(frozen=True)
class Claim:
    """A recorded claim.

    value: as measured, in `unit`. statement: the printed sentence. within: the tolerance, None for a
    comparison. machine: the hardware that it was measured on.
    """

    name: str
    value: float
    unit: str
    statement: str
    within: float | None
    machine: dict[str, str | int | float]


class ClaimFailed(AssertionError):
    """A chapter's statement does not hold on this machine."""


def _asserted() -> bool:
    """Whether claims are asserted: only in tier tiny (see COURSE_TIER), since the text states its numbers."""
    return os.environ.get("COURSE_TIER", "tiny") == "tiny"


def claim(name: str, value: float, *, about: float, within: float, unit: str = "") -> None:
    """Assert that `value` differs from `about` by at most `within`, in `unit`; print and record the claim.

    In tiers other than tiny a failing claim is only printed, with the number for tier tiny.
    Raises ClaimFailed if the value lies outside, ValueError for a tolerance that is not positive.
    """
    if not within > 0:
        raise ValueError(f"claim {name}: within={within}; a tolerance must be positive")
    measured, expected = (
        f"{number:{form}}{_spaced(unit)}" for number, form in ((value, ".3g"), (about, "g"))
    )
    if not abs(value - about) <= within:  # written so that NaN fails too
        if not _asserted():
            return print(f"{name}: {measured} here; {expected} in tier tiny")
        raise ClaimFailed(
            f"{name}: measured {measured}, but the text says about {expected} (within {within:g})"
        )
    _record(name, value, unit, f"{name}: {measured}, as the text says ({about:g} within {within:g})", within)


def claim_order(name: str, left: float, relation: Relation, right: float, *, unit: str = "") -> None:
    """Assert `left relation right`, for example 1 < 2; print the claim and record `left`. See `claim`.

    Raises ClaimFailed if it does not hold, ValueError for an unknown relation.
    """
    if relation not in RELATIONS:
        raise ValueError(f"claim {name}: relation {relation!r} is not one of {', '.join(RELATIONS)}")
    statement = f"{name}: {left:.3g} {relation} {right:.3g}{_spaced(unit)}"
    if not RELATIONS[relation](left, right):
        if not _asserted():
            return print(f"{statement} does not hold here, though it does in tier tiny")
        raise ClaimFailed(f"{statement} does not hold on this machine")
    _record(name, left, unit, f"{statement} holds")


def _spaced(unit: str) -> str:
    return f" {unit}" if unit else ""


def _record(name: str, value: float, unit: str, statement: str, within: float | None = None) -> None:
    """Print the claim; if COURSE_CLAIMS is set, append it to that file as a line of JSON."""
    print(statement)
    if path := os.environ.get("COURSE_CLAIMS"):
        record = Claim(name, float(value), unit, statement, within, machine())
        with Path(path).open("a", encoding="utf-8") as f:
            f.write(json.dumps(asdict(record)) + "\n")
