"""Chapters as assignments of Otter-Grader: what is in them, and that marks are those of `course grade`."""

import json

import nbformat
import pytest

from course_lib import cli
from course_lib.chapters import read_notebook
from course_lib.grade.answers import CHECK
from course_lib.grade.assignments import assignment
from course_lib.grade.judge import Limits
from course_lib.grade.otter import OTTER, SKIPPED
from course_lib.grade.run import grade_one
from course_lib.learn.student import tags
from tests.grade.graders import python_with
from tests.grade.planted import CHAPTER, PROTECTED
from tests.grade.test_assignments import CHAPTERS, LEARNERS

# Otter-Grader, and what it needs to assign and to run that the course has not.
NEEDED = [
    "otter-grader==7.0.0",
    "dill",
    "fica",
    "ipylab",
    "jupytext",
    "python-frontmatter",
    "wrapt",
    "python-on-whales",
]


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_otter_runs_the_imports_and_the_answers_alone(path):
    made = assignment(read_notebook(path), OTTER)
    nbformat.validate(made)
    run = [c for c in made.cells if c.cell_type == "code" and SKIPPED not in tags(c)]
    answers = [c for c in run if "exercise" in tags(c)]
    tests = [c for c in run if c.source.startswith("def test(")]
    assert len(run) == 1 + len(answers) + len(tests) and len(answers) == len(tests)
    for cell in answers:
        assert cell.source.count("# BEGIN SOLUTION") == 1 and "###" not in cell.source
        compile(cell.source, path.stem, "exec")


def test_the_cells_of_an_exercise_are_those_that_otter_reads():
    made = assignment(read_notebook(CHAPTER), OTTER)
    raw = [cell.source.splitlines()[0] for cell in made.cells if cell.cell_type == "raw"]
    question = "QUESTION", "SOLUTION", "TESTS"
    begin, end = [f"# BEGIN {kind}" for kind in question], [f"# END {kind}" for kind in question]
    one = [begin[0], begin[1], end[1], begin[2], end[2], end[0]]
    assert raw == ["# ASSIGNMENT CONFIG", *one, *one, *one]


@pytest.fixture(scope="module")
def otter(pytestconfig):
    run = python_with(pytestconfig, "otter", NEEDED)
    return lambda where, *arguments: run(where, "-m", "otter", *arguments)


@PROTECTED
def test_otter_gives_the_marks_of_course_grade(otter, tmp_path):
    """With Otter's own commands, which run three kernels: 20 seconds of computing."""
    assert cli.main(["export-otter", "--out", str(tmp_path), "--chapter", "0"]) == 0
    folder = tmp_path / CHAPTER.stem
    otter(folder, "assign", CHAPTER.name, "dist")  # this also grades the solutions, and fails if one is wrong
    given = (folder / "dist" / "student" / CHAPTER.name).read_text()
    assert "BEGIN" not in given and given.count("your code here") == 3
    copy = nbformat.reads(given, as_version=4)
    cells = [each for each in copy.cells if "exercise" in tags(each)]
    for each, source in zip(cells, LEARNERS["other"], strict=True):
        each.source = CHECK.sub("", source) if source else each.source
    target = tmp_path / CHAPTER.name
    nbformat.write(copy, target)
    (autograder,) = (folder / "dist" / "autograder").glob("*.zip")
    otter(tmp_path, "run", "-a", autograder, target)
    tests = json.loads((tmp_path / "results.json").read_text())["tests"]
    graded = grade_one("other", [target], ["00"], Limits()).results
    ours = {f"q{id_.replace('.', '_')}": float(r.verdict == "right") for id_, r in graded.items()}
    assert {test["name"]: test["score"] for test in tests if "score" in test} == ours
    assert ours == {"q00_1": 1, "q00_2": 0, "q00_3": 0}
