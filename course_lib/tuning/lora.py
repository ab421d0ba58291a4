"""LoRA by hand: a frozen matrix, and beside it two thin ones that learn (Hu et al. 2021, arXiv:2106.09685).

W x  becomes  W x + alpha / r * B A x,  with A of r rows and B of r columns. B begins as zeros: at first nothing changes.
For real use `train` does this by peft; a test holds both to the same outputs, gradients and merged weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from course_lib.errors import CourseError


class LoRALinear(nn.Module):
    """A linear layer whose own weights stay as they are, and what it learns beside them."""

    def __init__(self, base: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        if rank < 1:
            raise CourseError(
                f"rank={rank}: an adapter has at least one row and one column", "choose 1 or more, such as 8"
            )
        self.base, self.scale = base.requires_grad_(False), alpha / rank
        self.A = nn.Parameter(base.weight.new_empty(rank, base.in_features))
        self.B = nn.Parameter(base.weight.new_zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(
            self.A, a=math.sqrt(5)
        )  # as peft draws it: uniform, up to 1 / sqrt(in_features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (..., in_features) -> (..., out_features). Two thin products; B A itself is never made."""
        return self.base(x) + self.scale * (x @ self.A.T @ self.B.T)

    def delta(self) -> torch.Tensor:
        """What it adds to the weights: (out_features, in_features), of rank r at most."""
        return self.scale * (self.B @ self.A)

    def merged(self) -> nn.Linear:
        """One linear layer that gives the same: adapters cost no time once they are merged."""
        whole = nn.Linear(self.base.in_features, self.base.out_features, self.base.bias is not None)
        whole.weight = nn.Parameter(self.base.weight + self.delta(), requires_grad=False)
        whole.bias = self.base.bias
        return whole


def inject(model: nn.Module, targets: Sequence[str], rank: int, alpha: float) -> list[LoRALinear]:
    """Put a LoRALinear in the place of every linear layer whose name ends in one of `targets`; all else is frozen.

    Returns what was put in. Raises CourseError for a target that no linear layer has.
    """
    linear = linear_layers(model, targets)
    model.requires_grad_(False)
    made = {name: LoRALinear(base, rank, alpha) for name, base in linear.items()}
    for name, module in made.items():
        model.set_submodule(name, module)
    return list(made.values())


def linear_layers(
    model: nn.Module, targets: Sequence[str], called: str = "this model"
) -> dict[str, nn.Linear]:
    """Every linear layer whose name ends in one of `targets`, by its whole name.

    called: the model, in the error. Raises CourseError for a target that no linear layer has.
    """
    linear = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    there = list(dict.fromkeys(map(_last, linear)))
    if unknown := [target for target in targets if target not in there]:
        raise CourseError(
            f"no linear layer of {called} is called {unknown[0]!r}", f"choose among {', '.join(there)}"
        )
    return {name: module for name, module in linear.items() if _last(name) in targets}


def merge(model: nn.Module) -> nn.Module:
    """The same model with a plain linear layer in the place of every LoRALinear."""
    for name, module in list(model.named_modules()):
        if isinstance(module, LoRALinear):
            model.set_submodule(name, module.merged())
    return model


def _last(name: str) -> str:
    return name.rpartition(".")[2]
