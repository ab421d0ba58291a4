"""What training holds in memory: weights, gradients and the optimiser by rule, activations by measuring them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from course_lib.errors import CourseError

if TYPE_CHECKING:
    from torch import Tensor

GRADIENT, EXACT, ADAM = (
    2,
    4,
    8,
)  # bytes for a weight that learns: in 16 bits, its copy in 32, two running means in 32


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
        raise CourseError(
            f"parameters={parameters}, learnt={learnt}, bits={bits}: all are counts", "give numbers above 0"
        )
    trained, beside = (parameters, 0) if learnt is None else (learnt, learnt * 2)
    return Cost(round(parameters * bits / 8) + beside, trained * GRADIENT, trained * (EXACT + ADAM))


def kept_bytes(model: Any, loss: Callable[[], Tensor]) -> int:
    """Bytes of activations that a forward pass keeps for the backward pass; the model's own weights are not counted.

    It grows with the examples in memory at once and with their length. With gradient checkpointing a layer keeps its input alone
    (Chen et al. 2016, arXiv:1604.06174).
    """
    from torch.autograd.graph import saved_tensors_hooks

    own = {t.untyped_storage().data_ptr() for t in [*model.parameters(), *model.buffers()]}
    kept: dict[int, Any] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        result = loss()
    found = sum(storage.nbytes() for place, storage in kept.items() if place not in own)
    del result
    return found


def adapter_weights(shapes: dict[str, tuple[int, int]], rank: int) -> int:
    """Weights of an adapter of matrices with these shapes (outputs, inputs): rank x (outputs + inputs) for each."""
    return sum(rank * (outputs + inputs) for outputs, inputs in shapes.values())
