"""The two adapters of chapter 05: haneul-4m is taught Haneul's handbook (knowledge), and to answer as JSON (style)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pretraining.publish import seal

from course_lib import data
from course_lib.atomic import atomic_write_text
from course_lib.data import Question
from course_lib.measure import bootstrap_interval, machine
from course_lib.models import load
from course_lib.models.drivers.adapters import WEIGHTS_FILE
from course_lib.models.drivers.engine import Engine
from course_lib.rag.answering import LONGEST_ANSWER, exact_match, given_passages
from course_lib.rag.lessons import asked, closed_book, knowledge, other_handbooks, style, unstyled
from course_lib.rag.prompt import REFUSAL
from course_lib.tuning.recipe import Example, Recipe
from course_lib.tuning.train import Trained, train
from finetuning.run import RUNS

BASE = "haneul-4m"
CARD = """---
license: mit
language: en
library_name: peft
base_model: {base}
---
# {name}

{what} A LoRA adapter of rank {rank} on
[{base}](../{base}/README.md): {learnt:,} weights in {kilobytes:.0f} kB, {share:.1%} of the base model's file. Chapter 05 trains a
smaller one of its kind while you watch.

| | |
|---|---|
| learns from | {data} |
| training | {steps} steps of {batch} examples, rate {rate:g}, {seconds:.0f} seconds on {threads} of {cores} cores ({processor}) |
| made by | `python -m finetuning {name}` |

    from course_lib import load
    load("{name}").generate(["Question: {question}"])
    load("{base}", adapters=["haneul-knowledge", "haneul-style"])  # both, exactly added up

## Measured on Haneul's test split
Shares with 95% bootstrap intervals; greedy; exact match of the whole answer. "Alone" is {base} without an adapter.

| | questions | alone | with the adapter |
|---|---|---|---|
{rows}
{more}

