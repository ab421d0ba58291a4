"""The formats of `quantize` under their names: what each stores of weights, in how many bits, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from course_lib.errors import CourseError
from course_lib.tuning import quantize as q

Stored = tuple[NDArray[Any], ...]  # arrays as they would lie in a file: packed codes, then scales


@dataclass(frozen=True)
class Format:
    """A way to store weights. `store` gives the arrays that a file holds; `restore` takes them and the shape of the weights."""

    name: str
    says: str
    store: Callable[[q.Weights], Stored]
    restore: Callable[[Stored, tuple[int, ...]], q.Weights]

    def roundtrip(self, weights: Any) -> q.Weights:
        """The weights as they come back from this format: float32, in their shape. Raises CourseError as `quantize.checked`
        and `quantize.grouped`, and for a scale that float16 does not hold where that is its type."""
        checked = q.checked(weights)
        return self.restore(self.store(checked), checked.shape)

    def nbytes(self, weights: Any) -> int:
        """Bytes that the weights take, scales included. Raises CourseError as `roundtrip`."""
        return sum(part.nbytes for part in self.store(q.checked(weights)))

    @cached_property
    def bits(self) -> float:
        """Bits per weight as stored, scales included, counted on a matrix of 1024 x 1024."""
        return self.nbytes(np.ones((1024, 1024))) * 8 / 1024**2


def absmax(bits: int, per: q.Per, name: str = "") -> Format:
    """Equal steps, `bits` a code, float32 scales shared by a tensor, a row or a block of so many weights."""

    def store(weights: q.Weights) -> Stored:
        codes, scales = q.quantize_absmax(weights, bits, per)
        return q.pack(
            codes.view(np.uint8) + np.uint8(2 ** (bits - 1)), bits
        ), scales  # from 0 on: a sign needs no bit

    def restore(stored: Stored, shape: tuple[int, ...]) -> q.Weights:
        codes = q.unpack(stored[0], bits, int(np.prod(shape))).astype(np.int16) - 2 ** (bits - 1)
        return q.dequantize(codes, stored[1]).reshape(shape)

    group = f"block of {per}" if isinstance(per, int) else per
    return Format(name or f"absmax{bits}-{per}", f"equal steps, a scale per {group}", store, restore)


def _nearest(name: str, says: str, values: q.Weights, double: bool) -> Format:
    """The nearest of 16 values, an absmax per block of 64 in float32 or in 8 bits."""

    def store(weights: q.Weights) -> Stored:
        codes, absmax = q.quantize_nearest(weights, values, q.NF4_BLOCK)
        scales = q.quantize_absmaxes(absmax) if double else (absmax,)
        return q.pack(codes, 4), *scales

    def restore(stored: Stored, shape: tuple[int, ...]) -> q.Weights:
        codes, scales = stored[0], stored[1:]
        absmax = q.dequantize_absmaxes(*scales) if double else scales[0]  # type: ignore[arg-type]
        return q.dequantize(values[q.unpack(codes, 4, int(np.prod(shape)))], absmax).reshape(shape)

    return Format(name, says, store, restore)


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

FORMATS: dict[str, Format] = {
    made.name: made
    for made in (
        absmax(8, "tensor", "int8-tensor"),
        absmax(8, "row", "int8"),  # as bitsandbytes' int8 stores weights
        Q8_0,
        absmax(4, "tensor", "int4-tensor"),
        absmax(4, "row", "int4-row"),
        absmax(4, q.Q_BLOCK, "int4-block"),
        Q4_0,
        _nearest(
            "nf4", "bitsandbytes: 16 quantiles of the normal, a float32 absmax per block of 64", q.NF4, False
        ),
        _nearest("nf4-double", "nf4, its absmaxes in 8 bits", q.NF4, True),
        _nearest(
            "fp4", "bitsandbytes: 16 values of a 4-bit float, a float32 absmax per block of 64", q.FP4, False
        ),
        _nearest("fp4-double", "fp4, its absmaxes in 8 bits", q.FP4, True),
    )
}


def format_of(wanted: Format | str) -> Format:
    """A format by its name, or itself. Raises CourseError that lists the names there are."""
    if isinstance(wanted, Format):
        return wanted
    if wanted not in list(FORMATS):
        raise CourseError(
            f"there is no format {wanted!r}",
            f"choose one of {', '.join(FORMATS)}, or make one by absmax(3, 'row')",
        )
    return FORMATS[wanted]
