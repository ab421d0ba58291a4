"""One training run of a LoRA adapter on MiniLM: what it reads, how it steps, how it stops and goes on."""

from __future__ import annotations

import json
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from peft import LoraConfig, get_peft_model
from tqdm import tqdm
from transformers import AutoTokenizer

from course_lib import data
from course_lib.atomic import atomic_write_text
from course_lib.errors import CourseError
from course_lib.measure import machine
from course_lib.models import catalog
from course_lib.models.drivers.quiet import quiet
from course_lib.models.manager import ModelManager
from course_lib.retrieval.chunk import token_spans
from course_lib.tuning.learner import Learner, told
from course_lib.tuning.train import CHECKPOINT
from finetuning.pairs import Pairs, of_banks, of_public

BASE = catalog.MINILM
RUNS = data.ROOT / "runs"
LONGEST = 256  # tokens that are read; MiniLM was trained on as many
LAYERS = ["query", "key", "value", "dense"]
# 16 bits, eager attention and no dropout: on a CPU with AVX512-BF16 that learns four times as fast.
HOW = {
    "dtype": torch.bfloat16,
    "attn_implementation": "eager",
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}


@dataclass(frozen=True)
class Recipe:
    """mixture: source -> questions of it in a step, each with so many `misleading` passages out of its `hardest`.

    banks: handbooks behind the source of that name; the others are public collections. rank: of the adapter; rate: of
    learning, which rises in `warm_up` steps and falls to 0 in all.
    """

    steps: int
    rate: float
    mixture: Mapping[str, int] = field(default_factory=lambda: {"banks": 16})
    banks: int = 60
    misleading: int = 3
    hardest: int = 12
    rank: int = 16
    warm_up: int = 40


def pairs(source: str, recipe: Recipe, folder: Path = RUNS / "pairs") -> list[Pairs]:
    """The pairs of a source: mined once, then kept in a file. Raises FileNotFoundError where a public collection is not there."""
    path = folder / f"{source}.jsonl"
    if not path.exists():
        embeddings = ModelManager.shared().get_embedding_model("embed")
        spans, room = (
            token_spans(AutoTokenizer.from_pretrained(catalog.folder_of(BASE))),
            LONGEST - 2,
        )  # without marks
        mined = (
            of_banks(recipe.banks, embeddings, spans, room)
            if source == "banks"
            else of_public(source, embeddings, spans, room)
        )
        bar = tqdm(mined, desc=f"mining {source}", unit=" questions")
        atomic_write_text(path, "".join(json.dumps(asdict(p), ensure_ascii=False) + "\n" for p in bar))
    with path.open(encoding="utf-8") as lines:
        rows = map(json.loads, lines)
        return [Pairs(row["question"], tuple(row["answering"]), tuple(row["misleading"])) for row in rows]


def drawn(known: Mapping[str, Sequence[Pairs]], recipe: Recipe, step: int) -> tuple[list[str], list[str]]:
    """Questions of a step, and 1 + misleading passages for each, in a row; the first of them answers it."""
    rng = random.Random(f"step/{step}")
    asked, passages = [], []
    for source, count in recipe.mixture.items():
        for one in rng.sample(known[source], count):
            hard = one.misleading[: recipe.hardest]
            wrong = rng.sample(hard, min(recipe.misleading, len(hard)))
            wrong += [
                rng.choice(rng.choice(known[source]).answering) for _ in range(recipe.misleading - len(wrong))
            ]
            passages += [rng.choice(one.answering), *wrong]
            asked.append(one.question)
    return asked, passages


