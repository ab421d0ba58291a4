"""Quantize weights to integer codes and scales with numpy, and back: absmax, Q8_0, Q4_0, NF4 and FP4.

The absmax of some weights is the largest of their absolute values; their scale is derived from it. The
results equal those of llama.cpp (ggml/src/ggml-quants.c, checked with the package gguf) and bitsandbytes
(Dettmers et al. 2022, arXiv:2208.07339; 2023, arXiv:2305.14314). `formats.py` lists the formats by name. GGUF
is the file format of llama.cpp.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from course_lib.errors import CourseError

Weights = NDArray[np.float32]
Per = Literal["tensor", "row"] | int  # weights that share a scale: all, a row, or a block of this size
Q_BLOCK = 32  # weights that share a scale in Q8_0 and Q4_0 (QK8_0 and QK4_0 in ggml-common.h)
NF4_BLOCK = 64  # weights that share an absmax in NF4 and FP4
ABSMAX_BLOCK = 256  # absmaxes quantized with one common scale in double quantization
LARGEST = 1e38  # largest weight allowed: below the float32 maximum 3.4e38, so that products do not overflow


def as_float32(weights: Any) -> Weights:
    """Convert to float32. Raises CourseError for an empty or non-numeric array, NaN and infinity."""
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


def grouped(weights: Any, per: Per, fix: str = "per={}") -> Weights:
    """Reshape weights to (groups, weights per group); the weights of a group share a scale.

    fix: The error's remedy, with {} for a block size that fits, in terms of the caller's own argument.
    Raises CourseError as `as_float32`, and if the row length is not a multiple of the block size.
    """
    weights = as_float32(weights)
    row = weights.shape[-1]
    size = weights.size if per == "tensor" else row if per == "row" else per
    if not isinstance(size, int) or size < 1:
        what = f'{per!r} weights per scale; it must be "tensor", "row" or a positive number'
        raise CourseError(what, fix.format(Q_BLOCK))
    if per != "tensor" and row % size:
        divisor = next(n for n in range(min(size, row), 0, -1) if row % n == 0)
        raise CourseError(f"{row} weights in a row cannot be cut into blocks of {size}", fix.format(divisor))
    return weights.reshape(-1, size)


def quotient(numerator: float, denominator: Weights) -> Weights:
    """Return numerator / denominator, with 0 where that overflows (a denominator of 0 or nearly 0)."""
    with np.errstate(divide="ignore", over="ignore"):
        result = np.float32(numerator) / denominator
    return np.where(np.isfinite(result), result, np.float32(0))


# -- absmax: equally spaced values


def quantize_absmax(weights: Any, bits: int = 8, per: Per = "tensor") -> tuple[NDArray[np.int8], Weights]:
    """Return integer codes of the weights' shape, and a float32 scale per group.

    Codes range from -(2^(bits-1) - 1) to 2^(bits-1) - 1; the largest weight of a group gets the largest code
    (Dettmers et al. 2022, section 2). Raises CourseError unless 2 <= bits <= 8, and as `grouped`.
    """
    if bits not in range(2, 9):
        raise CourseError(f"bits={bits!r}: a code of absmax has 2 to 8 bits", "bits=4")
    groups, largest_code = grouped(weights, per), 2 ** (bits - 1) - 1
    absmax = np.abs(groups).max(axis=1, keepdims=True)
    codes = np.rint(groups * quotient(largest_code, absmax))
    return codes.astype(np.int8).reshape(np.shape(weights)), absmax[:, 0] / largest_code


def dequantize(codes: NDArray[Any], scales: NDArray[Any]) -> Weights:
    """Multiply each code by the scale of its group; returns float32 of the codes' shape.

    Raises CourseError if the number of codes is not a multiple of the number of scales.
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
    """Convert scales to float16. Raises CourseError for a scale above 65,504, the largest float16."""
    with np.errstate(over="ignore"):
        result = scales.astype(np.float16)
    if not np.isfinite(result).all():
        raise CourseError(
            f"a block needs the scale {np.abs(scales).max():,.0f}, but the largest float16 is 65,504",
            'format_of("int8")',
        )
    return result


