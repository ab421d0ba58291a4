"""Quantization by hand, in numpy: what absmax, Q8_0, Q4_0, NF4 and FP4 store of a weight, and what they give back.

Codes and bytes are those of llama.cpp (ggml/src/ggml-quants.c, read here by the package gguf) and of bitsandbytes
(Dettmers et al. 2022, arXiv:2208.07339; 2023, arXiv:2305.14314). `formats` unites them under their names.
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


def checked(weights: Any) -> Weights:
    """`weights` as float32. Raises CourseError for none at all, for NaN or infinity, and for what is no array of numbers."""
    try:
        found = np.asarray(weights)
    except (TypeError, ValueError, RuntimeError) as error:
        raise CourseError(
            f"these are no weights in numpy: {error}", "pass tensor.detach().float().numpy()"
        ) from error
    if found.dtype.kind not in "fiu" or not found.ndim or not found.size:
        raise CourseError(
            f"weights are an array of at least one number, not of shape {found.shape} and type {found.dtype}",
            "pass an array of float32",
        )
    with np.errstate(over="ignore"):
        found = found.astype(np.float32, copy=False)
    if strange := np.count_nonzero(~(np.abs(found) <= LARGEST)):
        raise CourseError(
            f"{strange} of {found.size} weights are NaN, infinite or above {LARGEST:g}: no scale holds them",
            "look where they come from: such a model is broken",
        )
    return found


def grouped(weights: Any, per: Per) -> Weights:
    """Weights that share a scale, each group a row: (groups, weights in a group). Raises CourseError as `checked`, and for a
    row that blocks do not divide."""
    weights = checked(weights)
    row = weights.shape[-1]
    size = weights.size if per == "tensor" else row if per == "row" else per
    if not isinstance(size, int) or size < 1:
        raise CourseError(
            f"per={per!r} is no way to share a scale",
            'say "tensor", "row" or the weights in a block, such as 32',
        )
    if per != "tensor" and row % size:
        raise CourseError(
            f"{row} weights in a row cannot be cut into blocks of {size}",
            "choose a block that divides the row",
        )
    return weights.reshape(-1, size)


def quotient(above: float, below: Weights) -> Weights:
    """above / below, and 0 where that is no float32: below 0, or so small that only zeros are worth storing."""
    with np.errstate(divide="ignore", over="ignore"):
        found = np.float32(above) / below
    return np.where(np.isfinite(found), found, np.float32(0))


# -- absmax: steps of equal size ------------------------------------------------------------------------------------------


def quantize_absmax(weights: Any, bits: int = 8, per: Per = "tensor") -> tuple[NDArray[np.int8], Weights]:
    """Codes from -(2^(bits-1) - 1) to 2^(bits-1) - 1 in the shape of the weights, and a float32 scale for each group.

    The largest weight of a group gets the largest code (Dettmers et al. 2022, section 2). Raises CourseError for bits
    other than 2 to 8, and as `grouped`.
    """
    if bits not in range(2, 9):
        raise CourseError(f"bits={bits!r}: a code of absmax has 2 to 8 bits", "choose one of 2 to 8")
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
            "pass what one quantization gave",
        )
    groups = codes.astype(np.float32).reshape(scales.size, -1)
    return (groups * scales.astype(np.float32).reshape(-1, 1)).reshape(codes.shape)


# -- llama.cpp: blocks of 32 with a float16 scale -------------------------------------------------------------------------


def half(scales: Weights) -> NDArray[np.float16]:
    """Scales as float16. Raises CourseError where one is above 65,504, the largest float16."""
    with np.errstate(over="ignore"):
        found = scales.astype(np.float16)
    if not np.isfinite(found).all():
        raise CourseError(
            f"a block needs the scale {np.abs(scales).max():,.0f}, and the largest float16 is 65,504",
            "choose a format with float32 scales, such as int8 or nf4",
        )
    return found


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

    The largest weight of a block, with its sign, gets the code -8, so that none of the 16 codes is wasted: the scale is
    negative where that weight is positive.
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

    A byte holds two codes plus 8: one of the first 16 weights in its low bits, one of the last 16 in its high bits.
    """
    first, last = np.hsplit((codes.reshape(-1, Q_BLOCK) + 8).astype(np.uint8), 2)
    return np.hstack([scales.reshape(-1, 1).view(np.uint8), first | last << 4]).reshape(*codes.shape[:-1], -1)


def unpack_q8_0(packed: NDArray[np.uint8]) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """Codes and scales from the bytes of `pack_q8_0`. Raises CourseError for rows that are no whole blocks."""
    scales, codes = _scales_and_codes(packed, Q_BLOCK)
    return codes.view(np.int8).reshape(*packed.shape[:-1], -1), scales


