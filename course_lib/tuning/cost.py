"""How much memory training needs: weights, gradients and optimiser by rule, activations by measuring them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from course_lib.errors import CourseError

if TYPE_CHECKING:
    from torch import Tensor

# Bytes for each trainable weight: gradient in 16 bits; the optimiser's copy and two running means in 32.
GRADIENT, MASTER_WEIGHT, ADAM_MEANS = 2, 4, 8


class Cost(NamedTuple):
    """Bytes that training holds: the weights, the gradients, and the optimiser's state."""

    weights: int
    gradients: int
    optimiser: int

    @property
    def all(self) -> int:
        """The sum of the three."""
        return sum(self)


def training_bytes(parameters: int, trainable: int | None = None, bits: float = 16) -> Cost:
    """Bytes for training with AdamW in mixed precision (Rajbhandari et al. 2019, arXiv:1910.02054).

    parameters: of the model, held in `bits` bits each (16; 4.5 for 4-bit weights with their scales).
    trainable: weights of an adapter beside the frozen model, in 16 bits; None trains the whole model.
    Raises CourseError unless all numbers are positive.

    >>> training_bytes(7_000_000_000).all / 1e9
    112.0
    """
    if parameters < 1 or bits <= 0 or (trainable is not None and trainable < 1):
        raise CourseError(
            f"parameters, trainable and bits must be positive; got parameters={parameters}, "
            f"trainable={trainable}, bits={bits}",
            "training_bytes(7_000_000_000, trainable=20_000_000, bits=4.5)",
        )
    trained, adapter = (parameters, 0) if trainable is None else (trainable, 2 * trainable)
    optimiser = trained * (MASTER_WEIGHT + ADAM_MEANS)
    return Cost(round(parameters * bits / 8) + adapter, trained * GRADIENT, optimiser)


def activation_bytes(model: Any, loss: Callable[[], Tensor]) -> int:
    """Bytes of activations, weights not counted, that the forward pass of `loss` keeps for the backward pass.

    They grow with the number of examples in memory at once and with their length. With gradient checkpointing
    a layer keeps only its input (Chen et al. 2016, arXiv:1604.06174).
    """
    from torch.autograd.graph import saved_tensors_hooks

    weights = {t.untyped_storage().data_ptr() for t in [*model.parameters(), *model.buffers()]}
    kept: dict[int, Any] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        result = loss()  # as long as it lives, so does what it keeps
    total = sum(storage.nbytes() for address, storage in kept.items() if address not in weights)
    del result
    return total


def adapter_weights(shapes: dict[str, tuple[int, int]], rank: int) -> int:
    """Weights of an adapter: rank x (outputs + inputs) for each matrix of these shapes (outputs, inputs)."""
    return sum(rank * (outputs + inputs) for outputs, inputs in shapes.values())