def quantize_q8_0(weights: Any) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """Return codes -127..127 of the weights' shape, and a scale per block of 32 (quantize_row_q8_0_ref).

    Weights are divided by the float32 scale, before it is rounded to float16. Ties round away from zero.
    """
    blocks = grouped(weights, Q_BLOCK, 'format_of("int8")')
    scales = np.abs(blocks).max(axis=1, keepdims=True) / 127
    steps = blocks * quotient(1, scales)
    codes = np.copysign(np.floor(np.abs(steps, dtype=np.float64) + 0.5), steps)
    return codes.astype(np.int8).reshape(np.shape(weights)), half(scales)


def quantize_q4_0(weights: Any) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """Return codes -8..7 of the weights' shape, and a scale per block of 32 (quantize_row_q4_0_ref).

    The weight of largest magnitude in a block gets the code -8, so that all 16 codes are used. The scale is
    therefore negative if that weight is positive.
    """
    blocks = grouped(weights, Q_BLOCK, 'format_of("int4-row")')
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=1, keepdims=True), axis=1)
    scales = largest / np.float32(-8)
    codes = np.minimum(np.trunc(blocks * quotient(1, scales) + np.float32(8.5)), 15) - 8
    return codes.astype(np.int8).reshape(np.shape(weights)), half(scales)


def pack_q8_0(codes: NDArray[np.int8], scales: NDArray[np.float16]) -> NDArray[np.uint8]:
    """Return the bytes of a GGUF file, (..., row / 32 * 34): for each block its scale, then 32 codes."""
    blocks = codes.reshape(-1, Q_BLOCK).view(np.uint8)
    return np.hstack([scales.reshape(-1, 1).view(np.uint8), blocks]).reshape(*codes.shape[:-1], -1)


def pack_q4_0(codes: NDArray[np.int8], scales: NDArray[np.float16]) -> NDArray[np.uint8]:
    """Return the bytes of a GGUF file, (..., row / 32 * 18): for each block its scale, then 16 bytes.

    Byte i holds (code + 8) of weight i in its low 4 bits and of weight i + 16 in its high 4 bits.
    """
    first, last = np.hsplit((codes.reshape(-1, Q_BLOCK) + 8).astype(np.uint8), 2)
    return np.hstack([scales.reshape(-1, 1).view(np.uint8), first | last << 4]).reshape(*codes.shape[:-1], -1)


def unpack_q8_0(packed: NDArray[np.uint8]) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """Return the codes and scales in bytes of `pack_q8_0`. Raises CourseError for incomplete blocks."""
    scales, codes = _scales_and_codes(packed, Q_BLOCK)
    return codes.view(np.int8).reshape(*packed.shape[:-1], -1), scales


