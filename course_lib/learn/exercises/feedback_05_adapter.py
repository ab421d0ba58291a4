"""Checkers of chapter 05's exercises on a LoRA adapter, which adds alpha / r B A to a matrix W of a model.

A checker takes the student's answer, and returns feedback, or None if the answer is right. Each known mistake
is a wrong solution with the feedback for it, see `comparing.diagnose`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from course_lib.learn.exercises.comparing import as_array, diagnose, known_mistake

Array = np.ndarray[Any, Any]


def equal_arrays(a: Array, b: Array) -> bool:
    """Return whether two arrays have the same shape and, within rounding, the same values."""
    return a.shape == b.shape and bool(np.allclose(a, b, atol=1e-6))


def _layer(rows: int, inputs: int, outputs: int, rank: int) -> tuple[Array, Array, Array, Array]:
    """Return x (rows, inputs), W (outputs, inputs), A (rank, inputs), B (outputs, rank); random but fixed."""
    rng = np.random.default_rng(5)
    x, a = rng.normal(size=(rows, inputs)), rng.normal(size=(rank, inputs))
    b, w = rng.normal(size=(outputs, rank)), rng.normal(size=(outputs, inputs))
    return x, w, a, b


ROWS, INPUTS, OUTPUTS, RANK = 5, 3, 4, 2  # all different, so that a wrong shape shows
ALPHA = 8.0
SCALE = ALPHA / RANK


def check_lora(lora: Callable[[Any, Any, Any, Any, float], Any]) -> str | None:
    """Check 05.1: `lora(x, W, A, B, alpha)`, the output of a layer with an adapter.

    It is x times the transpose of W + alpha / r B A, where r is the number of rows of A, the rank.
    """
    x, w, a, b = _layer(ROWS, INPUTS, OUTPUTS, RANK)
    arguments = _layer(ROWS, INPUTS, OUTPUTS, RANK)
    base, unscaled = x @ w.T, x @ a.T @ b.T
    try:
        result = as_array(lora(*arguments, ALPHA))
    except ValueError as error:
        return _shape_feedback(lora, error)
    mistakes = (
        (base + unscaled, "the scale is missing: multiply the adapter's part by alpha / r, 8 / 2 = 4"),
        (
            base + ALPHA * unscaled,
            "alpha = 8 was not divided by r = 2: multiply the adapter's part by alpha / r",
        ),
        (
            base + ALPHA / ROWS * unscaled,
            "alpha was divided by 5, the rows of x; divide it by r = 2, the rows of A",
        ),
        (
            base + ALPHA / INPUTS * unscaled,
            "alpha was divided by 3, the inputs; divide it by r = 2, the rows of A",
        ),
        (
            base + ALPHA / OUTPUTS * unscaled,
            "alpha was divided by 4, the outputs; divide it by r = 2, the columns of B",
        ),
        (
            base + ALPHA / RANK**0.5 * unscaled,
            "alpha / sqrt(r) is the scale of another method (rsLoRA); here it is alpha / r = 4",
        ),
        (base + RANK / ALPHA * unscaled, "the scale is upside down: r / alpha is 0.25, but alpha / r is 4"),
        (SCALE * (base + unscaled), "the scale 4 multiplies only the adapter's part, not W too"),
        (SCALE * unscaled, "W is missing: add x @ W.T, the layer's own output, to the adapter's part"),
        (unscaled, "W is missing, and so is the scale alpha / r = 4"),
        (base, "that is the output of W alone; add the adapter's part"),
        (
            SCALE * b @ a,
            "that is the change of W, of shape (4, 3): x is not multiplied by it yet, and W is missing",
        ),
        (w + SCALE * b @ a, "that is the merged matrix, of shape (4, 3); multiply x by its transpose"),
    )
    if feedback := known_mistake(result, mistakes, equal_arrays):
        return feedback
    if result.shape != base.shape:
        return f"an array of shape {result.shape} came back; 5 rows of x and 4 outputs make (5, 4)"
    expected = base + SCALE * unscaled
    if not equal_arrays(result, expected):
        return f"the values are off by up to {abs(result - expected).max():.3g}"
    for name, now, before in zip("xWAB", arguments, (x, w, a, b), strict=True):
        if not np.array_equal(now, before):
            return f"the values are right, but {name} was changed in place; compute a new array instead"
    return _check_other_shapes(lora)


def _check_other_shapes(lora: Callable[[Any, Any, Any, Any, float], Any]) -> str | None:
    """Return None if the answer is right for random shapes too, else feedback."""
    for rows, inputs, outputs, rank in np.random.default_rng(6).integers(1, 9, size=(6, 4)):
        x, w, a, b = _layer(rows, inputs, outputs, rank)
        result = as_array(lora(*_layer(rows, inputs, outputs, rank), 3.0))
        if not equal_arrays(result, x @ w.T + 3.0 / rank * x @ a.T @ b.T):
            return (
                f"right for the first shapes, but not for x {x.shape}, W {w.shape}, A {a.shape}, B {b.shape} "
                "and alpha 3"
            )
    return None


def _shape_feedback(lora: Callable[[Any, Any, Any, Any, float], Any], error: ValueError) -> str:
    """Return feedback on an answer whose shapes do not fit, found by running it with square matrices."""
    side = 3
    x, w, a, b = _layer(side, side, side, side)
    scale = ALPHA / side
    try:
        result = as_array(lora(*_layer(side, side, side, side), ALPHA))
    except ValueError:
        result = np.zeros(0)
    mistakes = (
        (
            x @ w.T + scale * x @ b.T @ a.T,
            "A and B were exchanged: multiply x by A.T (A is (2, 3)) first, then by B.T (B is (4, 2))",
        ),
        (
            x @ w + scale * x @ a @ b,
            "nothing was transposed: x is (5, 3) and W (4, 3), whose rows are the outputs, so use x @ W.T",
        ),
        (
            x @ w.T + scale * x @ a @ b,
            "A and B were not transposed: x is (5, 3) and A (2, 3), so use x @ A.T @ B.T",
        ),
        (
            x @ w.T + scale * b @ a,
            "B A was added to the outputs, but it is a change of W: multiply x by (B @ A).T",
        ),
    )
    return (
        known_mistake(result, mistakes, equal_arrays)
        or f"shapes do not fit, where x is (5, 3), W (4, 3), A (2, 3) and B (4, 2): {error}"
    )


# matrix -> (outputs, inputs)
SHAPES = {"query": (64, 64), "key": (16, 64), "value": (16, 64), "up": (256, 64), "down": (64, 256)}


def _break_even(shapes: dict[str, tuple[int, int]]) -> int:
    """The right solution of 05.2."""
    whole = sum(outputs * inputs for outputs, inputs in shapes.values())
    return -(-whole // sum(outputs + inputs for outputs, inputs in shapes.values()))


def _ratios(shapes: dict[str, tuple[int, int]]) -> list[float]:
    """Return the rank at which the adapter of each matrix is as large as the matrix."""
    return [outputs * inputs / (outputs + inputs) for outputs, inputs in shapes.values()]


def _sums(shapes: dict[str, tuple[int, int]]) -> tuple[int, int, int]:
    """Return the weights of all matrices, of all A at rank 1, and of all B at rank 1."""
    whole = sum(outputs * inputs for outputs, inputs in shapes.values())
    return whole, sum(i for _, i in shapes.values()), sum(o for o, _ in shapes.values())


ITERATE_VALUES = "`for ... in shapes` goes over the names; the sizes are in shapes.values()"
BREAK_EVEN_MISTAKES: tuple[tuple[Callable[[Any], Any], str], ...] = (
    (
        lambda s: _sums(s)[0] // sum(_sums(s)[1:]),
        "rounded down, the adapter still has fewer weights than the matrices; the smallest whole rank at "
        "which it does not is one higher, unless the division leaves nothing over",
    ),
    (
        lambda s: _sums(s)[0] // sum(_sums(s)[1:]) + 1,
        "where the division leaves nothing over, you are one too high: an equal number is reached already",
    ),
    (
        lambda s: _sums(s)[0] / sum(_sums(s)[1:]),
        "a rank is a whole number: which one is the first at which the adapter is not smaller?",
    ),
    (
        lambda s: round(_sums(s)[0] / sum(_sums(s)[1:])),
        "rounded to the nearest, you are sometimes one too low: there the adapter is still smaller",
    ),
    (
        lambda s: math.ceil(_sums(s)[0] / _sums(s)[1]),
        "only A was counted in the adapter; B has rank x outputs weights more",
    ),
    (
        lambda s: math.ceil(_sums(s)[0] / _sums(s)[2]),
        "only B was counted in the adapter; A has rank x inputs weights more",
    ),
    (
        lambda s: math.ceil(_sums(s)[0] / (2 * sum(_sums(s)[1:]))),
        "the adapter was counted twice: rank x (outputs + inputs) is A and B together",
    ),
    (
        lambda s: _break_even({str(shape): shape for shape in s.values()}),
        "matrices of the same shape were counted once; each has an adapter of its own",
    ),
    (
        lambda s: math.ceil(max(_ratios(s))),
        "that is the rank at which the last of the matrices is reached; all of them together are reached "
        "earlier",
    ),
    (
        lambda s: math.ceil(min(_ratios(s))),
        "that is the rank at which the first of the matrices is reached; all of them together are reached "
        "later",
    ),
    (
        lambda s: math.ceil(sum(_ratios(s)) / len(s)),
        "a mean of the matrices' own ranks counts a small matrix as much as a large one; add up weights, "
        "then divide once",
    ),
    (lambda s: math.ceil(_ratios(s)[0]), "that is for the first matrix alone; add up all of them"),
    (
        lambda s: min(min(shape) for shape in s.values()),
        "at the shorter side of a matrix its adapter is already larger than the matrix; count the weights",
    ),
)


def check_break_even(break_even: Callable[[dict[str, tuple[int, int]]], Any]) -> str | None:
    """Check 05.2: `break_even(shapes)`, the smallest rank at which an adapter is as large as its matrices.

    It has rank x (outputs + inputs) weights for each matrix of outputs x inputs.
    """
    try:
        break_even(dict(SHAPES))
    except (TypeError, ValueError) as error:
        if "unpack" in str(error) or "str" in str(error):
            return ITERATE_VALUES
        raise
    rng = np.random.default_rng(5)
    drawn = [rng.integers(2, 400, size=(count, 2)).tolist() for count in (1, 2, 5, 9)]
    cases = [{f"m{i}": (o, n) for i, (o, n) in enumerate(shapes)} for shapes in drawn]
    cases += [SHAPES, {"square": (64, 64)}, {"square": (64, 64), "again": (64, 64), "thin": (2, 64)}]
    return diagnose(
        break_even, _break_even, [(case,) for case in cases], BREAK_EVEN_MISTAKES, name="break_even"
    )


def _largest(memory: float, share: float | None = None, bits: float = 16) -> float:
    """The right solution of 05.3.

    A trained weight takes 16 bytes: 2 for itself, 2 for its gradient, 4 for a copy in 32 bits, and 8 for two
    means that the optimiser Adam keeps. A frozen weight is not trained. share: the adapter's weights per
    weight of the frozen model, or None if all weights are trained. bits: of a frozen weight.
    """
    return memory / (16 if share is None else bits / 8 + 16 * share)


# Known mistakes: a wrong answer, and the feedback on it.
LARGEST_MISTAKES: tuple[tuple[Callable[..., Any], str], ...] = (
    (
        lambda m, s=None, b=16: m / (16 if not s else b / 8 + 16 * s),
        "with share=0 nothing learns, and a weight takes bits / 8 bytes; `if share` takes 0 for None, so ask "
        "`share is None`",
    ),
    (
        lambda m, s=None, b=16: m / 16,
        "every answer is for training all weights: with a share the model is frozen, and a frozen weight has "
        "no gradient, no copy and no means",
    ),
    (
        lambda m, s=None, b=16: m / (b / 8 + 14 if s is None else b / 8 + 16 * s),
        "where all weights learn, `bits` says nothing: they are trained in 16 bits, 16 bytes each",
    ),
    (
        lambda m, s=None, b=16: m / (16 if s is None else b / 8 + 14 * s),
        "the adapter's weights come on top of the model's, so each takes all of the 16 bytes, not 14",
    ),
    (
        lambda m, s=None, b=16: m / (16 if s is None else b / 8 * (1 - s) + 16 * s),
        "the adapter's weights come on top of the model's; none of the frozen ones goes away",
    ),
    (
        lambda m, s=None, b=16: m / (16 if s is None else b / 8),
        "the frozen model is counted, its adapter is not: it takes 16 bytes for each of its weights",
    ),
    (
        lambda m, s=None, b=16: m / (16 if s is None else 16 * s if s else math.inf),
        "the adapter is counted, the frozen model is not: it is read at every step",
    ),
    (
        lambda m, s=None, b=16: m / (16 if s is None else 2 + 16 * s),
        "bits was not used: a frozen weight takes bits / 8 bytes, which is 2 only for 16 bits",
    ),
    (
        lambda m, s=None, b=16: m / (16 if s is None else b + 16 * s),
        "bits were counted as bytes: eight bits are one byte",
    ),
    (
        lambda m, s=None, b=16: m / (16 if s is None else b / 8 + 2 + 16 * s),
        "a frozen weight has no gradient, which needs no bytes then",
    ),
    (
        lambda m, s=None, b=16: m / (16 if s is None else b / 8 + 2 * s),
        "the adapter learns, so each of its weights takes 16 bytes, not 2",
    ),
    (
        lambda m, s=None, b=16: m * (16 if s is None else b / 8 + 16 * s),
        "that is the memory for a model of `memory` weights; here the memory is given, and the weights are "
        "asked for",
    ),
    (lambda *case: _largest(*case) / 1e9, "that is in billions of weights; return weights"),
    (
        lambda m, *rest: _largest(m / 1e9 * 2**30, *rest),
        "GB are 10**9 bytes, and `memory` is in bytes already",
    ),
)


def check_largest(largest_model: Callable[..., Any]) -> str | None:
    """Check 05.3: `largest_model(memory, share, bits)`, how many weights can be trained in these bytes."""
    rng = np.random.default_rng(7)
    cases: list[tuple[Any, ...]] = [(24e9,), (24e9, 0.01), (24e9, 0.01, 4.5), (16e9, None, 8), (8e9, 0.0)]
    cases += [(float(m), float(s), float(b)) for m, s, b in rng.uniform((1e9, 0, 2), (1e11, 0.5, 32), (9, 3))]
    return diagnose(largest_model, _largest, cases, LARGEST_MISTAKES, name="largest_model")
