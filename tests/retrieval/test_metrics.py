"""Every metric equals trec_eval's and has the properties that its definition implies."""

import math
import random
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document

from course_lib.errors import CourseError
from course_lib.retrieval import Hit
from course_lib.retrieval import metrics as m

IDS = [f"d{i}" for i in range(12)]
RANKINGS = st.lists(st.sampled_from(IDS), unique=True)
QRELS = st.dictionaries(st.sampled_from(IDS), st.integers(-1, 4))
THEIRS = {
    "recall": "recall_{}",
    "precision": "P_{}",
    "success": "success_{}",
    "map": "map_cut_{}",
    "ndcg": "ndcg_cut_{}",
}
# trec_eval's own nDCG never returns where all qrels are negative
ENDS = QRELS.filter(lambda qrels: any(grade >= 0 for grade in qrels.values()))
WHOLE = {"map": "map", "ndcg": "ndcg", "mrr": "recip_rank"}


def theirs(ranking, qrels, name, k):
    pytrec_eval = pytest.importorskip("pytrec_eval")  # available only for x86 processors
    measure = WHOLE[name] if k is None else THEIRS[name].replace("_{}", f".{k}")
    scores = {doc_id: float(len(ranking) - place) for place, doc_id in enumerate(ranking)}
    (results,) = (
        pytrec_eval.RelevanceEvaluator({"q": dict(qrels)}, {measure}).evaluate({"q": scores})["q"].values()
    )
    return results


@given(RANKINGS.filter(bool), ENDS, st.integers(1, 15))
def test_measures_are_those_of_trec_eval(ranking, qrels, k):
    for name in THEIRS:
        assert m.METRICS[name](ranking, qrels, k) == pytest.approx(theirs(ranking, qrels, name, k), abs=1e-9)
    for name in WHOLE:
        assert m.METRICS[name](ranking, qrels, None) == pytest.approx(
            theirs(ranking, qrels, name, None), abs=1e-9
        )
    gains = {doc_id: 2 ** max(0, grade) - 1 for doc_id, grade in qrels.items()}
    assert m.ndcg_exponential(ranking, qrels, k) == pytest.approx(theirs(ranking, gains, "ndcg", k), abs=1e-9)


@given(RANKINGS, QRELS, st.integers(1, 14))
def test_values_lie_in_0_to_1_and_more_places_find_no_less(ranking, qrels, k):
    for name, measure in m.METRICS.items():
        assert 0 <= measure(ranking, qrels, k) <= 1 + 1e-12
        if name in ("recall", "mrr", "map", "success"):
            assert measure(ranking, qrels, k) <= measure(ranking, qrels, k + 1)


@given(QRELS, st.randoms(use_true_random=False))
def test_the_best_order_has_ndcg_1_and_no_other_more(qrels, shuffler):
    best = sorted(qrels, key=lambda doc_id: -qrels[doc_id])
    other = list(best)
    shuffler.shuffle(other)
    for measure in (m.ndcg, m.ndcg_exponential):
        assert measure(best, qrels) == (1 if m.relevant_count(qrels) else 0)
        assert measure(other, qrels, 5) <= measure(best, qrels, 5) + 1e-12


@pytest.mark.parametrize("measure", m.METRICS.values(), ids=m.METRICS)
def test_nothing_found_nothing_relevant_and_what_is_refused(measure):
    assert (
        measure([], {"a": 1}, None)
        == measure([], {}, 5)
        == measure(["a"], {}, 5)
        == measure(["a"], {"a": -1}, None)
        == 0
    )
    with pytest.raises(CourseError, match="k=0"):
        measure(["a"], {"a": 1}, 0)
    with pytest.raises(CourseError, match="a ranking of 3 documents has 2 distinct ids"):
        measure(["a", "b", "a"], {"a": 1}, 2)


def test_a_grade_that_would_gain_everything_is_refused():
    with pytest.raises(CourseError, match=r"a grade of 61 has a gain of 2\^61"):
        m.ndcg_exponential(["a"], {"a": 61})


def test_means_are_over_all_judged_questions():
    qrels = {"q1": {"a": 1}, "q2": {"b": 2}, "q3": {"c": 1}}
    results = m.evaluate({"q1": ["a"], "q2": ["x", "b"]}, qrels, ["mrr", "recall@1", "ndcg_exponential@10"])
    assert results.values["mrr"] == {"q1": 1, "q2": 0.5, "q3": 0}
    assert results.mean("mrr").value == 0.5 and results.mean("recall@1").value == pytest.approx(1 / 3)
    assert results.values["ndcg_exponential@10"]["q2"] == pytest.approx(1 / math.log2(3))


