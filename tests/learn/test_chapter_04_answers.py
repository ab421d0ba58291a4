"""Chapter 04's exercises accept other right solutions, and say what they expect for unusual wrong answers."""

import math

import numpy as np
import pytest

from course_lib.learn.exercises import find_exercise
from course_lib.learn.exercises.engine import judge
from course_lib.measure.intervals import bootstrap_interval
from course_lib.models.drivers import encoder
from course_lib.retrieval import late_interaction


def with_argsort(ids, scores, k):
    if np.isnan(scores).any():
        raise ValueError
    return [ids[i] for i in np.argsort(-np.array(scores), kind="stable")[:k]]


def with_pairs(ids, scores, k):
    if any(s != s for s in scores):
        raise ValueError
    return tuple(
        doc_id for doc_id, _ in sorted(zip(ids, scores, strict=True), key=lambda pair: pair[1], reverse=True)
    )[:k]


def with_a_loop(question, passage):
    return sum(max(float(np.dot(q, p)) for p in passage) for q in question)


def with_while(length, room, overlap):
    spans, start = [], 0
    while True:
        spans.append([start, min(length, start + room)])
        if start + room >= length:
            return spans
        start += room - overlap


def with_a_filter(seconds, quality, allowed):
    best = sorted((-quality[n], n) for n, s in seconds.items() if s <= allowed)
    return best[0][1] if best else 0


def with_the_bootstrap(before, after):
    low, high = bootstrap_interval([a - b for a, b in zip(after, before, strict=True)])
    return "rerank" if low > 0 else "do not" if high < 0 else "undecided"


@pytest.mark.parametrize(
    ("id_", "answer"),
    [
        ("04.1", with_argsort),
        ("04.1", with_pairs),
        ("04.2", with_a_loop),
        ("04.2", late_interaction.maxsim),
        ("04.3", with_while),
        ("04.4", encoder.batches),
        ("04.5", with_a_filter),
        ("04.6", with_the_bootstrap),
    ],
)
def test_another_right_solution_is_accepted(id_, answer):
    assert judge(find_exercise(id_), answer)[0] == "right"


@pytest.mark.parametrize(
    ("id_", "answer", "expected"),
    [
        ("04.1", lambda ids, scores, k: ["x"], "it should be ['b', 'c', 'a']"),
        ("04.2", lambda q, p: "2", "expected a number"),
        ("04.3", lambda n, room, overlap: [(0, 1)], "it should be [(0, 4), (3, 7), (6, 10)]"),
        ("04.4", lambda lengths, most: [[0, 0, 1, 2, 3, 4, 5]], "in two batches"),
        ("04.5", lambda s, q, a: 42, "it should be 25"),
        ("04.6", lambda before, after: math.nan, "is not one of"),
    ],
)
def test_an_unusual_wrong_answer_gets_feedback(id_, answer, expected):
    verdict, reply = judge(find_exercise(id_), answer)
    assert verdict == "not yet" and expected in reply
