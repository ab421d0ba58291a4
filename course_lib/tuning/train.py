"""Train a LoRA adapter: an explicit loop over peft's layers, which can be stopped anywhere and goes on exactly."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from safetensors import SafetensorError
from tqdm.auto import tqdm

from course_lib.atomic import atomic_write_text
from course_lib.errors import CourseError
from course_lib.measure.memory import release_memory
from course_lib.models.drivers.adapters import WEIGHTS_FILE, base_record
from course_lib.models.files import resolve
from course_lib.models.schema import ModelSpec, SpecError
from course_lib.tuning.adapted import adapted, base_of, loss_of, save_adapter, seeded
from course_lib.tuning.learner import Learner, damaged, told, uninterrupted
from course_lib.tuning.recipe import Example, Recipe
from course_lib.tuning.rows import Order, Row, batch, encoded, fingerprint

if TYPE_CHECKING:
    from course_lib.models.drivers.huggingface import HuggingFace

CHECKPOINT, LOG = "checkpoint.safetensors", "training-log.json"
NO_ROOM = ("can't allocate memory", "out of memory", "not enough memory")  # of a CPU, of CUDA, of MPS
T = TypeVar("T")


@dataclass
class Trained:
    """An adapter in a folder, and how it was made.

    losses: of each step, in nats a token; validation: step -> loss; tokens: read, without padding; stopped: "steps" or "early";
    at_once: examples in memory at once; kept: the step whose weights were kept.
    """

    folder: Path
    parameters: int = 0
    losses: list[float] = field(default_factory=list)
    validation: dict[int, float] = field(default_factory=dict)
    tokens: int = 0
    seconds: float = 0.0
    stopped: str = ""
    at_once: int = 0
    kept: int = 0

    @property
    def steps(self) -> int:
        """Steps that were made."""
        return len(self.losses)


def train(
    base: ModelSpec | str | Path | dict[str, Any],
    examples: Sequence[Example],
    folder: Path | str,
    *,
    validation: Sequence[Example] = (),
    recipe: Recipe | None = None,
    **changes: Any,
) -> Trained:
    """Train an adapter of `base` on examples, into a folder that `load(base, adapters=[folder])` takes.

    base: what `load` takes; with quantization "nf4" or "fp4" its weights stay packed (QLoRA, Dettmers et al. 2023,
    arXiv:2305.14314). validation: examples whose loss decides which weights are kept, and with `patience` when it ends. recipe,
    changes: see Recipe. Interrupted, it leaves a checkpoint in the folder, and the same call goes on from there to the same
    weights; once it is finished, the same call gives what is there.

    Raises SpecError for a recipe that cannot be; CourseError for a base that cannot be trained, examples that cannot be learnt,
    an unknown target module, a loss that is not finite, a folder that holds something else, too little memory for one example,
    a full disk. What was learnt up to the last checkpoint stays.
    """
    how, target = (recipe or Recipe()).but(**changes), Path(folder).expanduser()
    engine = base_of(base, how)
    if how.patience and not validation:
        raise SpecError(
            f"patience={how.patience} and no validation examples to look at", "name some, or leave it out"
        )
    rows, checked = (
        encoded(engine, examples, how.longest),
        encoded(engine, validation, how.longest) if validation else [],
    )
    made_of = {
        "recipe": how.model_dump(mode="json"),
        "base": base_record(resolve(engine.spec.source)),
        "quantization": engine.spec.quantization,
        "examples": fingerprint(rows),
        "validation": fingerprint(checked),
    }
    if found := _finished(target, made_of):
        return found
    run = _Run(engine, rows, checked, how, target, made_of)
    try:
        run.train()
        return run.publish()
    except KeyboardInterrupt:
        run.save()
        raise
    finally:
        del engine, run
        release_memory()


class _Run:
    """A training run: the adapted model, its learner, where it is."""

    def __init__(
        self,
        engine: HuggingFace,
        rows: list[Row],
        checked: list[Row],
        how: Recipe,
        folder: Path,
        made_of: dict[str, Any],
    ) -> None:
        self.rows, self.checked, self.how, self.made_of = rows, checked, how, made_of
        _check_folder(folder)
        self.model = adapted(engine, how)
        self.learner = Learner(
            self.model,
            steps=how.steps,
            rate=how.rate,
            warm_up=how.warm_up,
            weight_decay=how.weight_decay,
            clip=how.clip,
        )
        self.context = engine.context
        self.order = Order([len(row) for row in rows], how.batch_size, how.seed)
        learnt = sum(p.numel() for p in self.learner.learnt.values())
        self.trained = Trained(folder, learnt, at_once=how.at_once or how.batch_size)
        self.best: dict[str, torch.Tensor] = {}
        if (folder / CHECKPOINT).exists():
            self._resume()

    def train(self) -> None:
        """Go on to the last step, or to where it gets no better. An interruption comes before or after a step, or a look."""
        trained, saved = self.trained, time.monotonic()
        with tqdm(
            total=self.how.steps, initial=trained.steps, desc="training", unit=" steps", leave=False
        ) as bar:
            while not trained.stopped:
                begun = time.monotonic()
                if not self._unseen():
                    self._step()
                if self._unseen():
                    self._validate()
                trained.stopped = self._stopped()
                trained.seconds += time.monotonic() - begun
                bar.set_postfix(loss=f"{trained.losses[-1]:.3f}", refresh=False)
                bar.update(trained.steps - bar.n)
                if time.monotonic() - saved > self.how.save_every or trained.stopped:
                    self.save()
                    saved = time.monotonic()

    def _step(self) -> None:
        """One step over the rows whose turn it is."""
        trained, chosen = self.trained, self.order[self.trained.steps]
        loss, tokens = self._fitting(lambda: self._gradients(chosen))
        if not math.isfinite(loss):
            raise self._lost(f"the loss of step {trained.steps + 1} is {loss}")
        with uninterrupted():
            try:
                self.learner.update()
            except FloatingPointError as error:
                raise self._lost(str(error)) from error
            trained.losses.append(loss)
            trained.tokens += tokens

    def _gradients(self, chosen: list[int]) -> tuple[float, int]:
        """The loss of a token over the chosen rows, whose gradients are left in the model, and how many tokens were read."""
        total, loss, read = sum(len(self.rows[i].answer) for i in chosen), 0.0, 0
        with seeded(self.how.seed, self.trained.steps):
            for part in self._parts([self.rows[i] for i in chosen]):
                ids, learn = batch(part, self.model.device, self.context)
                summed = loss_of(self.model, ids, learn) / total
                summed.backward()
                loss, read = loss + float(summed.detach()), read + sum(map(len, part))
        return loss, read

    def _parts(self, rows: list[Row]) -> list[list[Row]]:
        size = self.trained.at_once
        return [rows[at : at + size] for at in range(0, len(rows), size)]

    def _fitting(self, work: Callable[[], T]) -> T:
        """What `work` gives; where it does not fit into memory, with half as many examples at once."""
        while True:
            try:
                return work()
            except (RuntimeError, MemoryError) as error:
                if not (isinstance(error, MemoryError) or any(said in str(error) for said in NO_ROOM)):
                    raise
                if self.trained.at_once == 1:
                    fix = "take shorter examples or a smaller model, or gradient_checkpointing=True"
                    raise CourseError(
                        f"there is no room for one example at once: {error}"[:300], fix
                    ) from error
            self.model.zero_grad()  # here the error is gone, and with it what the failed attempt held
            self.trained.at_once //= 2

    def _unseen(self) -> bool:
        """Whether the validation examples are to be looked at now."""
        steps, how = self.trained.steps, self.how
        due = steps > 0 and (steps % how.validate_every == 0 or steps == how.steps)
        return bool(self.checked) and due and steps not in self.trained.validation

    def _validate(self) -> None:
        trained, loss = self.trained, self._fitting(self.validation_loss)
        if not math.isfinite(loss):
            raise self._lost(f"the validation loss after step {trained.steps} is {loss}")
        with uninterrupted():
            if loss < min(trained.validation.values(), default=math.inf):
                self.best, trained.kept = (
                    {n: p.detach().clone() for n, p in self.learner.learnt.items()},
                    trained.steps,
                )
            trained.validation[trained.steps] = loss

    def validation_loss(self) -> float:
        """The loss of a token over the validation rows."""
        self.model.eval()
        try:
            with torch.no_grad():
                parts = self._parts(sorted(self.checked, key=len))
                loss = sum(
                    float(loss_of(self.model, *batch(part, self.model.device, self.context)))
                    for part in parts
                )
        finally:
            self.model.train()
        return loss / sum(len(row.answer) for row in self.checked)

    def _stopped(self) -> str:
        trained, patience = self.trained, self.how.patience
        if patience and sum(step > trained.kept for step in trained.validation) >= patience:
            return "early"
        return "steps" if trained.steps == self.how.steps else ""

    def _lost(self, what: str) -> CourseError:
        """The error for a loss that is none any more."""
        if not self.trained.steps:
            return CourseError(
                f"{what}: nothing was learnt yet, the model itself gives it", "choose another base"
            )
        return CourseError(
            f"{what}: its steps were too long",
            f"remove {self.trained.folder}, and train with a rate below {self.how.rate:g}",
        )

    # -- files

    def save(self) -> None:
        """A checkpoint of everything."""
        state = {k: v for k, v in vars(self.trained).items() if k not in ("folder", "losses")}
        about = {"made_of": json.dumps(self.made_of), "state": json.dumps(state)}
        more = {"losses": torch.tensor(self.trained.losses, dtype=torch.float64)}
        self.learner.save(
            self.trained.folder / CHECKPOINT, about, more | {f"best/{n}": t for n, t in self.best.items()}
        )

    def _resume(self) -> None:
        path = self.trained.folder / CHECKPOINT
        about = told(path)
        if about.get("made_of") != json.dumps(self.made_of):
            before = json.loads(about.get("made_of", "{}"))
            raise CourseError(
                f"{path} was begun with {_differences(before, self.made_of)}",
                f"remove {path.parent} to begin anew",
            )
        more = self.learner.resume(path)
        try:
            self.trained = _trained(
                self.trained.folder, json.loads(about["state"]) | {"losses": more.pop("losses").tolist()}
            )
        except (KeyError, ValueError, TypeError) as error:
            raise damaged(path, error) from error
        self.best = {name.removeprefix("best/"): tensor for name, tensor in more.items()}

    def publish(self) -> Trained:
        """The adapter in PEFT form, what it was made for and how; then the checkpoint goes."""
        folder, log = self.trained.folder, {k: v for k, v in vars(self.trained).items() if k != "folder"}
        for name, tensor in self.best.items():
            self.learner.learnt[name].data.copy_(tensor)
        try:
            save_adapter(self.model, folder, self.made_of["base"])
            atomic_write_text(folder / LOG, json.dumps({"made_of": self.made_of, **log}) + "\n")
            (folder / CHECKPOINT).unlink(missing_ok=True)
        except (OSError, SafetensorError) as error:
            raise CourseError(
                f"the adapter cannot be written to {folder}: {error}",
                "make room, and start again: its last checkpoint is there",
            ) from error
        return self.trained


def _check_folder(folder: Path) -> None:
    """Raises CourseError for a folder that holds something else than a run; what a killed one left half-written goes."""
    if folder.exists() and not folder.is_dir():
        raise CourseError(f"{folder} is a file", "name a new folder")
    for left in folder.glob(".*.partial"):
        left.unlink()
    if folder.exists() and any(folder.iterdir()) and not (folder / CHECKPOINT).exists():
        raise CourseError(f"{folder} holds something else already", "name a new folder")


def _finished(folder: Path, made_of: dict[str, Any]) -> Trained | None:
    """What the same call made before. Raises CourseError for an adapter that was made otherwise."""
    if not all((folder / name).is_file() for name in (LOG, WEIGHTS_FILE)):
        return None
    try:
        said = json.loads((folder / LOG).read_text("utf-8"))
        before, trained = said.pop("made_of"), _trained(folder, said)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CourseError(f"{folder / LOG} is damaged: {error}"[:300], "name a new folder") from error
    if before != made_of:
        raise CourseError(
            f"{folder} holds an adapter made with {_differences(before, made_of)}", "name a new folder"
        )
    return trained


def _trained(folder: Path, said: dict[str, Any]) -> Trained:
    return Trained(
        folder, **said | {"validation": {int(step): loss for step, loss in said["validation"].items()}}
    )


def _differences(before: dict[str, Any], made_of: dict[str, Any]) -> str:
    """What differs between a run on disk and the one that was asked for."""
    old, new = ({**d, **d.get("recipe", {}), "recipe": None} for d in (before, made_of))
    odd = [f"{k}={old.get(k)!r:.60}, not {v!r:.60}" for k, v in new.items() if old.get(k) != v]
    return ", ".join(odd) or "another version of the course"
