"""Chapters as assignments of nbgrader: what is in them, and that the marks are those of `course grade`."""

import ast
import json
import sys
import tomllib
import warnings

import nbformat
import pytest

from course_lib import cli
from course_lib.chapters import all_chapters, read_notebook
from course_lib.data import ROOT
from course_lib.grade.answers import CHECK, cells_of, needed_before, parse_notebook
from course_lib.grade.assignments import HIDDEN, NBGRADER, SKIPPED, assignment, check
from course_lib.grade.judge import Limits
from course_lib.grade.run import grade_one
from course_lib.grade.similar import form
from course_lib.learn.exercises import engine
from course_lib.learn.student import make_stub, tags
from tests.grade.graders import python_with
from tests.grade.planted import CHAPTER, FIRST, PROTECTED, cell, solved

CHAPTERS = [path for path in all_chapters() if engine.chapter_exercises(path.name[:2])]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
# The extra [teach], and what it needs to grade that the course has not.
NEEDED = [*PROJECT["optional-dependencies"]["teach"], "alembic", "mako", "rapidfuzz"]


def kinds(notebook, kind):
    return [c for c in notebook.cells if c.metadata.get("nbgrader", {}).get(kind)]


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_an_assignment_has_a_point_for_each_exercise_and_skips_the_chapter(path):
    chapter = read_notebook(path)
    made = assignment(chapter, NBGRADER)
    nbformat.validate(made)
    exercises = engine.chapter_exercises(path.name[:2])
    assert [c.metadata["nbgrader"]["points"] for c in kinds(made, "grade")] == [1] * len(exercises)
    assert len(kinds(made, "solution")) == len(exercises)
    names = [c.metadata["nbgrader"]["grade_id"] for c in made.cells if "nbgrader" in c.metadata]
    assert len(names) == len(set(names)) == 2 * len(exercises) + 1
    others = [c for c in made.cells if c.cell_type == "code" and "nbgrader" not in c.metadata]
    assert others and all(SKIPPED in tags(c) for c in others)
    assert not any(c.outputs for c in made.cells if c.cell_type == "code")


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_the_solutions_need_no_cell_that_nbgrader_skips(path):
    chapter = read_notebook(path)
    before = []
    for each in chapter.cells:
        if "exercise" in tags(each):
            needed = needed_before(each.source, before)
            given = [ast.parse(statement).body[0] for statement in needed]
            assert all(isinstance(s, (ast.Import, ast.ImportFrom)) for s in given), (each.id, needed)
        elif each.cell_type == "code":
            before.append(each.source)


def test_an_answer_that_is_no_function_begins_with_its_name():
    made = assignment(read_notebook(next(p for p in CHAPTERS if p.name.startswith("03"))), NBGRADER)
    assert kinds(made, "solution")[0].source.startswith("cases = ...\n### BEGIN SOLUTION\n")
    assert kinds(made, "grade")[0].source == HIDDEN + 'check("03.1", cases)'


def test_course_grade_finds_the_answers_of_an_assignment():
    chapter = read_notebook(CHAPTER)
    made = parse_notebook(nbformat.writes(assignment(chapter, NBGRADER)))
    found = cells_of(made, chapter)
    assert found == {id_: solved(id_).rpartition("\n\n\n")[0] for id_ in ("00.1", "00.2", "00.3")}
    assert form(found[FIRST]) == form(solved(FIRST))


def test_the_hidden_check_takes_warnings_for_no_fault_and_raises_for_a_wrong_answer(capsys):
    def forge(text, old, new):
        warnings.warn("shown", stacklevel=1)
        print("shown", file=sys.stderr)
        if old not in text:
            raise ValueError
        return text.replace(old, new)

    check(FIRST, forge)
    said = capsys.readouterr()
    assert "right" in said.out and not said.err
    with pytest.raises(engine.ExerciseFailed, match=f"{FIRST} not answered"):
        check(FIRST, ...)


