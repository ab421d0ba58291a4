"""LoRA by hand: a frozen linear layer and two thin trainable matrices (Hu et al. 2021, arXiv:2106.09685).

The output W x becomes W x + (alpha / r) B A x, where A has r rows and B has r columns. B is initialised to 0,
so that the model is unchanged before training. This is an implementation to read: `train` uses the library
peft, and a test checks that outputs, gradients and merged weights are equal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from course_lib.errors import CourseError


class LoRALinear(nn.Module):
    """A frozen linear layer `base` with the trainable LoRA matrices `A` and `B`."""

    def __init__(self, base: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        if rank < 1:
            raise CourseError(
                f"rank={rank}: the rank of an adapter is at least 1", "LoRALinear(base, rank=8, alpha=16)"
            )
        self.base, self.rank, self.scale = base.requires_grad_(False), rank, alpha / rank
        self.A = nn.Parameter(base.weight.new_empty(rank, base.in_features))
        self.B = nn.Parameter(base.weight.new_zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))  # as in peft: uniform, up to 1 / sqrt(in_features)

    def extra_repr(self) -> str:
        return f"rank={self.rank}, alpha={self.scale * self.rank:g}"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map x of shape (..., in_features) to (..., out_features), without computing the product B A."""
        return self.base(x) + self.scale * (x @ self.A.T @ self.B.T)

    def delta(self) -> torch.Tensor:
        """Return the matrix that the adapter adds to the weights, of shape (out_features, in_features)."""
        return self.scale * (self.B @ self.A)

    def merged(self) -> nn.Linear:
        """Return a plain linear layer with the same outputs, with the adapter added to its weights."""
        layer = nn.Linear(self.base.in_features, self.base.out_features, self.base.bias is not None)
        layer.weight = nn.Parameter(self.base.weight + self.delta(), requires_grad=False)
        layer.bias = self.base.bias
        return layer


def inject(model: nn.Module, target_modules: Sequence[str], rank: int, alpha: float) -> list[LoRALinear]:
    """Freeze the model and replace every linear layer named in `target_modules` by a LoRALinear.

    Returns the new layers. Raises CourseError if no linear layer has one of the names.
    """
    targets = linear_layers(model, target_modules)
    model.requires_grad_(False)
    adapters = {name: LoRALinear(layer, rank, alpha) for name, layer in targets.items()}
    for name, adapter in adapters.items():
        model.set_submodule(name, adapter)
    return list(adapters.values())


def linear_layers(
    model: nn.Module, target_modules: Sequence[str], model_name: str = "this model"
) -> dict[str, nn.Linear]:
    """Return {full name: layer} for every linear layer whose last name part is in `target_modules`.

    model_name is used in the error message. Raises CourseError if no linear layer has one of the names.
    """
    linear = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    known = list(dict.fromkeys(map(_last_part, linear)))
    if unknown := [name for name in target_modules if name not in known]:
        raise CourseError(
            f"no linear layer of {model_name} is called {unknown[0]!r}; its layers are {', '.join(known)}",
            f"target_modules={known[:1]}",
        )
    return {name: module for name, module in linear.items() if _last_part(name) in target_modules}


def merge(model: nn.Module) -> nn.Module:
    """Replace every LoRALinear in the model by the equivalent plain linear layer; return the model."""
    for name, module in list(model.named_modules()):
        if isinstance(module, LoRALinear):
            model.set_submodule(name, module.merged())
    return model


def _last_part(name: str) -> str:
    return name.rpartition(".")[2]
