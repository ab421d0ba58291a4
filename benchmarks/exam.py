"""The exam: the weights of the system "best", KorQuAD, and the whole run of 515 questions.

`python -m benchmarks.exam korean` fits the weights of `extract` on the practice questions, then those of a
refusal on practice and held-back questions, and shows in cross-validation what several thresholds do there.
`python -m benchmarks.exam refusals` does so for `routed.SIGNAL_WEIGHTS`, `korquad`
reads paragraphs of KorQuAD, from COURSE_DATA_DIR, and `whole` takes the exam with "best".
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from course_lib import data
from course_lib.data import Question
from course_lib.exam.extract import Candidate, SentenceReader, score
from course_lib.exam.haneul import haneul_exam, questions_of
from course_lib.exam.questions import ExamQuestion
from course_lib.exam.report import report
from course_lib.exam.routed import PASSAGES, RoutedReader
from course_lib.exam.run import run_exam
from course_lib.exam.strategies import build, engine, handbook_search, handbook_topics
from course_lib.measure import mean_of
from course_lib.models import load
from course_lib.models.catalog import role
from course_lib.rag import evaluate
from course_lib.rag.answering import exact_match
from course_lib.rag.prompt import REFUSAL
from course_lib.retrieval import public_sets
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
    base = load(role("knowledge").adapter_of)
    best = RoutedReader(handbook_search(), base, engine("knowledge"), handbook_topics())
    questions = short_questions("train") + short_questions("validation")
    rows, right = measured(best, questions)
    judge(rows, right, [bool(q.gold) for q in questions])


def judge(rows: np.ndarray[Any, Any], right: list[bool], answerable: list[bool]) -> None:
    """Fit and show the weights of a refusal's signals; what thresholds do, in five-fold cross-validation."""
    model = LogisticRegression(class_weight="balanced", C=1000, max_iter=5000)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    logits = cross_val_predict(model, rows, answerable, cv=folds, method="decision_function")
    model.fit(rows, answerable)
    print("weights", model.coef_[0].round(3).tolist(), "intercept", round(float(model.intercept_[0]), 2))
    print(f"area under the ROC curve {roc_auc_score(answerable, logits):.3f}")
    thresholds(logits, right, answerable)


def thresholds(logits: np.ndarray[Any, Any], right: list[bool], answerable: list[bool]) -> None:
    """Show what each threshold does: right answers given, and refusals of what has no answer."""
    asked, shown = np.array(answerable), []
    for lowest in np.arange(-1.0, 3.1, 0.25):
        kept = logits >= lowest
        given, points = (
            (kept & np.array(right))[asked].mean(),
            (kept & np.array(right)).sum() + (~kept & ~asked).sum(),
        )
        shown.append(
            [lowest, f"{given:.1%}", f"{(~kept)[~asked].mean():.1%}", f"{(~kept)[asked].mean():.1%}", points]
        )
    heads = ["lowest", "right, of the answerable", "refused, of the others", "refused falsely", "points"]
    print(table(heads, shown))


def korean_reader(practice: list[ExamQuestion]) -> SentenceReader:
    """Return a reader of the Korean handbook whose forms come from these questions."""
    texts = data.load_passages(language="ko")
    return SentenceReader(
        {p.id: p.text for p in texts.values()}, {p.id: p.title for p in texts.values()}, practice
    )


def korean() -> None:
    practice, held_back = questions_of("practice", "ko"), questions_of("held-back", "ko")
    fold = np.random.default_rng(0).integers(5, size=len(practice))
    found: dict[str, list[Candidate]] = {}
    for k in range(5):  # the classifier of forms has not seen the questions that it is asked
        reader = korean_reader([q for q, f in zip(practice, fold, strict=True) if f != k])
        mine = [
            q for q, f in zip(practice, fold, strict=True) if f == k and len(reader.named(q.question)) == 1
        ]
        found |= {q.id: reader.candidates(q.question, q.options) for q in mine}
    weights = fitted([(found[q.id], str(q.answer)) for q in practice if q.id in found])
    print("WEIGHTS", weights.round(2).tolist(), "(a refusal's are fitted with those of `extract`)")
    reader = korean_reader(practice)
    short = [q for q in practice + held_back if not q.options and len(reader.named(q.question)) == 1]
    best = [max(found.get(q.id) or reader.candidates(q.question), key=score) for q in short]
    rows = [reader.support(q.question, b) for q, b in zip(short, best, strict=True)]
    right = [exact_match(b.text, str(q.answer)) for q, b in zip(short, best, strict=True)]
    judge(np.array(rows), right, [q.kind != "refuse" for q in short])


def fitted(asked: list[tuple[list[Candidate], str]]) -> np.ndarray[Any, Any]:
    """Return the weights with which the right candidates of each question are the likeliest (softmax)."""
    from scipy.optimize import minimize

    pairs = [
        (
            np.array([c.signals for c in candidates]),
            np.array([exact_match(c.text, answer) for c in candidates]),
        )
        for candidates, answer in asked
        if any(exact_match(c.text, answer) for c in candidates)
    ]
    scale = np.vstack([x for x, _ in pairs]).std(axis=0)

    def loss(weights: np.ndarray[Any, Any]) -> tuple[float, np.ndarray[Any, Any]]:
        total, gradient = 0.0015 * float(weights @ weights), 0.003 * weights
        for x, right in pairs:
            scaled = x / scale
            chance = softmax(scaled @ weights)
            share = chance[right].sum()
            total -= np.log(share) / len(pairs)
            gradient = gradient + scaled.T @ (chance - chance * right / share) / len(pairs)
        return total, gradient

    begin = np.zeros(len(scale))
    return np.asarray(minimize(loss, begin, jac=True, options={"maxiter": 60}).x / scale)


def korquad() -> None:
    """Short answers to questions of KorQuAD, from the right paragraph, by the reader of Haneul's handbook."""
    public, practice = public_sets.load("korquad1_dev"), questions_of("practice", "ko")
    asked = random.Random(23).sample(sorted(public.queries), 300)
    reader = SentenceReader(public.documents, dict.fromkeys(public.documents, ""), practice)
    exact, f1 = [], []
    for key in asked:
        best = reader.best(public.queries[key], read=list(public.qrels[key]))
        text = best.text if best else ""
        exact.append(evaluate.best_of(evaluate.squad_exact, text, public.answers[key]))
        f1.append(evaluate.best_of(evaluate.character_f1, text, public.answers[key]))
    print(f"exact match {mean_of(exact)}, F1 of characters {mean_of(f1)}, {len(asked)} questions")


def whole() -> None:
    begun = time.perf_counter()
    best, questions = build("best"), haneul_exam()
    loaded = time.perf_counter() - begun
    with tempfile.TemporaryDirectory() as folder:
        given = run_exam(questions, [best, build("guess")], Path(folder) / "run.jsonl", minutes=270)
    print(f"loaded in {loaded:.0f} s\n{report(questions, given)}")
    answers = {each.id: each.answer for each in given}
    for language in ("en", "ko"):
        mine = [q for q in questions if q.language == language]
        asked = [q for q in mine if q.kind != "refuse"]
        right = sum(exact_match(answers[q.id], str(q.answer)) for q in asked)
        vain = sum(answers[q.id] != REFUSAL for q in mine if q.kind == "refuse")
        print(
            f"{language}: {right} of {len(asked)} right; {vain} of the other {len(mine) - len(asked)} in vain"
        )


PARTS = {"korean": korean, "korquad": korquad, "refusals": refusals, "whole": whole}


if __name__ == "__main__":
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
