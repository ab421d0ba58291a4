"""The check of exercise 05.6, mixing adapters: None when the answer is right, else feedback."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from course_lib.learn.exercises.comparing import known_mistake
from course_lib.learn.exercises.feedback_05 import Array, same

OUTPUTS, INPUTS = 8, 9
Part = tuple[Array, Array, float]  # A, B and alpha


def _adapters(ranks: Sequence[int], alphas: Sequence[float]) -> list[Part]:
    rng = np.random.default_rng(7)
    return [
        (rng.normal(size=(r, INPUTS)), rng.normal(size=(OUTPUTS, r)), alpha)
        for r, alpha in zip(ranks, alphas, strict=True)
    ]


def _sum(parts: Sequence[Part], factors: Sequence[float]) -> Array:
    total: Array = sum(
        (f * (b @ a) for f, (a, b, _) in zip(factors, parts, strict=True)), np.zeros((OUTPUTS, INPUTS))
    )
    return total


def check_mix(mix: Callable[[list[Part], list[float]], Any]) -> str | None:
    with np.errstate(invalid="ignore"):
        return _equal_ranks(mix) or _any_ranks(mix)


def _form(got: Any, rank: int) -> str | None:
    """What to say where no A and B came that fit together."""
    if not isinstance(got, (tuple, list)) or len(got) != 2:
        return f"two matrices are wanted, A and B; a {type(got).__name__} came back"
    a, b = map(np.asarray, got)
    if a.ndim != 2 or b.ndim != 2:
        return f"A and B are wanted, each with rows and columns; the shapes are {a.shape} and {b.shape}"
    if a.shape == (OUTPUTS, rank) and b.shape == (rank, INPUTS):
        return "B came first; return (A, B)"
    if a.shape[1] != INPUTS:
        return (
            f"A has the shape {a.shape}: put one A below the other (np.vstack), so that it has {rank} rows "
            f"of {INPUTS} inputs"
        )
    if b.shape[0] != OUTPUTS:
        return (
            f"B has the shape {b.shape}: put one B beside the other (np.hstack): {OUTPUTS} rows, the "
            f"outputs, and {rank} columns"
        )
    if a.shape[0] != b.shape[1]:
        return f"A has {a.shape[0]} rows and B {b.shape[1]} columns: they must be as many, {rank}"
    if len(a) > rank:
        return (
            f"the mix has rank {len(a)}, where {rank} is enough: the sum of the ranks; a whole matrix is no "
            "adapter"
        )
    if "c" in (a.dtype.kind, b.dtype.kind):
        return "complex numbers came back: the root of a negative weight; put the whole weight on A or on B"
    return None


def _equal_ranks(mix: Callable[[list[Part], list[float]], Any]) -> str | None:
    parts, given = _adapters([2, 2], [4, 6]), _adapters([2, 2], [4, 6])
    got = mix(given, [0.5, 2.0])
    if feedback := _form(got, rank=4):
        return feedback
    a, b = map(np.asarray, got)
    right = _sum(parts, [1, 6])
    if feedback := known_mistake(
        b @ a,
        (
            (
                _sum(parts, [0.5, 2]),
                "the scales are missing: alpha / r is 2 for the first and 3 for the second",
            ),
            (_sum(parts, [2, 12]), "alpha was not divided by r = 2: all is twice what it should be"),
            (_sum(parts, [0.25, 4]), "the scales are missing, and each weight is on A and on B: 2 became 4"),
            (
                _sum(parts, [0.5, 12]),
                "each weight is on A and on B, and B A has its square: 0.5 became 0.25, 2 became 4",
            ),
            (
                _sum(parts, [2, 18]),
                "each scale is on A and on B, and B A has its square: 2 became 4, 3 became 9",
            ),
            (_sum(parts, [1, 36]), "weight x scale is on A and on B, and B A has its square: 6 became 36"),
            (
                _sum(parts, [2, 3]),
                "the weights were not used: 0.5 of the first and 2 of the second are wanted",
            ),
            (_sum(parts, [1, 1]), "neither the weights were used nor the scales alpha / r"),
            (
                _sum(parts, [0.4, 2.4]),
                "the weights were divided by their sum, 2.5; they are wanted as they are",
            ),
            (
                _sum(parts, [0.5, 3]),
                (
                    "all is half of what it should be: was the mean taken, or alpha divided by the rank of "
                    "the mix?"
                ),
            ),
            (_sum(parts, [1, 0]), "the first adapter came back alone"),
            (_sum(parts, [0, 6]), "the second adapter came back alone"),
        ),
        same,
    ):
        return feedback
    off = np.linalg.norm(b @ a - right) / np.linalg.norm(right)
    if len(a) < 4:
        least = np.linalg.norm(np.linalg.svd(right, compute_uv=False)[len(a) :]) / np.linalg.norm(right)
        if np.isclose(off, least):
            return f"that is the best mix of rank {len(a)}, and still {off:.0%} off: two of rank 2 need 4"
        return (
            f"rank {len(a)} came back, {off:.0%} off: were the A added, and the B? Their product also has "
            "B1 A2 and B2 A1, which nobody learnt; lay them side by side"
        )
    if not same(b @ a, right):
        return f"B A is {off:.0%} off"
    if not all(
        same(now[0], then[0]) and same(now[1], then[1]) for now, then in zip(given, parts, strict=True)
    ):
        return (
            "the mix is right, but the adapters that were given were changed in place: mixed again, they "
            "would give another"
        )
    return None


def _any_ranks(mix: Callable[[list[Part], list[float]], Any]) -> str | None:
    parts, asked = _adapters([2, 3, 1], [4, 9, 2]), "ranks 2, 3 and 1 with weights 1, -0.5 and 2"
    root = "the root of the weight -0.5 is no number: put the whole weight on A or on B"
    try:
        got = mix(_adapters([2, 3, 1], [4, 9, 2]), [1.0, -0.5, 2.0])
    except ValueError as error:
        # math.sqrt: "math domain error", from Python 3.14 on "expected a nonnegative input"
        return root if "domain" in str(error) or "nonnegative" in str(error) else f"{asked}: {error}"
    if feedback := _form(got, rank=6):
        return f"{asked}: {feedback}"
    a, b = map(np.asarray, got)
    if np.isnan(a).any() or np.isnan(b).any():
        return f"nan came back: {root}"
    right = _sum(parts, [2, -1.5, 4])
    if feedback := known_mistake(
        b @ a,
        (
            (
                _sum(parts, [2, 1.5, 4]),
                "the weight -0.5 was added as 0.5: a negative weight takes something away",
            ),
            (
                _sum(parts, [2, 0, 4]),
                "the adapter with the weight -0.5 was left out: a negative weight takes something away",
            ),
            (_sum(parts, [2, -1.5, 0]), "the third adapter is missing: there may be more than two"),
            (
                _sum(parts, [2, -2.25, 2]),
                "alpha was divided by 2 each time, the rank of the first; the others have 3 and 1",
            ),
        ),
        same,
    ):
        return feedback
    off = np.linalg.norm(b @ a - right) / np.linalg.norm(right)
    return None if same(b @ a, right) else f"{asked}: B A is {off:.0%} off"
