"""A training run of a picture model: steps, learning rates, log, and checkpoints to continue from."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from pretraining.muon import Muon
from pretraining.train import rate_at
from tqdm import tqdm

from course_lib import data
from course_lib.atomic import atomic_file
from course_lib.errors import CourseError

RUNS = data.ROOT / "runs"
SAVE_SECONDS, LOG_STEPS = 60.0, 50  # between two checkpoints, and between two lines of the log


def optimisers(
    model: torch.nn.Module, muon_rate: float, adam_rate: float, embeddings: str
) -> list[torch.optim.Optimizer]:
    """Return two optimisers: Muon for matrices (`pretraining.muon`), and AdamW for all other weights.

    embeddings: a part of the names of the tables of vectors (embeddings), which are no matrices in this
    sense.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    matrices = [p for name, p in named if p.ndim == 2 and embeddings not in name]
    others = [p for name, p in named if p.ndim != 2 or embeddings in name]
    return [Muon(matrices, lr=muon_rate), torch.optim.AdamW(others, lr=adam_rate, weight_decay=0.0)]


class Run:
    """A training run.

    With `resume` it continues from the checkpoint in `runs/NAME`, otherwise it starts again. The data of a
    step must depend only on its number, so that a resumed run equals an uninterrupted one.
    """

    def __init__(
        self,
        name: str,
        model: torch.nn.Module,
        optimisers: list[torch.optim.Optimizer],
        steps: int,
        *,
        resume: bool,
    ) -> None:
        self.name, self.model, self.optimisers, self.steps = name, model, optimisers, steps
        self.folder, self.step, self.seconds = RUNS / name, 0, 0.0
        # The learning rates, which each step multiplies by a factor from 0 to 1.
        self._full = [[group["lr"] for group in o.param_groups] for o in optimisers]
        self.folder.mkdir(parents=True, exist_ok=True)
        if resume and self.checkpoint.exists():
            state = torch.load(self.checkpoint, weights_only=True)
            if state["step"] > steps:
                what = f"the checkpoint of {name} is at step {state['step']}, and the training has {steps}"
                raise CourseError(what, f"--steps {state['step']}, or leave --resume out to begin anew")
            model.load_state_dict(state["model"])
            for optimiser, its in zip(optimisers, state["optimisers"], strict=True):
                optimiser.load_state_dict(its)
            self.step, self.seconds = state["step"], state["seconds"]
        else:
            self.log.unlink(missing_ok=True)

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    @property
    def log(self) -> Path:
        return self.folder / "log.jsonl"

    def save(self) -> None:
        """Write the checkpoint atomically."""
        state = {"model": self.model.state_dict(), "step": self.step, "seconds": self.seconds}
        with atomic_file(self.checkpoint) as partial:
            torch.save(state | {"optimisers": [o.state_dict() for o in self.optimisers]}, partial)

    def train(self, loss_at: Callable[[int], torch.Tensor], until: int | None = None) -> None:
        """Train until the last step, or until step `until`. loss_at: returns the loss of a step."""
        losses: list[float] = []
        begun, saved = time.process_time() - self.seconds, time.monotonic()
        self.model.train()
        with tqdm(total=self.steps, initial=self.step, desc=self.name, mininterval=5) as bar:
            while self.step < min(self.steps, until or self.steps):
                losses.append(self._one_step(loss_at(self.step)))
                self.seconds = time.process_time() - begun
                bar.update()
                if self.step % LOG_STEPS == 0 or self.step == self.steps:
                    row = {
                        "step": self.step,
                        "seconds": round(self.seconds),
                        "loss": sum(losses) / len(losses),
                    }
                    with self.log.open("a", encoding="utf-8") as log:
                        log.write(json.dumps(row) + "\n")
                    losses = []
                if time.monotonic() - saved > SAVE_SECONDS:
                    self.save()
                    saved = time.monotonic()
        self.save()

    def _one_step(self, loss: torch.Tensor) -> float:
        share = rate_at(self.step, self.steps)
        for optimiser, full in zip(self.optimisers, self._full, strict=True):
            for group, rate in zip(optimiser.param_groups, full, strict=True):
                group["lr"] = rate * share
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.step += 1
        return float(loss.detach())
