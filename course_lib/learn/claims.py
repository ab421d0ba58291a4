"""Claims: numbers and orderings that a chapter states, asserted on this machine and recorded for the tests."""

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
    """One recorded claim. `within`: its tolerance in `unit`, None for an ordering. `machine`: where it was measured."""

    name: str
    value: float
    unit: str
    statement: str
    within: float | None
    machine: dict[str, str | int | float]


class ClaimFailed(AssertionError):
    """A chapter's statement does not hold on this machine."""


def _held() -> bool:
    """Whether claims are asserted: the numbers of the text are those of the tier tiny, where everything is checked."""
    return os.environ.get("COURSE_TIER", "tiny") == "tiny"


def claim(name: str, value: float, *, about: float, within: float, unit: str = "") -> None:
    """Assert that `value` lies within `within` of `about` (both in `unit`), say so, and record it.

    In another tier than tiny the number of the text is shown beside the value, and nothing is asserted.
    Raises ClaimFailed when it does not, ValueError for a tolerance that is not positive.
    """
    if not within > 0:
        raise ValueError(f"claim {name}: within={within}; a tolerance must be positive")
    shown = f"{value:.3g}{_spaced(unit)}"
    if not abs(value - about) <= within:  # written so that NaN fails too
        if not _held():
            return print(f"{name}: {shown} here; {about:g}{_spaced(unit)} in the tier tiny")
        raise ClaimFailed(
            f"{name}: measured {shown}, but the text says about {about:g}{_spaced(unit)} (within {within:g})"
        )
    _settle(name, value, unit, f"{name}: {shown}, as the text says ({about:g} within {within:g})", within)


def claim_order(name: str, left: float, relation: Relation, right: float, *, unit: str = "") -> None:
    """Assert `left relation right`, say so, and record `left`; see `claim`. Raises ClaimFailed when it does not hold."""
    if relation not in RELATIONS:
        raise ValueError(f"claim {name}: relation {relation!r}; one of {', '.join(RELATIONS)}")
    statement = f"{name}: {left:.3g} {relation} {right:.3g}{_spaced(unit)}"
    if not RELATIONS[relation](left, right):
        if not _held():
            return print(f"{statement} does not hold here, as it does in the tier tiny")
        raise ClaimFailed(f"{statement} does not hold on this machine")
    _settle(name, left, unit, f"{statement} holds")


def _spaced(unit: str) -> str:
    return f" {unit}" if unit else ""


def _settle(name: str, value: float, unit: str, statement: str, within: float | None = None) -> None:
    """Print the claim, and append it to the file named by COURSE_CLAIMS where one is named."""
    print(statement)
    if path := os.environ.get("COURSE_CLAIMS"):
        made = Claim(name, float(value), unit, statement, within, machine())
        with Path(path).open("a", encoding="utf-8") as f:
            f.write(json.dumps(asdict(made)) + "\n")
