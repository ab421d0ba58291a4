"""The command `course export-nbgrader`: chapters as assignments of nbgrader (nbgrader.readthedocs.io).

An exercise cell becomes two: the answer, and the call of `check`, for which nbgrader gives a point. nbgrader
runs these and a cell with the chapter's imports, and skips the others, so that grading takes seconds.
"""

from __future__ import annotations

import ast
import contextlib
import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from course_lib.atomic import atomic_write_text
from course_lib.chapters import all_chapters, read_notebook
from course_lib.errors import CourseError
from course_lib.grade.answers import CHECK
from course_lib.grade.worker import plain_python
from course_lib.learn.exercises.engine import ExerciseFailed, chapter_exercises, find_exercise, judge, mark
from course_lib.learn.student import REGION, make_stub, student_copy, tags

SKIPPED = "skip-execution"  # nbclient, and so nbgrader, runs no cell with this tag; in Jupyter it is run
LEAST_SECONDS = 120  # for a cell; nbgrader's own 30 are too few for the imports on a busy machine
CONFIG = "nbgrader_config.py"
IMPORTS = (
    "# The imports of this chapter. Grading runs this cell and the exercises, and skips the other cells."
)
# nbgrader takes these lines out of what learners get, and puts them back when it grades.
HIDDEN = f"""### BEGIN HIDDEN TESTS
from {__name__} import check
### END HIDDEN TESTS
"""


def check(exercise_id: str, answer: object) -> None:
    """Print that an answer is right, or raise ExerciseFailed.

    Output to stderr, such as warnings, is discarded: nbgrader gives no point to a cell that has some.
    """
    exercise = find_exercise(exercise_id)
    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        verdict, feedback = judge(exercise, answer)
    print(f"{mark(exercise.id, verdict)}: {feedback}")
    if verdict != "right":
        raise ExerciseFailed(f"{exercise.id} {verdict}: {feedback}")


@dataclass(frozen=True)
class Form:
    """How the source of an assignment is marked up for a grading program, such as nbgrader.

    skipped: the tag of cells that the program must not run. before: a function from the cell with the
    chapter's imports to the cells to put before the first code cell. exercise: a function from an exercise's
    id, the name of the answer, the cell of the answer and the cell that calls `check` to the marked cells.
    """

    skipped: str
    before: Callable[[Any], list[Any]]
    exercise: Callable[[str, str, Any, Any], Iterator[Any]]


def assignment(chapter: Any, form: Form) -> Any:
    """Return a chapter as the source of an assignment, with the solutions, which the program removes."""
    from nbformat.v4 import new_code_cell

    given = {cell.id: cell for cell in chapter.cells}
    out = student_copy(chapter)
    cells, out.cells = out.cells, []
    imports = new_code_cell("\n".join([IMPORTS, *_imports(chapter)]), id="imports")
    for cell in cells:
        if cell.cell_type == "code" and imports not in out.cells:
            out.cells += form.before(imports)
        if "exercise" in tags(cell):
            out.cells += form.exercise(*_answer_and_check(given[cell.id]))
            continue
        if cell.cell_type == "code":
            cell.metadata["tags"] = [*cell.metadata.get("tags", []), form.skipped]
        out.cells.append(cell)
    return out


def _imports(chapter: Any) -> list[str]:
    """Return the imports at the top level of a chapter's cells, in order, each once."""
    sources = [c.source for c in chapter.cells if c.cell_type == "code" and "exercise" not in tags(c)]
    statements = [statement for source in sources for statement in ast.parse(plain_python(source)).body]
    return list(
        dict.fromkeys(ast.unparse(s) for s in statements if isinstance(s, (ast.Import, ast.ImportFrom)))
    )


