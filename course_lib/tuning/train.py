"""Train a LoRA adapter: an explicit loop over peft's layers, which can be stopped anywhere and goes on exactly."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm

from course_lib import data
from course_lib.errors import CourseError
from course_lib.models import load
from course_lib.models.drivers.adapters import CONFIG, WEIGHTS, describe
from course_lib.models.drivers.quiet import quiet
from course_lib.models.source import resolve
from course_lib.models.spec import ModelSpec
from course_lib.tuning.learner import Learner, told
from course_lib.tuning.recipe import Example, Recipe
from course_lib.tuning.rows import Order, Row, batch, encoded, fingerprint

if TYPE_CHECKING:
    from course_lib.models.drivers.huggingface import HuggingFace

CHECKPOINT, LOG = "checkpoint.safetensors", "training-log.json"
NO_ROOM = ("can't allocate memory", "out of memory", "not enough memory")  # of a CPU, of CUDA, of MPS


@dataclass
class Trained:
    """An adapter in a folder, and how it was made.

    losses: of each step, in nats a token; validation: step -> loss; tokens: read, padding included; stopped: "steps" or "early";
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
    base: ModelSpec | str | Path | dict[str, Any], examples: Sequence[Example], folder: Path | str, *,
    validation: Sequence[Example] = (), recipe: Recipe | None = None, **changes: Any,
) -> Trained:  # fmt: skip
    """Train an adapter of `base` on examples, into a folder that `load(base, adapters=[folder])` takes.

    base: what `load` takes; with quantization "nf4" or "fp4" its weights stay packed (QLoRA, Dettmers et al. 2023,
    arXiv:2305.14314). validation: examples whose loss decides which weights are kept, and with `patience` when it ends. recipe,
    changes: see Recipe. Interrupted, it leaves a checkpoint in the folder, and the same call goes on from there to the same
    weights; once it is finished, the same call gives what is there.

    Raises CourseError for a base that cannot be trained, examples that cannot be learnt, an unknown target module, a loss that is
    not finite, a folder that holds something else, a full disk. What was learnt up to the last checkpoint stays.
    """
    how, target = (recipe or Recipe()).but(**changes), Path(folder).expanduser()
    engine = _base(base, how)
    rows, checked = encoded(engine, examples, how.longest), encoded(engine, validation, how.longest) if validation else []
    made_of = {"recipe": how.model_dump(mode="json"), "base": describe(resolve(engine.spec.source)), "quantization":
               engine.spec.quantization, "examples": fingerprint(rows), "validation": fingerprint(checked)}  # fmt: skip
    if found := _finished(target, made_of):
        return found
    run = _Run(engine, rows, checked, how, target, made_of)
    try:
        run.train()
    except KeyboardInterrupt:
        run.save()
        raise
    return run.publish()


def _base(base: Any, how: Recipe) -> HuggingFace:
    """The model to adapt, in the precision to compute in."""
    spec = ModelSpec.parse(base)
    if spec.driver != "huggingface" or spec.task not in ("chat-completion", "text-generation") or spec.adapters:
        raise CourseError(f"{spec.name}: adapters are trained on a language model of the driver huggingface, without adapters",
                          "name the model itself, such as haneul-4m")  # fmt: skip
    if spec.quantization == "int8":
        raise CourseError("quantization int8: bitsandbytes' 8-bit layers give no gradients on a CPU", "say quantization: nf4")
    precision = ("bfloat16" if _native_bfloat16() else "float32") if how.precision == "auto" else how.precision
    engine: Any = load(spec, precision=precision)
    if precision == "bfloat16" and engine.device == "cpu":
        engine.model.set_attn_implementation("eager")  # the other's backward pass is five times as slow in 16 bits (measured)
    for layer in engine.model.modules():
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False  # bitsandbytes' fused kernel has no backward pass
    return engine


def _native_bfloat16() -> bool:
    return torch.cuda.is_available() or bool(torch.cpu._is_avx512_bf16_supported())


