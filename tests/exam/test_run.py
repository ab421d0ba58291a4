"""An exam within its time: checkpoints, deadlines, cheaper systems, and answers that are never empty."""

import json
import signal
import subprocess
import sys
import threading
import time

import pytest

from course_lib.data import ROOT
from course_lib.errors import CourseError
from course_lib.exam.questions import ExamQuestion
from course_lib.exam.report import report, scores
from course_lib.exam.run import System, guess, read_given, run_exam
from course_lib.rag.prompt import REFUSAL

QUESTIONS = [
    ExamQuestion(
        str(n), f"What is {n} + {n}?", ("0", str(2 * n)) if n % 2 else (), str(2 * n), "sum", language="en"
    )
    for n in range(1, 9)
]


def add(question):
    return str(2 * int(question.id))


def run(tmp_path, *systems, minutes=1.0, **options):
    return run_exam(QUESTIONS, systems, tmp_path / "run.jsonl", minutes=minutes, progress=False, **options)


def test_every_question_is_answered_and_scored(tmp_path):
    given = run(tmp_path, System("adder", add))
    assert [each.answer for each in given] == [add(q) for q in QUESTIONS]
    found = scores(QUESTIONS, {each.id: each.answer for each in given})
    assert found["all"].value == found["kind=sum"].value == found["language=en"].value == 1
    assert "8 of 8 questions answered" in report(QUESTIONS, given) and "adder" in report(QUESTIONS, given)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda q: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda q: "", "none of the 2 options"),
        (lambda q: " (A) ", "none of the 2 options"),
        (lambda q: "x" * 501, "none of the 2 options"),
        (lambda q: None, "TypeError: the system returned None, which is no text"),
        (lambda q: sys.exit(3), "SystemExit: 3"),
    ],
)
def test_a_system_that_fails_is_counted_and_the_next_one_answers(tmp_path, answer, told):
    given = run(tmp_path, System("broken", answer), System("adder", add))
    assert given[0].answer == "2" and given[0].system == "adder" and told in given[0].failed[0]
    assert told in report(QUESTIONS, given)


def test_where_every_system_fails_the_answer_is_a_guess(tmp_path):
    given = run(tmp_path, System("broken", lambda q: 1 / 0))
    assert [each.answer for each in given[:2]] == ["0", REFUSAL] and given[0].system == "guess"


def test_an_option_is_recognised_as_exact_match_does(tmp_path):
    questions = [ExamQuestion("1", "Fee?", ("KRW 3,000", "The fee is waived."))]
    for n, (said, taken) in enumerate(
        {" krw 3,000. (A)": "KRW 3,000", "fee is waived": "The fee is waived."}.items()
    ):
        (given,) = run_exam(questions, [System("s", lambda q, said=said: said)], tmp_path / str(n), minutes=1)
        assert given.answer == taken


def test_a_system_that_hangs_loses_one_question_and_is_not_asked_meanwhile(tmp_path):
    go_on = threading.Event()

    def hangs_once(question):
        if question.id == "2":
            go_on.wait(30)
        return add(question)

    given = run(tmp_path, System("slow", hangs_once), System("adder", add), minutes=1 / 60)
    go_on.set()
    assert given[0].system == "slow" and "no answer in" in given[1].failed[0]
    assert "still at work on an earlier question" in given[2].failed[0]
    assert [each.answer for each in given] == [add(q) for q in QUESTIONS] and given[-1].used < 2


def test_when_the_time_runs_short_the_faster_system_answers(tmp_path):
    def slow(question):
        time.sleep(0.3)
        return add(question)

    given = run(tmp_path, System("slow", slow), System("adder", add), minutes=1.2 / 60)
    assert [each.system for each in given[:3]] == ["slow", "slow", "adder"]
    assert "takes 0." in given[2].failed[0] and given[-1].used < 1.2


def test_a_slow_first_answer_does_not_shut_a_system_out(tmp_path):
    """The first answer of a model may take longer than its share: it loads the model."""

    def warming_up(question):
        time.sleep(0.4 if question.id == "1" else 0)
        return add(question)

    given = run(tmp_path, System("best", warming_up), System("adder", add), minutes=1.6 / 60)
    assert {each.system for each in given} == {"best"}


def test_the_last_question_may_not_take_more_than_is_left(tmp_path):
    def slow(question):
        time.sleep(2)
        return add(question)

    (given,) = run_exam(
        QUESTIONS[:1], [System("slow", slow)], tmp_path / "x", minutes=0.5 / 60, progress=False
    )
    assert given.system == "guess" and given.used < 1


