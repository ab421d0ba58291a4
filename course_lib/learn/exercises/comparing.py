"""Helpers of the chapters' checkers: compare an answer with the expected one and recognise known mistakes."""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any


def compare(
    call: str,
    answer: object,
    expected: float,
    mistakes: Mapping[float, str] | None = None,
    *,
    tolerance: float = 1e-6,
) -> str | None:
    """Return None if the number `answer` equals `expected` within the relative `tolerance`, else feedback.

    call: The call or question that gave the answer; feedback begins with it.
    mistakes: Known wrong number -> its feedback. For any other number the feedback names both numbers.
    """
    if isinstance(answer, bool) or not isinstance(answer, numbers.Real):
        return f"{call} gave {answer!r} of type {type(answer).__name__}; expected a number"
    value = float(answer)
    if math.isclose(value, expected, rel_tol=tolerance, abs_tol=tolerance):
        return None
    for wrong, feedback in (mistakes or {}).items():
        if math.isclose(value, wrong, rel_tol=tolerance, abs_tol=tolerance):
            return feedback
    return f"{call} gave {value:.6g}; it should be {expected:.6g}"


def known_mistake(
    answer: Any, mistakes: Iterable[tuple[Any, str]], equal: Callable[[Any, Any], bool] = operator.eq
) -> str | None:
    """Return the feedback of the first known wrong answer that equals `answer`, or None if there is none.

    mistakes: Pairs of a wrong answer and its feedback.
    """
    return next((feedback for wrong, feedback in mistakes if equal(answer, wrong)), None)


def check_letter(answer: str, feedback: Mapping[str, str | None]) -> str | None:
    """Return the feedback for the chosen letter; it is None for the right one.

    feedback: Letter -> its feedback. An answer that is not one of these letters gets feedback too.
    """
    letter = str(answer).strip().lower()
    if letter in feedback:
        return feedback[letter]
    return f"{answer!r} is not one of the letters {', '.join(feedback)}"


def check_length(answer: object, description: str, count: int = 2) -> str | None:
    """Return None if the answer is a tuple or list of `count` values, else feedback.

    description: What the values are, in the plural.
    """
    if isinstance(answer, (tuple, list)) and len(answer) == count:
        return None
    return f"expected {count} {description}; got {answer!r}"