class _Run:
    """A training run: the adapted model, its learner, where it is."""

    def __init__(
        self, engine: HuggingFace, rows: list[Row], checked: list[Row], how: Recipe, folder: Path, made_of: dict[str, Any]
    ) -> None:
        self.rows, self.checked, self.how, self.made_of = rows, checked, how, made_of
        self.model = adapted(engine, how)
        self.learner = Learner(self.model, steps=how.steps, rate=how.rate, warm_up=how.warm_up,
                               weight_decay=how.weight_decay, clip=how.clip)  # fmt: skip
        self.order = Order([len(row) for row in rows], how.batch_size, how.seed)
        learnt = sum(p.numel() for p in self.learner.learnt.values())
        self.trained = Trained(folder, learnt, at_once=how.at_once or how.batch_size)
        self.best: dict[str, torch.Tensor] = {}
        if (folder / CHECKPOINT).exists():
            self._resume()
        elif folder.exists() and any(folder.iterdir()):
            raise CourseError(f"{folder} holds something else already", "name a new folder")

    def train(self) -> None:
        """Go on to the last step, or to where it gets no better."""
        how, trained, saved = self.how, self.trained, time.monotonic()
        with tqdm(total=how.steps, initial=trained.steps, desc="training", unit=" steps") as bar:
            while not trained.stopped:
                begun = time.monotonic()
                trained.losses.append(self._step(self.order[trained.steps]))
                if self.checked and (trained.steps % how.validate_every == 0 or trained.steps == how.steps):
                    self._validate()
                if trained.steps == how.steps and not trained.stopped:
                    trained.stopped = "steps"
                trained.seconds += time.monotonic() - begun
                bar.update()
                bar.set_postfix(loss=f"{trained.losses[-1]:.3f}", refresh=False)
                if time.monotonic() - saved > how.save_every or trained.stopped:
                    self.save()
                    saved = time.monotonic()

    def _step(self, chosen: list[int]) -> float:
        """One step over the chosen rows, in parts where they do not fit into memory together; returns the loss of a token."""
        while True:
            try:
                loss = self._gradients(chosen)
                break
            except (RuntimeError, MemoryError) as error:
                if self.trained.at_once == 1 or not (isinstance(error, MemoryError) or any(t in str(error) for t in NO_ROOM)):
                    raise
                self.model.zero_grad()
                self.trained.at_once //= 2
        if not math.isfinite(loss):
            raise CourseError(f"the loss of step {self.trained.steps + 1} is {loss}: its steps were too long",
                              f"remove {self.trained.folder}, and train with a rate below {self.how.rate:g}")  # fmt: skip
        self.learner.update()
        return loss

    def _gradients(self, chosen: list[int]) -> float:
        at_once, total = self.trained.at_once, sum(len(self.rows[i].answer) for i in chosen)
        loss = 0.0
        with _seeded(self.how, self.trained.steps):
            for at in range(0, len(chosen), at_once):
                ids, learn = batch([self.rows[i] for i in chosen[at : at + at_once]], self.model.device)
                part = loss_of(self.model, ids, learn) / total
                part.backward()
                loss += float(part.detach())
                self.trained.tokens += ids.numel()
        return loss

    def _validate(self) -> None:
        trained, patience = self.trained, self.how.patience
        loss = self.validation_loss()
        if loss < min(trained.validation.values(), default=math.inf):
            self.best, trained.kept = {n: p.detach().clone() for n, p in self.learner.learnt.items()}, trained.steps
        trained.validation[trained.steps] = loss
        looks = [step for step in trained.validation if step > trained.kept]
        if patience and len(looks) >= patience:
            trained.stopped = "early"

    def validation_loss(self) -> float:
        """The loss of a token over the validation rows."""
        order = sorted(range(len(self.checked)), key=lambda i: len(self.checked[i]))
        self.model.eval()
        with torch.no_grad():
            parts = [[self.checked[i] for i in order[at : at + self.trained.at_once]]
                     for at in range(0, len(order), self.trained.at_once)]  # fmt: skip
            loss = sum(float(loss_of(self.model, *batch(part, self.model.device))) for part in parts)
        self.model.train()
        return loss / sum(len(row.answer) for row in self.checked)

    # -- files

    def save(self) -> None:
        """A checkpoint of everything."""
        state = {k: v for k, v in vars(self.trained).items() if k not in ("folder", "losses")}
        about = {"made_of": json.dumps(self.made_of), "state": json.dumps(state)}
        more = {"losses": torch.tensor(self.trained.losses, dtype=torch.float64)}
        self.learner.save(self.trained.folder / CHECKPOINT, about, more | {f"best/{n}": t for n, t in self.best.items()})

    def _resume(self) -> None:
        path = self.trained.folder / CHECKPOINT
        about = told(path)
        if about.get("made_of") != json.dumps(self.made_of):
            raise CourseError(f"{path} was begun with {_differences(about, self.made_of)}", f"remove {path.parent} to begin anew")
        more, state = self.learner.resume(path), json.loads(about["state"])
        state["validation"] = {int(step): loss for step, loss in state["validation"].items()}
        self.trained = Trained(self.trained.folder, losses=more.pop("losses").tolist(), **state)
        self.best = {name.removeprefix("best/"): tensor for name, tensor in more.items()}

    def publish(self) -> Trained:
        """The adapter in PEFT form, what it was made for and how; then the checkpoint goes."""
        folder, log = self.trained.folder, {k: v for k, v in vars(self.trained).items() if k != "folder"}
        for name, tensor in self.best.items():
            self.learner.learnt[name].data.copy_(tensor)
        try:
            save_adapter(self.model, folder, self.made_of["base"])
            data.write_whole(folder / LOG, json.dumps({"made_of": self.made_of, **log}) + "\n")
            (folder / CHECKPOINT).unlink(missing_ok=True)
        except OSError as error:
            raise CourseError(f"the adapter cannot be written to {folder}: {error}",
                              "make room, and start again: its last checkpoint is there") from error  # fmt: skip
        return self.trained


