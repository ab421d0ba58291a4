"""Checking, hints and solutions as a student meets them; the gate in tests/notebooks runs the exercises."""

import re
from fractions import Fraction

import pytest

from course_lib.errors import CourseError
from course_lib.learn import state
from course_lib.learn.exercises import Exercise, all_exercises, check, find_exercise, hint, solution
from course_lib.learn.exercises.comparing import compare, diagnose
from course_lib.learn.exercises.engine import ExerciseFailed, judge


@pytest.fixture(autouse=True)
def own_state(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_STATE", str(tmp_path / "state.json"))
    monkeypatch.delenv("COURSE_CHECK", raising=False)


def right(answers):
    return sum(a == "Not in the handbook." for a in answers) / (len(answers) or 1)


def unwritten(answers):
    raise NotImplementedError("your code here")


@pytest.mark.parametrize(
    ("answer", "reply"),
    [
        (right, "00.2 right"),
        (unwritten, "00.2 not answered"),
        (..., "00.2 not answered"),
        (None, "00.2 not yet: your answer is None"),
        ("half", "00.2 not yet: your code stopped with TypeError"),
        (lambda answers: exit(), "00.2 not yet: your code stopped with SystemExit"),
        (lambda answers: Fraction(1, 2), "gave 0.5; it should give 1"),
        (lambda answers: 1 / 0, "00.2 not yet: your code stopped with ZeroDivisionError"),
        (lambda answers: sum(a == "Not in the handbook." for a in answers), "the number of refusals"),
    ],
)
def test_three_replies_and_never_an_exception(answer, reply, capsys):
    check("00.2", answer)
    assert reply in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answer", "marked"),
    [
        (right, "\x1b[1;32m✓ 00.2 right\x1b[0m: "),
        (0.5, "\x1b[1;31m✗ 00.2 not yet\x1b[0m: "),
        (..., "\x1b[1;34m○ 00.2 not answered\x1b[0m: "),
    ],
)
def test_a_verdict_is_told_by_a_sign_and_a_word_and_in_notebooks_by_colour_too(
    answer, marked, capsys, monkeypatch
):
    check("00.2", answer)
    assert capsys.readouterr().out.startswith(re.sub(r"\x1b\[[0-9;]*m", "", marked))
    monkeypatch.setattr("IPython.get_ipython", object)
    check("00.2", answer)
    assert capsys.readouterr().out.startswith(marked)


def test_what_was_once_right_stays_passed(capsys):
    check("00.2", unwritten)
    check("00.2", right)
    check("00.2", lambda answers: 7)
    tried = state.current().exercises["00.2"]
    assert (tried.attempts, tried.passed, tried.verdict) == (2, True, "not yet")


@pytest.mark.parametrize("answer", [unwritten, ..., lambda answers: 7])
def test_strict_mode_raises(answer, monkeypatch):
    monkeypatch.setenv("COURSE_CHECK", "strict")
    with pytest.raises(ExerciseFailed, match=r"00\.2 not"):
        check("00.2", answer)
    check("00.2", right)


def test_hints_come_one_by_one(capsys):
    hints = find_exercise("00.2").hints
    for number, text in enumerate(hints, 1):
        hint("00.2")
        assert capsys.readouterr().out == f"Hint {number} of {len(hints)}: {text}\n"
    hint("00.2")
    out = capsys.readouterr().out
    assert out.count("Hint ") == len(hints) and 'solution("00.2")' in out


def test_the_solution_is_shown_after_a_try(capsys, monkeypatch):
    solution("00.2")
    assert "try to answer it first" in capsys.readouterr().out
    check("00.2", unwritten)
    solution("00.2")
    assert "try to answer it first" in capsys.readouterr().out
    check("00.2", lambda answers: 7)
    solution("00.2")
    assert "return sum(a == REFUSAL" in capsys.readouterr().out
    monkeypatch.setenv("COURSE_SOLUTIONS", "off")
    solution("00.2")
    assert "switched off" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", ["00.9", "77", "", "../00.1", "99.1", "00.1.1"])
