"""Make the student's copy of a chapter: cells tagged `exercise` blanked, cells tagged `solution` left out."""

from __future__ import annotations

import ast
import copy
import re
import textwrap
from typing import Any

from course_lib.chapters import chapter_path, read_notebook
from course_lib.errors import CourseError

# nbgrader's delimiters (nbgrader.readthedocs.io, "Creating and grading assignments").
REGION = re.compile(r"^([ \t]*)### BEGIN SOLUTION[^\n]*\n(.*?)^[ \t]*### END SOLUTION[^\n]*$", re.M | re.S)
STUB = 'raise NotImplementedError("your code here")'


def solution_in(source: str) -> str:
    """The solution that a cell carries between its delimiters, without their indentation.

    Raises ValueError unless there is exactly one.
    """
    regions = REGION.findall(source)
    if len(regions) != 1 or source.count("### BEGIN SOLUTION") != 1 or source.count("### END SOLUTION") != 1:
        raise ValueError(f"{len(regions)} solutions between delimiters; a cell has one")
    return textwrap.dedent(regions[0][1]).strip("\n")


def replace_solution(source: str, code: str) -> str:
    """The cell with `code` in place of the solution and its delimiters."""
    solution_in(source)
    return REGION.sub(lambda region: textwrap.indent(code, region[1]), source)


def make_stub(source: str) -> str:
    """The cell as a student finds it: functions raise NotImplementedError, names at the top level are `...`.

    Raises ValueError for a solution at the top level that assigns no name.
    """
    solution, indented = solution_in(source), REGION.findall(source)[0][0]
    if indented:
        return replace_solution(source, STUB)
    assigned: list[ast.expr] = []
    for statement in ast.parse(solution).body:
        assigned += statement.targets if isinstance(statement, ast.Assign) else []
        assigned += [statement.target] if isinstance(statement, ast.AnnAssign) else []
    if not assigned:
        raise ValueError(f"nothing to blank: the solution assigns no name: {solution!r}")
    return replace_solution(source, "\n".join(f"{ast.unparse(target)} = ..." for target in assigned))


def tags(cell: Any) -> set[str]:
    """The tags of a cell."""
    return set(cell.metadata.get("tags", []))


def student_copy(notebook: Any) -> Any:
    """A chapter for a student: solutions blanked, outputs cleared; ids and tags as they were."""
    out = copy.deepcopy(notebook)
    out.cells = [c for c in out.cells if "solution" not in tags(c)]
    for cell in out.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            if "exercise" in tags(cell) and REGION.search(cell.source):  # a handout may have no solutions
                cell.source = make_stub(cell.source)
    return out


def exercise_cell(id_: str) -> str:
    """The source of the chapter's cell that checks exercise `id_`.

    Raises CourseError where no cell does, and where this copy of the course came without solutions.
    """
    path = chapter_path(id_.partition(".")[0])
    for cell in read_notebook(path).cells:
        if "exercise" in tags(cell) and f'check("{id_}"' in cell.source:
            if not REGION.search(cell.source):
                raise CourseError(
                    f"this copy of the course has no solution of {id_}", "ask your teacher for it"
                )
            return str(cell.source)
    raise CourseError(f"no cell of {path.name} checks exercise {id_}", "git checkout -- chapters")
