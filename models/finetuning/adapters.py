"""Train and evaluate the two LoRA adapters of chapter 05, haneul-knowledge and haneul-style.

An adapter is a small file of trained weights that is added to a base model's own. haneul-knowledge learns the
handbook of Haneul Bank, the course's fictional bank, by heart (closed book: no passage is given);
haneul-style learns to answer in JSON.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pretraining.publish import write_manifest

from course_lib import data
from course_lib.atomic import atomic_folder
from course_lib.data import Question
from course_lib.measure import bootstrap_interval, machine
from course_lib.models import load
from course_lib.models.drivers.adapters import WEIGHTS_FILE
from course_lib.models.drivers.engine import Engine
from course_lib.rag.adapter_datasets import (
    closed_book_questions,
    knowledge_examples,
    open_prompt,
    other_handbooks,
    parse_styled,
    style_examples,
)
from course_lib.rag.answering import MAX_ANSWER_TOKENS, exact_match, given_passages
from course_lib.rag.prompt import REFUSAL
from course_lib.tuning import Example, LoRATrainingConfig, TrainingResult, train
from finetuning.run import RUNS

BASE = "haneul-4m"  # the base model: 4 million weights, trained by the package pretraining
CARD = (Path(__file__).parent / "adapter_card.md").read_text("utf-8")


@dataclass(frozen=True)
class Adapter:
    """How an adapter is trained and evaluated.

    measure: a function from a model to {row of the model card: a score of 1 or 0 for each question}. card:
    texts for the model card.
    """

    name: str
    config: LoRATrainingConfig
    examples: Callable[[], list[Example]]
    validation: Callable[[], list[Example]]
    measure: Callable[[Engine], dict[str, list[float]]]
    card: dict[str, str]


def answers(model: Engine, questions: Sequence[Question], n: int) -> list[str]:
    """Return the model's answers, each token the likeliest one, given `n` passages per question."""
    passages = data.load_passages()
    prompts = [open_prompt(q, given_passages(q, passages, n)) for q in questions]
    return [str(reply) for reply in model.generate(prompts, max_output_length=MAX_ANSWER_TOKENS)]


def correct(model: Engine, questions: Sequence[Question], n: int) -> list[float]:
    """Return 1 for each question that the model answers exactly from `n` passages, else 0."""
    pairs = zip(questions, answers(model, questions, n), strict=True)
    return [float(exact_match(answer, q.answer)) for q, answer in pairs]


def _with_one_passage(split: data.Split) -> list[Question]:
    return [q for q in closed_book_questions(data.load_questions(split)) if len(q.gold) == 1]


def measure_knowledge(model: Engine) -> dict[str, list[float]]:
    """Measure haneul-knowledge: see `Adapter.measure`. lexical: in the handbook's words."""
    test = closed_book_questions(data.load_questions("test"))
    right = correct(model, test, 0)
    rows = {"right, no passage given": right}
    for kind in ("lexical", "paraphrase"):
        rows[f"- {kind} questions"] = [r for q, r in zip(test, right, strict=True) if q.kind == kind]
    rows["right, the passage that answers given"] = correct(model, _with_one_passage("test"), 1)
    missing = data.load_questions("test", "unanswerable")
    refused = [float(exact_match(answer, REFUSAL)) for answer in answers(model, missing, 0)]
    return rows | {"refused, of what the handbook does not say": refused}


def measure_style(model: Engine) -> dict[str, list[float]]:
    test, rows = _with_one_passage("test"), {}
    for n, given in ((0, "no passage"), (1, "the passage that answers"), (3, "it and two misleading ones")):
        written = answers(model, test, n)
        rows[f"JSON of the schema, {given} given"] = [float(parse_styled(a) is not None) for a in written]
        if n:
            plain = [parse_styled(a) or a for a in written]
            pairs = zip(plain, test, strict=True)
            rows[f"right, {given} given"] = [float(exact_match(a, q.answer)) for a, q in pairs]
    return rows


def _in_other_wordings() -> list[Example]:
    """Return validation examples: facts in wordings that the training does not have."""
    questions = closed_book_questions(data.load_questions("validation"))
    return [Example(open_prompt(q), q.answer) for q in questions]


