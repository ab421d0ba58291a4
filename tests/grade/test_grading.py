"""A whole class: submissions are found, read and graded; an interrupted run goes on; tables and pages."""

import copy
import csv
import json
import re
import subprocess
import sys
import time
import unicodedata
from dataclasses import asdict

import nbformat
import pytest

from course_lib import cli
from course_lib.errors import CourseError
from course_lib.grade import report, run
from course_lib.grade.run import Graded, Result
from course_lib.grade.similar import form, matching_submissions, solutions
from course_lib.grade.submission import Submission, find, read
from tests.grade.planted import (
    FIRST,
    HOSTILE,
    PROTECTED,
    cell,
    notebook,
    solved,
    with_own_cells,
    without_ids,
    written,
)
from tests.grade.planted import zip_of as write_zip

pytestmark = PROTECTED


def rows(path):
    with open(path, encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """A class of fifteen in one folder, graded in two processes, with pages."""
    folder = tmp_path_factory.mktemp("class")
    for kind in ("right", "wrong", "stub", "Windows line ends", "edits the check", "fork bomb"):
        (folder / f"{kind}.ipynb").write_text(written(notebook(HOSTILE[kind][0])))
    without_ids(folder / "colab.ipynb")
    with_own_cells(folder / "own helper.ipynb")
    (folder / "damaged.ipynb").write_text('{"cells": [')
    (folder / "no JSON.ipynb").write_bytes(b"\xff\x00")
    with open(folder / "huge.ipynb", "wb") as file:
        file.truncate(200_000_000)
    (folder / "broken.zip").write_bytes(b"PK\x03\x04 and no more")
    write_zip(folder / "paths.zip", {"../../../out.ipynb": written(notebook(solved(FIRST)))})
    (folder / unicodedata.normalize("NFD", "김민지.ipynb")).write_text(written(notebook(solved(FIRST))))
    moodle = folder / "=Lee_17_assignsubmission_file_"
    moodle.mkdir()
    (moodle / "whatever.ipynb").write_text(written(notebook(solved(FIRST))))
    out = tmp_path_factory.mktemp("out") / "grades.csv"
    assert cli.main(["grade", str(folder), "--out", str(out), "--html", "--workers", "2"]) == 0
    return folder, out


def test_no_grade_is_wrong(graded):
    """Of three exercises; '' where there is nothing that can be read."""
    got = {row["student"]: row["right (of 3)"] for row in rows(graded[1])}
    right = dict.fromkeys(("right", "Windows line ends", "colab", "paths", "김민지"), "3")
    right["'=Lee_17_assignsubmission_file_"] = "3"
    part = dict.fromkeys(("wrong", "stub", "edits the check", "fork bomb", "own helper"), "2")
    none = dict.fromkeys(("damaged", "no JSON", "huge", "broken"), "")
    assert got == {**right, **part, **none}


def test_nothing_left_the_zip(graded):
    folder, out = graded
    (row,) = [row for row in rows(out) if row["student"] == "paths"]
    assert "'../../../out.ipynb' points out of the zip" in row["notes"]
    assert not list(folder.parent.parent.rglob("out.ipynb"))


def test_each_answer_has_its_message(graded):
    messages = {
        row["student"]: (row["verdict"], row["message"])
        for row in rows(graded[1].with_stem("grades-exercises"))
        if row["exercise"] == FIRST
    }
    assert messages["wrong"][0] == "not yet" and "came back unchanged" in messages["wrong"][1]
    assert messages["fork bomb"][0] == "crashed" and messages["stub"] == ("not answered", "")
    assert "what an answer needs must stand in its cell" in messages["own helper"][1]


def test_the_platforms_get_their_tables(graded):
    canvas = graded[1].with_stem("grades-canvas").read_text().splitlines()
    assert canvas[0] == "Student,ID,SIS User ID,SIS Login ID,Section,Chapter 00"
    assert canvas[1] == "    Points Possible,,,,,3" and "right,,,,,3" in canvas and "damaged,,,,," in canvas
    assert graded[1].with_stem("grades-moodle").read_text().splitlines()[0] == "ID,Name,Chapter 00"


def test_each_learner_has_a_page(graded):
    folder = graded[1].with_name("grades-pages")
    pages = {re.search("<h1>(.*)</h1>", p.read_text())[1]: p.read_text() for p in folder.glob("[0-9]*.html")}
    assert "✗ not yet" in pages["wrong"] and "came back unchanged" in pages["wrong"]
    assert "could not be read" in pages["damaged"] and "3 of 3 right" in pages["김민지"]
    assert all(file in (folder / "index.html").read_text() for file in ("001.html", "015.html"))
    assert not any("http" in text for text in pages.values())


def test_a_second_run_grades_only_what_is_new(graded, capsys, monkeypatch):
    folder, out = graded
    before = out.read_text()
    (folder / "late.ipynb").write_text(written(notebook(solved(FIRST))))
    assert cli.main(["grade", str(folder), "--out", str(out), "--workers", "1"]) == 0
    said = capsys.readouterr().out
    assert "16 submissions, 15 of them graded before" in said and "late: 3 right" in said
    assert set(before.splitlines()) < set(out.read_text().splitlines())
    assert cli.main(["grade", str(folder), "--out", str(out), "--only", "0"]) == 1
    assert "of other options" in capsys.readouterr().err
    out.with_suffix(".jsonl").unlink()
    (folder / "late.ipynb").unlink()


def test_a_python_whose_libraries_cannot_be_read_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "judge", lambda answer, limits: Result("crashed", "no libfoo"))
    (tmp_path / "a.ipynb").write_text(written(notebook(None)))
    with pytest.raises(CourseError, match="imports NumPy does not run here: no libfoo"):
        run.grade(tmp_path, tmp_path / "g.jsonl", [], run.Limits())


