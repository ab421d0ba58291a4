"""Train a LoRA adapter with an explicit loop that can be interrupted at any time and resumed exactly.

A LoRA adapter is a set of small matrices that are trained while the model's own weights stay as they are.
`train` is the entry point. An engine is a loaded model; a ModelSpec describes a model before it is loaded.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from safetensors import SafetensorError
from tqdm.auto import tqdm

from course_lib.atomic import atomic_write_text
from course_lib.errors import CourseError
from course_lib.measure.memory import release_memory
from course_lib.models.drivers.adapters import base_record
from course_lib.models.schema import ModelSpec, SpecError
from course_lib.tuning.config import Example, LoRATrainingConfig
from course_lib.tuning.dataset import BatchOrder, TokenizedExample, collate, fingerprint, tokenize
from course_lib.tuning.optimiser import (
    MixedPrecisionAdamW,
    checkpoint_metadata,
    damaged_checkpoint,
    defer_interrupt,
)
from course_lib.tuning.peft_model import add_lora, load_base, loss_of, save_adapter, seeded
from course_lib.tuning.run_folder import (
    CHECKPOINT,
    LOG,
    TrainingResult,
    check_folder,
    differences,
    finished_run,
    result_from,
    with_new_names,
)

if TYPE_CHECKING:
    from course_lib.models.drivers.huggingface import HuggingFace

OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "not enough memory")  # on CPU, NVIDIA, Apple
T = TypeVar("T")


def train(
    base: ModelSpec | str | Path | dict[str, Any],
    examples: Sequence[Example],
    folder: Path | str,
    *,
    validation: Sequence[Example] = (),
    config: LoRATrainingConfig | None = None,
    **changes: Any,
) -> TrainingResult:
    """Train an adapter for `base` and save it in `folder`; `load(base, adapters=[folder])` uses it.

    base: as for `load`; with quantization "nf4" or "fp4" its weights stay in 4 bits (QLoRA, Dettmers et al.
    2023, arXiv:2305.14314). validation: examples whose loss decides which step's weights are saved and, with
    `patience`, when training stops. config, changes: see LoRATrainingConfig.

    An interrupted run leaves a checkpoint in the folder. The same call resumes it and ends with the same
    weights as an uninterrupted run. After a finished run the same call only returns its result.

    Raises SpecError for an invalid setting. Raises CourseError for a base that cannot be trained, unusable
    examples, an unknown target module, a loss that is not finite, a folder with unrelated files, too little
    memory for one example, and a full disk; the last checkpoint is kept.
    """
    settings, target = (config or LoRATrainingConfig()).replace(**changes), Path(folder).expanduser()
    engine = load_base(base, settings)
    if settings.patience and not validation:
        raise SpecError(
            f"patience={settings.patience} needs validation examples", "train(..., validation=examples[-50:])"
        )
    dataset = tokenize(engine, examples, settings.max_length)
    validation_set = tokenize(engine, validation, settings.max_length) if validation else []
    made_of = {
        "config": settings.model_dump(mode="json"),
        "base": base_record(Path(engine.model.name_or_path)),
        "quantization": engine.spec.quantization,
        "examples": fingerprint(dataset),
        "validation": fingerprint(validation_set),
    }
    if result := finished_run(target, made_of):
        return result
    run = _TrainingRun(engine, dataset, validation_set, settings, target, made_of)
    try:
        run.train()
        return run.publish()
    except KeyboardInterrupt:
        run.save()
        raise
    finally:
        del engine, run
        release_memory()


class _TrainingRun:
    """A training run in progress: the model, its optimiser, and the result so far.

    made_of: the settings and the hashes of the data, by which a later call recognises the run.
    """

    def __init__(
        self,
        engine: HuggingFace,
        dataset: list[TokenizedExample],
        validation_set: list[TokenizedExample],
        config: LoRATrainingConfig,
        folder: Path,
        made_of: dict[str, Any],
    ) -> None:
        self.dataset, self.validation_set, self.config, self.made_of = (
            dataset,
            validation_set,
            config,
            made_of,
        )
        check_folder(folder)
        self.model = add_lora(engine, config)
        self.optimiser = MixedPrecisionAdamW(
            self.model,
            total_steps=config.steps,
            learning_rate=config.learning_rate,
            warmup_steps=config.warmup_steps,
            weight_decay=config.weight_decay,
            max_grad_norm=config.max_grad_norm,
        )
        self.max_context_tokens = engine.context
        self.order = BatchOrder(
            [len(e.prompt) + len(e.answer) for e in dataset], config.batch_size, config.seed
        )
        parameters = sum(p.numel() for p in self.optimiser.trainable.values())
        micro_batch_size = config.micro_batch_size or config.batch_size
        self.result = TrainingResult(folder, parameters, micro_batch_size=micro_batch_size)
        self.best_weights: dict[str, torch.Tensor] = {}
        if (folder / CHECKPOINT).exists():
            self._resume()

    def train(self) -> None:
        """Run the remaining steps, until the last step or an early stop."""
        result, last_save = self.result, time.monotonic()
        steps = self.config.steps
        with tqdm(total=steps, initial=result.steps, desc="training", unit=" steps", leave=False) as bar:
            while not result.stopped:
                started = time.monotonic()
                if not self._evaluation_is_due():
                    self._step()
                if self._evaluation_is_due():
                    self._evaluate()
                result.stopped = self._stop_reason()
                result.seconds += time.monotonic() - started
                bar.set_postfix(loss=f"{result.losses[-1]:.3f}", refresh=False)
                bar.update(result.steps - bar.n)
                if time.monotonic() - last_save > self.config.save_seconds or result.stopped:
                    self.save()
                    last_save = time.monotonic()

    def _step(self) -> None:
        """Train on the next batch."""
        result, indices = self.result, self.order[len(self.result.losses)]
        loss = self._with_less_memory(lambda: self._backward([self.dataset[i] for i in indices]))
        if not math.isfinite(loss):
            raise self._not_finite(f"loss is {loss} at step {len(result.losses) + 1}")
        with defer_interrupt():
            try:
                self.optimiser.step()
            except FloatingPointError as error:
                raise self._not_finite(str(error)) from error
            result.losses.append(loss)
            result.tokens += sum(self.order.lengths[i] for i in indices)

    def _backward(self, batch: list[TokenizedExample]) -> float:
        """Backpropagate a batch and return the mean loss per answer token."""
        answer_tokens, loss = sum(len(example.answer) for example in batch), 0.0
        with seeded(self.config.seed, len(self.result.losses)):
            for part in self._micro_batches(batch):
                part_loss = (
                    loss_of(self.model, *collate(part, self.model.device, self.max_context_tokens))
                    / answer_tokens
                )
                part_loss.backward()
                loss += float(part_loss.detach())
        return loss

    def _micro_batches(self, examples: list[TokenizedExample]) -> list[list[TokenizedExample]]:
        size = self.result.micro_batch_size
        return [examples[i : i + size] for i in range(0, len(examples), size)]

    def _with_less_memory(self, compute: Callable[[], T]) -> T:
        """Return compute(); when memory runs out, halve the micro-batch size and try again."""
        while True:
            try:
                return compute()
            except (RuntimeError, MemoryError) as error:
                if not (isinstance(error, MemoryError) or any(text in str(error) for text in OUT_OF_MEMORY)):
                    raise
                if self.result.micro_batch_size == 1:
                    raise CourseError(
                        f"one example at once does not fit into memory: {error}"[:300],
                        "train(..., gradient_checkpointing=True)  # or shorter examples, a smaller base",
                    ) from error
            self.model.zero_grad()  # after the except block, when the error no longer holds memory
            self.result.micro_batch_size //= 2

    def _evaluation_is_due(self) -> bool:
        steps, config = len(self.result.losses), self.config
        due = steps > 0 and (steps % config.eval_steps == 0 or steps == config.steps)
        return bool(self.validation_set) and due and steps not in self.result.validation

    def _evaluate(self) -> None:
        result, loss = self.result, self._with_less_memory(self.validation_loss)
        if not math.isfinite(loss):
            raise self._not_finite(f"validation loss is {loss} after step {result.steps}")
        with defer_interrupt():
            if loss < min(result.validation.values(), default=math.inf):
                self.best_weights = {n: p.detach().clone() for n, p in self.optimiser.trainable.items()}
                result.best_step = result.steps
            result.validation[result.steps] = loss

    def validation_loss(self) -> float:
        """Return the mean loss per answer token over the validation examples."""
        self.model.eval()
        try:
            with torch.no_grad():
                parts = self._micro_batches(sorted(self.validation_set, key=lambda example: example.length))
                batches = (collate(part, self.model.device, self.max_context_tokens) for part in parts)
                loss = sum(float(loss_of(self.model, *batch)) for batch in batches)
        finally:
            self.model.train()
        return loss / sum(len(example.answer) for example in self.validation_set)

    def _stop_reason(self) -> str:
        result, patience = self.result, self.config.patience
        if patience and sum(step > result.best_step for step in result.validation) >= patience:
            return "early"
        return "steps" if result.steps == self.config.steps else ""

    def _not_finite(self, what: str) -> CourseError:
        if not self.result.steps:
            return CourseError(f"{what}: the base itself gives it", "train another base model")
        lower = self.config.learning_rate / 2
        fix = f"delete {self.result.folder} and call train(..., learning_rate={lower:g})"
        return CourseError(f"{what}: learning_rate={self.config.learning_rate:g} is too high", fix)

    def save(self) -> None:
        """Write a checkpoint: weights, optimiser state, and the result so far."""
        state = {k: v for k, v in vars(self.result).items() if k not in ("folder", "losses")}
        metadata = {"made_of": json.dumps(self.made_of), "state": json.dumps(state)}
        tensors = {"losses": torch.tensor(self.result.losses, dtype=torch.float64)}
        tensors |= {f"best/{name}": tensor for name, tensor in self.best_weights.items()}
        self.optimiser.save(self.result.folder / CHECKPOINT, metadata, tensors)

    def _resume(self) -> None:
        path = self.result.folder / CHECKPOINT
        metadata = checkpoint_metadata(path)
        saved_settings = with_new_names(json.loads(metadata.get("made_of", "{}")))
        if saved_settings != self.made_of:
            raise CourseError(
                f"{path} was started with {differences(saved_settings, self.made_of)}",
                f"delete {path.parent} to start again",
            )
        tensors = self.optimiser.resume(path)
        try:
            state = json.loads(metadata["state"]) | {"losses": tensors.pop("losses").tolist()}
            self.result = result_from(self.result.folder, state)
        except (KeyError, ValueError, TypeError) as error:
            raise damaged_checkpoint(path, error) from error
        self.best_weights = {name.removeprefix("best/"): tensor for name, tensor in tensors.items()}

    def publish(self) -> TrainingResult:
        """Write the adapter and its log, then delete the checkpoint."""
        folder, log = self.result.folder, {k: v for k, v in vars(self.result).items() if k != "folder"}
        for name, tensor in self.best_weights.items():
            self.optimiser.trainable[name].data.copy_(tensor)
        try:
            save_adapter(self.model, folder, self.made_of["base"])
            atomic_write_text(folder / LOG, json.dumps({"made_of": self.made_of, **log}) + "\n")
            (folder / CHECKPOINT).unlink(missing_ok=True)
        except (OSError, SafetensorError) as error:
            raise CourseError(
                f"the adapter cannot be written to {folder}: {error}; the last checkpoint is still there",
                "free disk space and make the same call again",
            ) from error
        return self.result
