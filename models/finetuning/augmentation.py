"""Train the two LoRA adapters of chapter 09: `python -m finetuning.augmentation` writes them into models/.

An adapter is a small file of trained weights that is added to a base model's own; its rank sets its size.
haneul-writer writes a question and its answer about a passage. It is trained on the handbooks of other banks.
haneul-augmented answers without a passage. It is trained on what the writer wrote about Haneul Bank's
handbook, and compared with an adapter trained on as many pairs that people wrote. An interrupted training is
resumed. `python -m finetuning.augmentation writer` (or pairs, augmented, publish) runs one part.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
from pathlib import Path
from typing import Literal

from pretraining.publish import write_manifest

from course_lib import data
from course_lib.atomic import atomic_folder, atomic_write_text
from course_lib.exam.augment import Pair, near_duplicates, round_trip, write_pairs, writer_prompt, written
from course_lib.measure import bootstrap_interval, machine
from course_lib.models import load
from course_lib.rag.adapter_datasets import (
    closed_book_questions,
    knowledge_examples,
    open_prompt,
    questions_about_passages,
)
from course_lib.rag.answering import MAX_ANSWER_TOKENS, exact_match
from course_lib.rag.prompt import question_prompt
from course_lib.tuning import Example, LoRATrainingConfig, TrainingResult, train
from finetuning.run import RUNS

BASE = "haneul-4m"  # the base model: 4 million weights, trained by the package pretraining
PAIRS_PER_PASSAGE = 4  # the likeliest one, and three drawn at random
# A line with the counts, then one for each pair.
PAIRS = RUNS / "haneul-pairs.jsonl"
WRITER = LoRATrainingConfig(steps=250, batch_size=16, learning_rate=2e-3)
AUGMENTED = LoRATrainingConfig(steps=250, batch_size=32, learning_rate=2e-3)
CARD = """---
license: mit
language: en
library_name: peft
base_model: haneul-4m
---
# {name}

{what} A LoRA adapter of rank {rank} on [haneul-4m](../haneul-4m/README.md), made by
`python -m finetuning.augmentation`: {steps} steps of {batch} examples, {seconds:.0f} seconds on {processor}.

{measured}
"""


def writer_examples(split: Literal["train", "validation"] = "train") -> list[Example]:
    """Return examples: a passage of another bank's handbook, and a question with its answer."""
    return [
        Example(writer_prompt(source), written(question, answer))
        for source, question, answer in questions_about_passages(split)
    ]


def train_writer() -> TrainingResult:
    return train(
        BASE,
        writer_examples(),
        RUNS / "haneul-writer",
        validation=writer_examples("validation"),
        config=WRITER,
    )


def write() -> dict[str, int]:
    """Write pairs about the handbook, and return the counts.

    Dropped are pairs to whose question the base model finds another answer in the passage (`round_trip`), and
    those that repeat a question of the exam.
    """
    passages, writer = data.load_passages(), load(BASE, adapters=[train_writer().folder])
    raw = write_pairs(writer, list(passages.values()), PAIRS_PER_PASSAGE)
    sound, _ = round_trip(load(BASE), raw, passages)
    exam = [q.question for split in ("test", "validation") for q in data.load_questions(split)]
    repeated = near_duplicates([p.question for p in sound], exam)
    kept = [pair for index, pair in enumerate(sound) if index not in repeated]
    counts = {"written": len(raw), "sound": len(sound), "near-duplicates": len(repeated), "kept": len(kept)}
    rows = [counts, *(pair._asdict() for pair in kept)]
    atomic_write_text(PAIRS, "".join(json.dumps(row) + "\n" for row in rows))
    return counts


def pairs() -> tuple[dict[str, int], list[Pair]]:
    """Return the counts and the pairs that `write` wrote."""
    counts, *rows = map(json.loads, PAIRS.read_text("utf-8").splitlines())
    return counts, [Pair(**row) for row in rows]


def train_both() -> dict[str, TrainingResult]:
    """Train one adapter on the writer's pairs, and one on as many pairs that people wrote."""
    by_model = [Example(question_prompt(p.question), p.answer) for p in pairs()[1]]
    by_people = random.Random(0).sample(knowledge_examples(), len(by_model))
    return {
        name: train(BASE, examples, RUNS / name, config=AUGMENTED)
        for name, examples in (("haneul-augmented", by_model), ("haneul-by-hand", by_people))
    }


def measure(adapter: Path | None, quantization: str | None = None) -> list[float]:
    """Return the share of right answers without a passage, its interval, and the number of questions.

    The questions are those of the test split that ask for one value.
    """
    options = {"quantization": quantization} if quantization else {}
    model = load(BASE, adapters=[adapter] if adapter else [], **options)
    test = closed_book_questions(data.load_questions("test"))
    texts = model.generate([open_prompt(q) for q in test], max_output_length=MAX_ANSWER_TOKENS)
    right = [float(exact_match(str(text), q.answer)) for text, q in zip(texts, test, strict=True)]
    return [round(x, 4) for x in (sum(right) / len(right), *bootstrap_interval(right))] + [len(right)]


def publish() -> None:
    """Copy both adapters into models/, with their evaluation and model cards.

    An older folder stays until the new one is complete.
    """
    counts, kept = pairs()
    trained = train_both()
    rows = {"no adapter": measure(None), **{name: measure(r.folder) for name, r in trained.items()}}
    rows["haneul-augmented in 4 bits"] = measure(trained["haneul-augmented"].folder, "nf4")
    evaluation = {"pairs": counts, "right, no passage given": rows}
    table = "\n".join(
        f"| {name} | {m:.1%} ({low:.1%} to {high:.1%}) |" for name, (m, low, high, _) in rows.items()
    )
    texts = {
        "haneul-writer": (
            train_writer(),
            WRITER,
            "It writes a question about a passage and, in a second line, the answer.",
            f"About Haneul's handbook it wrote {counts['written']:,} pairs; {counts['sound']:,} hold.",
        ),
        "haneul-augmented": (
            trained["haneul-augmented"],
            AUGMENTED,
            f"It learned {counts['kept']:,} questions that haneul-writer wrote about Haneul's handbook.",
            f"Right on {len(kept) and rows['no adapter'][3]} test questions without a passage:\n\n"
            f"| adapter | right |\n|---|---|\n{table}",
        ),
    }
    for name, (result, config, what, measured) in texts.items():
        card = CARD.format(
            name=name,
            what=what,
            rank=config.rank,
            steps=config.steps,
            batch=config.batch_size,
            seconds=result.seconds,
            processor=machine()["processor"],
            measured=measured,
        )
        with atomic_folder(data.MODELS / name, replace=True) as folder:
            shutil.copytree(result.folder, folder, dirs_exist_ok=True)
            (folder / "README.md").write_text(card, "utf-8")
            (folder / "evaluation.json").write_text(json.dumps(evaluation, indent=1) + "\n", "utf-8")
            if name == "haneul-augmented":
                shutil.copy(PAIRS, folder / "pairs.jsonl")
            write_manifest(folder)


PARTS = {"writer": train_writer, "pairs": write, "augmented": train_both, "publish": publish}


if __name__ == "__main__":
    for part in sys.argv[1:] or PARTS:
        print(part, PARTS[part]())
