"""Quantization formats for weights by name (int8, q8_0, q4_0, nf4, ...): store, restore, and measure size.

A weight is stored as a code of a few bits. A scale turns codes back into weights: it is derived from the
absmax, the largest absolute value of the weights that share it (those of a tensor, a row or a block).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from course_lib.errors import CourseError
from course_lib.tuning import quantize as q

StoredArrays = tuple[NDArray[Any], ...]  # as stored in a file: packed codes, then scales


@dataclass(frozen=True)
class Format:
    """A storage format. `store` returns the arrays to be stored, `restore` the weights of the given shape."""

    name: str
    description: str
    store: Callable[[q.Weights], StoredArrays]
    restore: Callable[[StoredArrays, tuple[int, ...]], q.Weights]

    def __repr__(self) -> str:
        return f"Format({self.name!r}: {self.description})"

    def roundtrip(self, weights: Any) -> q.Weights:
        """Store the weights and read them back: float32, of the same shape, with the rounding of this format.

        Raises CourseError as `quantize.as_float32` and `quantize.grouped` do, and for a scale above the
        largest float16 if the format stores scales as float16.
        """
        array = q.as_float32(weights)
        return self.restore(self.store(array), array.shape)

    def nbytes(self, weights: Any) -> int:
        """Return the bytes of the stored weights and their scales. Raises CourseError as `roundtrip` does."""
        return sum(array.nbytes for array in self.store(q.as_float32(weights)))

    @cached_property
    def bits(self) -> float:
        """Stored bits per weight, including the scales, measured on a 1024 x 1024 matrix."""
        return self.nbytes(np.ones((1024, 1024))) * 8 / 1024**2


def absmax(bits: int, per: q.Per, name: str = "") -> Format:
    """Return a format with `bits`-bit integer codes and a float32 scale per tensor, row or `per` weights."""

    def store(weights: q.Weights) -> StoredArrays:
        codes, scales = q.quantize_absmax(weights, bits, per)
        unsigned = codes.view(np.uint8) + np.uint8(2 ** (bits - 1))
        return q.pack(unsigned, bits), scales

    def restore(stored: StoredArrays, shape: tuple[int, ...]) -> q.Weights:
        codes = q.unpack(stored[0], bits, int(np.prod(shape))).astype(np.int16) - 2 ** (bits - 1)
        return q.dequantize(codes, stored[1]).reshape(shape)

    group = f"block of {per}" if isinstance(per, int) else per
    return Format(name or f"absmax{bits}-{per}", f"equal steps, a scale per {group}", store, restore)


def _nearest(name: str, description: str, values: q.Weights, double: bool) -> Format:
    """Return a format that stores the index of the nearest of 16 values, and an absmax per block of 64.

    The absmax is stored in float32, or in 8 bits if `double` (double quantization).
    """

    def store(weights: q.Weights) -> StoredArrays:
        codes, absmax = q.quantize_nearest(weights, values, q.NF4_BLOCK)
        scales = q.quantize_absmaxes(absmax) if double else (absmax,)
        return q.pack(codes, 4), *scales

    def restore(stored: StoredArrays, shape: tuple[int, ...]) -> q.Weights:
        codes, scales = stored[0], stored[1:]
        absmax = q.dequantize_absmaxes(*scales) if double else scales[0]  # type: ignore[arg-type]
        return q.dequantize(values[q.unpack(codes, 4, int(np.prod(shape)))], absmax).reshape(shape)

    return Format(name, description, store, restore)


Q8_0 = Format(
    "q8_0",
    "llama.cpp: equal steps, a float16 scale per block of 32",
    lambda w: (q.pack_q8_0(*q.quantize_q8_0(w)),),
    lambda stored, shape: q.dequantize(*q.unpack_q8_0(stored[0])).reshape(shape),
)
Q4_0 = Format(
    "q4_0",
    "llama.cpp: 16 equal steps, a float16 scale per block of 32",
    lambda w: (q.pack_q4_0(*q.quantize_q4_0(w)),),
    lambda stored, shape: q.dequantize(*q.unpack_q4_0(stored[0])).reshape(shape),
)

_BLOCK_OF_64 = "a float32 absmax per block of 64"
_ALL = (
    absmax(8, "tensor", "int8-tensor"),
    absmax(8, "row", "int8"),  # as bitsandbytes' int8 stores weights
    Q8_0,
    absmax(4, "tensor", "int4-tensor"),
    absmax(4, "row", "int4-row"),
    absmax(4, q.Q_BLOCK, "int4-block"),
    Q4_0,
    _nearest("nf4", f"bitsandbytes: 16 quantiles of the normal, {_BLOCK_OF_64}", q.NF4, False),
    _nearest("nf4-double", "nf4 with its absmaxes in 8 bits", q.NF4, True),
    _nearest("fp4", f"bitsandbytes: 16 values of a 4-bit float, {_BLOCK_OF_64}", q.FP4, False),
    _nearest("fp4-double", "fp4 with its absmaxes in 8 bits", q.FP4, True),
)
#: Every format by its name.
FORMATS: dict[str, Format] = {fmt.name: fmt for fmt in _ALL}


def format_of(fmt: Format | str) -> Format:
    """Return a format by its name, or `fmt` itself if it is a Format. Raises CourseError if unknown."""
    if isinstance(fmt, Format):
        return fmt
    if fmt not in list(FORMATS):
        raise CourseError(f"there is no format {fmt!r}; there are {', '.join(FORMATS)}", 'format_of("q4_0")')
    return FORMATS[fmt]
