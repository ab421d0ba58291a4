"""The exam: the weights of the system "best", and the whole run of 515 questions.

`python -m benchmarks.exam refusals` fits `routed.SIGNALS` on the practice questions and shows, for several
thresholds, what they do on the held-back ones. `python -m benchmarks.exam whole` takes the exam with "best".
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from course_lib import data
from course_lib.data import Question
from course_lib.exam.haneul import haneul_exam
from course_lib.exam.report import report
from course_lib.exam.routed import PASSAGES, RoutedReader
from course_lib.exam.run import run_exam
from course_lib.exam.strategies import build, engine, handbook_search
from course_lib.models import load
from course_lib.models.catalog import role
from course_lib.rag.answering import exact_match
from course_lib.tables import table


def short_questions(split: data.Split) -> list[Question]:
    """Return the questions that need one short answer, or a refusal."""
    return [q for q in data.load_questions(split) if not q.options and q.kind != "two-passage"]


def measured(best: RoutedReader, questions: list[Question]) -> tuple[np.ndarray[Any, Any], list[bool]]:
    """Return the signals of each question's answer, one row each, and whether that answer is right."""
    rows, right = [], []
    for question in questions:
        hits = best.search.search(question.question, PASSAGES)
        answer = best.written(question.question, hits)
        rows.append(best.signals(question.question, answer, hits))
        right.append(exact_match(answer, question.answer))
    return np.array(rows), right


def refusals() -> None:
    from sklearn.linear_model import LogisticRegression

    best = RoutedReader(handbook_search(), load(role("knowledge").adapter_of), engine("knowledge"))
    practice, held_back = short_questions("train"), short_questions("validation")
    rows, _ = measured(best, practice)
    model = LogisticRegression(class_weight="balanced", C=1000, max_iter=5000)
    model.fit(rows, [bool(q.gold) for q in practice])
    print("weights", model.coef_[0].round(3).tolist(), "intercept", round(float(model.intercept_[0]), 1))
    rows, right = measured(best, held_back)
    logits, answerable = model.decision_function(rows), np.array([bool(q.gold) for q in held_back])
    shown = []
    for lowest in (-2.0, -1.0, -0.7, -0.4, 0.0, 0.4, 0.8):
        kept = logits >= lowest
        given = (kept & np.array(right))[answerable].mean()
        shown.append([lowest, f"{given:.0%}", f"{(~kept)[~answerable].mean():.0%}"])
    print(table(["lowest", "right, of the answerable", "refused, of the others"], shown))


def whole() -> None:
    begun = time.perf_counter()
    best, questions = build("best"), haneul_exam()
    loaded = time.perf_counter() - begun
    with tempfile.TemporaryDirectory() as folder:
        given = run_exam(questions, [best, build("guess")], Path(folder) / "run.jsonl", minutes=270)
    print(f"loaded in {loaded:.0f} s\n{report(questions, given)}")
    for language in ("en", "ko"):
        mine = [q for q in questions if q.language == language and q.kind != "refuse"]
        answers = {each.id: each.answer for each in given}
        share = sum(exact_match(answers[q.id], str(q.answer)) for q in mine) / len(mine)
        print(f"{language}: {share:.0%} of {len(mine)} with an answer are right")


PARTS = {"refusals": refusals, "whole": whole}


if __name__ == "__main__":
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
