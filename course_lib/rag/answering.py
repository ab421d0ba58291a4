"""Let a model answer questions from given passages, and score the answers by exact match.

An engine is a loaded model. The exam is the course's set of questions about its handbook; the gold passages
of a question are those that contain its answer. The id of a fact is kind.product.attribute, such as
"current_account.blue.monthly_fee".
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from course_lib.data import Passage, Question
from course_lib.models.catalog import Entry
from course_lib.models.drivers.engine import Engine
from course_lib.rag.prompt import Source, question_prompt, worked_prompt

MAX_ANSWER_TOKENS = 48  # more than the longest gold answer has


@dataclass(frozen=True)
class Answered:
    """A question, the model's answer, and whether it matches the gold answer."""

    question: Question
    prediction: str
    correct: bool


def normalise(answer: str) -> str:
    """Lower-case an answer and strip repeated spaces, a leading article and surrounding punctuation.

    >>> normalise("The KRW 3,000.")
    'krw 3,000'
    """
    marks = " .;:!?\"'"
    text = " ".join(answer.lower().split()).strip(marks)
    return re.sub(r"^(a|an|the) ", "", text).strip(marks)


def without_letter(answer: str) -> str:
    """Remove the option letter from an answer such as `KRW 3,000 (C)`."""
    return re.sub(r"\s*\([A-J]\)[\s.]*$", "", answer.strip())


def exact_match(prediction: str, gold: str) -> bool:
    """Return whether a prediction, without its option letter, equals the answer after `normalise`.

    This is the metric of the course's own exam. SQuAD's exact match, `rag.evaluate.squad_exact`, drops every
    punctuation mark, so that 1.5% equals 15%.
    """
    return normalise(without_letter(prediction)) == normalise(gold)


def nearness(question: Question, passage: Passage) -> int:
    """Rate how misleading a passage is.

    2: it is about the same product; 1: about the same attribute of another product of that kind; 0: neither.
    """
    products = {fact.rpartition(".")[0] for fact in question.facts}
    if products & set(passage.about):
        return 2
    asked = {(fact.split(".")[0], fact.split(".")[2]) for fact in question.facts}  # (kind, attribute)
    return int(any((fact.split(".")[0], fact.split(".")[2]) in asked for fact, _ in passage.states))


def hard_negatives(question: Question, passages: Iterable[Passage], n: int) -> list[Passage]:
    """Return the `n` most misleading passages without the answer; ties are shuffled (seed: question id)."""
    others = [p for p in passages if p.id not in question.gold]
    random.Random(question.id).shuffle(others)
    return sorted(others, key=lambda p: -nearness(question, p))[:n]


def given_passages(question: Question, passages: Mapping[str, Passage], n: int) -> list[Passage]:
    """Return `n` passages, all gold ones and hard negatives, shuffled with the question's id as the seed.

    Returns none for n = 0. Raises ValueError if the question has more than `n` gold passages (and n > 0).
    """
    if n == 0:
        return []
    if len(question.gold) > n:
        raise ValueError(f"{question.id} has {len(question.gold)} gold passages, more than n={n}")
    selected = [passages[p] for p in question.gold]
    selected += hard_negatives(question, passages.values(), n - len(selected))
    random.Random(question.id).shuffle(selected)
    return selected


def prompt_for(question: Question, passages: Sequence[Passage]) -> str:
    """Return the prompt of a question with its passages and its options, if any."""
    return question_prompt(question.question, [Source(p.title, p.text) for p in passages], question.options)


def exam(entry: Entry) -> dict[str, Any]:
    """Return the options for `load` with which a model takes the exam.

    There are none for the course's own models, which were trained on these prompts. Any other model continues
    a text with worked examples (see `format_for`) to the end of the line. Eight passages and the examples fit
    into 2,048 tokens; a longer context would only take memory.
    """
    if entry.tier == "tiny":
        return {}
    ends = {"stop": ["\n"], "max_output_length": MAX_ANSWER_TOKENS}
    return {"task": "text-generation", "context_length": 2048, "batch_size": 2, "generation": ends}


def format_for(model: Engine, prompt: str) -> str:
    """Return the prompt as a model reads it: with worked examples if the model continues texts."""
    return worked_prompt(prompt) if model.spec.task == "text-generation" else prompt


def answer_with(
    model: Engine,
    questions: Sequence[Question],
    passages: Mapping[str, Passage],
    n: int,
) -> list[Answered]:
    """Answer each question from `n` passages (see `given_passages`), always with the most likely token."""
    prompts = [format_for(model, prompt_for(q, given_passages(q, passages, n))) for q in questions]
    predictions = model.generate(prompts, max_output_length=MAX_ANSWER_TOKENS)
    return [Answered(q, p, exact_match(p, q.answer)) for q, p in zip(questions, predictions, strict=True)]


def accuracy(answered: Sequence[Answered]) -> float:
    """Return the fraction of correct answers. Raises ValueError for an empty list."""
    if not answered:
        raise ValueError("no answers to take the accuracy of")
    return sum(a.correct for a in answered) / len(answered)
