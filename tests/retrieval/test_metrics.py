"""Every measure equals trec_eval's, and keeps what its definition promises."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.errors import CourseError
from course_lib.retrieval import metrics as m

IDS = [f"d{i}" for i in range(12)]
RANKINGS = st.lists(st.sampled_from(IDS), unique=True)
JUDGEMENTS = st.dictionaries(st.sampled_from(IDS), st.integers(-1, 4))
THEIRS = {
    "recall": "recall_{}",
    "precision": "P_{}",
    "success": "success_{}",
    "map": "map_cut_{}",
    "ndcg": "ndcg_cut_{}",
}
# trec_eval's own nDCG never returns where all judgements are negative
ENDS = JUDGEMENTS.filter(lambda judgements: any(grade >= 0 for grade in judgements.values()))
WHOLE = {"map": "map", "ndcg": "ndcg", "mrr": "recip_rank"}


def theirs(ranking, judgements, name, k):
    pytrec_eval = pytest.importorskip("pytrec_eval")  # there are files for x86 processors alone
    measure = WHOLE[name] if k is None else THEIRS[name].replace("_{}", f".{k}")
    scores = {id: float(len(ranking) - place) for place, id in enumerate(ranking)}
    (found,) = (
        pytrec_eval.RelevanceEvaluator({"q": dict(judgements)}, {measure})
        .evaluate({"q": scores})["q"]
        .values()
    )
    return found


@given(RANKINGS.filter(bool), ENDS, st.integers(1, 15))
def test_measures_are_those_of_trec_eval(ranking, judgements, k):
    for name in THEIRS:
        assert m.METRICS[name](ranking, judgements, k) == pytest.approx(
            theirs(ranking, judgements, name, k), abs=1e-9
        )
    for name in WHOLE:
        assert m.METRICS[name](ranking, judgements, None) == pytest.approx(
            theirs(ranking, judgements, name, None), abs=1e-9
        )
    gains = {id: 2 ** max(0, grade) - 1 for id, grade in judgements.items()}
    assert m.ndcg_exponential(ranking, judgements, k) == pytest.approx(
        theirs(ranking, gains, "ndcg", k), abs=1e-9
    )


@given(RANKINGS, JUDGEMENTS, st.integers(1, 14))
def test_values_lie_in_0_to_1_and_more_places_find_no_less(ranking, judgements, k):
    for name, measure in m.METRICS.items():
        assert 0 <= measure(ranking, judgements, k) <= 1 + 1e-12
        if name in ("recall", "mrr", "map", "success"):
            assert measure(ranking, judgements, k) <= measure(ranking, judgements, k + 1)


@given(JUDGEMENTS, st.randoms(use_true_random=False))
def test_the_best_order_has_ndcg_1_and_no_other_more(judgements, shuffler):
    best = sorted(judgements, key=lambda id: -judgements[id])
    other = list(best)
    shuffler.shuffle(other)
    for measure in (m.ndcg, m.ndcg_exponential):
        assert measure(best, judgements) == (1 if m.relevant(judgements) else 0)
        assert measure(other, judgements, 5) <= measure(best, judgements, 5) + 1e-12


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
    for twice in (["a", "b", "a"], "aba"):
        with pytest.raises(CourseError, match="3 places in a ranking for 2 ids"):
            measure(twice, {"a": 1}, 2)


def test_a_grade_that_would_gain_everything_is_refused():
    with pytest.raises(CourseError, match="a grade of 61 would gain"):
        m.ndcg_exponential(["a"], {"a": 61})


def test_means_are_over_all_judged_questions():
    judgements = {"q1": {"a": 1}, "q2": {"b": 2}, "q3": {"c": 1}}
    found = m.evaluate(
        {"q1": ["a"], "q2": ["x", "b"]}, judgements, ["mrr", "recall@1", "ndcg_exponential@10"]
    )
    assert found.values["mrr"] == {"q1": 1, "q2": 0.5, "q3": 0}
    assert found.mean("mrr").value == 0.5 and found.mean("recall@1").value == pytest.approx(1 / 3)
    assert found.values["ndcg_exponential@10"]["q2"] == pytest.approx(1 / math.log2(3))


@pytest.mark.parametrize(
    ("run", "judgements", "metrics", "message"),
    [
        ({"q9": ["a"]}, {"q1": {"a": 1}}, ["mrr"], "of 1 rankings 1 have no judgements(.|\n)*'q9'"),
        (
            {},
            {"q1": {"a": 0}, "q2": {"a": 1}},
            ["mrr"],
            "of 2 questions 1 have nothing that is relevant, the first 'q1'",
        ),
        ({}, {}, ["mrr"], "of 0 questions"),
        ({}, {"q1": {"a": 1}}, ["ndgc@10"], "no measure 'ndgc@10'"),
        ({}, {"q1": {"a": 1}}, ["ndcg@"], "no measure 'ndcg@'"),
        ({}, {"q1": {"a": 1}}, ["ndcg@0"], "no measure 'ndcg@0'"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(run, judgements, metrics, message):
    with pytest.raises(CourseError, match=message):
        m.evaluate(run, judgements, metrics)


def test_a_difference_is_told_where_the_questions_tell_it():
    rng = random.Random(0)
    base = {f"q{i}": rng.random() / 2 for i in range(100)}
    better = {q: v + 0.05 + rng.random() / 100 for q, v in base.items()}
    same = {q: v + rng.choice([-0.1, 0.1]) for q, v in base.items()}
    assert m.difference(better, base).verdict == "A" and m.difference(base, better).verdict == "B"
    assert m.difference(base, same).verdict == m.difference(base, base).verdict == "undecided"
    assert str(m.difference(better, base)).endswith("100 questions): A is better")
    assert m.difference(better, dict(reversed(base.items()))) == m.difference(better, base)
    with pytest.raises(CourseError, match="100 and 1 questions, 0 of them the same"):
        m.difference(base, {"x": 1.0})
