"""A training run of a reranker (a LoRA adapter of all-MiniLM-L6-v2): settings, batches, steps, checkpoints.

`rerankers` has the two subclasses. An adapter is a small file of trained weights, which are added to those of
a base model; a reranker sorts the passages that a search found.
"""

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
from course_lib.models.manager import ModelManager
from course_lib.quiet import quiet
from course_lib.retrieval.chunk import token_spans
from course_lib.tuning.optimiser import MixedPrecisionAdamW, checkpoint_metadata
from course_lib.tuning.run_folder import CHECKPOINT, with_new_names
from finetuning.pairs import Pairs, pairs_of_banks, pairs_of_public_set

BASE = catalog.MINILM  # all-MiniLM-L6-v2, a small public model that reads English texts
RUNS = data.ROOT / "runs"
MAX_TOKENS = 256  # of a text, as in the training of MiniLM
TARGET_MODULES = ["query", "key", "value", "dense"]  # names of the matrices to which LoRA adds
# With 16 bits, plain ("eager") attention and no dropout (random zeros), training is four times as fast on a
# CPU that has operations for 16-bit numbers (AVX512-BF16).
MODEL_OPTIONS = {
    "dtype": torch.bfloat16,
    "attn_implementation": "eager",
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}


@dataclass(frozen=True)
class RerankerConfig:
    """Settings of a run.

    mixture: source -> number of its questions in a step. The source "banks" are generated handbooks, `banks`
    of them; other sources are public collections. misleading: the number of wrong passages per question,
    drawn from the `hardest` ones. rank: of the LoRA adapter. learning_rate: the peak, reached after
    `warmup_steps`; it falls to 0 at the last step.
    """

    steps: int
    learning_rate: float
    mixture: Mapping[str, int] = field(default_factory=lambda: {"banks": 16})
    banks: int = 60
    misleading: int = 3
    hardest: int = 12
    rank: int = 16
    warmup_steps: int = 40


def pairs(source: str, config: RerankerConfig, folder: Path = RUNS / "pairs") -> list[Pairs]:
    """Return the pairs of a source, each a question with right and wrong passages.

    They are searched for (mined) once, and then read from a file.
    Raises FileNotFoundError if a public collection is not on this machine.
    """
    path = folder / f"{source}.jsonl"
    if not path.exists():
        embeddings = ModelManager.shared().get_embedding_model("embed")
        spans = token_spans(AutoTokenizer.from_pretrained(catalog.verify_shipped(BASE)))
        max_tokens = MAX_TOKENS - 2  # without the special tokens that mark the ends of a text
        if source == "banks":
            mined = pairs_of_banks(config.banks, embeddings, spans, max_tokens)
        else:
            mined = pairs_of_public_set(source, embeddings, spans, max_tokens)
        bar = tqdm(mined, desc=f"mining {source}", unit=" questions")
        atomic_write_text(path, "".join(json.dumps(asdict(p), ensure_ascii=False) + "\n" for p in bar))
    with path.open(encoding="utf-8") as lines:
        rows = map(json.loads, lines)
        return [Pairs(row["question"], tuple(row["answering"]), tuple(row["misleading"])) for row in rows]


def draw_step(
    dataset: Mapping[str, Sequence[Pairs]], config: RerankerConfig, step: int
) -> tuple[list[str], list[str]]:
    """Return a step's questions, and 1 + `misleading` passages for each; the first one is the answer."""
    rng = random.Random(f"step/{step}")
    questions, passages = [], []
    for source, count in config.mixture.items():
        for pair in rng.sample(dataset[source], count):
            hardest = pair.misleading[: config.hardest]
            wrong = rng.sample(hardest, min(config.misleading, len(hardest)))
            wrong += [
                rng.choice(rng.choice(dataset[source]).answering)
                for _ in range(config.misleading - len(wrong))
            ]
            passages += [rng.choice(pair.answering), *wrong]
            questions.append(pair.question)
    return questions, passages


