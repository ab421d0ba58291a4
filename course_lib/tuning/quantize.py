"""Quantization by hand, in numpy: absmax, Q8_0, Q4_0, NF4 and FP4 as codes and scales, and back.

Codes and bytes equal those of llama.cpp (ggml/src/ggml-quants.c, compared with the package gguf) and of
bitsandbytes (Dettmers et al. 2022, arXiv:2208.07339; 2023, arXiv:2305.14314). `formats` offers them by name.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from course_lib.errors import CourseError

Weights = NDArray[np.float32]
Per = Literal["tensor", "row"] | int  # weights that share a scale: all, a row, or so many neighbours in a row
Q_BLOCK = 32  # weights that share a scale in Q8_0 and Q4_0 (QK8_0 and QK4_0 in ggml-common.h)
NF4_BLOCK = 64  # weights that share an absmax in NF4 and FP4
ABSMAX_BLOCK = 256  # absmaxes that share one of their own in double quantization
LARGEST = 1e38  # of a weight; a product of two float32 near the largest there is, 3.4e38, can overflow


def as_float32(weights: Any) -> Weights:
    """`weights` as float32. Raises CourseError for an empty array, NaN, infinity, and other types."""
    try:
        array = np.asarray(weights)
    except (TypeError, ValueError, RuntimeError) as error:
        raise CourseError(
            f"these weights cannot become a numpy array: {error}", "tensor.detach().float().numpy()"
        ) from error
    if array.dtype.kind not in "fiu" or not array.ndim or not array.size:
        raise CourseError(
            f"weights must be an array of numbers; got shape {array.shape} and type {array.dtype}",
            "np.asarray(weights, dtype=np.float32)",
        )
    with np.errstate(over="ignore"):
        array = array.astype(np.float32, copy=False)
    if bad := np.count_nonzero(~(np.abs(array) <= LARGEST)):
        raise CourseError(
            f"{bad} of {array.size} weights are NaN, infinite or above {LARGEST:g}: no scale can store them",
            "find out where they come from: a model with such weights is broken",
        )
    return array


def grouped(weights: Any, per: Per) -> Weights:
    """Weights in rows that share a scale: (groups, weights in a group).

    Raises CourseError as `as_float32`, and if a row is not a multiple of the block.
    """
    weights = as_float32(weights)
    row = weights.shape[-1]
    size = weights.size if per == "tensor" else row if per == "row" else per
    if not isinstance(size, int) or size < 1:
        raise CourseError(
            f'per={per!r}; it must be "tensor", "row" or a positive number of weights', "per=32"
        )
    if per != "tensor" and row % size:
        divisor = next(n for n in range(min(size, row), 0, -1) if row % n == 0)
        raise CourseError(f"{row} weights in a row cannot be cut into blocks of {size}", f"per={divisor}")
    return weights.reshape(-1, size)


def quotient(numerator: float, denominator: Weights) -> Weights:
    """numerator / denominator, and 0 where that overflows: for weights that are 0 or nearly so."""
    with np.errstate(divide="ignore", over="ignore"):
        result = np.float32(numerator) / denominator
    return np.where(np.isfinite(result), result, np.float32(0))


# -- absmax: steps of equal size


def quantize_absmax(weights: Any, bits: int = 8, per: Per = "tensor") -> tuple[NDArray[np.int8], Weights]:
    """Codes from -(2^(bits-1) - 1) to 2^(bits-1) - 1 in the weights' shape, and a float32 scale per group.

    The largest weight of a group gets the largest code (Dettmers et al. 2022, section 2). Raises CourseError
    for bits other than 2 to 8, and as `grouped`.
    """
    if bits not in range(2, 9):
        raise CourseError(f"bits={bits!r}: a code of absmax has 2 to 8 bits", "bits=4")
    groups, largest_code = grouped(weights, per), 2 ** (bits - 1) - 1
    absmax = np.abs(groups).max(axis=1, keepdims=True)
    codes = np.rint(groups * quotient(largest_code, absmax))
    return codes.astype(np.int8).reshape(np.shape(weights)), absmax[:, 0] / largest_code


def dequantize(codes: NDArray[Any], scales: NDArray[Any]) -> Weights:
    """Each code times the scale of its group, in the shape of the codes. There are as many groups as scales.

    Raises CourseError where they cannot be shared out.
    """
    if not scales.size or codes.size % scales.size:
        raise CourseError(
            f"{scales.size} scales cannot be shared among {codes.size} codes",
            "dequantize(*quantize_absmax(weights))",
        )
    groups = codes.astype(np.float32).reshape(scales.size, -1)
    return (groups * scales.astype(np.float32).reshape(-1, 1)).reshape(codes.shape)


# -- llama.cpp: blocks of 32 with a float16 scale


def half(scales: Weights) -> NDArray[np.float16]:
    """Scales as float16. Raises CourseError where one is above 65,504, the largest float16."""
    with np.errstate(over="ignore"):
        result = scales.astype(np.float16)
    if not np.isfinite(result).all():
        raise CourseError(
            f"a block needs the scale {np.abs(scales).max():,.0f}, but the largest float16 is 65,504",
            'format_of("int8")',
        )
    return result


def quantize_q8_0(weights: Any) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """Codes -127..127 in the shape of the weights, and a scale for each block of 32 (quantize_row_q8_0_ref).

    Weights are divided by the scale before it is rounded to float16, and halves are rounded away from zero.
    """
    blocks = grouped(weights, Q_BLOCK)
    scales = np.abs(blocks).max(axis=1, keepdims=True) / 127
    steps = blocks * quotient(1, scales)
    codes = np.copysign(np.floor(np.abs(steps, dtype=np.float64) + 0.5), steps)
    return codes.astype(np.int8).reshape(np.shape(weights)), half(scales)


def quantize_q4_0(weights: Any) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """Codes -8..7 in the shape of the weights, and a scale for each block of 32 (quantize_row_q4_0_ref).

    The largest weight of a block, with its sign, gets the code -8, so that none of the 16 codes is wasted:
    the scale is negative where that weight is positive.
    """
    blocks = grouped(weights, Q_BLOCK)
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=1, keepdims=True), axis=1)
    scales = largest / np.float32(-8)
    codes = np.minimum(np.trunc(blocks * quotient(1, scales) + np.float32(8.5)), 15) - 8
    return codes.astype(np.int8).reshape(np.shape(weights)), half(scales)


def pack_q8_0(codes: NDArray[np.int8], scales: NDArray[np.float16]) -> NDArray[np.uint8]:
    """Bytes as in a GGUF file, (..., row / 32 * 34): of each block its scale, then 32 codes."""
    blocks = codes.reshape(-1, Q_BLOCK).view(np.uint8)
    return np.hstack([scales.reshape(-1, 1).view(np.uint8), blocks]).reshape(*codes.shape[:-1], -1)


def pack_q4_0(codes: NDArray[np.int8], scales: NDArray[np.float16]) -> NDArray[np.uint8]:
    """Bytes as in a GGUF file, (..., row / 32 * 18): of each block its scale, then 16 bytes.

    A byte holds two codes plus 8: one of the first 16 weights in its low bits, one of the last in its high.
    """
    first, last = np.hsplit((codes.reshape(-1, Q_BLOCK) + 8).astype(np.uint8), 2)
    return np.hstack([scales.reshape(-1, 1).view(np.uint8), first | last << 4]).reshape(*codes.shape[:-1], -1)


def unpack_q8_0(packed: NDArray[np.uint8]) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """Codes and scales from the bytes of `pack_q8_0`. Raises CourseError for incomplete blocks."""
    scales, codes = _scales_and_codes(packed, Q_BLOCK)
    return codes.view(np.int8).reshape(*packed.shape[:-1], -1), scales


def unpack_q4_0(packed: NDArray[np.uint8]) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """Codes and scales from the bytes of `pack_q4_0`. Raises CourseError for incomplete blocks."""
    scales, pairs = _scales_and_codes(packed, Q_BLOCK // 2)
    codes = np.hstack([pairs & 15, pairs >> 4]).astype(np.int8) - np.int8(8)
    return codes.reshape(*packed.shape[:-1], -1), scales


def _scales_and_codes(packed: NDArray[np.uint8], size: int) -> tuple[NDArray[np.float16], NDArray[np.uint8]]:
    """Split blocks of a float16 scale and `size` bytes of codes."""
    if not packed.size or packed.shape[-1] % (2 + size):
        raise CourseError(
            f"{packed.shape[-1]} bytes in a row are not a multiple of a block's {2 + size}",
            "pass the bytes that pack_q8_0 or pack_q4_0 returned",
        )
    blocks = packed.reshape(-1, 2 + size)
    return np.ascontiguousarray(blocks[:, :2]).view(np.float16), np.ascontiguousarray(blocks[:, 2:])


# -- bitsandbytes: the nearest of 16 values

# fmt: off
NF4: Weights = np.array([  # Dettmers et al. 2023, appendix E
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
    -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
    0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
], dtype=np.float32)
# fmt: on
_POSITIVE = (
    np.array([0, 0.0625, 8, 12, 4, 6, 2, 3], dtype=np.float32) / 12
)  # 2 bits of exponent, 1 of mantissa
FP4: Weights = np.concatenate([_POSITIVE, -_POSITIVE])  # in the order of bitsandbytes' codes, not sorted


def normal_float() -> Weights:
    """The 16 values of NF4, computed (Dettmers et al. 2023, section 3): quantiles of the normal distribution.

    Eight quantiles from the lower tail to the middle, nine from there to the upper tail, the 0 counted once,
    scaled to -1..1. The tails begin at the mean of 1/32 and 1/30, as the quantiles at 0 and 1 are infinite.
    """
    quantile, tail = np.vectorize(NormalDist().inv_cdf), (1 / 32 + 1 / 30) / 2
    lower, upper = quantile(np.linspace(tail, 0.5, 8)), quantile(np.linspace(0.5, 1 - tail, 9))
    values = np.concatenate([lower, upper[1:]])
    return (values / values.max()).astype(np.float32)


def dynamic_values() -> Weights:
    """The 256 values of bitsandbytes' 8-bit type, sorted (Dettmers et al. 2021, arXiv:2110.02861, 1.3).

    They are 0, 1, and with both signs the middles of 64 steps from 0.1 to 1, 32 from 0.01 to 0.1, ...
    """
    edges = [10.0 ** (i - 6) * np.linspace(0.1, 1, 2**i + 1) for i in range(7)]
    middles = np.concatenate([(e[1:] + e[:-1]) / 2 for e in edges])
    return np.sort(np.concatenate([-middles, middles, [0, 1]])).astype(np.float32)


def quantize_nearest(weights: Any, values: Weights, block: int) -> tuple[NDArray[np.uint8], Weights]:
    """For each weight, divided by its block's absmax, the index of the nearest of `values`; and the absmaxes.

    Codes have the weights' shape; absmaxes are float32, one per block. A block may run on into the next row,
    as in bitsandbytes. A weight midway between two values goes to the lower one.
    """
    blocks = grouped(as_float32(weights).reshape(-1), block)
    absmax = np.abs(blocks).max(axis=1, keepdims=True)
    order = np.argsort(values, kind="stable")
    midway = (values[order][1:] + values[order][:-1]) / 2
    scaled = blocks * (1 / np.maximum(absmax, np.float32(1e-38)))
    codes = order[np.searchsorted(midway, scaled.clip(-1, 1))]
    return codes.astype(np.uint8).reshape(np.shape(weights)), absmax[:, 0]


def quantize_absmaxes(absmax: Weights) -> tuple[NDArray[np.uint8], Weights, np.float32]:
    """Double quantization (Dettmers et al. 2023, section 3) of absmaxes, after subtracting their mean.

    Returns 8-bit codes, an absmax for each 256 of them, and the mean. bitsandbytes' CPU kernel first rounds
    to a grid of 65,536 points; near the middle between two values its code can be the neighbouring one.
    """
    mean = absmax.mean(dtype=np.float64).astype(np.float32)
    padded = np.pad(absmax - mean, (0, -absmax.size % ABSMAX_BLOCK))
    codes, second = quantize_nearest(padded, dynamic_values(), ABSMAX_BLOCK)
    return codes[: absmax.size], second, mean


def dequantize_absmaxes(codes: NDArray[np.uint8], second: Weights, mean: np.float32) -> Weights:
    """The absmaxes as `quantize_absmaxes` stored them."""
    return dynamic_values()[codes] * np.repeat(second, ABSMAX_BLOCK)[: codes.size] + mean


def pack(codes: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Codes below 2^bits as bytes without gaps, the first code in the highest bits, as in bitsandbytes."""
    return np.packbits(codes.reshape(-1, 1) >> np.arange(bits, dtype=np.uint8)[::-1] & 1)


def unpack(packed: NDArray[np.uint8], bits: int, count: int) -> NDArray[np.uint8]:
    """The `count` codes that `pack` took."""
    rows = np.unpackbits(packed, count=count * bits).reshape(count, bits)
    return np.packbits(rows, axis=1)[:, 0] >> np.uint8(8 - bits)


# -- how far rounded weights are from the originals


def block_errors(weights: Any, rounded: Any, per: Per = Q_BLOCK) -> NDArray[np.float64]:
    """||rounded - weights|| / ||weights|| of each group; infinite if all its weights are 0 and were changed.

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
    """Signal to noise in decibels, 20 log10(1 / relative error): 6.02 dB for every bit; infinite if exact."""
    error = relative_error(weights, rounded)
    return float(-20 * np.log10(error)) if error else float("inf")


def largest_error(weights: Any, rounded: Any) -> float:
    """The largest |rounded - weights|. Raises CourseError as `block_errors`."""
    block_errors(weights, rounded, "tensor")
    return float(np.abs(as_float32(rounded) - as_float32(weights)).max())