def _answer_and_check(cell: Any) -> tuple[str, str, Any, Any]:
    """Return an exercise's id, the name of its answer, and the cells of the answer and of the check."""
    from nbformat.v4 import new_code_cell

    call = CHECK.search(cell.source)
    if not call or not REGION.search(cell.source):
        what = "this copy of the course has no solutions, from which the copies for learners are made"
        raise CourseError(what, "run the command in the whole course")
    answer = new_code_cell(cell.source[: call.start()].rstrip(), id=cell.id)
    answer.metadata["tags"] = sorted(tags(cell))
    return (
        call["id"],
        call["name"],
        answer,
        new_code_cell(call.string[call.start() :], id=f"{cell.id}-check"),
    )


def _nbgrader_exercise(id_: str, name: str, answer: Any, check: Any) -> Iterator[Any]:
    """Yield the cells of an exercise, marked for nbgrader."""
    # A solution that is not indented is no function: a stub, `answer = ...`, shows the name that it must set.
    answer.source = REGION.sub(lambda r: r[0] if r[1] else f"{make_stub(r[0])}\n{r[0]}", answer.source)
    yield _marked(answer, f"answer-{id_.replace('.', '-')}", solution=True)
    check.source = HIDDEN + check.source
    yield _marked(check, f"check-{id_.replace('.', '-')}", grade=True, locked=True, points=1)


def _marked(cell: Any, name: str, **given: Any) -> Any:
    """Add nbgrader's metadata to a cell: its name, and whether it is graded, has an answer, or is locked."""
    kinds = {"grade": False, "solution": False, "locked": False, "task": False}
    cell.metadata["nbgrader"] = {"schema_version": 3, "grade_id": name, **kinds, **given}
    return cell


NBGRADER = Form(
    SKIPPED, lambda imports: [_marked(imports, "imports", locked=True)], exercise=_nbgrader_exercise
)


def write_assignments(out: Path, chapters: Sequence[str], form: Form, command: str) -> dict[Path, int]:
    """Write chapters to `out/NAME/NAME.ipynb`. Returns path -> points; prints the points.

    chapters: their numbers; () means all that have exercises. command: the command of `course` that the
    errors propose. Raises CourseError for a chapter without exercises or solutions, and if a file exists.
    """
    import nbformat

    exercises = {path: chapter_exercises(path.name[:2]) for path in all_chapters()}
    chosen = {
        p: found for p, found in exercises.items() if found and (not chapters or p.name[:2] in chapters)
    }
    if missing := sorted(set(chapters) - {path.name[:2] for path in chosen}):
        what = f"there is no chapter {', '.join(missing)} with exercises"
        raise CourseError(what, f"course {command} --out DIR")
    contents = {
        out / path.stem / path.name: nbformat.writes(assignment(read_notebook(path), form)) + "\n"
        for path in chosen
    }
    if there := [str(target) for target in contents if target.exists()]:
        raise CourseError(f"{there[0]} is there already", "choose another --out, or another --chapter")
    try:
        for target, text in contents.items():
            atomic_write_text(target, text)
    except OSError as error:
        what = f"{out} cannot be written to: {error}"
        raise CourseError(what, f"course {command} --out ~/class") from error
    for path, found in chosen.items():
        print(f"{path.stem}: {len(found)} points")
    return {target: len(chosen[path]) for target, path in zip(contents, chosen, strict=True)}


def export(out: Path, chapters: Sequence[str] = ()) -> None:
    """Write chapters to `out/source`, as `write_assignments` does, and nbgrader's settings."""
    written = write_assignments(out / "source", chapters, NBGRADER, "export-nbgrader")
    numbers = {path.name[:2] for path in written}
    _write_config(out / CONFIG, max(e.seconds for number in numbers for e in chapter_exercises(number)))
    print(f"Next, in {out}: nbgrader generate_assignment {next(iter(written)).stem}")


def _write_config(path: Path, seconds: int) -> None:
    """Set nbgrader's limit of time for a cell, unless the teacher has settings of their own."""
    line = f"c.Execute.timeout = {max(LEAST_SECONDS, seconds)}"
    if not path.exists():
        atomic_write_text(path, f"c = get_config()\n{line}  # seconds for a cell\n")
    elif line not in path.read_text("utf-8"):
        print(f"Add to {path}, which is there already: {line}")