class RerankerRun(ABC):
    """A training run. The data of a step depend only on its number, so that a run can be resumed exactly.

    Subclasses set `name` and the `standard` settings, build the model, and score passages.
    """

    name: ClassVar[str]
    standard: ClassVar[RerankerConfig]

    def __init__(self, config: RerankerConfig | None = None, folder: Path | None = None) -> None:
        self.config, self.folder, self.seconds = config or self.standard, folder or RUNS / self.name, 0.0
        base_folder = catalog.verify_shipped(BASE)
        self.tokenizer = AutoTokenizer.from_pretrained(base_folder)
        torch.manual_seed(0)
        with quiet():  # transformers would report a new last layer and unused ones
            base, task = self.build(base_folder)
        rank = self.config.rank
        lora_config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=TARGET_MODULES, **task)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model: Any = get_peft_model(base, lora_config, autocast_adapter_dtype=False).to(self.device)
        self.optimiser = MixedPrecisionAdamW(
            self.model,
            total_steps=self.config.steps,
            learning_rate=self.config.learning_rate,
            warmup_steps=self.config.warmup_steps,
            weight_decay=0.01,
        )
        self._resume()

    @property
    def step(self) -> int:
        """The number of completed steps."""
        return self.optimiser.steps_done

    @staticmethod
    @abstractmethod
    def build(base_folder: Path) -> tuple[Any, dict[str, Any]]:
        """Return the model, from the base model's files, and further settings for LoraConfig."""

    @abstractmethod
    def scores(self, questions: list[str], passages: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return scores (questions, candidates), and the index of each question's answer."""

    def length_batches(self, *texts: list[str]) -> Any:
        """Yield batches of 16 texts, or pairs of texts, of similar length.

        Each is (indices, mask of special tokens, tokenized texts).
        """
        order = sorted(range(len(texts[-1])), key=lambda i: len(texts[-1][i]))
        for start in range(0, len(order), 16):
            indices = order[start : start + 16]
            batch = self.tokenizer(
                *([column[i] for i in indices] for column in texts),
                truncation="only_second" if len(texts) > 1 else "only_first",
                max_length=MAX_TOKENS,
                padding=True,
                return_tensors="pt",
                return_special_tokens_mask=True,
            )
            yield indices, batch.pop("special_tokens_mask").bool(), batch.to(self.device)

    def train_step(self, dataset: Mapping[str, Sequence[Pairs]]) -> float:
        """Do one step; return the loss: the mean of -log(probability of the right passage)."""
        loss = torch.nn.functional.cross_entropy(*self.scores(*draw_step(dataset, self.config, self.step)))
        loss.backward()
        self.optimiser.step()
        return float(loss.detach())

    def in_float32(self) -> Any:
        """Return the model in 32 bits, with the exact weights that the optimiser keeps."""
        self.model = self.model.float()
        self.optimiser.copy_to_model()
        return self.model

    def train(self, dataset: Mapping[str, Sequence[Pairs]], save_seconds: float = 60.0) -> None:
        """Train until the last step. Writes a checkpoint every `save_seconds` and at the end."""
        begun, saved, before, losses = time.monotonic(), time.monotonic(), self.seconds, []
        about = {
            "pairs": sum(map(len, dataset.values())),
            "threads": torch.get_num_threads(),
            "processor": machine()["processor"],
        }
        with tqdm(total=self.config.steps, initial=self.step, desc=self.name) as bar:
            while self.step < self.config.steps:
                losses.append(self.train_step(dataset))
                bar.update()
                self.seconds = before + time.monotonic() - begun
                if self.step % 20 == 0:
                    loss = round(sum(losses) / len(losses), 5)
                    row = {"step": self.step, "seconds": round(self.seconds), "loss": loss, **about}
                    with (self.folder / "log.jsonl").open("a", encoding="utf-8") as log:
                        log.write(json.dumps(row) + "\n")
                    bar.set_postfix(loss=loss)
                    losses = []
                if time.monotonic() - saved > save_seconds or self.step == self.config.steps:
                    self.save()
                    saved = time.monotonic()

    def save(self) -> None:
        """Write weights and optimiser state into one file."""
        metadata = {"seconds": str(self.seconds), "config": json.dumps(asdict(self.config))}
        self.optimiser.save(self.folder / CHECKPOINT, metadata)

    def _resume(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / CHECKPOINT
        if not path.exists():
            (self.folder / "log.jsonl").unlink(missing_ok=True)
            return
        metadata = with_new_names(checkpoint_metadata(path))
        if RerankerConfig(**with_new_names(json.loads(metadata["config"]))) != self.config:
            raise CourseError(f"{path} was started with {metadata['config']}", f"rm -r {self.folder}")
        self.optimiser.resume(path)
        self.seconds = float(metadata["seconds"])
