"""Checkers of chapter 02's exercises on rounding weights, and on the bits of a format.

A rounded weight is a code (a small whole number) times a scale. absmax is the largest absolute weight. Q4_0
and NF4 are formats of about four bits per weight. A checker takes the student's answer, and returns feedback,
or None if the answer is right. Each known mistake is a wrong solution with the feedback for it, see
`comparing.diagnose`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from course_lib.learn.exercises.comparing import as_array, check_length, compare, diagnose

LARGEST_CODE = 127  # the largest signed integer of 8 bits
# Feedback that several mistakes share.
TAKE_ABS = "the weight with the largest absolute value is negative: take abs() before max()"
ZEROS = "all weights are 0, so the scale is 0 and cannot be divided by; all codes are 0 then"
ZERO_BLOCK = (
    "all weights of a block are 0, so nothing can be divided by its largest: each gets the value nearest to 0"
)


def check_absmax(absmax_codes: Callable[[np.ndarray], tuple[np.ndarray, float]]) -> str | None:
    """Check 02.1: `absmax_codes(weights)`, 8-bit codes and the scale that turns a code into a weight."""
    weights = np.array([[0.2, -1.27, 0.0], [0.634, 0.008, -0.3]], dtype=np.float32)
    if feedback := _absmax_feedback(absmax_codes, weights):
        return feedback
    rng = np.random.default_rng(1)
    for shape in ((7,), (3, 5), (2, 3, 4)):
        if feedback := _absmax_feedback(absmax_codes, rng.standard_normal(shape).astype(np.float32)):
            return feedback
    with warnings.catch_warnings(record=True) as warned, np.errstate(all="warn"):
        warnings.simplefilter("always")
        try:
            codes, scale = absmax_codes(np.zeros(4, dtype=np.float32))
        except (ZeroDivisionError, FloatingPointError):
            return ZEROS
    # NaN becomes 0, but only on some processors.
    made_of_nan = any("in cast" in str(warning.message) for warning in warned)
    wrong = np.any(as_array(codes)) or np.any(np.isnan(np.asarray(codes, dtype=float)))
    return ZEROS if made_of_nan or wrong or not np.isfinite(scale) else None


def _absmax_feedback(
    absmax_codes: Callable[[np.ndarray], tuple[np.ndarray, float]], weights: np.ndarray
) -> str | None:
    """Return feedback on the codes and scale of these weights, None if they are right."""
    absmax = float(abs(weights).max())
    result = absmax_codes(weights.copy())
    if feedback := check_length(result, "values: the codes and the scale"):
        return feedback
    codes, scale = as_array(result[0]), result[1]
    if feedback := compare(
        f"the scale of weights from {weights.min():.3g} to {weights.max():.3g}",
        scale,
        absmax / LARGEST_CODE,
        {
            float(weights.max()) / LARGEST_CODE: TAKE_ABS,
            absmax / 128: "128 does not fit into 8 bits with a sign; the largest code is 127",
            LARGEST_CODE / absmax: (
                "that is upside down; the scale turns a code back into a weight: absmax / 127"
            ),
            absmax: "that is the largest absolute weight; divide it by 127 to get the scale",
            absmax / 255: "255 covers both signs; divide by 127, the largest code on one side of zero",
        },
        tolerance=1e-5,
    ):
        return feedback
    if codes.shape != weights.shape:
        return f"the codes have the shape {codes.shape}; they need the shape of the weights, {weights.shape}"
    steps = weights / np.float32(scale)
    if codes.dtype.kind == "f" and np.allclose(codes, np.rint(steps) * scale, atol=1e-6):
        return "those are the weights that come back, codes * scale; return the codes themselves"
    if codes.dtype != np.int8:
        return f"the codes are {codes.dtype}, but each should take one byte: use .astype(np.int8)"
    if np.array_equal(codes, (weights * np.float32(1 / scale)).astype(np.int8)) or np.array_equal(
        codes, steps.astype(np.int8)
    ):
        return "astype only cuts off decimals, and 0.8 should round to 1: use np.rint first"
    off = abs(codes - steps) > 0.5 + 1e-3
    if off.any():
        return (
            f"{weights[off][0]:.4g} at a scale of {scale:.4g} got the code {codes[off][0]}, not the nearest"
        )
    return None


def _bits(bits: int, block: int, scale_bits: int, group: int, group_bits: int) -> float:
    """The right solution of 02.2."""
    return bits + scale_bits / block + group_bits / (block * group)


# b: bits per weight, n: weights per block, s: bits of a block's scale, g: blocks per group, x: bits of a
# group's scale.
BITS: tuple[tuple[Callable[..., float], str], ...] = (
    (lambda b, n, s, g, x: b, "the scales must be stored too: a block's bits are shared by its weights"),
    (
        lambda b, n, s, g, x: b + s // n + x // (n * g),
        "the scales were counted, but // cuts off the fraction: 16 // 32 is 0; divide with /",
    ),
    (
        lambda b, n, s, g, x: b + s / n,
        "the second scale is missing: each `group` blocks share one of `group_bits` bits",
    ),
    (
        lambda b, n, s, g, x: b + s / n + x / g,
        "a group is `group` blocks of `block` weights each: its scale is shared by group * block weights",
    ),
    (
        lambda b, n, s, g, x: b + s / n + x / n,
        "the second scale is there once for `group` blocks, not for each block",
    ),
    (
        lambda b, n, s, g, x: b + x / (n * g),
        "only the second scale is counted; every block stores its own, of scale_bits, in addition",
    ),
    (
        lambda b, n, s, g, x: b + s + x,
        "there is one scale per block, not per weight: divide its bits by the block size",
    ),
    (
        lambda b, n, s, g, x: b + n / s + n * g / max(x, 1),
        "that is upside down: divide the bits by the weights",
    ),
    (
        lambda b, n, s, g, x: b + s / 8 / n + x / 8 / n / g,
        "that counts the scales in bytes; count them in bits",
    ),
    (lambda b, n, s, g, x: b * n + s + x / g, "that is the whole block; divide by its number of weights"),
    (
        lambda b, n, s, g, x: round(_bits(b, n, s, g, x), 2),
        "do not round to two decimals: formats differ in the third (4.127 bits)",
    ),
)


def check_bits(bits_per_weight: Callable[..., float]) -> str | None:
    """Check 02.2: `bits_per_weight(bits, block, scale_bits, group, group_bits)`, scales included.

    `block` weights share a scale of `scale_bits`, and `group` blocks another one of `group_bits`.
    """
    cases = [
        (4, 32, 16, 1, 0),
        (4, 64, 8, 256, 32),
        (8, 32, 16, 1, 0),
        (3, 16, 6, 16, 32),
        (4, 64, 32, 1, 0),
        (4, 8, 32, 1, 0),
    ]
    return diagnose(bits_per_weight, _bits, cases, BITS, name="bits_per_weight")


def _nearest(block: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, float]:
    """The right solution of 02.3."""
    return _divided_by(float(abs(block).max()), block, values)


def _divided_by(largest: float, block: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the index of the nearest value for each weight divided by `largest`, and `largest`."""
    return abs(block[:, None] / (largest or 1) - values).argmin(axis=1), largest


