"""What training holds in memory, beside activations, which grow with the batch."""

from __future__ import annotations

from typing import NamedTuple

from course_lib.errors import CourseError

GRADIENT, EXACT, ADAM = 2, 4, 8  # bytes for a weight that learns: in 16 bits, its copy in 32, two running means in 32


class Cost(NamedTuple):
    """Bytes: of the weights as they are held, of what learns, and of that the gradients and the optimiser's part."""

    weights: int
    gradients: int
    optimiser: int

    @property
    def all(self) -> int:
        """Their sum."""
        return sum(self)


def training_bytes(parameters: int, learnt: int | None = None, bits: float = 16) -> Cost:
    """Bytes for training with AdamW in mixed precision (Rajbhandari et al. 2019, arXiv:1910.02054, section 3.1).

    parameters: of the model, held in `bits` each (16; 4.5 for 4-bit weights with their scales). learnt: weights of an adapter, in
    16 bits; without it all of the model's learn, 16 bytes each. Raises CourseError for numbers below 1.

    >>> training_bytes(7_000_000_000).all / 1e9
    112.0
    """
    if parameters < 1 or bits <= 0 or (learnt is not None and learnt < 1):
        raise CourseError(f"parameters={parameters}, learnt={learnt}, bits={bits}: all are counts", "give numbers above 0")
    trained, beside = (parameters, 0) if learnt is None else (learnt, learnt * 2)
    return Cost(round(parameters * bits / 8) + beside, trained * GRADIENT, trained * (EXACT + ADAM))


def adapter_weights(shapes: dict[str, tuple[int, int]], rank: int) -> int:
    """Weights of an adapter of matrices with these shapes (outputs, inputs): rank x (outputs + inputs) for each."""
    return sum(rank * (outputs + inputs) for outputs, inputs in shapes.values())
