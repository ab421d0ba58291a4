"""Helpers of the chapters' checkers: compare an answer with the expected one and recognise known mistakes."""

from __future__ import annotations

import copy
import math
import numbers
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np


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


def as_array(value: Any) -> np.ndarray:
    """Return an answer as an array; if its rows differ in length, as an array of Python objects."""
    try:
        return np.asarray(value)
    except ValueError:
        return np.asarray(value, dtype=object)


def same_result(a: Any, b: Any) -> bool:
    """Return whether two results are equal: numbers within 1e-6, lists and arrays like tuples, exceptions
    by type.
    """
    if isinstance(b, (tuple, list)):
        a = a.tolist() if isinstance(a, np.ndarray) else a
        return (
            isinstance(a, (tuple, list))
            and len(a) == len(b)
            and all(same_result(x, y) for x, y in zip(a, b, strict=True))
        )
    if isinstance(b, Mapping):
        return (
            isinstance(a, Mapping) and a.keys() == b.keys() and all(same_result(a[key], b[key]) for key in b)
        )
    if isinstance(b, np.ndarray):
        a = as_array(a)
        return a.shape == b.shape and a.dtype.kind in "biuf" and bool(np.allclose(a, b, rtol=1e-6, atol=1e-9))
    if isinstance(b, numbers.Real) and not isinstance(b, bool):
        return isinstance(a, numbers.Real) and math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9)
    if isinstance(b, Exception):
        return type(a) is type(b)
    try:
        return bool(a == b)
    except ValueError:  # an array instead of a text: comparing it gives no single truth value
        return False


def diagnose(
    answer: Callable[..., Any],
    reference: Callable[..., Any],
    cases: Sequence[tuple[Any, ...]],
    mistakes: Iterable[tuple[Callable[..., Any], str]] = (),
    *,
    name: str = "your function",
) -> str | None:
    """Return None if `answer` and `reference` give the same result in all cases, else feedback.

    cases: The arguments of each call; every function gets copies of its own.
    mistakes: Known wrong functions with their feedback. The first that agrees with `answer` in all cases
    gives the feedback; if none does, the feedback is the first wrong result. An exception counts as a result.
    name: The function's name in the feedback.
    """

    def results(function: Callable[..., Any]) -> list[Any]:
        return [result_of(function, case) for case in cases]

    got, expected = results(answer), results(reference)
    if same_result(got, expected):
        return None
    for mistake, feedback in mistakes:
        if same_result(got, results(mistake)):
            return feedback
    case, wrong, right = next(
        (c, g, e) for c, g, e in zip(cases, got, expected, strict=True) if not same_result(g, e)
    )
    if wrong is None:
        return f"{name} returned None; did you forget `return`?"
    call = f"{name}({', '.join(map(_short, case))})"
    return f"{call} {_ending(wrong, 'gave', 'stopped with')}; it should {_ending(right, 'give', 'raise')}"


def result_of(function: Callable[..., Any], case: tuple[Any, ...]) -> Any:
    """Return what a call returns or raises; NotImplementedError means "not answered" and is passed on."""
    try:
        return function(*copy.deepcopy(case))
    except NotImplementedError:
        raise
    except Exception as error:
        return error


def _ending(result: Any, gave: str, raised: str) -> str:
    """Return "gave RESULT", or "stopped with ERROR" for an exception."""
    if isinstance(result, Exception):
        return f"{raised} {type(result).__name__}" + f": {result}" * bool(str(result))
    return f"{gave} {_short(result)}"


def _short(value: Any) -> str:
    """Return a value as text of at most about 120 characters."""
    if isinstance(value, numbers.Real) and not isinstance(value, numbers.Integral):
        return f"{float(value):.6g}"
    if isinstance(value, np.ndarray):
        value = value.tolist()
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:100]} ... {text[-15:]}"