def test_pages_replace_nothing_else(tmp_path):
    (tmp_path / "mine.txt").touch()
    with pytest.raises(CourseError, match="holds other files"):
        report.write_pages(report.Grades([], {}, {}), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_ctrl_c_leaves_what_is_graded(tmp_path):
    folder = tmp_path / "class"
    folder.mkdir()
    (folder / "a.ipynb").write_text(written(notebook(solved(FIRST))))
    for name in "bc":
        (folder / f"{name}.ipynb").write_text(written(notebook(HOSTILE["sleeps"][0])))
    command = [sys.executable, "-m", "course_lib.cli", "grade", str(folder), "--out", str(tmp_path / "g.csv")]
    journal = tmp_path / "g.jsonl"
    with subprocess.Popen(
        [*command, "--workers", "1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        deadline = time.monotonic() + 60
        while not (journal.exists() and len(journal.read_text().splitlines()) > 1):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(2)
        begun = time.monotonic()
        assert process.wait() == 130 and time.monotonic() - begun < 10
        assert b"Traceback" not in process.stderr.read()
    assert len(journal.read_text().splitlines()) == 2 and not (tmp_path / "g.csv").exists()


def test_only_counts_one_chapter():
    one = Graded(Submission("a", "a.zip", cells={"00": {FIRST: solved(FIRST)}}), {FIRST: Result("right", "")})
    assert report.collect([one], ["07"]).of == {"07": 8}
    assert report.collect([one], []).of == {"00": 3}


def test_a_chapter_without_exercises_is_refused(tmp_path):
    with pytest.raises(CourseError, match="chapter 99 has no exercises"):
        run.grade(tmp_path, tmp_path / "x.jsonl", ["99"], run.Limits())
    with pytest.raises(CourseError, match="no submission"):
        run.grade(tmp_path, tmp_path / "x.jsonl", [], run.Limits())


def test_an_answer_in_a_copy_of_the_cell_counts(tmp_path):
    """The cell as it was given stays above it."""
    out = notebook(None)
    (given,) = [c for c in out.cells if f'check("{FIRST}"' in c.source]
    answered = copy.deepcopy(given)
    answered.id, answered.source = "mine", solved(FIRST)
    out.cells.append(answered)
    (tmp_path / "a.ipynb").write_text(written(out))
    cells = read("a.ipynb", [tmp_path / "a.ipynb"]).cells["00"]
    assert cells[FIRST] == solved(FIRST)
    out.cells.insert(0, out.cells.pop())
    (tmp_path / "a.ipynb").write_text(written(out))
    assert read("a.ipynb", [tmp_path / "a.ipynb"]).cells["00"][FIRST] == solved(FIRST)


@pytest.mark.parametrize("more", ["", "print(forge)\n"])
def test_a_cell_that_checks_the_answer_once_more_is_no_answer(tmp_path, more):
    out = notebook(solved(FIRST))
    out.cells.append(nbformat.v4.new_code_cell(f'{more}check("{FIRST}", forge)'))
    (tmp_path / "a.ipynb").write_text(written(out))
    assert read("a.ipynb", [tmp_path / "a.ipynb"]).cells["00"][FIRST] == solved(FIRST)


def test_names_cannot_command_the_terminal(tmp_path):
    card = {"student": "Kim\x1b[2J", "login": "\ud800", "versions": {"python": "3"}, "sha256": {"\x07": "0"}}
    write_zip(tmp_path / "a.zip", {"submission.json": json.dumps(card)})
    found = read("a.zip", [tmp_path / "a.zip"])
    assert (found.student, found.login) == ("Kim\ufffd[2J", "\ufffd")
    assert "\ufffd was changed after `course submit`" in found.notes


def test_an_edited_line_of_the_journal_is_no_grade(tmp_path):
    journal, limits = tmp_path / "g.jsonl", run.Limits()
    assert run._resume(journal, ["00"], limits) == {}
    row = {"key": "a", **asdict(Graded(Submission("a", "a.zip"), {FIRST: Result("right", "")}))}
    with open(journal, "a") as file:
        file.write(f'{json.dumps(row)}\n[]\n{{"key": 3}}\n' + json.dumps(row)[:40])
    assert list(run._resume(journal, ["00"], limits)) == ["a"]
    assert len(journal.read_text().splitlines()) == 4


def test_hidden_files_are_no_submissions(tmp_path):
    for name in (
        ".ipynb_checkpoints/a.ipynb",
        "__MACOSX/b.ipynb",
        "kim/c.ipynb",
        "kim/d.ipynb",
        "e.zip",
        "f.txt",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert {label: len(paths) for label, paths in find(tmp_path).items()} == {"kim": 2, "e.zip": 1}


COPIED = cell(
    "parts = text.split(old)\nif len(parts) == 1:\n    raise ValueError(text)\nreturn new.join(parts)"
)
RENAMED = COPIED.replace("parts", "pieces").replace("raise", "# nothing to do\n        raise")


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")
def test_links_are_left_out(tmp_path, capsys):
    """Whoever grades, root perhaps, may read what the learner who made the link cannot."""
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "03.ipynb").write_text("{}")
    (tmp_path / "in" / "kim").mkdir(parents=True)
    (tmp_path / "in" / "kim" / "03.ipynb").symlink_to(tmp_path / "victim" / "03.ipynb")
    (tmp_path / "in" / "lee").symlink_to(tmp_path / "victim")
    (tmp_path / "in" / "own.ipynb").write_text("{}")
    assert list(find(tmp_path / "in")) == ["own.ipynb"]
    assert "kim/03.ipynb is a link" in capsys.readouterr().out


OWN = cell("found = text.find(old)\nif found < 0:\n    raise ValueError(old)\nreturn text.replace(old, new)")


def test_the_same_answers_under_other_names_are_found():
    second = COPIED.replace("forge", "refusals")
    answers = {
        "a": {"00.1": COPIED, "00.2": second},
        "b": {"00.1": RENAMED, "00.2": second},
        "c": {"00.1": OWN, "00.2": OWN},
        "d": {"00.1": solved("00.1"), "00.2": solved("00.2"), "00.3": solved("00.3")},
        "e": {"00.1": solved("00.1"), "00.2": solved("00.2"), "00.3": solved("00.3")},
        "f": {"00.3": OWN},
        "g": {"00.3": OWN},
        "h": {"00.3": OWN.replace("found", "place")},
    }
    pairs = {"a": {"b": 2}, "b": {"a": 2}, "f": {"g": 1}, "g": {"f": 1}}
    assert matching_submissions(answers, solutions(frozenset(["00"]))) == pairs
    assert form(COPIED) == form(RENAMED) != form(OWN)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("best = max(scores)", "best = min(scores)", False),
        ("total = sum(row) / len(row)", "mean = len(row) / sum(row)", False),
        ("def f(a):\n    return a\nx = f(a=1)", "def g(b):\n    return b\ny = g(b=1)", True),
        ("import math as m\nx = m.pi", "import math as q\nx = q.pi", True),
        ("import math as m\nx = m.pi", "import cmath as m\nx = m.pi", False),
        ("try:\n    f()\nexcept E as e:\n    g(e)", "try:\n    f()\nexcept E as error:\n    g(error)", True),
        ("x: int = 1", "y = 1", True),
        ("class A:\n    'Mine.'\n    x = 1", "class B:\n    x = 1", True),
        ("async def f(a):\n    return a", "async def g(b: int) -> int:\n    return b", True),
        ("x = row.max()", "x = row.min()", False),
    ],
)
def test_the_form_of_an_answer_forgets_only_the_names_that_it_binds(one, other, same):
    assert (form(one) == form(other)) is same


def test_long_texts_count_and_brackets_in_a_text_do_not():
    essay = f"answer = {'a text of many words ' * 10!r}"
    magic = "%timeit " + "first + second + " * 10 + "third"
    for source, reported in ((essay, True), (magic, True), ("x = '((((((((((((((('", False)):
        answers = {"a": {"00.1": source}, "b": {"00.1": source}}
        assert bool(matching_submissions(answers, {})) is reported
