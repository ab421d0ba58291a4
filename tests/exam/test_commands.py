"""`course exam`: a run with its files, its report, and what it refuses."""

import csv
import json
import re
import sys

import pytest

from course_lib.cli import main
from course_lib.exam.commands import ANSWERS, CHECKPOINT, REPORT

ROWS = [
    {"id": "1", "question": "Fee?", "options": ["KRW 1", "KRW 2"], "answer": "KRW 2"},
    {"id": "2", "question": "When?", "answer": "09:00"},
    {"id": "3", "question": "Who?", "answer": "Not in the handbook."},
]


@pytest.fixture
def exam(tmp_path, monkeypatch):
    """A folder with three questions, rules for them, and a module with systems of the user's own."""
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (tmp_path / "rules.yaml").write_text("minutes: 2\nquestions: 3\npublished_before: 2025-08-01\n")
    (tmp_path / "my_systems.py").write_text(
        "import socket\n"
        "def know(question):\n"
        "    assert question.answer is None and question.kind == ''\n"
        "    return {'1': 'KRW 2 (B)', '2': '09:00'}.get(question.id, 'Not in the handbook.')\n"
        "def call_home(question):\n"
        "    socket.create_connection(('192.0.2.1', 80))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("my_systems", None)


def run(exam, *arguments, out="out"):
    files = ["--questions", str(exam / "mine.jsonl"), "--rules", str(exam / "rules.yaml")]
    return main(["exam", "run", *files, "--out", str(exam / out), *arguments])


def test_a_run_writes_answers_report_and_checkpoint(exam, capsys):
    assert run(exam, "--system", "my_systems:know") == 0
    with open(exam / "out" / ANSWERS, encoding="utf-8") as file:
        assert list(csv.reader(file)) == [
            ["ID", "Answer"],
            ["1", "2"],
            ["2", "09:00"],
            ["3", "Not in the handbook."],
        ]
    shown = capsys.readouterr().out
    assert "3 of 3 questions answered" in shown and (exam / "out" / REPORT).read_text() in shown
    assert main(["exam", "report", str(exam / "out")]) == 0
    assert capsys.readouterr().out.strip() == (exam / "out" / REPORT).read_text().strip()


def test_a_second_run_goes_on_and_another_exam_or_system_is_refused(exam, capsys):
    assert run(exam, "--system", "guess") == 0
    lines = (exam / "out" / CHECKPOINT).read_bytes().splitlines(keepends=True)
    (exam / "out" / CHECKPOINT).write_bytes(b"".join(lines[:2]))
    assert main(["exam", "report", str(exam / "out")]) == 0
    assert "1 of 3 questions answered" in capsys.readouterr().out
    assert run(exam, "--system", "guess") == 0
    assert (exam / "out" / CHECKPOINT).read_bytes().count(b"\n") == 4
    assert run(exam, "--system", "my_systems:know") == 1
    assert "other systems" in capsys.readouterr().err
    (exam / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*ROWS[1:], ROWS[0]]))
    assert run(exam, "--system", "guess") == 1
    assert "holds the run of another exam" in capsys.readouterr().err


def test_a_connection_is_reported_and_the_run_fails(exam, capsys):
    assert run(exam, "--system", "my_systems:call_home") == 1
    shown = capsys.readouterr().out
    assert "connection outside this machine, look up 192.0.2.1" in shown and "NetworkForbidden" in shown


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--system", "oracle"], "there is no system 'oracle', only guess, closed-book"),
        (["--system", "my_systems:nobody"], "has no attribute 'nobody'"),
        (["--system", "no_such_module:x"], "No module named 'no_such_module'"),
        (["--minutes", "3"], r"--minutes 3; the rules allow up to 2"),
        (["--minutes", "0"], "the rules allow up to 2"),
        (["--questions", "haneul"], "515 questions; the rules say 3"),
        (["--questions", "missing.csv"], "missing.csv cannot be read"),
    ],
)
def test_what_cannot_be_run_is_told_and_leaves_no_file(exam, capsys, arguments, told):
    assert run(exam, *arguments) == 1
    error = capsys.readouterr().err
    assert re.search(told, error) and "Fix: " in error
    assert not list((exam / "out").glob("*"))


def test_the_models_of_a_strategy_must_be_allowed(exam, capsys, monkeypatch):
    monkeypatch.setenv("COURSE_TIER", "real")
    (exam / "rules.yaml").write_text("minutes: 2\npublished_before: 2020-01-01\n")
    assert run(exam, "--system", "closed-book") == 1
    assert re.search(
        r"system closed-book: .* (was published in|month of publication is unknown)", capsys.readouterr().err
    )


def test_rules_and_models(capsys):
    assert main(["exam", "rules"]) == 0
    assert "questions: 515" in capsys.readouterr().out
    assert main(["exam", "rules", "EXAONE-3.5-7.8B-Instruct", "--bits", "4.5"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("allowed: EXAONE") and "research" in shown
    assert main(["exam", "rules", "HyperCLOVA X", "gpt-4o", "claude-opus-4"]) == 1
    assert capsys.readouterr().out.count("refused: ") == 3


def test_questions_are_written_and_read(tmp_path, capsys):
    out = tmp_path / "held-back.jsonl"
    assert main(["exam", "questions", "--part", "held-back", "--count", "20", "--out", str(out)]) == 0
    assert len(out.read_text("utf-8").splitlines()) == 20


def test_a_place_that_cannot_be_written_is_told(exam, capsys):
    (exam / "file").write_text("")
    assert run(exam, "--system", "guess", out="file") == 1
    assert "cannot be written" in capsys.readouterr().err
    assert main(["exam", "questions", "--count", "5", "--out", str(exam / "file" / "x.jsonl")]) == 1
    assert "cannot be written" in capsys.readouterr().err
    assert main(["exam", "questions", "--count", "516", "--out", str(exam / "x.jsonl")]) == 1
    assert 'haneul_exam("exam", 515)' in capsys.readouterr().err


def test_a_report_of_a_folder_without_a_run(tmp_path, capsys):
    assert main(["exam", "report", str(tmp_path)]) == 1
    assert "cannot be read" in capsys.readouterr().err