def test_an_unknown_exercise_is_told_and_strictly_raised(wrong, capsys, monkeypatch):
    for call in (hint, solution, lambda id_: check(id_, 1)):
        call(wrong)
        assert "only 00.1" in capsys.readouterr().out
    monkeypatch.setenv("COURSE_CHECK", "strict")
    with pytest.raises(CourseError, match=r"only 00\.1"):
        check(wrong, 1)


def test_a_call_without_an_answer_is_told(capsys, monkeypatch):
    check("00.2")
    hint()
    check(exercise_id="00.2", answer=right)
    out = capsys.readouterr().out
    assert out.count("For example: check(") == 2 and "00.2 right" in out
    monkeypatch.setenv("COURSE_CHECK", "strict")
    with pytest.raises(TypeError):
        check("00.2")


def test_a_setting_that_means_nothing_is_refused(monkeypatch, capsys):
    monkeypatch.setenv("COURSE_SOLUTIONS", "no")
    solution("00.2")
    assert "COURSE_SOLUTIONS='no' is not valid; use on or off" in capsys.readouterr().out
    monkeypatch.setenv("COURSE_SOLUTIONS", "OFF")
    solution("00.2")
    assert "switched off" in capsys.readouterr().out
    monkeypatch.setenv("COURSE_CHECK", "no")
    with pytest.raises(CourseError, match="use strict or gentle"):
        check("00.2", lambda answers: 7)


def test_a_chapter_may_be_named_without_its_zero(capsys):
    check("0.2", right)
    assert capsys.readouterr().out.startswith("✓ 00.2 right") and state.current().exercises["00.2"].passed


def test_a_file_of_a_newer_course_does_not_stop_the_lesson(tmp_path, capsys):
    (tmp_path / "state.json").write_text('{"version": 9}')
    check("00.2", right)
    hint("00.2")
    out = capsys.readouterr().out
    assert "00.2 right" in out and "Hint 1" in out and "newer course" in out
    assert (tmp_path / "state.json").read_text() == '{"version": 9}'


def test_every_exercise_is_found_by_its_id():
    assert all(find_exercise(id_) is exercise for id_, exercise in all_exercises().items())
    assert (
        "raise NotImplementedError" in find_exercise("00.1").stub
        and "return" in find_exercise("00.1").reference
    )


@pytest.mark.parametrize(
    ("got", "said"),
    [
        (2.0, None),
        (2, None),
        (3.0, "three"),
        (5.0, "gave 5; it should be 2"),
        ("2", "expected a number"),
        (True, "type bool"),
        (float("nan"), "gave nan"),
    ],
)
def test_compare(got, said):
    reply = compare("f()", got, 2.0, {3.0: "three"})
    assert reply is None if said is None else said in reply


def test_a_verdict_of_a_checker_is_passed_on():
    exercise = Exercise("x", "title", (), lambda answer: None if answer == 1 else "no")
    assert judge(exercise, 1) == ("right", "title") and judge(exercise, 2) == ("not yet", "no")


def halve(numbers):
    if not numbers:
        raise ValueError("none")
    return [n / 2 for n in numbers]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (halve, None),
        (lambda numbers: [0.5 * n for n in numbers] if numbers else halve(numbers), None),
        (lambda numbers: [n // 2 for n in numbers] if numbers else halve(numbers), "cuts off"),
        (lambda numbers: [n / 2 for n in numbers], "halve([]) gave []; it should raise ValueError: none"),
        (lambda numbers: [numbers[0] / 2, *(n / 2 for n in numbers[1:])], "stopped with IndexError"),
        (lambda numbers: numbers.clear(), "halve returned None"),
        (lambda numbers: "halves", "gave 'halves'; it should give [0.5, 1.0]"),
    ],
)
def test_diagnose_compares_with_the_reference_and_names_known_mistakes(answer, said):
    mistakes = [(lambda numbers: [n // 2 for n in numbers] if numbers else halve(numbers), "that cuts off")]
    reply = diagnose(answer, halve, [([1, 2],), ([],)], mistakes, name="halve")
    assert reply is None if said is None else said in reply


def test_diagnose_passes_on_that_nothing_was_written():
    with pytest.raises(NotImplementedError):
        diagnose(unwritten, halve, [([1],)])
