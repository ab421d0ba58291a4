"""AdamW for models with 16-bit weights, with a learning-rate schedule and checkpoint files."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from course_lib.atomic import atomic_file
from course_lib.errors import CourseError


class MixedPrecisionAdamW:
    """AdamW for every weight of a model that requires a gradient.

    A small update would be lost to rounding in 16 bits. The optimiser therefore updates 32-bit copies of the
    weights, `master_weights`, and copies them to the model after each step (Micikevicius et al. 2017,
    arXiv:1710.03740).

    learning_rate: the peak. It rises linearly for `warmup_steps`, then falls linearly to 0 at `total_steps`.
    max_grad_norm: gradients with a larger norm are scaled down to it. `trainable`: the weights by name.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        *,
        total_steps: int,
        learning_rate: float,
        warmup_steps: int,
        weight_decay: float = 0.0,
        max_grad_norm: float = 1.0,
    ) -> None:
        self.total_steps, self.learning_rate, self.warmup_steps = total_steps, learning_rate, warmup_steps
        self.max_grad_norm, self.steps_done = max_grad_norm, 0
        self.trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.master_weights = {name: p.detach().float() for name, p in self.trainable.items()}
        self.adamw = torch.optim.AdamW(
            self.master_weights.values(), lr=learning_rate, weight_decay=weight_decay
        )

    def __repr__(self) -> str:
        weights = sum(p.numel() for p in self.trainable.values())
        return (
            f"MixedPrecisionAdamW({weights:,} weights, step {self.steps_done} of {self.total_steps}, "
            f"learning_rate={self.learning_rate:g})"
        )

    def step(self) -> None:
        """Update the weights from the model's gradients, and clear the gradients.

        Raises FloatingPointError, without changing a weight, if the gradients are not finite.
        """
        step = self.steps_done
        warmup, decay = (step + 1) / max(self.warmup_steps, 1), (self.total_steps - step) / self.total_steps
        for group in self.adamw.param_groups:
            group["lr"] = self.learning_rate * min(warmup, decay)
        for name, p in self.trainable.items():
            self.master_weights[name].grad, p.grad = None if p.grad is None else p.grad.float(), None
        norm = torch.nn.utils.clip_grad_norm_(self.master_weights.values(), self.max_grad_norm)
        if not norm.isfinite():
            raise FloatingPointError(f"gradient norm is {float(norm)} at step {step + 1}")
        self.adamw.step()
        self.copy_to_model()
        self.steps_done += 1

    def copy_to_model(self) -> None:
        """Copy the 32-bit master weights to the model, rounded to its data type."""
        for name, p in self.trainable.items():
            p.data.copy_(self.master_weights[name])

    def save(
        self, path: Path, metadata: Mapping[str, str], extra: Mapping[str, torch.Tensor] | None = None
    ) -> None:
        """Write weights, optimiser state, `extra` tensors and `metadata` into one file, atomically.

        Raises CourseError if the file cannot be written; an older checkpoint is then unchanged.
        """
        tensors = {f"model/{name}": tensor for name, tensor in self.master_weights.items()}
        for i, state in self.adamw.state_dict()["state"].items():
            tensors |= {f"optimiser/{i}/{name}": torch.as_tensor(value) for name, value in state.items()}
        tensors |= {f"more/{name}": tensor for name, tensor in (extra or {}).items()}  # "more": of `extra`
        tensors = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
        try:
            with atomic_file(path) as partial:
                save_file(tensors, partial, {"step": str(self.steps_done), **metadata})
        except (OSError, SafetensorError) as error:
            kept = "the checkpoint before it is still there" if path.exists() else "there is none before it"
            raise CourseError(
                f"the checkpoint of step {self.steps_done} cannot be written to {path}: {error}; {kept}",
                "free disk space and make the same call again: training resumes from the last checkpoint",
            ) from error

    def resume(self, path: Path) -> dict[str, torch.Tensor]:
        """Load a checkpoint and return its `extra` tensors. Raises CourseError if it is damaged."""
        metadata = checkpoint_metadata(path)
        try:
            tensors = load_file(path)
            for name, tensor in self.master_weights.items():
                tensor.copy_(tensors[f"model/{name}"])
            state = self.adamw.state_dict()
            for name, tensor in tensors.items():
                if name.startswith("optimiser/"):
                    _, i, key = name.split("/")
                    state["state"].setdefault(int(i), {})[key] = tensor
            self.adamw.load_state_dict(state)
            self.steps_done = int(metadata["step"])
        except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
            raise damaged_checkpoint(path, error) from error
        self.copy_to_model()
        return {name.removeprefix("more/"): t for name, t in tensors.items() if name.startswith("more/")}


def checkpoint_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a checkpoint file. Raises CourseError if the file is damaged."""
    try:
        with safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise damaged_checkpoint(path, error) from error


def damaged_checkpoint(path: Path, error: BaseException) -> CourseError:
    """Return the error for a checkpoint that cannot be read."""
    return CourseError(f"the checkpoint {path} is damaged: {str(error)[:200]}", f"rm {path}")


@contextmanager
def defer_interrupt() -> Iterator[None]:
    """Delay KeyboardInterrupt (Ctrl-C) until the end of the block, so that the block is not interrupted."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread receives Ctrl-C
        yield
        return
    received: list[int] = []
    previous = signal.signal(signal.SIGINT, lambda number, frame: received.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
    if received:
        raise KeyboardInterrupt
