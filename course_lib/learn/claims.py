"""Claims: a chapter checks, when it runs, that the numbers and comparisons in its text still hold.

A claim is about one tier (set of models) or several; in other tiers it is only printed. Each claim that holds
is also recorded, so that tests can compare the chapter's text, which states the numbers of tier tiny, with
the measured values.
"""

from __future__ import annotations

import json
import operator
import os
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from course_lib.measure import machine
from course_lib.models.catalog import tier

CLAIMED = ("tiny", "real")  # the tiers in which all chapters are tested
Relation = Literal["<", "<=", ">", ">="]
RELATIONS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


@dataclass(frozen=True)
class Claim:
    """A recorded claim.

    value: the measured value, in `unit`. statement: the printed sentence. within: the tolerance in `unit`,
    None for a comparison. in_text: whether the chapter's text states this number; if not, it states that of
    tier tiny. machine: the hardware on which it was measured.
    """

    name: str
    value: float
    unit: str
    statement: str
    within: float | None
    in_text: bool
    machine: dict[str, str | int | float]


class ClaimFailed(AssertionError):
    """A chapter's statement does not hold on this machine."""


def claim(
    name: str,
    value: float,
    *,
    about: float | Mapping[str, float],
    within: float | Mapping[str, float],
    unit: str = "",
) -> None:
    """Assert that `value` differs from `about` by at most `within`, in `unit`; print and record the claim.

    about, within: a number for the tiers in CLAIMED, or a mapping from tier to number. In other tiers a
    failing claim is only printed, with the number for tier tiny.
    Raises ClaimFailed if the value lies outside, ValueError for a tolerance that is not positive.
    """
    numbers, tolerances = _by_tier(about), _by_tier(within)
    key = tier() if tier() in numbers else "tiny"
    expected, tolerance = numbers[key], tolerances.get(key, tolerances["tiny"])
    if not tolerance > 0:
        raise ValueError(f"claim {name}: within={tolerance}; a tolerance must be positive")
    measured, stated = f"{_figures(value)}{_spaced(unit)}", f"{expected:g}{_spaced(unit)}"
    source = "the text says" if expected == numbers["tiny"] else f"is expected in tier {key}"
    if not abs(value - expected) <= tolerance:  # written so that NaN fails too
        if tier() not in numbers:
            return print(f"{name}: {measured} here; {stated} in tier tiny")
        raise ClaimFailed(f"{name}: measured {measured}, but {source} about {stated} (within {tolerance:g})")
    statement = f"{name}: {measured}, as {source} ({expected:g} within {tolerance:g})"
    _record(name, value, unit, statement, tolerance, expected == numbers["tiny"])


def claim_order(
    name: str,
    left: float,
    relation: Relation,
    right: float,
    *,
    unit: str = "",
    tiers: Collection[str] = CLAIMED,
) -> None:
    """Assert `left relation right`, for example 1 < 2; print the claim and record `left`.

    tiers: those in which it is asserted; in others a comparison that does not hold is only printed.
    Raises ClaimFailed if it does not hold, ValueError for an unknown relation.
    """
    if relation not in RELATIONS:
        raise ValueError(f"claim {name}: relation {relation!r} is not one of {', '.join(RELATIONS)}")
    statement = f"{name}: {_figures(left)} {relation} {_figures(right)}{_spaced(unit)}"
    if not RELATIONS[relation](left, right):
        if tier() not in tiers:
            return print(f"{statement} does not hold here; it is claimed for tier {' and '.join(tiers)} only")
        raise ClaimFailed(f"{statement} does not hold on this machine")
    _record(name, left, unit, f"{statement} holds")


def _by_tier(number: float | Mapping[str, float]) -> Mapping[str, float]:
    return number if isinstance(number, Mapping) else dict.fromkeys(CLAIMED, number)


def _figures(value: float) -> str:
    """Three significant figures; from 1,000 on, whole numbers."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e15 else f"{value:.3g}"


def _spaced(unit: str) -> str:
    return f" {unit}" if unit else ""


def _record(
    name: str, value: float, unit: str, statement: str, within: float | None = None, in_text: bool = True
) -> None:
    """Print the claim; if COURSE_CLAIMS is set, append it to that file as a line of JSON."""
    print(statement)
    if path := os.environ.get("COURSE_CLAIMS"):
        record = Claim(name, float(value), unit, statement, within, in_text, machine())
        with Path(path).open("a", encoding="utf-8") as f:
            f.write(json.dumps(asdict(record)) + "\n")
