"""Checker of chapter 05's exercise on mixing LoRA adapters, which add alpha / r B A to a model's matrix.

A checker takes the student's answer, and returns feedback, or None if the answer is right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from course_lib.learn.exercises.comparing import as_array, known_mistake
from course_lib.learn.exercises.feedback_05_adapter import Array, equal_arrays

OUTPUTS, INPUTS = 8, 9  # of the matrix to which the adapters add
Adapter = tuple[Array, Array, float]  # A (rank, inputs), B (outputs, rank) and alpha
ONE_SIDE = "put the whole weight on A or on B"


def _adapters(ranks: Sequence[int], alphas: Sequence[float]) -> list[Adapter]:
    """Return adapters of these ranks and alphas; random but fixed."""
    rng = np.random.default_rng(7)
    return [
        (rng.normal(size=(rank, INPUTS)), rng.normal(size=(OUTPUTS, rank)), alpha)
        for rank, alpha in zip(ranks, alphas, strict=True)
    ]


def _weighted_sum(adapters: Sequence[Adapter], factors: Sequence[float] | Array) -> Array:
    """Return the sum of factor x B A over the adapters; shape (outputs, inputs)."""
    products = [factor * (b @ a) for factor, (a, b, _) in zip(factors, adapters, strict=True)]
    total: Array = np.sum(products, axis=0)
    return total


def check_mix(mix: Callable[[list[Adapter], list[float]], Any]) -> str | None:
    """Check 05.9: `mix(adapters, weights)`, one adapter (A, B) that equals the weighted sum of several."""
    with np.errstate(invalid="ignore"):
        return _check_equal_ranks(mix) or _check_different_ranks(mix)


def _check_shapes(result: Any, rank: int) -> str | None:
    """Return None if the result is an A and a B of this rank or less that fit together, else feedback."""
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        return f"expected two matrices, A and B; a {type(result).__name__} came back"
    a, b = map(as_array, result)
    if a.ndim != 2 or b.ndim != 2:
        return f"expected A and B, each with rows and columns; their shapes are {a.shape} and {b.shape}"
    if a.shape == (OUTPUTS, rank) and b.shape == (rank, INPUTS):
        return "B came first; return (A, B)"
    if a.shape[1] != INPUTS:
        return (
            f"A has the shape {a.shape}: stack the A on top of each other (np.vstack), which gives {rank} "
            f"rows and {INPUTS} columns, the inputs"
        )
    if b.shape[0] != OUTPUTS:
        return (
            f"B has the shape {b.shape}: put the B next to each other (np.hstack), which gives {OUTPUTS} "
            f"rows, the outputs, and {rank} columns"
        )
    if a.shape[0] != b.shape[1]:
        return f"A has {a.shape[0]} rows and B {b.shape[1]} columns; both must be the rank, {rank}"
    if len(a) > rank:
        return f"the mix has rank {len(a)}, where {rank} is enough: its rank should be the sum of the ranks"
    if "c" in (a.dtype.kind, b.dtype.kind):
        return f"complex numbers came back, from the root of a negative weight; {ONE_SIDE}"
    return None


def _check_equal_ranks(mix: Callable[[list[Adapter], list[float]], Any]) -> str | None:
    """Check with two adapters of rank 2."""
    ranks, alphas, weights = [2, 2], [4, 6], [0.5, 2.0]
    adapters, given = _adapters(ranks, alphas), _adapters(ranks, alphas)
    result = mix(given, list(weights))
    if feedback := _check_shapes(result, sum(ranks)):
        return feedback
    a, b = map(as_array, result)
    weight, scale = np.array(weights), np.array(alphas) / ranks  # scales 2 and 3
    expected = _weighted_sum(adapters, weight * scale)
    mistakes = (
        (weight, "the scales are missing: alpha / r is 2 for the first adapter and 3 for the second"),
        (weight * alphas, "alpha was not divided by r = 2, so everything is twice what it should be"),
        (weight**2, "the scales are missing, and each weight is on A and on B, so it is squared: 2 became 4"),
        (
            weight**2 * scale,
            "each weight is on A and on B, so B A has its square: 0.5 became 0.25, 2 became 4",
        ),
        (weight * scale**2, "each scale is on A and on B, so B A has its square: 2 became 4, 3 became 9"),
        ((weight * scale) ** 2, "weight x scale is on A and on B, so B A has its square: 6 became 36"),
        (scale, "the weights were not used: take 0.5 of the first adapter and 2 of the second"),
        ([1, 1], "neither the weights nor the scales alpha / r were used"),
        (weight * scale / sum(weights), "the weights were divided by their sum, 2.5; use them as they are"),
        (
            weight * scale / 2,
            "everything is half of what it should be: did you take the mean, or divide alpha by the rank "
            "of the mix?",
        ),
        ([1, 0], "the first adapter came back alone; add up both"),
        ([0, 6], "the second adapter came back alone; add up both"),
    )
    products = ((_weighted_sum(adapters, factors), feedback) for factors, feedback in mistakes)
    if feedback := known_mistake(b @ a, products, equal_arrays):
        return feedback
    error = _relative_error(b @ a, expected)
    if len(a) < sum(ranks):
        dropped = np.linalg.svd(expected, compute_uv=False)[len(a) :]
        smallest_error = np.linalg.norm(dropped) / np.linalg.norm(expected)
        if np.isclose(error, smallest_error):
            return (
                f"that is the best mix of rank {len(a)}, but {error:.0%} off: two adapters of rank 2 need "
                "rank 4"
            )
        return (
            f"your mix has rank {len(a)} and is {error:.0%} off: did you add up the A and the B? Their "
            "product then also contains B1 A2 and B2 A1; stack them instead"
        )
    if not equal_arrays(b @ a, expected):
        return f"B A is {error:.0%} off"
    if not all(
        equal_arrays(now[0], before[0]) and equal_arrays(now[1], before[1])
        for now, before in zip(given, adapters, strict=True)
    ):
        return "the mix is right, but the given adapters were changed in place; compute new arrays instead"
    return None


def _relative_error(product: Array, expected: Array) -> float:
    return float(np.linalg.norm(product - expected) / np.linalg.norm(expected))


def _check_different_ranks(mix: Callable[[list[Adapter], list[float]], Any]) -> str | None:
    """Check with three adapters of different ranks, one with a negative weight."""
    ranks, alphas, weights = [2, 3, 1], [4, 9, 2], [1.0, -0.5, 2.0]
    adapters, case = _adapters(ranks, alphas), "ranks 2, 3 and 1 with weights 1, -0.5 and 2"
    no_root = f"the weight -0.5 has no real square root: {ONE_SIDE}"
    try:
        result = mix(_adapters(ranks, alphas), list(weights))
    except ValueError as error:
        # math.sqrt: "math domain error", from Python 3.14 on "expected a nonnegative input"
        return no_root if "domain" in str(error) or "nonnegative" in str(error) else f"{case}: {error}"
    if feedback := _check_shapes(result, sum(ranks)):
        return f"{case}: {feedback}"
    a, b = map(as_array, result)
    if np.isnan(a).any() or np.isnan(b).any():
        return f"nan came back: {no_root}"
    weight, scale = np.array(weights), np.array(alphas) / ranks
    expected = _weighted_sum(adapters, weight * scale)
    mistakes = (
        (
            abs(weight) * scale,
            "the weight -0.5 was added as 0.5; a negative weight must subtract its adapter",
        ),
        (
            weight.clip(min=0) * scale,
            "the adapter with the weight -0.5 was left out; a negative weight must subtract its adapter",
        ),
        (weight * scale * [1, 1, 0], "the third adapter is missing: there may be more than two"),
        (
            weight * alphas / ranks[0],
            "alpha was always divided by 2, the rank of the first; the others have 3 and 1",
        ),
    )
    products = ((_weighted_sum(adapters, factors), feedback) for factors, feedback in mistakes)
    if feedback := known_mistake(b @ a, products, equal_arrays):
        return feedback
    if equal_arrays(b @ a, expected):
        return None
    return f"{case}: B A is {_relative_error(b @ a, expected):.0%} off"