def unpack_q4_0(packed: NDArray[np.uint8]) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """Codes and scales from the bytes of `pack_q4_0`. Raises CourseError for rows that are no whole blocks."""
    scales, pairs = _scales_and_codes(packed, Q_BLOCK // 2)
    codes = np.hstack([pairs & 15, pairs >> 4]).astype(np.int8) - np.int8(8)
    return codes.reshape(*packed.shape[:-1], -1), scales


def _scales_and_codes(packed: NDArray[np.uint8], size: int) -> tuple[NDArray[np.float16], NDArray[np.uint8]]:
    """Of blocks of a float16 scale and `size` bytes of codes, the ones and the others."""
    if not packed.size or packed.shape[-1] % (2 + size):
        raise CourseError(
            f"{packed.shape[-1]} bytes in a row are no whole blocks of {2 + size}",
            "pass the bytes of whole rows",
        )
    blocks = packed.reshape(-1, 2 + size)
    return np.ascontiguousarray(blocks[:, :2]).view(np.float16), np.ascontiguousarray(blocks[:, 2:])


# -- bitsandbytes: the nearest of 16 values -------------------------------------------------------------------------------

NF4: Weights = np.array(  # Dettmers et al. 2023, appendix E
    [
        -1.0,
        -0.6961928009986877,
        -0.5250730514526367,
        -0.39491748809814453,
        -0.28444138169288635,
        -0.18477343022823334,
        -0.09105003625154495,
        0.0,
        0.07958029955625534,
        0.16093020141124725,
        0.24611230194568634,
        0.33791524171829224,
        0.44070982933044434,
        0.5626170039176941,
        0.7229568362236023,
        1.0,
    ],
    dtype=np.float32,
)
EIGHT = (
    np.array([0, 0.0625, 8, 12, 4, 6, 2, 3], dtype=np.float32) / 12
)  # a sign, two bits of exponent, one of mantissa
FP4: Weights = np.concatenate(
    [EIGHT, -EIGHT]
)  # the order of bitsandbytes' codes, which is not that of the values


def normal_float() -> Weights:
    """The 16 values of NF4 from their recipe (Dettmers et al. 2023, section 3): quantiles of the normal distribution.

    Eight from its lower tail to the middle, nine from the middle to its upper tail, the 0 in both counted once, scaled to
    -1..1. A tail is the mean of half a step in 16 and half a step in 15, for quantiles at 0 and 1 would be infinite.
    """
    quantile, tail = np.vectorize(NormalDist().inv_cdf), (1 / 32 + 1 / 30) / 2
    values = np.concatenate(
        [quantile(np.linspace(tail, 0.5, 8)), quantile(np.linspace(0.5, 1 - tail, 9))[1:]]
    )
    return (values / values.max()).astype(np.float32)


def dynamic_values() -> Weights:
    """The 256 values of bitsandbytes' 8-bit type (Dettmers et al. 2021, arXiv:2110.02861, section 1.3), sorted.

    64 steps from 0.1 to 1, 32 from 0.01 to 0.1, and so on down to one near a millionth, of either sign; then 0 and 1.
    """
    edges = [10.0 ** (i - 6) * np.linspace(0.1, 1, 2**i + 1) for i in range(7)]
    middles = np.concatenate([(e[1:] + e[:-1]) / 2 for e in edges])
    return np.sort(np.concatenate([-middles, middles, [0, 1]])).astype(np.float32)


def quantize_nearest(weights: Any, values: Weights, block: int) -> tuple[NDArray[np.uint8], Weights]:
    """Of each weight, divided by the absmax of its block, the place of the nearest of `values`; a float32 absmax per block.

    Blocks run on over the ends of rows, as in bitsandbytes. A weight midway goes to the lower value.
    """
    blocks = grouped(checked(weights).reshape(-1), block)
    absmax = np.abs(blocks).max(axis=1, keepdims=True)
    order = np.argsort(values, kind="stable")
    midway = (values[order][1:] + values[order][:-1]) / 2
    scaled = blocks * (1 / np.maximum(absmax, np.float32(1e-38)))
    codes = order[np.searchsorted(midway, scaled.clip(-1, 1))]
    return codes.astype(np.uint8).reshape(np.shape(weights)), absmax[:, 0]


def quantize_absmaxes(absmax: Weights) -> tuple[NDArray[np.uint8], Weights, np.float32]:
    """Double quantization (Dettmers et al. 2023, section 3): absmaxes less their mean as 8-bit codes, an absmax for each 256
    of them, and the mean.

    bitsandbytes' kernel for CPUs first rounds to a grid of 65,536 points: near midway its code can be a neighbour.
    """
    mean = absmax.mean(dtype=np.float64).astype(np.float32)
    padded = np.pad(absmax - mean, (0, -absmax.size % ABSMAX_BLOCK))
    codes, second = quantize_nearest(padded, dynamic_values(), ABSMAX_BLOCK)
    return codes[: absmax.size], second, mean


def dequantize_absmaxes(codes: NDArray[np.uint8], second: Weights, mean: np.float32) -> Weights:
    """The absmaxes that `quantize_absmaxes` stored, rounded."""
    return dynamic_values()[codes] * np.repeat(second, ABSMAX_BLOCK)[: codes.size] + mean


def pack(codes: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Codes below 2^bits one after the other without a gap, the first in the highest bits, as bitsandbytes packs its pairs."""
    return np.packbits(codes.reshape(-1, 1) >> np.arange(bits, dtype=np.uint8)[::-1] & 1)


def unpack(packed: NDArray[np.uint8], bits: int, count: int) -> NDArray[np.uint8]:
    """The `count` codes that `pack` took."""
    return np.packbits(np.unpackbits(packed, count=count * bits).reshape(count, bits), axis=1)[
        :, 0
    ] >> np.uint8(8 - bits)


# -- how far from the weights ---------------------------------------------------------------------------------------------


def block_errors(weights: Any, rounded: Any, per: Per = Q_BLOCK) -> NDArray[np.float64]:
    """||rounded - weights|| / ||weights|| of each group; 0 where they are equal, infinite where only the weights are all 0.

    Raises CourseError for two shapes, and as `grouped`.
    """
    before, after = grouped(weights, per).astype(np.float64), grouped(rounded, per).astype(np.float64)
    if np.shape(weights) != np.shape(rounded):
        raise CourseError(
            f"weights of shape {np.shape(weights)} beside {np.shape(rounded)}",
            "compare a tensor with its own copy",
        )
    off, size = np.linalg.norm(after - before, axis=1), np.linalg.norm(before, axis=1)
    return np.divide(off, size, where=size > 0, out=np.where(off > 0, np.inf, 0.0))


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
    return float(np.abs(checked(rounded) - checked(weights)).max())