@pytest.mark.parametrize(
    ("run", "qrels", "metrics", "message"),
    [
        ({"q9": ["a"]}, {"q1": {"a": 1}}, ["mrr"], "1 of 1 rankings belong to queries without qrels.*'q9'"),
        (
            {},
            {"q1": {"a": 0}, "q2": {"a": 1}},
            ["mrr"],
            "1 of 2 queries have no relevant document; the first is 'q1'",
        ),
        ({}, {}, ["mrr"], "0 of 0 queries"),
        ({}, {"q1": {"a": 1}}, ["ndgc@10"], "unknown metric 'ndgc@10'"),
        ({}, {"q1": {"a": 1}}, ["ndcg@"], "unknown metric 'ndcg@'"),
        ({}, {"q1": {"a": 1}}, ["ndcg@0"], "unknown metric 'ndcg@0'"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(run, qrels, metrics, message):
    with pytest.raises(CourseError, match=message):
        m.evaluate(run, qrels, metrics)


def test_a_difference_is_told_where_the_questions_tell_it():
    rng = random.Random(0)
    base = {f"q{i}": rng.random() / 2 for i in range(100)}
    better = {q: v + 0.05 + rng.random() / 100 for q, v in base.items()}
    same = {q: v + rng.choice([-0.1, 0.1]) for q, v in base.items()}
    assert m.difference(better, base).verdict == "A" and m.difference(base, better).verdict == "B"
    assert m.difference(base, same).verdict == m.difference(base, base).verdict == "undecided"
    assert str(m.difference(better, base)).endswith("100 questions): A is better")
    assert str(m.difference(base, same)).endswith("100 questions): no clear difference")
    assert m.difference(better, dict(reversed(base.items()))) == m.difference(better, base)
    with pytest.raises(CourseError, match="a has 100 queries and b has 1; they have 0 in common"):
        m.difference(base, {"x": 1.0})


@pytest.mark.parametrize("judged", ["NFC", "NFD"])
@pytest.mark.parametrize("found", ["NFC", "NFD"])
def test_ids_of_queries_and_documents_match_in_either_unicode_form(found, judged):
    query, document = (unicodedata.normalize(judged, name) for name in ("질문", "문서"))
    run = {unicodedata.normalize(found, "질문"): [unicodedata.normalize(found, "문서")]}
    assert m.evaluate(run, {query: {document: 1}}, ["mrr", "ndcg@10"]).values["mrr"] == {query: 1.0}


@pytest.mark.parametrize(
    "run, qrels, message",
    [
        (["1"], {1: 1}, r"(?s)ids, which are strings.*1: 1.*Fix: \{str\("),
        ([1], {"1": 1}, r"(?s)ids, which are strings; got 1.*\[str\(doc_id\)"),
        ([("d", 0.9)], {"d": 1}, r"\[hit.id for hit in hits\]"),
        ([Hit("d", 0.9)], {"d": 1}, r"\[hit.id for hit in hits\]"),
        ([Document(id="d", page_content="x")], {"d": 1}, r"\[hit.id for hit in hits\]"),
        ({"d": 0.9}, {"d": 1}, r"sorted\(scores, key=scores.get, reverse=True\)"),
        ({"d"}, {"d": 1}, "a list of ids, best first; got {'d'}"),
        (None, {"d": 1}, "a list of ids, best first; got None"),
        ("d", {"d": 1}, "a list of ids, best first; got 'd'"),
        ((doc_id for doc_id in "d"), {"d": 1}, "a list of ids, best first; got <generator"),
        (["d"], ["d"], r"(?s)qrels map ids to grades; got \['d'\].*dict.fromkeys"),
        (["d"], {"d": "1"}, "grades, which are integers; got 'd': '1'"),
        (["d"], {"d": 0.5}, "grades, which are integers; got 'd': 0.5"),
    ],
)
def test_rankings_and_qrels_in_the_form_of_other_libraries_are_refused(run, qrels, message):
    with pytest.raises(CourseError, match=message):
        m.evaluate({"q": run}, {"q": qrels}, ["mrr"])


@pytest.mark.parametrize("hold", [list, tuple, np.array])
def test_a_ranking_may_be_any_sequence(hold):
    assert m.evaluate({"q": hold(["x", "d"])}, {"q": {"d": np.int64(1)}}, ["mrr"]).values["mrr"] == {"q": 0.5}
