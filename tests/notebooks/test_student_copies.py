"""Student copies of chapters: each equals its chapter except for the solutions."""

import pytest

from course_lib.chapters import all_chapters, read_notebook
from course_lib.data import ROOT
from course_lib.learn.exercises.engine import all_exercises, chapter_exercises
from course_lib.learn.student import (
    EXERCISE_ID,
    REGION,
    exercise_cell,
    make_stub,
    replace_solution,
    solution_in,
    student_copy,
    tags,
)


@pytest.mark.parametrize("path", all_chapters(), ids=lambda p: p.stem)
def test_a_copy_with_the_references_put_back_is_the_chapter(path):
    """Therefore, running the chapter tests the completed student copy, too."""
    chapter, copy = read_notebook(path), student_copy(read_notebook(path))
    kept = [c for c in chapter.cells if "solution" not in tags(c)]
    for ours, theirs in zip(kept, [c for c in copy.cells if "hint" not in tags(c)], strict=True):
        assert (ours.id, ours.cell_type, tags(ours)) == (theirs.id, theirs.cell_type, tags(theirs))
        if "exercise" in tags(ours):
            assert "SOLUTION" not in theirs.source and theirs.source == make_stub(ours.source) != ours.source
            head, tail = (
                ours.source[: (region := REGION.search(ours.source)).start()],
                ours.source[region.end() :],
            )
            assert theirs.source.startswith(head) and theirs.source.endswith(tail)
            theirs.source = (
                head + region[2].rstrip("\n") + tail
            )  # the learner writes the reference in place of the stub
        assert theirs.source == REGION.sub(lambda r: r[2].rstrip("\n"), ours.source)


@pytest.mark.parametrize("path", all_chapters(), ids=lambda p: p.stem)
def test_under_each_exercise_is_a_cell_for_its_hints_that_run_all_does_not_show(path):
    cells = student_copy(read_notebook(path)).cells
    exercises = [i for i, c in enumerate(cells) if "exercise" in tags(c)]
    assert len(exercises) == len(chapter_exercises(path.name[:2]))
    for i in exercises:
        (id_,) = EXERCISE_ID.findall(cells[i].source)
        assert cells[i + 1].source.endswith(f'\n# hint("{id_}")')
        assert all(line.startswith("#") for line in cells[i + 1].source.splitlines())
    assert len({c.id for c in cells}) == len(cells)


CELL = """def f(x):
    ### BEGIN SOLUTION
    if x:
        return 1
    return 2
    ### END SOLUTION


check('0', f)"""
TOP = "### BEGIN SOLUTION\na = 1\n### END SOLUTION\ncheck('0', a)"


def test_solutions_are_blanked_and_replaced():
    assert (
        make_stub(CELL) == "def f(x):\n    raise NotImplementedError(\"your code here\")\n\n\ncheck('0', f)"
    )
    assert make_stub(TOP) == "a = ...\ncheck('0', a)"
    assert (
        make_stub(TOP.replace("a = 1", "a = b = 1\nc: int = 2")) == "a = ...\nb = ...\nc = ...\ncheck('0', a)"
    )
    assert solution_in(CELL) == "if x:\n    return 1\nreturn 2"
    assert replace_solution(CELL, "return 3") == "def f(x):\n    return 3\n\n\ncheck('0', f)"
    assert replace_solution(TOP, solution_in(TOP)) == "a = 1\ncheck('0', a)"


@pytest.mark.parametrize(
    "source",
    ["x = 1", TOP + "\n" + TOP, TOP.replace("### END SOLUTION", ""), "### END SOLUTION\n### BEGIN SOLUTION"],
)
def test_a_cell_without_exactly_one_solution_is_refused(source):
    with pytest.raises(ValueError, match="must have exactly one"):
        make_stub(source)


def test_a_solution_that_assigns_nothing_is_refused():
    with pytest.raises(ValueError, match="assigns no name"):
        make_stub("### BEGIN SOLUTION\nprint(1)\n### END SOLUTION")


def test_solutions_lie_in_the_repository_once():
    assert "### BEGIN SOLUTION" in exercise_cell("00.1")
    assert not list((ROOT / "course_lib" / "learn" / "exercises").glob("*.ipynb"))


def test_exercises_have_what_a_learner_needs():
    assert all(exercise.title and exercise.hints for exercise in all_exercises().values())
    assert len(chapter_exercises("00")) >= 2 and len(chapter_exercises("01")) >= 4