def adapted(engine: HuggingFace, how: Recipe) -> Any:
    """The engine's model with peft's layers in it, ready to be trained. Raises CourseError for an unknown target module."""
    from peft import LoraConfig, get_peft_model

    targets = how.targets if how.targets == "all-linear" else list(how.targets)
    said: dict[str, Any] = {"r": how.rank, "lora_alpha": how.alpha, "lora_dropout": how.dropout, "target_modules": targets}
    config = LoraConfig(**said, task_type="CAUSAL_LM")
    if isinstance(targets, list):
        there = {name.rpartition(".")[2] for name, m in engine.model.named_modules() if isinstance(m, torch.nn.Linear)}
        if unknown := [t for t in targets if t not in there]:
            mend = f"choose among {', '.join(sorted(there))}"
            raise CourseError(f"no linear layer of {engine.name} is called {unknown[0]!r}", mend)
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(how.seed)
        model: Any = get_peft_model(engine.model, config, autocast_adapter_dtype=False)
    if how.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    model.get_output_embeddings().register_forward_pre_hook(_only_learnt)
    return model.train()


def loss_of(model: Any, ids: torch.Tensor, learn: torch.Tensor) -> torch.Tensor:
    """The summed cross-entropy of the tokens to learn, each given all before it. ids, learn: (rows, length).

    The output layer computes those alone: of a batch of questions with short answers that is a tenth of the work there.
    """
    head, chosen = model.get_output_embeddings(), learn[:, 1:]
    head.chosen = chosen
    try:
        logits = model(input_ids=ids, use_cache=False).logits
    finally:
        del head.chosen
    return torch.nn.functional.cross_entropy(logits.view(-1, logits.shape[-1]).float(), ids[:, 1:][chosen], reduction="sum")


def _only_learnt(head: Any, given: tuple[torch.Tensor]) -> tuple[torch.Tensor] | None:
    chosen = getattr(head, "chosen", None)
    return None if chosen is None else (given[0][:, :-1][chosen][None],)


@contextmanager
def _seeded(how: Recipe, step: int) -> Iterator[None]:
    """Dropout of a step depends on the seed and the step alone, so that a run that goes on draws what it would have drawn."""
    if not how.dropout:
        yield
        return
    with torch.random.fork_rng():
        torch.manual_seed(how.seed * 1_000_003 + step)
        yield


def save_adapter(model: Any, folder: Path, base: dict[str, Any]) -> None:
    """Configuration, weights and base of an adapter, the weights last: what is interrupted is no adapter yet."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    config = model.peft_config["default"].to_dict() | {"base_model_name_or_path": base["model"], "inference_mode": True}
    said = {k: sorted(v) if isinstance(v, set) else getattr(v, "value", v) for k, v in config.items()}
    data.write_whole(folder / CONFIG, json.dumps(said, indent=1, sort_keys=True) + "\n")
    data.write_whole(folder / "base.json", json.dumps(base, indent=1) + "\n")
    weights = get_peft_model_state_dict(model, save_embedding_layers=False)
    with data.whole(folder / WEIGHTS) as partial:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}, partial, {"format": "pt"})


def _finished(folder: Path, made_of: dict[str, Any]) -> Trained | None:
    """What the same call made before. Raises CourseError for an adapter that was made otherwise."""
    if not (folder / LOG).is_file():
        return None
    said = json.loads((folder / LOG).read_text("utf-8"))
    if (before := said.pop("made_of")) != made_of:
        raise CourseError(f"{folder} holds an adapter made with {_differences({'made_of': json.dumps(before)}, made_of)}",
                          "name a new folder")  # fmt: skip
    said["validation"] = {int(step): loss for step, loss in said["validation"].items()}
    return Trained(folder, **said)


def _differences(about: dict[str, str], made_of: dict[str, Any]) -> str:
    """What differs between a run on disk and the one that was asked for."""
    before = json.loads(about.get("made_of", "{}"))
    flat: Callable[[dict[str, Any]], dict[str, Any]] = lambda d: {**d, **d.get("recipe", {}), "recipe": None}  # noqa: E731
    odd = {k: flat(before).get(k) for k, v in flat(made_of).items() if flat(before).get(k) != v}
    return ", ".join(f"{k}={v!r:.60}, not {flat(made_of)[k]!r:.60}" for k, v in odd.items()) or "another version of the course"
