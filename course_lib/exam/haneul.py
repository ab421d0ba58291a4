"""Exams about the handbook of Haneul Bank, the course's fictional bank."""

from __future__ import annotations

import functools
import random
from collections.abc import Set
from typing import Literal

from course_lib import data
from course_lib.errors import CourseError
from course_lib.exam.questions import ExamQuestion
from course_lib.rag.adapter_datasets import area_of
from course_lib.rag.prompt import REFUSAL

Part = Literal["practice", "exam", "held-back"]
# Part of the exam's questions -> the split of the data set that it takes.
SPLITS: dict[str, data.Split] = {"practice": "train", "exam": "test", "held-back": "validation"}
KOREAN = 201 / 515  # share of Korean questions: an exam has 515, and the test split has 314 English ones


def haneul_exam(part: Part = "exam", count: int = 515, seed: int = 23) -> list[ExamQuestion]:
    """Return an exam of `count` questions, whose choice and order depend only on the seed.

    part: "exam" takes questions of the test split, "practice" of the training split, "held-back" of the
    validation split. Two of five are in Korean. A question's kind is "choice", "short" (a written answer) or
    "refuse". The handbook does not answer the last kind; the right answer is then REFUSAL in both languages.
    Raises CourseError for an unknown part, and for more questions than the part has.
    """
    if part not in SPLITS:
        raise CourseError(f"part={part!r}; it is one of {', '.join(SPLITS)}", 'haneul_exam("exam")')
    korean = round(count * KOREAN)
    chosen: list[ExamQuestion] = []
    numbers: dict[data.Language, int] = {"en": count - korean, "ko": korean}
    for language, number in numbers.items():
        available = questions_of(part, language)
        if not 0 <= number <= len(available):
            what = f"count={count}; part {part!r} has {len(available)} questions in each language"
            raise CourseError(what, f'haneul_exam("{part}", {int(len(available) / (1 - KOREAN) + 1e-9)})')
        chosen += random.Random(f"{seed} {language}").sample(available, number)
    random.Random(seed).shuffle(chosen)
    return chosen


def questions_of(part: Part, language: data.Language) -> list[ExamQuestion]:
    """Return all questions of a part in one language, from which `haneul_exam` draws."""
    # A fact's id begins with its product's. An area is a part of the handbook, such as "cards".
    areas = {
        fact.rpartition(".")[0]: area_of(p.id) for p in data.load_passages().values() for fact, _ in p.states
    }
    return [
        ExamQuestion(
            f"{language}-{q.id}",
            q.question,
            q.options,
            q.answer if q.gold else REFUSAL,
            ("choice" if q.options else "short") if q.gold else "refuse",
            areas.get(q.facts[0].rpartition(".")[0], ""),
            language,
        )
        for q in data.load_questions(SPLITS[part], language=language)
    ]


def right_passages(question: ExamQuestion) -> Set[str]:
    """Return the ids of the handbook's passages that answer a question of `haneul_exam`.

    Raises KeyError for a question that is not one of them.
    """
    return _gold()[question.id.partition("-")[2]]


@functools.cache
def _gold() -> dict[str, frozenset[str]]:
    """Return question id -> ids of the passages that answer it."""
    return {q.id: frozenset(q.gold) for q in data.load_questions()}
