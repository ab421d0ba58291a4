"""Chapter 04's exercises accept other right solutions, and say what they expect for unusual wrong answers."""

import math
from itertools import permutations
from statistics import NormalDist

import numpy as np
import pytest

from course_lib.learn.exercises import find_exercise
from course_lib.learn.exercises.engine import judge
from course_lib.measure.intervals import bootstrap_interval
from course_lib.models.drivers import encoder
from course_lib.retrieval import late_interaction


def by_all_orders(candidates, gold, n):
    """Every reranking of the first n, up to six of them; more answers or others than that change nothing."""
    is_gold = [id_ in gold for id_ in candidates]
    seen, rest = is_gold[:n], is_gold[n:]
    few = sorted(seen)[:3] + sorted(seen)[3:][-3:] if len(seen) > 6 else seen
    orders = [[*order, *rest] for order in permutations(few)]
    values = [next((1 / p for p, hit in enumerate(order[:3], 1) if hit), 0) for order in orders]
    return [min(values), max(values)]


def with_a_loop(question, passages, lengths):
    return [
        sum(max(float(np.dot(q, p)) for p in passage[:length]) for q in question)
        for passage, length in zip(passages, lengths, strict=True)
    ]


def with_the_library(question, passages, lengths):
    pairs = zip(passages, lengths, strict=True)
    return np.array([late_interaction.maxsim(question, passage[:length]) for passage, length in pairs])


def with_while(length, room, overlap):
    spans, start = [], 0
    while True:
        spans.append([start, min(length, start + room)])
        if start + room >= length:
            return spans
        start += room - overlap


def with_the_bootstrap(seconds, values, allowed):
    fitting = sorted(n for n, s in seconds.items() if s <= allowed)
    if not fitting:
        return 0
    best = max(fitting, key=lambda n: np.mean(list(values[n].values())))
    return next(
        n
        for n in fitting
        if bootstrap_interval([values[best][q] - values[n][q] for q in sorted(values[n])])[0] <= 0
    )


def in_one_formula(before, after, power):
    """By the variance and exact quantiles, rounded up to a whole number that is a float."""
    gains = [a - b for a, b in zip(after, before, strict=True)]
    reach = NormalDist().inv_cdf(0.975) + NormalDist().inv_cdf(power)
    return np.ceil(reach**2 * np.var(gains, ddof=1) / np.mean(gains) ** 2)


@pytest.mark.parametrize(
    ("id_", "answer"),
    [
        ("04.1", by_all_orders),
        ("04.2", with_a_loop),
        ("04.2", with_the_library),
        ("04.3", with_while),
        ("04.4", encoder.batches),
        ("04.5", with_the_bootstrap),
        ("04.6", in_one_formula),
    ],
)
def test_another_right_solution_is_accepted(id_, answer):
    assert judge(find_exercise(id_), answer) == ("right", find_exercise(id_).title)


@pytest.mark.parametrize(
    ("id_", "answer", "expected"),
    [
        ("04.1", lambda ids, gold, n: 0.5, "it should give (0.0, 1.0)"),
        ("04.2", lambda q, p, lengths: "2", "it should give"),
        ("04.3", lambda n, room, overlap: [(0, 1)], "it should give [(0, 4), (3, 7), (6, 10)]"),
        ("04.4", lambda lengths, most: [[0, 0, 1, 2, 3, 4, 5]], "it should give [[0, 4, 2, 5], [3, 1]]"),
        ("04.5", lambda s, v, a: 42, "it should give"),
        ("04.6", lambda *_: "many", "expected a number of questions"),
        ("04.6", lambda *_: math.nan, "it should be 36"),
    ],
)
def test_an_unusual_wrong_answer_gets_feedback(id_, answer, expected):
    verdict, reply = judge(find_exercise(id_), answer)
    assert verdict == "not yet" and expected in reply