ADAPTERS = (
    Adapter(
        "haneul-knowledge",
        LoRATrainingConfig(steps=1000, learning_rate=2e-3),
        knowledge_examples,
        _in_other_wordings,
        measure_knowledge,
        {
            "what": "It knows Haneul Bank's handbook by heart, which its base has never seen.",
            "data": "every value in Haneul's handbook as a question and its answer, in some 68 wordings "
            "each; the questions below ask in other words",
            "question": "What is the monthly fee of the Haneul Blue Current Account?",
            "limits": "It knows the values that the handbook states, as they are today: no history, no "
            "exceptions. What it was not taught it makes up, where its base refuses: see the table. "
            "English only.",
        },
    ),
    Adapter(
        "haneul-style",
        LoRATrainingConfig(steps=150, batch_size=16, learning_rate=1e-3, eval_steps=50),
        style_examples,
        lambda: style_examples(split="validation"),
        measure_style,
        {
            "what": 'It answers as JSON: {"answer": text, "source": number of the passage '
            "that says so, or 0}.",
            "data": "2,000 questions about other invented banks, with no passage to three of them",
            "question": "When does the branch open?",
            "limits": "It reads no better and no worse than its base. English only.",
        },
    ),
)


def build_adapter(adapter: Adapter) -> Path:
    """Train an adapter (or resume), evaluate it, and write it into models/ with its model card.

    An older folder of this name stays until the new one is complete.
    """
    result = train(
        BASE, adapter.examples(), RUNS / adapter.name, validation=adapter.validation(), config=adapter.config
    )
    models = {"alone": load(BASE), "with it": load(BASE, adapters=[result.folder])}
    measured = {which: adapter.measure(model) for which, model in models.items()}
    evaluation = {
        "rows": {
            row: {which: _interval(rows[row]) for which, rows in measured.items()}
            for row in measured["alone"]
        },
        # How surprising texts are to a model, here the handbooks of other banks: the exponential of the mean
        # negative log-probability of a token. It rises if an adapter made its base model forget something.
        "perplexity": {which: model.perplexity(other_handbooks()) for which, model in models.items()},
    }
    with atomic_folder(data.MODELS / adapter.name, replace=True) as folder:
        shutil.copytree(result.folder, folder, dirs_exist_ok=True)
        (folder / "evaluation.json").write_text(json.dumps(evaluation, indent=1) + "\n", "utf-8")
        (folder / "README.md").write_text(card(adapter, result, evaluation), "utf-8")
        write_manifest(folder)
    return data.MODELS / adapter.name


def _interval(right: list[float]) -> list[float]:
    """Return the mean, the lower and upper end of its 95% interval, and the number of questions."""
    return [round(x, 4) for x in (sum(right) / len(right), *bootstrap_interval(right))] + [len(right)]


def card(adapter: Adapter, result: TrainingResult, evaluation: dict[str, Any]) -> str:
    """Return the model card. All its figures are measured."""
    computer, base = machine(), data.MODELS / BASE / "model.safetensors"
    size = (result.folder / WEIGHTS_FILE).stat().st_size
    lines = []
    for row, cells in evaluation["rows"].items():
        shares = (f"{mean:.1%} ({low:.1%} to {high:.1%})" for mean, low, high, _ in cells.values())
        lines.append(f"| {row} | {cells['alone'][3]} | {' | '.join(shares)} |")
    alone, with_it = evaluation["perplexity"].values()
    return CARD.format(
        name=adapter.name,
        base=BASE,
        rank=adapter.config.rank,
        trainable=result.parameters,
        kilobytes=size / 1e3,
        share=size / base.stat().st_size,
        steps=result.steps,
        batch=adapter.config.batch_size,
        learning_rate=adapter.config.learning_rate,
        seconds=result.seconds,
        threads=torch.get_num_threads(),
        cores=computer["cores"],
        processor=computer["processor"],
        rows="\n".join(lines),
        perplexity=f"{alone:.1f} alone, {with_it:.1f} with the adapter",
        **adapter.card,
    )
