"""What the checks of all chapters share: compare an answer with the right one, recognise known mistakes."""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any


def compare(
    call: str,
    answer: object,
    right: float,
    mistakes: Mapping[float, str] | None = None,
    *,
    tolerance: float = 1e-6,
) -> str | None:
    """None when the number `answer` is `right`, up to a relative `tolerance`; else feedback.

    call: what gave the answer, in words. mistakes: known wrong number -> its feedback; for any other number
    the feedback names both numbers.
    """
    if isinstance(answer, bool) or not isinstance(answer, numbers.Real):
        return f"{call} gave {answer!r}, a {type(answer).__name__}; a number is wanted"
    value = float(answer)
    if math.isclose(value, right, rel_tol=tolerance, abs_tol=tolerance):
        return None
    for wrong, feedback in (mistakes or {}).items():
        if math.isclose(value, wrong, rel_tol=tolerance, abs_tol=tolerance):
            return feedback
    return f"{call} gave {value:.6g}; it should be {right:.6g}"


def known_mistake(
    answer: Any, mistakes: Iterable[tuple[Any, str]], same: Callable[[Any, Any], bool] = operator.eq
) -> str | None:
    """The feedback of the first known mistake that is the `same` as the answer; None where none is."""
    return next((feedback for wrong, feedback in mistakes if same(answer, wrong)), None)


def choose_letter(answer: str, feedback: Mapping[str, str | None]) -> str | None:
    """The feedback on one of several letters; None for the right one."""
    letter = str(answer).strip().lower()
    if letter in feedback:
        return feedback[letter]
    return f"{answer!r} is none of the letters {', '.join(feedback)}"


def count_values(answer: object, wanted: str, count: int = 2) -> str | None:
    """None where the answer is a tuple or list of `count` values; else feedback that names what is wanted."""
    if isinstance(answer, (tuple, list)) and len(answer) == count:
        return None
    return f"{('two', 'three')[count - 2]} {wanted}; got {answer!r}"
