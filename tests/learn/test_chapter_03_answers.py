"""Chapter 03's exercises: answers right in another way pass, odd ones are told what is wanted."""

import math
import unicodedata
from collections import defaultdict

import numpy as np
import pytest

from course_lib.learn.exercises import find_exercise
from course_lib.learn.exercises.engine import judge
from course_lib.retrieval import fusion, metrics, scores
from course_lib.retrieval.tokenize import hangul_bigrams


def by_ln(ranking, grades, k):
    """A logarithm to any base: it cancels."""
    ideal = sorted(grades.values())[::-1][:k]
    gain, best = (
        sum(g / math.log(1 + i) for i, g in enumerate(gains, 1))
        for gains in ([grades.get(doc_id, 0) for doc_id in ranking[:k]], ideal)
    )
    return gain / best if best else 0


def by_numpy(ranking, grades, k):
    gains, ideal = (
        np.array([grades.get(doc_id, 0) for doc_id in ranking[:k]]),
        np.sort(list(grades.values()))[::-1][:k],
    )
    best = float(np.sum(ideal / np.log2(np.arange(len(ideal)) + 2)))
    return np.sum(gains / np.log2(np.arange(len(gains)) + 2)) / best if best else np.float64(0)


def by_defaultdict(rankings, k=60):
    fused = defaultdict(float)
    for ranking in rankings:
        for i, doc_id in enumerate(ranking):
            fused[doc_id] += 1 / (k + i + 1)
    return fused


def by_sorting(vectors, query, allowed, k):
    return sorted(np.flatnonzero(allowed), key=lambda i: np.linalg.norm(vectors[i] - query))[:k]


def nearest_array(vectors, query, allowed, k):
    found = np.where(allowed, vectors @ query, -np.inf)
    return np.argsort(-found)[: min(k, int(allowed.sum()))]


def bigrams(text):
    return (pair for word in unicodedata.normalize("NFC", text).split() for pair in hangul_bigrams(word))


@pytest.mark.parametrize(
    ("id_", "answer"),
    [
        ("03.2", lambda df, n: math.log((n + 1) / (df + 0.5))),
        ("03.2", scores.lucene_idf),
        ("03.3", bigrams),
        ("03.3", lambda text: sorted(bigrams(text))),
        ("03.1", by_ln),
        ("03.1", by_numpy),
        ("03.1", metrics.ndcg),
        ("03.4", lambda scores: fusion.min_max(scores).scores),
        ("03.5", by_defaultdict),
        ("03.5", lambda rankings, k=60: fusion.rrf(rankings, k=k)),
        ("03.7", by_sorting),
        ("03.7", nearest_array),
        ("03.6", " B "),
    ],
)
def test_what_is_right_in_another_way_is_right(id_, answer):
    assert judge(find_exercise(id_), answer)[0] == "right"


@pytest.mark.parametrize(
    ("id_", "answer", "said"),
    [
        ("03.2", lambda df, n: "rare", "expected a number"),
        ("03.2", lambda df, n: 1.0, "gave 1; it should be 3.36"),
        ("03.3", lambda text: text, "a list of strings is wanted"),
        ("03.3", lambda text: None, "a list of strings is wanted"),
        ("03.3", lambda text: [("카", "드")], "a list of strings is wanted"),
        ("03.3", lambda text: ["카드"], "it should be ["),
        ("03.1", lambda ranking, grades, k: math.nan, "log2(1)"),
        ("03.1", lambda ranking, grades, k: 0.4, "gave 0.4; it should be"),
        ("03.1", lambda r, g, k: by_ln(r, g, k) if any(g.values()) else math.nan, "return 0 then"),
        ("03.4", lambda scores: list(scores), "a dict is wanted"),
        ("03.4", lambda scores: dict.fromkeys(scores, "1"), "a dict is"),
        ("03.4", lambda scores: dict.fromkeys(scores, 0.3), "'a': 0.3"),
        ("03.5", lambda rankings, k=60: {}, "gave {}; it should"),
        ("03.7", lambda v, q, allowed, k: allowed, "rows' numbers"),
        ("03.7", lambda v, q, allowed, k: None, "rows' numbers"),
        ("03.7", lambda v, q, allowed, k: [0], "gave [0]; it should be [2, 4]"),
        ("03.6", "e", "not one of the letters"),
    ],
)
def test_an_odd_answer_is_told_what_is_wanted(id_, answer, said):
    verdict, reply = judge(find_exercise(id_), answer)
    assert verdict == "not yet" and said in reply
