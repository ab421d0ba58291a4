"""How far rounded weights are from the originals: relative error, signal to noise, largest error."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from course_lib.errors import CourseError
from course_lib.tuning.quantize import Q_BLOCK, Per, as_float32, grouped


def block_errors(weights: Any, rounded: Any, per: Per = Q_BLOCK) -> NDArray[np.float64]:
    """||rounded - weights|| / ||weights|| of each group; 0 where they are equal, infinite where only the weights are all 0.

    Raises CourseError for different shapes, and as `grouped`.
    """
    before, after = grouped(weights, per).astype(np.float64), grouped(rounded, per).astype(np.float64)
    if np.shape(weights) != np.shape(rounded):
        raise CourseError(
            f"weights of shape {np.shape(weights)} cannot be compared with {np.shape(rounded)}",
            "relative_error(weights, fmt.roundtrip(weights))",
        )
    error, size = np.linalg.norm(after - before, axis=1), np.linalg.norm(before, axis=1)
    return np.divide(error, size, where=size > 0, out=np.where(error > 0, np.inf, 0.0))


def relative_error(weights: Any, rounded: Any) -> float:
    """||rounded - weights|| / ||weights|| over the whole tensor (Frobenius)."""
    return float(block_errors(weights, rounded, "tensor")[0])


def snr_db(weights: Any, rounded: Any) -> float:
    """Signal to noise in decibels: 20 log10(1 / relative error); 6.02 dB for every bit of equal steps; infinite if exact."""
    error = relative_error(weights, rounded)
    return float(-20 * np.log10(error)) if error else float("inf")


def largest_error(weights: Any, rounded: Any) -> float:
    """The largest |rounded - weights|. Raises CourseError as `block_errors`."""
    block_errors(weights, rounded, "tensor")
    return float(np.abs(as_float32(rounded) - as_float32(weights)).max())
