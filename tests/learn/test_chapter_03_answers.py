"""Chapter 03's exercises accept other right solutions, and say what they expect for unusual wrong answers."""

import math
import unicodedata
from collections import defaultdict

import numpy as np
import pytest

from course_lib.learn.exercises import find_exercise
from course_lib.learn.exercises.engine import judge
from course_lib.retrieval import fusion, metrics, scores
from course_lib.retrieval.tokenize import hangul_bigrams


def with_natural_logarithm(ranking, grades, k):
    """The base of the logarithm cancels out."""
    ideal = sorted(grades.values())[::-1][:k]
    gain, best = (
        sum(g / math.log(1 + i) for i, g in enumerate(gains, 1))
        for gains in ([grades.get(doc_id, 0) for doc_id in ranking[:k]], ideal)
    )
    return gain / best if best else 0


def with_numpy(ranking, grades, k):
    gains, ideal = (
        np.array([grades.get(doc_id, 0) for doc_id in ranking[:k]]),
        np.sort(list(grades.values()))[::-1][:k],
    )
    best = float(np.sum(ideal / np.log2(np.arange(len(ideal)) + 2)))
    return np.sum(gains / np.log2(np.arange(len(gains)) + 2)) / best if best else np.float64(0)


def with_defaultdict(rankings, k=60):
    fused = defaultdict(float)
    for ranking in rankings:
        for i, doc_id in enumerate(ranking):
            fused[doc_id] += 1 / (k + i + 1)
    return fused


def sorted_by_distance(vectors, query, allowed, k):
    return sorted(np.flatnonzero(allowed), key=lambda i: np.linalg.norm(vectors[i] - query))[:k]


def as_array(vectors, query, allowed, k):
    scores_of_allowed = np.where(allowed, vectors @ query, -np.inf)
    return np.argsort(-scores_of_allowed)[: min(k, int(allowed.sum()))]


def bigram_generator(text):
    return (pair for word in unicodedata.normalize("NFC", text).split() for pair in hangul_bigrams(word))


@pytest.mark.parametrize(
    ("id_", "answer"),
    [
        ("03.2", lambda df, n: math.log((n + 1) / (df + 0.5))),
        ("03.2", scores.lucene_idf),
        ("03.3", bigram_generator),
        ("03.3", lambda text: sorted(bigram_generator(text))),
        ("03.1", with_natural_logarithm),
        ("03.1", with_numpy),
        ("03.1", metrics.ndcg),
        ("03.4", lambda scores: fusion.min_max(scores).scores),
        ("03.5", with_defaultdict),
        ("03.5", lambda rankings, k=60: fusion.rrf(rankings, k=k)),
        ("03.7", sorted_by_distance),
        ("03.7", as_array),
        ("03.6", " B "),
    ],
)
def test_another_right_solution_is_accepted(id_, answer):
    assert judge(find_exercise(id_), answer)[0] == "right"


@pytest.mark.parametrize(
    ("id_", "answer", "expected"),
    [
        ("03.2", lambda df, n: "rare", "expected a number"),
        ("03.2", lambda df, n: 1.0, "gave 1; it should be 3.36"),
        ("03.3", lambda text: text, "expected a list of strings"),
        ("03.3", lambda text: None, "expected a list of strings"),
        ("03.3", lambda text: [("카", "드")], "expected a list of strings"),
        ("03.3", lambda text: ["카드"], "it should be ["),
        ("03.1", lambda ranking, grades, k: math.nan, "log2(1)"),
        ("03.1", lambda ranking, grades, k: 0.4, "gave 0.4; it should be"),
        (
            "03.1",
            lambda r, g, k: with_natural_logarithm(r, g, k) if any(g.values()) else math.nan,
            "return 0 then",
        ),
        ("03.4", lambda scores: list(scores), "expected a dict"),
        ("03.4", lambda scores: dict.fromkeys(scores, "1"), "expected a dict"),
        ("03.4", lambda scores: dict.fromkeys(scores, 0.3), "'a': 0.3"),
        ("03.5", lambda rankings, k=60: {}, "gave {}; it should"),
        ("03.7", lambda v, q, allowed, k: allowed, "row indices"),
        ("03.7", lambda v, q, allowed, k: None, "row indices"),
        ("03.7", lambda v, q, allowed, k: [0], "gave [0]; it should be [2, 4]"),
        ("03.6", "e", "not one of the letters"),
    ],
)
def test_an_unusual_wrong_answer_gets_feedback(id_, answer, expected):
    verdict, reply = judge(find_exercise(id_), answer)
    assert verdict == "not yet" and expected in reply
