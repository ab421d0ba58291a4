"""A guess is stored once it is one, shown beside the measurement, and never needed to go on."""

import itertools

import pytest

from course_lib.learn import state
from course_lib.learn.predictions import predict, reveal
from course_lib.learn.progress import ratios, summary
from course_lib.plots import calibration


@pytest.fixture(autouse=True)
def own_state(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_STATE", str(tmp_path / "state.json"))


def guess():
    return state.current().predictions["speed"].guess


def test_a_guess_is_stored_and_shown_beside_the_measurement(capsys):
    prediction = predict("speed", unit="ms", low=1, high=1000)
    prediction.field.value = "50"
    assert guess() == 50 and "Noted: 50 ms" in prediction.text and "Noted: 50 ms" in prediction.status.value
    reveal("speed", 100.0)
    assert capsys.readouterr().out == "your guess: 50 ms   measured: 100 ms   the guess is 0.5 times it\n"


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("a lot", "not a number"),
        ("", "not a number"),
        ("0.5", "outside 1 to 1000"),
        ("1001", "outside"),
        ("nan", "outside"),
        ("1,5", "such as 1.5"),
        ("1,0000", "not a number"),
        ("inf", "outside"),
    ],
)
def test_what_is_no_guess_is_said_and_not_stored(typed, said):
    prediction = predict("speed", unit="ms", low=1, high=1000)
    prediction.field.value = "7"
    prediction.field.value = typed
    assert said in prediction.text and guess() == 7


@pytest.mark.parametrize(
    ("typed", "number"), [("1", 1), ("1000", 1000), ("1,000", 1000), (" 12.5 ms", 12.5), ("1e2", 100)]
)
def test_ends_of_the_range_units_and_commas_are_guesses(typed, number):
    predict("speed", unit="ms", low=1, high=1000).field.value = typed
    assert guess() == number


def test_a_guess_after_the_measurement_does_not_count():
    prediction = predict("speed", unit="ms", low=1, high=1000)
    reveal("speed", 100.0)
    prediction.field.value = "100"
    assert guess() is None and "does not count" in prediction.text
    predict("speed", unit="ms", low=1, high=1000).field.value = "80"  # the cell is run again, another day
    assert guess() == 80


def test_a_guess_in_another_unit_is_forgotten():
    predict("speed", unit="ms", low=1, high=1000).field.value = "50"
    assert predict("speed", unit="s", low=0.1, high=10).field.value == "" and guess() is None


def test_a_guess_of_zero_is_a_guess():
    predict("share", unit="%", low=0, high=100).field.value = "0"
    reveal("share", 4.0)
    assert "1 prediction; 0 of them within" in summary(state.current())


def test_without_a_guess_it_invites_one_and_goes_on(capsys):
    reveal("never asked", 3.0)
    predict("speed", unit="ms", low=1, high=1000)
    reveal("speed", 3.0)
    assert capsys.readouterr().out.count("No guess yet: next time, guess first.") == 2


def test_a_guess_is_there_when_the_notebook_is_opened_again():
    predict("speed", unit="ms", low=1, high=1000).field.value = "50"
    assert predict("speed", unit="ms", low=1, high=1000).field.value == "50"


@pytest.mark.parametrize(("low", "high"), [(1, 1), (2, 1), (0, float("inf")), (float("nan"), 1)])
def test_a_range_that_is_none_is_refused(low, high):
    with pytest.raises(ValueError, match="two finite numbers"):
        predict("speed", unit="ms", low=low, high=high)


def test_a_measurement_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="nan"):
        reveal("speed", float("nan"))


def test_a_prediction_is_driven_like_a_widget():
    prediction = predict("speed", unit="ms", low=1, high=1000)
    assert prediction.drive() == 4 and prediction.field.value == ""


def test_an_input_has_a_label_and_a_static_form():
    prediction = predict("speed", unit="ms", low=1, high=1000)
    assert prediction.field.description == "Your guess:"
    assert "between 1 and 1000 ms" in prediction._repr_mimebundle_()["text/plain"]


def test_progress_counts_what_was_passed_and_guessed():
    known = state.State(
        exercises={
            "00.1": state.ExerciseRecord(attempts=1, passed=True, verdict="right"),
            "00.2": state.ExerciseRecord(attempts=3, verdict="not yet"),
        },
        predictions={
            "a": state.PredictionRecord(unit="s", low=1, high=9, guess=2, measured=3),
            "b": state.PredictionRecord(unit="s", low=1, high=9, guess=9, measured=1),
            "c": state.PredictionRecord(unit="s", low=1, high=9, measured=1),
        },
    )
    text = summary(known)
    assert (
        "00-start-here" in text
        and "1 of 3" in text
        and "2 predictions; 1 of them within a factor of two" in text
    )
    assert ratios(known) == {"a": 2 / 3, "b": 9}
    known.exercises["00.2"].passed = True
    known.exercises["00.3"] = state.ExerciseRecord(attempts=1, passed=True, verdict="right")
    assert "00-start-here        3 of 3            done" in summary(known)
    assert "No predictions yet" in summary(state.State())


def test_the_picture_of_guesses_has_a_dot_for_each():
    axes = calibration({"a": 0.5, "b": 4.0}).axes[0]
    assert list(axes.lines[1].get_xdata()) == [0.5, 4.0] and axes.get_xscale() == "log"
    assert [t.get_text() for t in axes.get_yticklabels()] == ["a", "b"]
    low, high = axes.get_xlim()
    assert low < 0.5 < 4 < high
    axes.figure.draw_without_rendering()
    ticks = [t.get_window_extent() for t in axes.get_xticklabels() if t.get_text()]
    assert len(ticks) >= 3 and all(a.x1 < b.x0 for a, b in itertools.pairwise(ticks)), "labels overlap"
    with pytest.raises(ValueError, match="no predictions"):
        calibration({})
