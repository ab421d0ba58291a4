"""The weights that learn: exact copies of them, their optimiser, and a checkpoint from which training goes on exactly."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from course_lib.atomic import atomic_file
from course_lib.errors import CourseError


class Learner:
    """Every weight of a model that requires a gradient, trained by AdamW.

    A model that computes in 16 bits loses steps that are too small for it: they add up in copies of 32 bits (Micikevicius et
    al. 2017, arXiv:1710.03740). rate: rises in `warm_up` steps, then falls to 0 in `steps`. clip: the longest gradient.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        *,
        steps: int,
        rate: float,
        warm_up: int,
        weight_decay: float = 0.0,
        clip: float = 1.0,
    ) -> None:
        self.steps, self.rate, self.warm_up, self.clip, self.step = steps, rate, warm_up, clip, 0
        self.learnt = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.exact = {name: p.detach().float() for name, p in self.learnt.items()}
        self.optimiser = torch.optim.AdamW(self.exact.values(), lr=rate, weight_decay=weight_decay)

    def update(self) -> None:
        """One step along the gradients that the model has; they are cleared. Raises FloatingPointError, and makes no step, where
        they are not finite."""
        share = min((self.step + 1) / max(self.warm_up, 1), (self.steps - self.step) / self.steps)
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * share
        for name, p in self.learnt.items():
            self.exact[name].grad, p.grad = None if p.grad is None else p.grad.float(), None
        length = torch.nn.utils.clip_grad_norm_(self.exact.values(), self.clip)
        if not length.isfinite():
            raise FloatingPointError(f"the gradients of step {self.step + 1} have the length {float(length)}")
        self.optimiser.step()
        self.use_exact()
        self.step += 1

    def use_exact(self) -> None:
        """Give the model what was learnt, rounded to its own type."""
        for name, p in self.learnt.items():
            p.data.copy_(self.exact[name])

    def save(
        self, path: Path, about: Mapping[str, str], more: Mapping[str, torch.Tensor] | None = None
    ) -> None:
        """Everything in one file: a stop leaves the old one or the new one. Raises CourseError where it cannot be written."""
        tensors = {f"model/{name}": tensor for name, tensor in self.exact.items()}
        for i, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser/{i}/{name}": torch.as_tensor(value) for name, value in state.items()}
        tensors |= {f"more/{name}": tensor for name, tensor in (more or {}).items()}
        try:
            with atomic_file(path) as partial:
                save_file(
                    {name: t.detach().cpu().contiguous() for name, t in tensors.items()},
                    partial,
                    {"step": str(self.step), **about},
                )
        except (OSError, SafetensorError) as error:
            kept = "the one before is still there" if path.exists() else "none is there yet"
            raise CourseError(
                f"the checkpoint of step {self.step} cannot be written to {path}: {error}; {kept}",
                "make room, and start again: training goes on from the last checkpoint",
            ) from error

    def resume(self, path: Path) -> dict[str, torch.Tensor]:
        """Go on where `save` was called; returns its `more`. Raises CourseError for a damaged file."""
        about = told(path)
        try:
            tensors = load_file(path)
            for name, tensor in self.exact.items():
                tensor.copy_(tensors[f"model/{name}"])
            whole = self.optimiser.state_dict()
            for name, tensor in tensors.items():
                if name.startswith("optimiser/"):
                    _, i, key = name.split("/")
                    whole["state"].setdefault(int(i), {})[key] = tensor
            self.optimiser.load_state_dict(whole)
            self.step = int(about["step"])
        except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
            raise damaged(path, error) from error
        self.use_exact()
        return {
            name.removeprefix("more/"): tensor for name, tensor in tensors.items() if name.startswith("more/")
        }


def told(path: Path) -> dict[str, str]:
    """What a checkpoint says of itself. Raises CourseError for a damaged file."""
    try:
        with safe_open(path, "pt") as file:
            found: Any = file.metadata()
    except (SafetensorError, OSError) as error:
        raise damaged(path, error) from error
    return dict(found or {})


def damaged(path: Path, error: BaseException) -> CourseError:
    """The error for a checkpoint that cannot be read."""
    return CourseError(
        f"the checkpoint {path} is damaged: {str(error)[:200]}", f"remove {path} to begin anew"
    )


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C waits for the end of the block: what belongs together is done, or not begun."""
    if threading.current_thread() is not threading.main_thread():  # to which alone it comes
        yield
        return
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt
