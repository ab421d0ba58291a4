"""Evaluate a trained model on Haneul Bank's validation split: `python -m pretraining.evaluate haneul-1m`.

Exact match is the share of answers that equal the right one, apart from case, article and punctuation at the
ends. Gold passages are those that answer a question.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from typing import Any

from course_lib import data
from course_lib.measure import bootstrap_interval
from course_lib.models import catalog, load
from course_lib.models.drivers.engine import Engine
from course_lib.rag.answering import Answered, accuracy, answer_with
from course_lib.rag.labelling import label_with, nearest
from pretraining.train import RUNS


def score(answered: list[Answered]) -> dict[str, Any]:
    """Return exact match with its 95% interval."""
    low, high = bootstrap_interval([float(a.correct) for a in answered])
    return {
        "exact_match": round(accuracy(answered), 4),
        "interval": [round(low, 4), round(high, 4)],
        "questions": len(answered),
    }


def by_kind(answered: list[Answered]) -> dict[str, float]:
    """Return exact match for each kind of question."""
    groups: dict[str, list[Answered]] = defaultdict(list)
    for a in answered:
        groups[f"{a.question.kind}, {a.question.about}, {a.question.format}"].append(a)
    return {k: round(accuracy(v), 3) for k, v in sorted(groups.items())}


def evaluate(model: Engine, limit: int | None = None) -> dict[str, Any]:
    """Return exact match with 0, 1, 3 and 8 passages, refusals, perplexity, and labelling accuracy.

    Perplexity tells how surprising the handbook is: exp of the mean negative log-probability of a token.
    """
    passages, questions = data.load_passages(), data.load_questions("validation")[:limit]
    single = [q for q in questions if len(q.gold) == 1]
    out: dict[str, Any] = {
        "model": model.name,
        "perplexity": model.perplexity([p.text for p in passages.values()]),
    }
    for n in (0, 1, 3, 8):
        answered = answer_with(model, single, passages, n)
        out[f"passages_{n}"] = score(answered) | {"by_kind": by_kind(answered)}
    two = [q for q in questions if q.kind == "two-passage" and len(q.gold) <= 3]
    answered = answer_with(model, two, passages, 3)
    out["two_passage_3"] = score(answered) | {"by_kind": by_kind(answered)}
    missing = [q for q in questions if q.kind == "unanswerable"]
    for n in (1, 3):
        out[f"unanswerable_{n}"] = score(answer_with(model, missing, passages, n))
    out["labelling_8"] = labelling(model, limit)
    return out


def labelling(model: Engine, limit: int | None = None) -> dict[str, Any]:
    """Return the accuracy of labelling with 8 similar examples, and of copying the most similar's label."""
    queries, labelled = data.load_messages("validation")[:limit], data.load_messages("train")
    embedder = load(catalog.role("embed").spec)
    neighbours = nearest(embedder, [q.message for q in queries], [m.message for m in labelled], 8)
    predictions = label_with(model, queries, labelled, neighbours)
    right = [label == q.intent for label, q in zip(predictions, queries, strict=True)]
    copied = [labelled[row[-1]].intent == q.intent for row, q in zip(neighbours, queries, strict=True)]
    n, labels = len(queries), len({m.intent for m in labelled})
    return {
        "accuracy": round(sum(right) / n, 4),
        "nearest": round(sum(copied) / n, 4),
        "messages": n,
        "chance": round(1 / labels, 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--limit", type=int, help="only the first so many questions")
    args = parser.parse_args()
    print(json.dumps(evaluate(load(RUNS / args.name / "model"), args.limit), indent=1))


if __name__ == "__main__":
    main()
