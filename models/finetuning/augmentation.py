"""Train what chapter 09 shows of augmentation: `python -m finetuning.augmentation` writes two adapters.

haneul-writer writes a question and its answer about a passage; it learns from the handbooks of other banks.
haneul-augmented answers from memory; it learns from what the writer wrote about Haneul's handbook. An
interrupted training is resumed.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Literal

from pretraining.publish import seal

from course_lib import data
from course_lib.atomic import atomic_write_text
from course_lib.exam.augment import Pair, near_duplicates, round_trip, write_pairs, writer_prompt, written
from course_lib.models import load
from course_lib.rag.adapter_datasets import questions_about_passages
from course_lib.rag.prompt import question_prompt
from course_lib.tuning import Example, LoRATrainingConfig, TrainingResult, train
from finetuning.run import RUNS

BASE = "haneul-4m"
EACH = 16  # pairs that are written about each passage
WRITER = LoRATrainingConfig(steps=300, batch_size=32, learning_rate=2e-3)
AUGMENTED = LoRATrainingConfig(steps=500, batch_size=64, learning_rate=2e-3)


def writer_examples(split: Literal["train", "validation"] = "train") -> list[Example]:
    """Passages of other banks' handbooks, with a question that they answer and its answer."""
    return [
        Example(writer_prompt(source), written(question, answer))
        for source, question, answer in questions_about_passages(split)
    ]


def augmented_pairs(writer: Any, reader: Any) -> tuple[list[Pair], dict[str, int]]:
    """Return the pairs that are written, sound and not in the exam, and the counts of each step."""
    passages = data.load_passages()
    raw = write_pairs(writer, list(passages.values()), EACH)
    sound, _ = round_trip(reader, raw, passages)
    exam = [q.question for q in data.load_questions("test")]
    repeated = near_duplicates([p.question for p in sound], exam)
    kept = [pair for index, pair in enumerate(sound) if index not in repeated]
    return kept, {
        "written": len(raw),
        "sound": len(sound),
        "near-duplicates": len(repeated),
        "kept": len(kept),
    }


def closed_book(pairs: list[Pair]) -> list[Example]:
    return [Example(question_prompt(pair.question), pair.answer) for pair in pairs]


def publish(name: str, result: TrainingResult, card: str) -> Path:
    """Copy a trained adapter into models/ with its card."""
    folder = data.MODELS / name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(result.folder, folder)
    atomic_write_text(folder / "README.md", card)
    return folder


def main() -> None:
    result = train(
        BASE,
        writer_examples(),
        RUNS / "haneul-writer",
        validation=writer_examples("validation"),
        config=WRITER,
    )
    print(result)
    writer, reader = load(BASE, adapters=[result.folder]), load(BASE)
    pairs, counts = augmented_pairs(writer, reader)
    print(counts)
    atomic_write_text(RUNS / "pairs.jsonl", "".join(json.dumps(p._asdict()) + "\n" for p in pairs))


if __name__ == "__main__":
    main()
