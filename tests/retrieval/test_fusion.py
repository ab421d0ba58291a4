"""Combining two retrievers' scores, including empty results, equal scores and NaN."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.errors import CourseError
from course_lib.retrieval import Hit
from course_lib.retrieval import fusion as f

IDS = st.sampled_from("abcdefgh")
SCORES = st.dictionaries(IDS, st.floats(-1e6, 1e6))
POSITIVE = st.dictionaries(IDS, st.floats(0, 1e6))
EVERY = {"min_max": f.min_max, "z_score": f.z_score, "theoretical": lambda s: f.theoretical_min_max(s, -1e6)}


@pytest.mark.parametrize("normalize", EVERY.values(), ids=EVERY)
@given(scores=SCORES)
def test_order_is_kept_and_absence_is_never_better_than_a_hit(normalize, scores):
    normalized = normalize(scores)
    assert normalized.scores.keys() == scores.keys()
    for a in scores:
        assert math.isfinite(normalized.get(a)) and normalized.get(a) >= normalized.missing == normalized.get(
            "not found"
        )
        assert all(normalized.get(a) <= normalized.get(b) for b in scores if scores[a] < scores[b])
        assert all(normalized.get(a) == normalized.get(b) for b in scores if scores[a] == scores[b])
    if normalize is not f.z_score:
        assert all(0 <= score <= 1 for score in normalized.scores.values())


@given(st.dictionaries(IDS, st.integers(-1000, 1000), min_size=2).filter(lambda s: len(set(s.values())) > 1))
def test_z_scores_have_mean_0_and_deviation_1(scores):
    results = f.z_score(scores).scores.values()
    assert math.fsum(results) == pytest.approx(0, abs=1e-9)
    assert math.fsum(z * z for z in results) / len(results) == pytest.approx(1)


@pytest.mark.parametrize(
    ("scores", "min_max", "z", "theoretical"),
    [
        ({}, {}, {}, {}),
        ({"a": 7.0}, {"a": 1}, {"a": 0}, {"a": 1}),
        ({"a": 7.0, "b": 7.0}, {"a": 1, "b": 1}, {"a": 0, "b": 0}, {"a": 1, "b": 1}),
        ({"a": 0.0, "b": 0.0}, {"a": 1, "b": 1}, {"a": 0, "b": 0}, {"a": 0, "b": 0}),
        (
            {"a": 0.1, "b": 0.1, "c": 0.1},
            dict.fromkeys("abc", 1),
            dict.fromkeys("abc", 0),
            dict.fromkeys("abc", 1),
        ),
    ],
)
def test_nothing_one_hit_and_equal_scores(scores, min_max, z, theoretical):
    assert f.min_max(scores) == (min_max, 0)
    assert f.z_score(scores) == (z, -1)
    assert f.theoretical_min_max(scores, f.MIN_BM25) == (theoretical, 0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e101])
def test_nan_and_infinity_are_refused_by_name(bad):
    for normalize in EVERY.values():
        with pytest.raises(CourseError, match=f"document 'b' has the score {bad}".replace("+", r"\+")):
            normalize({"a": 1.0, "b": bad})


def test_a_score_below_the_lowest_is_refused():
    with pytest.raises(CourseError, match=r"min_score=0, but the lowest score is -0\.2"):
        f.theoretical_min_max({"a": -0.2}, 0)
    with pytest.raises(CourseError, match="min_score=nan"):
        f.theoretical_min_max({"a": 1}, math.nan)


def test_a_document_of_one_retriever_gets_nothing_from_the_other():
    dense, lexical = f.min_max({"a": 0.9, "b": 0.5}), f.min_max({"c": 3.0, "b": 9.0})
    assert f.convex(dense, lexical) == pytest.approx({"a": 0.7, "b": 0.3, "c": 0})
    z = f.convex(f.z_score({"a": 0.9, "b": 0.5}), f.z_score({"c": 3.0}), 0.5)
    assert z == pytest.approx({"a": 0.5 - 0.5, "b": -0.5 - 0.5, "c": -0.5 + 0})


@given(POSITIVE, POSITIVE, st.floats(0, 1), st.sampled_from([f.min_max, f.z_score]))
def test_alpha_at_its_ends_is_one_retriever_and_an_empty_retriever_leaves_the_order_to_the_other(
    dense, lexical, alpha, normalize
):
    d, w, none = normalize(dense), normalize(lexical), normalize({})
    assert f.convex(d, w, 1) == pytest.approx(d.scores) and f.convex(d, w, 0) == pytest.approx(w.scores)
    assert f.convex(none, none, alpha) == {}
    if 0.01 < alpha < 0.99:
        assert f.convex(d, w, alpha).keys() == dense.keys() | lexical.keys()
        alone = f.convex(d, none, alpha)
        assert all(alone[a] <= alone[b] for a in dense for b in dense if dense[a] < dense[b])


@pytest.mark.parametrize("alpha", [-0.1, 1.1, math.nan])
def test_alpha_outside_0_to_1_is_refused(alpha):
    with pytest.raises(CourseError, match="alpha="):
        f.convex(f.min_max({}), f.min_max({}), alpha)


def test_reciprocal_ranks_by_hand():
    assert f.rrf([["a", "b"], ["b", "c"]]) == pytest.approx({"a": 1 / 61, "b": 1 / 62 + 1 / 61, "c": 1 / 62})
    assert f.rrf([["a"], ["b"]], [0.7, 0.3], k=0) == {"a": 0.7, "b": 0.3}
    assert f.rrf([["a"], ["b"]], [1, 0]) == {"a": 1 / 61}
    assert f.rrf([]) == f.rrf([[], []]) == {}
    assert f.rrf([[], ["x", "y"]]) == f.rrf([["x", "y"]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([["a", "a"]],), "a ranking of 2 documents has 1 distinct ids"),
        ((["aab"],), "a ranking is a list of ids, best first; got 'aab'"),
        (([["a"]], [1, 2]), r"1 rankings, weights=\[1, 2\]"),
        (([["a"]], [-1]), r"weights=\[-1\]"),
        (([["a"]], [math.nan]), "weights="),
        (([["a"]], None, -1), "k=-1"),
    ],
)
def test_rankings_that_cannot_be_fused_are_refused(arguments, message):
    with pytest.raises(CourseError, match=message):
        f.rrf(*arguments)


def test_the_fused_ranking_is_best_first_ties_by_id():
    hits = tuple(Hit(name, score) for name, score in {"b": 1, "a": 1, "c": 2, "d": 0}.items())
    ranked = f.fuse(f.Candidates("q", hits, (), 0.0), alpha=1)
    assert [(hit.rank, hit.id) for hit in ranked] == [(1, "c"), (2, "a"), (3, "b"), (4, "d")]


def test_the_theoretical_zero_moves_up_where_scores_lie_close_together():
    wide = {"a": 0.6, "b": 0.5, "c": 0.45, "d": 0.3}  # as MiniLM's: -1 is 14 deviations below the best
    assert f.theoretical_min_max(wide, -1).scores == {i: (s + 1) / 1.6 for i, s in wide.items()}
    close = {"a": 0.90, "b": 0.88, "c": 0.87, "d": 0.84}  # as E5's: -1 is 88 deviations below the best
    deviation = np.std(list(close.values()))
    expected = {i: 1 - (0.90 - s) / (f.MAX_DEVIATIONS * deviation) for i, s in close.items()}
    assert f.theoretical_min_max(close, -1).scores == pytest.approx(expected)
    outlier = {f"{i}": 1.0 for i in range(2000)} | {"low": 0.9}
    assert f.theoretical_min_max(outlier, -1).scores["low"] == 0  # never below


def test_close_cosines_still_speak_in_the_default_mixture():
    """The best passage is only .04 ahead, which is much among these cosines; by words it is the last."""
    dense = [Hit("right", 0.90), *(Hit(f"d{i}", 0.86 - 0.002 * i) for i in range(20))]
    lexical = [*(Hit(f"d{i}", 9.0 - 0.05 * i) for i in range(20)), Hit("right", 8.0)]
    candidates = f.Candidates("q", tuple(dense), tuple(lexical), f.MIN_COSINE)
    assert f.fuse(candidates)[0].id == "right"