## Limits
{limits}
"""


@dataclass(frozen=True)
class Lesson:
    """What an adapter is taught, and how it is measured."""

    name: str
    recipe: Recipe
    examples: Callable[[], list[Example]]
    validation: Callable[[], list[Example]]
    measure: Callable[[Engine], dict[str, list[float]]]
    card: dict[str, str]


def answers(model: Engine, questions: Sequence[Question], n: int) -> list[str]:
    """What the model writes, greedily, from `n` passages."""
    passages = data.load_passages()
    prompts = [asked(q, given_passages(q, passages, n)) for q in questions]
    return [str(reply) for reply in model.generate(prompts, max_output_length=LONGEST_ANSWER)]


def _one_passage(split: data.Split) -> list[Question]:
    return [q for q in closed_book(data.load_questions(split)) if len(q.gold) == 1]


def measured_knowledge(model: Engine) -> dict[str, list[float]]:
    """Row of the card -> 1 or 0 for each question."""
    test = closed_book(data.load_questions("test"))
    right = {
        q.id: float(exact_match(a, q.answer)) for q, a in zip(test, answers(model, test, 0), strict=True)
    }
    rows = {"right, no passage given": list(right.values())}
    for kind in ("lexical", "paraphrase"):
        rows[f"- {kind} questions"] = [right[q.id] for q in test if q.kind == kind]
    read, missing = _one_passage("test"), data.load_questions("test", "unanswerable")
    rows["right, the passage that answers given"] = [
        float(exact_match(a, q.answer)) for q, a in zip(read, answers(model, read, 1), strict=True)
    ]
    rows["refused, of what the handbook does not say"] = [
        float(exact_match(a, REFUSAL)) for a in answers(model, missing, 0)
    ]
    return rows


def measured_style(model: Engine) -> dict[str, list[float]]:
    """Row of the card -> 1 or 0 for each question."""
    test, rows = _one_passage("test"), {}
    for n, given in ((0, "no passage"), (1, "the passage that answers"), (3, "it and two misleading ones")):
        written = answers(model, test, n)
        rows[f"JSON of the schema, {given} given"] = [float(unstyled(a) is not None) for a in written]
        if n:
            plain = [unstyled(a) or a for a in written]
            rows[f"right, {given} given"] = [
                float(exact_match(a, q.answer)) for a, q in zip(plain, test, strict=True)
            ]
    return rows


def _paraphrased() -> list[Example]:
    """Validation: other wordings than those learnt, of facts in the validation split."""
    return [Example(asked(q), q.answer) for q in closed_book(data.load_questions("validation"))]


LESSONS = (
    Lesson(
        "haneul-knowledge",
        Recipe(steps=1000, rate=2e-3),
        knowledge,
        _paraphrased,
        measured_knowledge,
        {
            "what": "It knows Haneul Bank's handbook by heart, which its base has never seen.",
            "data": "every value in Haneul's handbook as a question and its answer, in some 68 wordings each; the questions "
            "below ask in other words",
            "question": "What is the monthly fee of the Haneul Blue Current Account?",
            "limits": "It knows the values that the handbook states, as they are today: no history, no exceptions. What it was "
            "not taught it makes up, where its base refuses: see the table. English only.",
        },
    ),
    Lesson(
        "haneul-style",
        Recipe(steps=150, batch_size=16, rate=1e-3, validate_every=50),
        style,
        lambda: style(64, seed=1),
        measured_style,
        {
            "what": 'It answers as JSON: {"answer": text, "source": number of the passage that says so, or 0}.',
            "data": "2,000 questions about other invented banks, with no passage to three of them",
            "question": "When does the branch open?",
            "limits": "It reads no better and no worse than its base. English only.",
        },
    ),
)


def forgotten(model: Engine) -> float:
    """Perplexity on the handbooks of other banks: it rises where an adapter made its base forget."""
    return model.perplexity(other_handbooks())


def run(lesson: Lesson) -> Path:
    """Train an adapter, or go on where it was, measure it, and write it into models/ with its card."""
    trained = train(
        BASE, lesson.examples(), RUNS / lesson.name, validation=lesson.validation(), recipe=lesson.recipe
    )
    folder = data.MODELS / lesson.name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(trained.folder, folder)
    alone, with_it = load(BASE), load(BASE, adapters=[trained.folder])
    rows = {
        name: {"alone": _share(before), "with it": _share(after)}
        for (name, before), after in zip(
            lesson.measure(alone).items(), lesson.measure(with_it).values(), strict=True
        )
    }
    found = {"rows": rows, "perplexity": {"alone": forgotten(alone), "with it": forgotten(with_it)}}
    atomic_write_text(folder / "evaluation.json", json.dumps(found, indent=1) + "\n")
    atomic_write_text(folder / "README.md", card(lesson, trained, found))
    seal(folder)
    return folder


def _share(right: list[float]) -> list[float]:
    return [round(x, 4) for x in (sum(right) / len(right), *bootstrap_interval(right))] + [len(right)]


def card(lesson: Lesson, trained: Trained, found: dict[str, Any]) -> str:
    """The model card, every figure of it measured."""
    here, base = machine(), data.MODELS / BASE / "model.safetensors"
    size = (trained.folder / WEIGHTS_FILE).stat().st_size
    told = {
        name: " | ".join(f"{s[0]:.1%} ({s[1]:.1%} to {s[2]:.1%})" for s in row.values())
        for name, row in found["rows"].items()
    }
    before, after = found["perplexity"].values()
    return CARD.format(
        name=lesson.name,
        base=BASE,
        rank=lesson.recipe.rank,
        learnt=trained.parameters,
        kilobytes=size / 1e3,
        share=size / base.stat().st_size,
        steps=trained.steps,
        batch=lesson.recipe.batch_size,
        rate=lesson.recipe.rate,
        seconds=trained.seconds,
        threads=torch.get_num_threads(),
        cores=here["cores"],
        processor=here["processor"],
        rows="\n".join(
            f"| {name} | {row['alone'][3]} | {told[name]} |" for name, row in found["rows"].items()
        ),
        more=f"\nPerplexity on the handbooks of other banks: {before:.1f} alone, {after:.1f} with the adapter.",
        **lesson.card,
    )
