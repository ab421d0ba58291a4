"""Claims: numbers and orderings that a chapter states, asserted here and recorded for the tests."""

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
    """One recorded claim: its tolerance in `unit` (None for an ordering), the machine that measured it."""

    name: str
    value: float
    unit: str
    statement: str
    within: float | None
    machine: dict[str, str | int | float]


class ClaimFailed(AssertionError):
    """A chapter's statement does not hold on this machine."""


def _asserted() -> bool:
    """Whether claims are asserted: only in the tier tiny, whose numbers stand in the text."""
    return os.environ.get("COURSE_TIER", "tiny") == "tiny"


def claim(name: str, value: float, *, about: float, within: float, unit: str = "") -> None:
    """Assert that `value` lies within `within` of `about`, all three in `unit`, print that and record it.

    In another tier than tiny the number of the text is printed beside the value, and nothing is asserted.
    Raises ClaimFailed when the value lies outside, ValueError for a tolerance that is not positive.
    """
    if not within > 0:
        raise ValueError(f"claim {name}: within={within}; a tolerance must be positive")
    measured, expected = (
        f"{number:{form}}{_spaced(unit)}" for number, form in ((value, ".3g"), (about, "g"))
    )
    if not abs(value - about) <= within:  # written so that NaN fails too
        if not _asserted():
            return print(f"{name}: {measured} here; {expected} in the tier tiny")
        raise ClaimFailed(
            f"{name}: measured {measured}, but the text says about {expected} (within {within:g})"
        )
    _record(name, value, unit, f"{name}: {measured}, as the text says ({about:g} within {within:g})", within)


def claim_order(name: str, left: float, relation: Relation, right: float, *, unit: str = "") -> None:
    """Assert `left relation right`, print that and record `left`; see `claim`.

    Raises ClaimFailed when it does not hold, ValueError for an unknown relation.
    """
    if relation not in RELATIONS:
        raise ValueError(f"claim {name}: relation {relation!r}; one of {', '.join(RELATIONS)}")
    statement = f"{name}: {left:.3g} {relation} {right:.3g}{_spaced(unit)}"
    if not RELATIONS[relation](left, right):
        if not _asserted():
            return print(f"{statement} does not hold here, as it does in the tier tiny")
        raise ClaimFailed(f"{statement} does not hold on this machine")
    _record(name, left, unit, f"{statement} holds")


def _spaced(unit: str) -> str:
    return f" {unit}" if unit else ""


def _record(name: str, value: float, unit: str, statement: str, within: float | None = None) -> None:
    """Print the claim, and append it to the file that COURSE_CLAIMS names, if any."""
    print(statement)
    if path := os.environ.get("COURSE_CLAIMS"):
        record = Claim(name, float(value), unit, statement, within, machine())
        with Path(path).open("a", encoding="utf-8") as f:
            f.write(json.dumps(asdict(record)) + "\n")