def test_an_option_that_ends_in_a_letter_is_recognised(tmp_path):
    question = ExamQuestion("1", "Which account?", ("Account (A)", "Account (B)"))
    (given,) = run_exam([question], [System("s", lambda q: "account (b)")], tmp_path / "x", minutes=1)
    assert given.answer == "Account (B)"


@pytest.mark.parametrize("text", ["", "hello\n", "{}\n", "{}\n{}\n", '{"exam": 1}\n{"id": "q"}\n'])
def test_what_is_no_checkpoint_is_told(tmp_path, text):
    (path := tmp_path / "x").write_text(text)
    with pytest.raises(CourseError, match="is no checkpoint of an exam"):
        read_given(path)


def test_after_the_time_every_answer_is_a_guess(tmp_path):
    given = run(tmp_path, System("adder", add), minutes=1e-9)
    assert {each.system for each in given} == {"guess"} and given[0].failed == ("adder: the time is over",)


def test_a_pause_counts_and_a_clock_that_goes_backwards_does_not(tmp_path):
    now = [1000.0]
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, System("adder", lambda q: add(q) if q.id != "3" else stop()), clock=lambda: now[0])
    now[0] = 1050.0
    given = run(tmp_path, System("adder", add), clock=lambda: now[0])
    assert given[1].used < 1 and 50 <= given[2].used < 51
    lines = (tmp_path / "run.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "run.jsonl").write_bytes(b"".join(lines[:4]))  # the first three answers
    now[0] = 0.0
    given = run(tmp_path, System("adder", add), clock=lambda: now[0])
    assert 50 <= given[3].used < 51


def stop():
    raise KeyboardInterrupt


def test_a_killed_run_goes_on_to_the_same_answers(tmp_path):
    code = f"""
import os, signal, sys
from pathlib import Path
from tests.exam.test_run import QUESTIONS, add
from course_lib.exam.run import System, run_exam
def answer(question):
    if question.id == sys.argv[1]: os.kill(os.getpid(), signal.SIGKILL)
    return add(question)
given = run_exam(QUESTIONS, [System("adder", answer)], Path({str(tmp_path / "killed.jsonl")!r}), minutes=5)
"""
    for at in ("1", "4", "8", "none"):
        ended = subprocess.run([sys.executable, "-c", code, at], cwd=ROOT, capture_output=True)
        assert ended.returncode == (0 if at == "none" else -signal.SIGKILL), ended.stderr
    run(tmp_path, System("adder", add))

    def answers(name):
        rows = map(json.loads, (tmp_path / name).read_text().splitlines()[1:])
        return [(row["id"], row["answer"], row["system"]) for row in rows]

    assert answers("killed.jsonl") == answers("run.jsonl") and len(answers("run.jsonl")) == 8


def test_a_line_that_was_not_finished_is_written_again(tmp_path):
    run(tmp_path, System("adder", add))
    path = tmp_path / "run.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    assert [each.answer for each in run(tmp_path, System("adder", add))] == [add(q) for q in QUESTIONS]
    assert len(path.read_bytes().splitlines()) == 9


def test_the_checkpoint_of_another_exam_is_refused(tmp_path):
    run(tmp_path, System("adder", add))
    with pytest.raises(
        CourseError, match="belongs to another exam, to other systems or to another time limit"
    ):
        run(tmp_path, System("adder", add), minutes=2)
    with pytest.raises(CourseError, match="belongs to another exam"):
        run(tmp_path, System("other", add))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit for the size of files")
def test_a_checkpoint_that_cannot_grow_is_told_and_keeps_its_answers(tmp_path):
    path = tmp_path / "run.jsonl"
    code = f"""
import resource
from pathlib import Path
from tests.exam.test_run import QUESTIONS, add
from course_lib.exam.run import System, run_exam
resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
run_exam(QUESTIONS, [System("adder", add)], Path({str(path)!r}), minutes=1)
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "cannot be written: [Errno 27] File too large" in ended.stderr
    answered = path.read_bytes().count(b"\n") - 1
    given = run(tmp_path, System("adder", add))
    assert 1 <= answered < len(given) == 8 and [each.answer for each in given] == [add(q) for q in QUESTIONS]


def test_nothing_to_do_is_told(tmp_path):
    for questions, systems, minutes in (
        ([], [System("g", guess)], 1),
        (QUESTIONS, [], 1),
        (QUESTIONS, [1], 0),
        (QUESTIONS, [1], float("inf")),
    ):
        with pytest.raises(CourseError, match=r"questions, \d systems, (\d|inf) minutes"):
            run_exam(questions, systems, tmp_path / "x", minutes=minutes)
