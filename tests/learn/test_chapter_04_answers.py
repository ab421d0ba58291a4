"""Chapter 04's exercises: answers right in another way pass, odd ones are told what is wanted."""

import math

import numpy as np
import pytest

from course_lib.learn.exercises import find_exercise
from course_lib.learn.exercises.engine import judge
from course_lib.measure.intervals import bootstrap_interval
from course_lib.models.drivers import encoder
from course_lib.retrieval import late_interaction


def by_argsort(ids, scores, k):
    if np.isnan(scores).any():
        raise ValueError
    return [ids[i] for i in np.argsort(-np.array(scores), kind="stable")[:k]]


def by_pairs(ids, scores, k):
    if any(s != s for s in scores):
        raise ValueError
    return tuple(
        doc_id for doc_id, _ in sorted(zip(ids, scores, strict=True), key=lambda pair: pair[1], reverse=True)
    )[:k]


def by_loop(question, passage):
    return sum(max(float(np.dot(q, p)) for p in passage) for q in question)


def by_while(length, room, overlap):
    out, start = [], 0
    while True:
        out.append([start, min(length, start + room)])
        if start + room >= length:
            return out
        start += room - overlap


def by_filter(seconds, quality, allowed):
    best = sorted((-quality[n], n) for n, s in seconds.items() if s <= allowed)
    return best[0][1] if best else 0


def by_bootstrap(before, after):
    low, high = bootstrap_interval([a - b for a, b in zip(after, before, strict=True)])
    return "rerank" if low > 0 else "do not" if high < 0 else "undecided"


@pytest.mark.parametrize(
    ("id_", "answer"),
    [
        ("04.1", by_argsort),
        ("04.1", by_pairs),
        ("04.2", by_loop),
        ("04.2", late_interaction.maxsim),
        ("04.3", by_while),
        ("04.4", encoder.batches),
        ("04.5", by_filter),
        ("04.6", by_bootstrap),
    ],
)
def test_what_is_right_in_another_way_is_right(id_, answer):
    assert judge(find_exercise(id_), answer)[0] == "right"


@pytest.mark.parametrize(
    ("id_", "answer", "told"),
    [
        ("04.1", lambda ids, scores, k: ["x"], "it should be ['b', 'c', 'a']"),
        ("04.2", lambda q, p: "2", "expected a number"),
        ("04.3", lambda n, room, overlap: [(0, 1)], "it should be [(0, 4), (3, 7), (6, 10)]"),
        ("04.4", lambda lengths, most: [[0, 0, 1, 2, 3, 4, 5]], "in two batches"),
        ("04.5", lambda s, q, a: 42, "it should be 25"),
        ("04.6", lambda before, after: math.nan, "is none of"),
    ],
)
def test_odd_answers_are_told_what_is_wanted(id_, answer, told):
    verdict, said = judge(find_exercise(id_), answer)
    assert verdict == "not yet" and told in said