class Run(ABC):
    """The adapted model, its optimiser, the step it is at. What a step reads depends on its number alone.

    Subclasses say which adapter they train (`name`, `recipe`), how the model is built, and what it scores.
    """

    name: ClassVar[str]
    standard: ClassVar[Recipe]

    def __init__(self, recipe: Recipe | None = None, folder: Path | None = None) -> None:
        self.recipe, self.folder, self.seconds = recipe or self.standard, folder or RUNS / self.name, 0.0
        base = catalog.folder_of(BASE)
        self.tokenizer = AutoTokenizer.from_pretrained(base)
        torch.manual_seed(0)
        with quiet():  # it would tell of a head that is new or of a layer that is not needed
            whole, task = self.built(base)
        config = LoraConfig(
            r=self.recipe.rank, lora_alpha=2 * self.recipe.rank, target_modules=LAYERS, **task
        )
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model: Any = get_peft_model(whole, config, autocast_adapter_dtype=False).to(self.device)
        self.learner = Learner(
            self.model,
            steps=self.recipe.steps,
            rate=self.recipe.rate,
            warm_up=self.recipe.warm_up,
            weight_decay=0.01,
        )
        self._resume()

    @property
    def step(self) -> int:
        """Steps that were made."""
        return self.learner.step

    @staticmethod
    @abstractmethod
    def built(base: Path) -> tuple[Any, dict[str, Any]]:
        """The model from the files of its base, and what LoraConfig has to know of it."""

    @abstractmethod
    def scores(self, asked: list[str], passages: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores (questions, passages to choose among), and for each question the place of its answer among them."""

    def like_lengths(self, *texts: list[str]) -> Any:
        """Places and tokens of texts, or of pairs, in batches of 16 with little padding."""
        order = sorted(range(len(texts[-1])), key=lambda i: len(texts[-1][i]))
        for at in range(0, len(order), 16):
            chosen = order[at : at + 16]
            batch = self.tokenizer(
                *([of[i] for i in chosen] for of in texts),
                truncation="only_second" if len(texts) > 1 else "only_first",
                max_length=LONGEST,
                padding=True,
                return_tensors="pt",
                return_special_tokens_mask=True,
            )
            yield chosen, batch.pop("special_tokens_mask").bool(), batch.to(self.device)

    def train_step(self, known: Mapping[str, Sequence[Pairs]]) -> float:
        """One step; returns its loss, the cross-entropy of choosing what answers."""
        loss = torch.nn.functional.cross_entropy(*self.scores(*drawn(known, self.recipe, self.step)))
        loss.backward()
        self.learner.update()
        return float(loss.detach())

    def exactly(self) -> Any:
        """The model in 32 bits, with what was learnt as exactly as it was kept."""
        self.model = self.model.float()
        self.learner.use_exact()
        return self.model

    def train(self, known: Mapping[str, Sequence[Pairs]], save_every: float = 60.0) -> None:
        """Go on to the last step. A checkpoint is written every minute and at the end."""
        begun, saved, before, recent = time.monotonic(), time.monotonic(), self.seconds, []
        about = {
            "pairs": sum(map(len, known.values())),
            "threads": torch.get_num_threads(),
            "processor": machine()["processor"],
        }
        with tqdm(total=self.recipe.steps, initial=self.step, desc=self.name) as bar:
            while self.step < self.recipe.steps:
                recent.append(self.train_step(known))
                bar.update()
                self.seconds = before + time.monotonic() - begun
                if self.step % 20 == 0:
                    row = {
                        "step": self.step,
                        "seconds": round(self.seconds),
                        "loss": round(sum(recent) / len(recent), 5),
                        **about,
                    }
                    with (self.folder / "log.jsonl").open("a", encoding="utf-8") as log:
                        log.write(json.dumps(row) + "\n")
                    bar.set_postfix(loss=row["loss"])
                    recent = []
                if time.monotonic() - saved > save_every or self.step == self.recipe.steps:
                    self.save()
                    saved = time.monotonic()

    def save(self) -> None:
        """What was learnt and the optimiser's state in one file."""
        about = {"seconds": str(self.seconds), "recipe": json.dumps(asdict(self.recipe))}
        self.learner.save(self.folder / CHECKPOINT, about)

    def _resume(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / CHECKPOINT
        if not path.exists():
            (self.folder / "log.jsonl").unlink(missing_ok=True)
            return
        about = told(path)
        if Recipe(**json.loads(about["recipe"])) != self.recipe:
            raise CourseError(
                f"{path} was begun with {about['recipe']}", f"remove {self.folder} to begin anew"
            )
        self.learner.resume(path)
        self.seconds = float(about["seconds"])
