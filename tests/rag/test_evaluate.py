"""Scores of answers and labels, with scikit-learn as the oracle for those that it has."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_score, recall_score

from course_lib.errors import CourseError
from course_lib.rag import evaluate

LABELS = ["card", "loan", "fee", "other"]
pairs = st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), min_size=1, max_size=40)


@given(pairs)
def test_label_scores_are_those_of_sklearn(rows):
    gold, predicted = [list(column) for column in zip(*rows, strict=True)]
    assert evaluate.accuracy(predicted, gold).value == pytest.approx(accuracy_score(gold, predicted))
    expected = f1_score(gold, predicted, average="macro", labels=sorted({*gold, *predicted}), zero_division=0)
    assert evaluate.macro_f1(predicted, gold, draws=2).value == pytest.approx(expected)
    assert np.array_equal(
        evaluate.confusion_matrix(predicted, gold, LABELS), confusion_matrix(gold, predicted, labels=LABELS)
    )


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_refusals_are_scored_as_sklearn_does(rows):
    refused, should = [list(column) for column in zip(*rows, strict=True)]
    found = evaluate.abstention(refused, should)
    if any(refused):
        assert found.precision.value == pytest.approx(precision_score(should, refused, zero_division=0))
    else:
        assert found.precision is None
    if any(should):
        assert found.recall.value == pytest.approx(recall_score(should, refused))
    if not all(should):
        assert found.false_refusals.value == np.mean([r for r, s in rows if not s])


@given(st.lists(st.integers(0, 9), min_size=1, max_size=20), st.integers(0, 8))
def test_a_threshold_refuses_no_more_than_allowed_and_the_next_would(confidence, eighths):
    allowed = eighths / 8
    limit = evaluate.refusal_threshold(confidence, allowed)
    refused = {c: sum(other < c for other in confidence) / len(confidence) for c in confidence}
    assert refused[limit] <= allowed
    assert all(share > allowed for c, share in refused.items() if c > limit)


def test_a_threshold_needs_a_share_of_something():
    for confidence, allowed in (([], 0.1), ([0.5], 1.1), ([0.5], -0.1)):
        with pytest.raises(ValueError, match="give some, and a share"):
            evaluate.refusal_threshold(confidence, allowed)


def test_an_abstention_is_neither_right_nor_a_label_of_its_own():
    assert evaluate.accuracy(["card", None], ["card", "loan"]).value == 0.5
    # card: F1 1; loan: nothing predicted, F1 0; None has no F1
    assert evaluate.macro_f1(["card", None], ["card", "loan"], draws=2).value == 0.5
    with pytest.raises(CourseError, match="'None' is not one of the 2 labels"):
        evaluate.confusion_matrix(["card", None], ["card", "loan"], ["card", "loan"])


@pytest.mark.parametrize(
    ("prediction", "gold", "exact", "words", "characters"),
    [
        ("The KRW 3,000.", "KRW 3,000", 1, 1, 1),
        ("krw 3000", "KRW 3,000", 1, 1, 1),
        ("the fee is KRW 3,000", "KRW 3,000", 0, 2 / 3, 14 / 19),  # 7 characters of 12
        ("하늘은행은", "하늘은행", 0, 0, 8 / 9),
        ("2 days 2", "2 days", 0, 0.8, 10 / 11),  # the second 2 has no partner
        ("", "KRW 3,000", 0, 0, 0),
        ("the", "a", 1, 1, 1),  # nothing is left of either
    ],
)
def test_answers_after_the_normalisation_of_squad(prediction, gold, exact, words, characters):
    assert evaluate.squad_exact(prediction, gold) == exact
    assert evaluate.token_f1(prediction, gold) == pytest.approx(words)
    assert evaluate.character_f1(prediction, gold) == pytest.approx(characters)


def test_the_best_of_several_right_answers_counts():
    assert evaluate.best_of(evaluate.squad_exact, "nine", ["09:00", "nine"]) == 1


def test_an_answer_is_faithful_only_as_a_run_of_whole_words():
    passage = "The annual fee is KRW 25,000; it was KRW 2,500."
    assert evaluate.faithful("KRW 2,500", [passage]) and evaluate.faithful("the Annual Fee", ["", passage])
    assert not evaluate.faithful("KRW 5,000", [passage])
    assert not evaluate.faithful("fee KRW", [passage])
    assert not evaluate.faithful("KRW 250", [passage])
    assert not evaluate.faithful("...", [passage])
    rate = "It pays 1.5% a year, or 1.75%."
    assert evaluate.faithful("1.5%", [rate]) and not evaluate.faithful("15%", [rate])


def test_calibration_error_by_hand():
    confidence, correct = [0.95, 0.85, 0.85, 0.15], [True, True, False, False]
    bins = evaluate.reliability(confidence, correct)
    assert [(b.count, b.accuracy) for b in bins] == [(1, 0), (2, 0.5), (1, 1)]
    error = evaluate.calibration_error(confidence, correct, draws=10)
    assert error.value == pytest.approx((0.15 + 2 * 0.35 + 0.05) / 4)
    assert evaluate.reliability([1.0], [True])[0].confidence == 1, "1 belongs to the last bin"


def test_a_temperature_mends_overconfidence_and_keeps_the_best_label():
    rng = np.random.default_rng(0)
    rows, gold = [], []
    for p in rng.uniform(0.5, 0.95, 3000):
        gold.append("a" if rng.random() < p else "b")
        rows.append(evaluate.sharpen({"a": p, "b": 1 - p}, 0.25))  # four times too sure
    temperature = evaluate.fit_temperature(rows, gold)
    assert temperature == pytest.approx(4, rel=0.15)
    mended = [evaluate.sharpen(row, temperature) for row in rows]
    correct = [g == "a" for g in gold]
    before = evaluate.calibration_error([r["a"] for r in rows], correct, draws=2).value
    after = evaluate.calibration_error([r["a"] for r in mended], correct, draws=2).value
    assert before > 0.1 and after < 0.03
    assert all(max(r, key=r.get) == "a" for r in mended)


def test_a_distribution_that_is_sharpened_stays_one():
    assert sum(evaluate.sharpen({"a": 0.7, "b": 0.3, "": 0.0}, 0.05).values()) == pytest.approx(1)
    assert evaluate.sharpen({"a": 0.8, "b": 0.2}, 2)["a"] == pytest.approx(2 / 3)


def test_an_interval_contains_the_value_and_narrows_with_more_rows():
    rows = np.arange(100) % 2
    few, many = (evaluate.bootstrap(lambda r: float(r.mean()), np.resize(rows, n), 300) for n in (20, 2000))
    assert few.low < few.value < few.high and many.high - many.low < (few.high - few.low) / 5


@pytest.mark.parametrize("call", [evaluate.accuracy, evaluate.abstention, evaluate.reliability])
def test_nothing_and_lists_of_two_lengths_are_refused(call):
    for first, second in (([], []), ([1], [1, 1])):
        with pytest.raises(ValueError, match="pairs are needed"):
            call(first, second)


def test_an_abstention_counts_the_same_from_a_table_of_pandas():
    """pandas has NaN in the place of None."""
    gold, predicted = ["a", "b", "b", "a"], ["a", None, "b", "a"]
    table = pd.DataFrame({"label": predicted})["label"].tolist()
    assert table[1] is not None
    assert evaluate.macro_f1(table, gold) == evaluate.macro_f1(predicted, gold)
    assert evaluate.accuracy(table, gold) == evaluate.accuracy(predicted, gold)
    labels = ["a", "b", None]
    assert np.array_equal(*(evaluate.confusion_matrix(p, gold, labels) for p in (table, predicted)))


@pytest.mark.parametrize(
    "call",
    [
        lambda: evaluate.reliability([float("nan"), 0.5], [True, False]),
        lambda: evaluate.calibration_error([55, 50], [True, False]),  # per cent
        lambda: evaluate.refusal_threshold([0.9, float("nan"), 0.1], 0.3),
        lambda: evaluate.sharpen({"a": float("nan"), "b": 0.5}, 1),
        lambda: evaluate.sharpen({"a": 0.5, "b": 0.5}, 0),
        lambda: evaluate.fit_temperature([{"a": float("nan"), "b": 0.5}], ["a"]),
        lambda: evaluate.macro_f1([], []),
    ],
)
def test_numbers_that_say_nothing_are_refused(call):
    with pytest.raises(ValueError, match=r"confidence|NaN|0 and 0 values"):
        call()
