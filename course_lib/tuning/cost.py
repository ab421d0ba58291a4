"""Estimate the memory that training needs: weights, gradients, optimiser state and activations."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from course_lib.errors import CourseError

if TYPE_CHECKING:
    from torch import Tensor

# Bytes per trainable weight: a 16-bit gradient, a 32-bit copy of the weight (the master weight), and the two
# 32-bit averages of the optimiser Adam.
GRADIENT, MASTER_WEIGHT, ADAM_MEANS = 2, 4, 8


class Cost(NamedTuple):
    """The memory of a training run in bytes: weights, gradients and optimiser state."""

    weights: int
    gradients: int
    optimiser: int

    @property
    def all(self) -> int:
        """The total in bytes."""
        return sum(self)


def training_bytes(parameters: int, trainable: int | None = None, bits: float = 16) -> Cost:
    """Return the bytes needed to train with AdamW in mixed precision, without activations.

    The rule is from Rajbhandari et al. 2019, arXiv:1910.02054. parameters: the model's number of weights.
    bits: the bits per weight (4.5 for 4-bit weights with a common factor per block). trainable: the number of
    weights of a 16-bit adapter if the model itself is frozen; None if the whole model is trained. Raises
    CourseError unless all numbers are positive.

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
    """Return the bytes of activations that the forward pass of `loss` keeps for the backward pass.

    Activations grow with the number and length of the examples per forward pass. With gradient checkpointing
    (Chen et al. 2016, arXiv:1604.06174) a layer keeps only its input. The model's weights are not counted.
    """
    from torch.autograd.graph import saved_tensors_hooks

    weights = {t.untyped_storage().data_ptr() for t in [*model.parameters(), *model.buffers()]}
    saved_storages: dict[int, Any] = {}

    def record(tensor: Tensor) -> Tensor:
        saved_storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with saved_tensors_hooks(record, lambda tensor: tensor):
        result = loss()  # the saved activations stay alive as long as this result
    total = sum(storage.nbytes() for address, storage in saved_storages.items() if address not in weights)
    del result
    return total


def adapter_weights(shapes: dict[str, tuple[int, int]], rank: int) -> int:
    """Return the weight count of a LoRA adapter for matrices of these shapes (outputs, inputs)."""
    return sum(rank * (outputs + inputs) for outputs, inputs in shapes.values())