def _values_for_codes(block: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, float]:
    """A mistake: return the values instead of their indices."""
    codes, largest = _nearest(block, values)
    return values[codes], largest


# Known mistakes: a wrong answer, and the feedback on it.
NEAREST: tuple[tuple[Callable[..., Any], str], ...] = (
    (lambda b, v: _divided_by(float(b.max()), b, v), TAKE_ABS),
    (
        lambda b, v: _divided_by(float(b[abs(b).argmax()]), b, v),
        "that divides by the largest weight with its sign, as Q4_0 does; NF4 divides by its absolute value",
    ),
    (
        lambda b, v: (abs(b[:, None] - v).argmin(axis=1), float(abs(b).max())),
        "the weights were not divided by the absmax before they were compared",
    ),
    (
        lambda b, v: ((b[:, None] / abs(b).max() - v).argmin(axis=1), float(abs(b).max())),
        "that takes the smallest *signed* difference; take abs() of the difference first",
    ),
    (
        lambda b, v: (np.searchsorted(v, b / abs(b).max()), float(abs(b).max())),
        "that is always the next value above; the nearest one may lie below",
    ),
    (
        lambda b, v: (abs(b[:, None] / abs(b).max() - v).argmin(axis=0), float(abs(b).max())),
        "that finds the nearest weight for each value; find the nearest value for each weight (axis=1)",
    ),
    (_values_for_codes, "those are the values themselves; return their indices in `values`"),
    (lambda b, v: (_nearest(b, v)[0] + 1, _nearest(b, v)[1]), "the indices begin at 0, not at 1"),
    (
        lambda b, v: _nearest(b, v)[::-1],
        "the two results are swapped: first the indices, then the number that you divided by",
    ),
)


def check_nearest(nearest_codes: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, float]]) -> str | None:
    """Check 02.3: `nearest_codes(block, values)`, for each weight / absmax the index of the nearest value.

    The second result is the absmax.
    """
    rng = np.random.default_rng(2)
    cases = [
        (
            np.array([0.02, -2.0, 0.3, 1.4, -0.75, -1.5], dtype=np.float32),
            np.array([-1.0, -0.4, 0.0, 0.1, 1.0], dtype=np.float32),
        )
    ]
    for size in (8, 32):
        block = rng.standard_normal(size).astype(np.float32)
        block[size // 2] = -2 * abs(block).max()
        cases.append((block, np.sort(rng.uniform(-1, 1, 16)).astype(np.float32)))
    if feedback := diagnose(nearest_codes, _nearest, cases, NEAREST, name="nearest_codes"):
        return feedback
    zeros = [(np.zeros(4, dtype=np.float32), np.array([-1.0, -0.4, 0.1, 1.0], dtype=np.float32))]
    with np.errstate(all="ignore"):
        return ZERO_BLOCK if diagnose(nearest_codes, _nearest, zeros) else None
