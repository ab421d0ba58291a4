"""Checkers of chapter 05's exercises on one LoRA adapter and its size: return feedback, None if right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from course_lib.learn.exercises.comparing import compare, known_mistake

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


ROWS, INPUTS, OUTPUTS, RANK = 5, 3, 4, 2
ALPHA = 8.0
SCALE = ALPHA / RANK


def check_lora(lora: Callable[[Any, Any, Any, Any, float], Any]) -> str | None:
    x, w, a, b = _layer(ROWS, INPUTS, OUTPUTS, RANK)
    arguments = _layer(ROWS, INPUTS, OUTPUTS, RANK)
    base, unscaled = x @ w.T, x @ a.T @ b.T
    try:
        result = np.asarray(lora(*arguments, ALPHA))
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
    return None


def _shape_feedback(lora: Callable[[Any, Any, Any, Any, float], Any], error: ValueError) -> str:
    """Return feedback on an answer whose shapes do not fit, found by running it with square matrices."""
    side = 3
    x, w, a, b = _layer(side, side, side, side)
    scale = ALPHA / side
    try:
        result = np.asarray(lora(*_layer(side, side, side, side), ALPHA))
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


SHAPES = {"query": (64, 64), "key": (16, 64), "value": (16, 64), "up": (256, 64), "down": (64, 256)}


def check_weights(adapter_weights: Callable[[dict[str, tuple[int, int]], int], float]) -> str | None:
    rank = 4
    model = sum(outputs * inputs for outputs, inputs in SHAPES.values())
    all_a = rank * sum(inputs for _, inputs in SHAPES.values())
    all_b = rank * sum(outputs for outputs, _ in SHAPES.values())
    expected = all_a + all_b
    distinct = rank * sum(outputs + inputs for outputs, inputs in set(SHAPES.values()))
    query = rank * sum(SHAPES["query"])
    return compare(
        "five matrices and rank 4",
        adapter_weights(dict(SHAPES), rank),
        expected,
        {
            rank * model: (
                f"{rank * model:,} is rank x outputs x inputs; A has rank x inputs weights and B rank x "
                "outputs"
            ),
            model: f"{model:,} are the weights of the model's own matrices; count those of A and B",
            all_a: f"{all_a:,} are the weights of A alone; add those of B, rank x outputs",
            all_b: f"{all_b:,} are the weights of B alone; add those of A, rank x inputs",
            expected // rank: f"{expected // rank:,} is the number for rank 1; multiply by the rank",
            2 * expected: (
                f"{2 * expected:,} is twice as many: rank x (outputs + inputs) already includes A and B"
            ),
            rank * expected: f"{rank * expected:,} has the rank in it twice; multiply by the rank once",
            rank**2 * model: f"{rank**2 * model:,} is A times B; add their sizes instead",
            distinct: (
                f"{distinct:,} counts key and value once, because both are 16 x 64; each matrix has its own "
                "adapter"
            ),
            query: f"{query} is for one matrix alone; add up all five",
        },
    ) or compare("one matrix of 7 x 3, rank 2", adapter_weights({"head": (7, 3)}, 2), 2 * (7 + 3))


def check_bytes(training_bytes: Callable[..., float]) -> str | None:
    model, adapter = 7_000_000_000, 20_000_000  # weights
    expected = 16 * model
    feedback = compare(
        "training_bytes(7_000_000_000)",
        training_bytes(model),
        expected,
        {
            2 * model: "14 GB are the weights alone; training needs 14 more bytes for each of them",
            4 * model: (
                "4 bytes per weight cover the weight and its gradient; add 12 for the exact copy and "
                "Adam's two means"
            ),
            8 * model: "8 bytes per weight lack the two means that Adam keeps of every weight, 4 bytes each",
            12 * model: "12 bytes per weight lack 4, for the exact copy or for one of Adam's two means",
            14 * model: "14 bytes per weight lack 2, for the gradient or for the weight itself",
            10 * model: "10 bytes per weight lack 6; the weight or its gradient is among what is missing",
            1.2 * 2 * model: (
                "1.2 times the weights is a rule for generating text; training needs 8 times the weights"
            ),
            expected / 1e9: "112 is in GB; return bytes",
            expected / 2**30: "104.3 is in GiB; return bytes",
            expected * 8: "896 billion is in bits; return bytes",
        },
    )
    expected = 2 * model + 16 * adapter
    return feedback or compare(
        "training_bytes(7_000_000_000, 20_000_000)",
        training_bytes(model, adapter),
        expected,
        {
            16 * model: (
                "112 GB again: with an adapter the model is frozen, and only 20 million weights are trained"
            ),
            16 * adapter: "0.32 GB are for the adapter alone; add the frozen model, 14 GB",
            2 * model: (
                "14 GB are for the frozen model alone; add 16 bytes for each weight of the adapter, 0.32 GB"
            ),
            4 * model + 16 * adapter: "28.32 GB include gradients of the frozen weights, which have none",
            2 * model + 14 * adapter: (
                "14.28 GB count 14 bytes for each trained weight; the adapter's weights come on top of the "
                "model's, so count 16"
            ),
            2 * (model + adapter): (
                "14.04 GB count the adapter as if it were frozen, 2 bytes per weight; it is trained, so "
                "count 16"
            ),
            16 * (model + adapter): (
                "112.32 GB count both as trained; the frozen model takes only 2 bytes per weight"
            ),
            expected / 1e9: "14.32 is in GB; return bytes",
        },
    )