def unpack_q4_0(packed: NDArray[np.uint8]) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """Return the codes and scales in bytes of `pack_q4_0`. Raises CourseError for incomplete blocks."""
    scales, pairs = _scales_and_codes(packed, Q_BLOCK // 2)
    codes = np.hstack([pairs & 15, pairs >> 4]).astype(np.int8) - np.int8(8)
    return codes.reshape(*packed.shape[:-1], -1), scales


def _scales_and_codes(packed: NDArray[np.uint8], size: int) -> tuple[NDArray[np.float16], NDArray[np.uint8]]:
    """Split blocks of a float16 scale and `size` bytes of codes into scales and codes."""
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
# 2 bits of exponent, 1 of mantissa.
_POSITIVE = np.array([0, 0.0625, 8, 12, 4, 6, 2, 3], dtype=np.float32) / 12
FP4: Weights = np.concatenate([_POSITIVE, -_POSITIVE])  # in bitsandbytes' order of codes, unsorted


def normal_float() -> Weights:
    """Compute the 16 values of NF4 from quantiles of the normal distribution (Dettmers et al. 2023).

    They are 8 quantiles from the lower tail to the median and 9 from the median to the upper tail (0 counted
    once), scaled to -1..1. A quantile is the value below which a given share of a distribution lies.
    Quantiles 0 and 1 are infinite, so the tails end at the mean of 1/32 and 1/30.
    """
    quantile, tail = np.vectorize(NormalDist().inv_cdf), (1 / 32 + 1 / 30) / 2
    lower, upper = quantile(np.linspace(tail, 0.5, 8)), quantile(np.linspace(0.5, 1 - tail, 9))
    values = np.concatenate([lower, upper[1:]])
    return (values / values.max()).astype(np.float32)


def dynamic_values() -> Weights:
    """Return bitsandbytes' 256 8-bit values, sorted (Dettmers et al. 2021, arXiv:2110.02861, section 1.3).

    They are 0, 1, and, with both signs, the midpoints of 64 intervals in 0.1..1, 32 in 0.01..0.1, and so on.
    """
    edges = [10.0 ** (i - 6) * np.linspace(0.1, 1, 2**i + 1) for i in range(7)]
    midpoints = np.concatenate([(e[1:] + e[:-1]) / 2 for e in edges])
    return np.sort(np.concatenate([-midpoints, midpoints, [0, 1]])).astype(np.float32)


def quantize_nearest(weights: Any, values: Weights, block: int) -> tuple[NDArray[np.uint8], Weights]:
    """Scale each block by its absmax; return the index of the value nearest to each weight, and the absmaxes.

    Indices have the weights' shape; absmaxes are float32, one per block. As in
    bitsandbytes, a block may continue in the next row. A weight midway between two values gets the lower one.
    """
    blocks = grouped(as_float32(weights).reshape(-1), block, "quantize_nearest(weights, values, {})")
    absmax = np.abs(blocks).max(axis=1, keepdims=True)
    order = np.argsort(values, kind="stable")
    midway = (values[order][1:] + values[order][:-1]) / 2
    scaled = blocks * (1 / np.maximum(absmax, np.float32(1e-38)))
    codes = order[np.searchsorted(midway, scaled.clip(-1, 1))]
    return codes.astype(np.uint8).reshape(np.shape(weights)), absmax[:, 0]


def quantize_absmaxes(absmax: Weights) -> tuple[NDArray[np.uint8], Weights, np.float32]:
    """Quantize absmaxes, minus their mean, to 8 bits: double quantization (Dettmers et al. 2023, section 3).

    Returns the codes, a scale per 256 codes, and the mean. bitsandbytes' CPU code first rounds to a grid of
    65,536 points; for a number near the midpoint of two values its code can therefore differ by one.
    """
    mean = absmax.mean(dtype=np.float64).astype(np.float32)
    padded = np.pad(absmax - mean, (0, -absmax.size % ABSMAX_BLOCK))
    codes, second = quantize_nearest(padded, dynamic_values(), ABSMAX_BLOCK)
    return codes[: absmax.size], second, mean


def dequantize_absmaxes(codes: NDArray[np.uint8], second: Weights, mean: np.float32) -> Weights:
    """Return the absmaxes that the results of `quantize_absmaxes` represent."""
    return dynamic_values()[codes] * np.repeat(second, ABSMAX_BLOCK)[: codes.size] + mean


def pack(codes: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Pack codes below 2^bits into bytes, the first code in the highest bits, as bitsandbytes does."""
    return np.packbits(codes.reshape(-1, 1) >> np.arange(bits, dtype=np.uint8)[::-1] & 1)


def unpack(packed: NDArray[np.uint8], bits: int, count: int) -> NDArray[np.uint8]:
    """Return the `count` codes that `pack` packed."""
    rows = np.unpackbits(packed, count=count * bits).reshape(count, bits)
    return np.packbits(rows, axis=1)[:, 0] >> np.uint8(8 - bits)


# -- error measures: rounded weights against the originals


def block_errors(weights: Any, rounded: Any, per: Per = Q_BLOCK) -> NDArray[np.float64]:
    """Return ||rounded - weights|| / ||weights|| of each group; infinite where the weights are 0 and changed.

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
    """Return ||rounded - weights|| / ||weights|| of the whole tensor (Frobenius norm)."""
    return float(block_errors(weights, rounded, "tensor")[0])


def snr_db(weights: Any, rounded: Any) -> float:
    """Return the signal-to-noise ratio in dB, 20 log10(1 / relative error); a bit adds 6.02, exact is inf."""
    error = relative_error(weights, rounded)
    return float(-20 * np.log10(error)) if error else float("inf")


def largest_error(weights: Any, rounded: Any) -> float:
    """Return the largest |rounded - weights|. Raises CourseError as `block_errors`."""
    block_errors(weights, rounded, "tensor")
    return float(np.abs(as_float32(rounded) - as_float32(weights)).max())