def test_a_wrong_answer_is_an_error_where_nbgrader_runs_it(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_STATE", str(tmp_path / "state.json"))
    monkeypatch.delenv("COURSE_CHECK", raising=False)
    engine.check(FIRST, "wrong")
    monkeypatch.setenv("NBGRADER_EXECUTION", "validate")
    with pytest.raises(engine.ExerciseFailed):
        engine.check(FIRST, "wrong")


def test_settings_and_sources_of_a_teacher_stay(tmp_path, capsys):
    config = tmp_path / "nbgrader_config.py"
    export = ["export-nbgrader", "--out", str(tmp_path)]
    assert cli.main([*export, "--chapter", "0"]) == 0
    assert "c.Execute.timeout = 120" in config.read_text()
    config.write_text("c = get_config()\n")
    assert cli.main([*export, "--chapter", "9"]) == 0 and config.read_text() == "c = get_config()\n"
    assert "Add to" in (said := capsys.readouterr().out) and "c.Execute.timeout = 300" in said
    assert cli.main([*export, "--chapter", "0"]) == 1 and "is there already" in capsys.readouterr().err
    assert cli.main([*export, "--chapter", "77"]) == 1 and "no chapter 77" in capsys.readouterr().err


def test_a_copy_without_solutions_is_refused(tmp_path, capsys, monkeypatch):
    chapter = nbformat.read(CHAPTER, as_version=4)
    for each in chapter.cells:
        each.source = make_stub(each.source) if "exercise" in tags(each) else each.source
    nbformat.write(chapter, tmp_path / CHAPTER.name)
    monkeypatch.setattr("course_lib.grade.assignments.all_chapters", lambda: [tmp_path / CHAPTER.name])
    assert cli.main(["export-nbgrader", "--out", str(tmp_path / "out")]) == 1
    assert "has no solutions" in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def python(pytestconfig):
    return python_with(pytestconfig, "nbgrader", NEEDED)


WARNS = "import warnings\nwarnings.warn('seen')\n"
WARNS += "if old not in text:\n    raise ValueError\nreturn text.replace(old, new)"
# Learner -> the cells of the three exercises of chapter 00; None as it was given.
LEARNERS = {
    "right": [solved(id_) for id_ in ("00.1", "00.2", "00.3")],
    "other": [cell(WARNS), cell("return 2.0", "00.2") + "\ncheck = print", None],
}
MARKS = """
import json
from nbgrader.api import Gradebook
with Gradebook("sqlite:///gradebook.db") as book:
    graded = book.assignment_submissions("00-start-here")
    print(json.dumps({s.student.id: {g.cell.name: g.score for g in s.notebooks[0].grades} for s in graded}))
"""


@PROTECTED
def test_nbgrader_gives_the_marks_of_course_grade(python, tmp_path):
    """With nbgrader's own commands. Two kernels, and four times nbgrader: 20 seconds of computing."""
    assert cli.main(["export-nbgrader", "--out", str(tmp_path), "--chapter", "0"]) == 0
    python(tmp_path, "-m", "nbgrader", "generate_assignment", CHAPTER.stem)
    given = (tmp_path / "release" / CHAPTER.stem / CHAPTER.name).read_text()
    assert "BEGIN" not in given and "assignments import check" not in given
    ours = {}
    for learner, sources in LEARNERS.items():
        copy = nbformat.reads(given, as_version=4)
        for each, source in zip(kinds(copy, "solution"), sources, strict=True):
            each.source = CHECK.sub("", source) if source else each.source
        target = tmp_path / "submitted" / learner / CHAPTER.stem / CHAPTER.name
        target.parent.mkdir(parents=True)
        nbformat.write(copy, target)
        graded = grade_one(learner, [target], ["00"], Limits()).results
        ours[learner] = {f"check-00-{id_[3:]}": float(r.verdict == "right") for id_, r in graded.items()}
    python(tmp_path, "-m", "nbgrader", "autograde", CHAPTER.stem)
    assert json.loads(python(tmp_path, "-c", MARKS)) == ours
    assert {learner: sum(marks.values()) for learner, marks in ours.items()} == {"right": 3, "other": 1}
