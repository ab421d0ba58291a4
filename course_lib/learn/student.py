"""Make a student's copy of a chapter: without solutions, and with a cell for hints under each exercise.

An exercise cell marks its solution with the comments ### BEGIN SOLUTION and ### END SOLUTION.
"""

from __future__ import annotations

import ast
import copy
import re
import textwrap
from typing import Any

from course_lib.chapters import chapter_path, read_notebook
from course_lib.data import restore
from course_lib.errors import CourseError

# nbgrader's delimiters (nbgrader.readthedocs.io, "Creating and grading assignments").
REGION = re.compile(r"^([ \t]*)### BEGIN SOLUTION[^\n]*\n(.*?)^[ \t]*### END SOLUTION[^\n]*$", re.M | re.S)
# What a student finds in place of a solution in a function.
STUB = 'raise NotImplementedError("your code here")'
HINT = "-hint"  # ends the id of a cell for hints
EXERCISE_ID = re.compile(r'check\("(\d\d\.\d+)"')


def solution_in(source: str) -> str:
    """Return the solution between a cell's delimiters, dedented.

    Raises ValueError unless the cell has exactly one solution.
    """
    regions = REGION.findall(source)
    if len(regions) != 1 or source.count("### BEGIN SOLUTION") != 1 or source.count("### END SOLUTION") != 1:
        raise ValueError(f"{len(regions)} solutions between delimiters; a cell must have exactly one")
    return textwrap.dedent(regions[0][1]).strip("\n")


def replace_solution(source: str, code: str) -> str:
    """Return the cell's source with `code` in place of the solution and its delimiters."""
    solution_in(source)
    return REGION.sub(lambda region: textwrap.indent(code, region[1]), source)


def make_stub(source: str) -> str:
    """Return the cell as a student gets it: the solution is replaced by a stub.

    In a function, the stub raises NotImplementedError; at the top level, it sets the assigned names to `...`.
    Raises ValueError for a top-level solution that assigns no name.
    """
    solution, indented = solution_in(source), REGION.findall(source)[0][0]
    if indented:
        return replace_solution(source, STUB)
    assigned: list[ast.expr] = []
    for statement in ast.parse(solution).body:
        assigned += statement.targets if isinstance(statement, ast.Assign) else []
        assigned += [statement.target] if isinstance(statement, ast.AnnAssign) else []
    if not assigned:
        raise ValueError(f"no stub can be made: the solution assigns no name: {solution!r}")
    return replace_solution(source, "\n".join(f"{ast.unparse(target)} = ..." for target in assigned))


def tags(cell: Any) -> set[str]:
    """Return the tags of a cell."""
    return set(cell.metadata.get("tags", []))


def student_copy(notebook: Any) -> Any:
    """Return a chapter without solutions and outputs, and with a cell for hints under each exercise.

    Ids and tags of the chapter's cells are unchanged.
    """
    out = copy.deepcopy(notebook)
    out.cells = []
    for cell in notebook.cells:
        if tags(cell) & {"solution", "hint"}:  # a copy's cells for hints are made again
            continue
        cell = copy.deepcopy(cell)
        out.cells.append(cell)
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            if "exercise" in tags(cell):
                if REGION.search(cell.source):  # a handout may have no solutions
                    cell.source = make_stub(cell.source)
                out.cells += hint_cells(cell)
    return out


def hint_cells(exercise: Any) -> list[Any]:
    """Return the cell for hints under an exercise's cell: a comment, so that "Run All" shows no hint."""
    from nbformat.v4 import new_code_cell

    calls = [f'hint("{id_}")' for id_ in EXERCISE_ID.findall(exercise.source)]
    texts = [
        f"# Stuck? Remove the # before {call} and run this cell. Each run shows one more hint.\n# {call}"
        for call in calls[-1:]
    ]
    return [new_code_cell(text, id=f"{exercise.id}{HINT}", metadata={"tags": ["hint"]}) for text in texts]


def exercise_cell(id_: str) -> str:
    """Return the source of the chapter's cell that checks exercise `id_`, such as 03.2.

    Raises CourseError if there is no such cell, or if this copy of the course was made without solutions.
    """
    path = chapter_path(id_.partition(".")[0])
    for cell in read_notebook(path).cells:
        if "exercise" in tags(cell) and f'check("{id_}"' in cell.source:
            if not REGION.search(cell.source):
                raise CourseError(
                    f"this copy of the course has no solution for {id_}", "ask your teacher for it"
                )
            return str(cell.source)
    raise CourseError(f"no cell of {path.name} checks exercise {id_}", restore("chapters"))
