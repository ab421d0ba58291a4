"""The optimiser Muon: the update of a matrix is the running mean of its gradients, made orthogonal.

The source is Jordan et al. 2024, kellerjordan.github.io/posts/muon.
"""

from __future__ import annotations

from collections import defaultdict

import torch


def orthogonalise(g: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """Return the nearest semi-orthogonal matrix of each matrix in g, (batch, rows, columns).

    Its rows (or its columns, if these are fewer) are at right angles and of length 1. It is approximated in
    some steps (Newton-Schulz iteration), with the coefficients of the source.
    """
    x = g / (g.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    tall = x.size(-2) > x.size(-1)
    x = x.mT if tall else x
    for _ in range(steps):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """The optimiser, for matrices only. Matrices of equal shape are orthogonalised in one batch.

    lr: the learning rate. momentum: the weight of the earlier gradients in the running mean. weight_decay:
    how much each weight shrinks in a step, times the learning rate.
    """

    def __init__(
        self, params: list[torch.nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.05
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            by_shape = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    by_shape[p.shape].append(p)
            for shape, same in by_shape.items():
                for p in same:
                    self.state[p].setdefault("momentum", torch.zeros_like(p)).lerp_(
                        p.grad, 1 - group["momentum"]
                    )
                nesterov = torch.stack(  # the running mean of gradients (momentum), one step ahead
                    [p.grad.lerp(self.state[p]["momentum"], group["momentum"]) for p in same]
                )
                scale = max(1.0, shape[0] / shape[1]) ** 0.5  # longer steps for tall matrices, as the source
                for p, update in zip(same, orthogonalise(nesterov), strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"] * scale)
