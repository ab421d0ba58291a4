"""Take a learner's answers out of a notebook, and put each into the course's own chapter.

Only the sources of exercise cells are taken. What a cell needs of the chapter before it (imports, functions,
values) is found in the course's chapter, where the earlier exercise cells hold the learner's answers.
"""

from __future__ import annotations

import ast
import functools
import re
import symtable
from collections.abc import Iterable, Iterator
from typing import Any

import nbformat

from course_lib.chapters import all_chapters
from course_lib.grade.judge import Answer
from course_lib.grade.worker import MAGIC
from course_lib.learn.exercises.engine import find_exercise
from course_lib.learn.student import student_copy, tags

CHECK = re.compile(r'^check\("(?P<id>\d\d\.\d+)", (?P<name>\w+)\)', re.M)


@functools.cache
def course_chapters() -> dict[str, Any]:
    """Return number -> student's copy of each chapter of the course that has exercises."""
    found = {}
    for path in all_chapters():
        chapter = nbformat.v4.reads(path.read_text("utf-8"))  # not validated, which takes a second for all
        for cell in chapter.cells:
            cell.pop("outputs", None)
        found[path.name[:2]] = student_copy(chapter)
    return {number: copy for number, copy in found.items() if exercise_ids(copy)}


def exercise_ids(chapter: Any) -> dict[str, str]:
    """Return cell id -> exercise id for a chapter of the course."""
    cells = ((cell, CHECK.search(cell.source)) for cell in chapter.cells if "exercise" in tags(cell))
    return {cell.id: found["id"] for cell, found in cells if found}


def tidy(source: str) -> str:
    """Return a source with the line ends of Linux, and without blanks at the ends of lines."""
    return "\n".join(line.rstrip() for line in source.splitlines()).strip()


def cells_of(notebook: Any, chapter: Any) -> dict[str, str]:
    """Return exercise id -> source of the learner's cell; exercises that are not in the notebook are absent.

    A cell is known by its id. Programs that renew the ids leave the call of `check`, which is the second way.
    """
    ids, found = exercise_ids(chapter), {}
    sources = [(str(c.get("id")), c.source) for c in notebook.cells if c.cell_type == "code"]
    for _, source in sources:
        for id_ in re.findall(r"""\bcheck\(\s*["'](\d\d\.\d+)["']""", source):
            if id_ in ids.values():
                found[id_] = tidy(source)
    return found | {ids[cell_id]: tidy(source) for cell_id, source in sources if cell_id in ids}


def answers(cells: dict[str, str], chapter: Any) -> Iterator[tuple[str, Answer | None]]:
    """Yield (exercise id, answer) for each exercise of a chapter; None where the cell is missing or a stub.

    chapter: a student's copy, as in `course_chapters`. cells: exercise id -> source, as from `cells_of`.
    """
    before: list[str] = []
    for cell in chapter.cells:
        found = CHECK.search(cell.source) if "exercise" in tags(cell) else None
        source = cell.source
        if found:
            source = cells.get(found["id"], source)
            if tidy(source) == tidy(cell.source):
                yield found["id"], None
            else:
                needed = tuple(needed_before(source, before))
                yield found["id"], Answer(find_exercise(found["id"]), source, found["name"], needed)
        if cell.cell_type == "code":
            before.append(source)


def needed_before(cell: str, before: Iterable[str]) -> list[str]:
    """Return the statements of earlier cells that a cell needs, in order.

    A statement is needed if it sets a name that the cell, or a later needed statement, uses and has not set.
    A cell that is no Python needs nothing.
    """
    statements = [statement for source in before for statement in _statements(source)]
    wanted, kept = _names_used(cell), set[int]()
    while needed := {i for i, s in enumerate(statements) if i not in kept and wanted & _names_set(s)}:
        kept |= needed
        wanted |= {name for i in needed for name in _names_used(statements[i])}
    return [statements[i] for i in sorted(kept)]


def _statements(source: str) -> list[str]:
    """Return the top-level statements of a cell; none of a cell that is no Python."""
    source = MAGIC.sub(r"\1pass", source)
    try:
        return [ast.unparse(statement) for statement in ast.parse(source).body]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def _table(source: str) -> symtable.SymbolTable | None:
    try:
        return symtable.symtable(MAGIC.sub(r"\1pass", source), "cell", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _names_set(source: str) -> set[str]:
    """Return the names that a source sets at its top level."""
    table = _table(source)
    return (
        {s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported()} if table else set()
    )


def _names_used(source: str) -> set[str]:
    """Return the global names that a source uses, in functions too, and does not set itself."""

    def used(table: symtable.SymbolTable) -> Iterator[str]:
        for symbol in table.get_symbols():
            if symbol.is_referenced() and (table.get_type() == "module" or symbol.is_global()):
                yield symbol.get_name()
        for child in table.get_children():
            yield from used(child)

    table = _table(source)
    return set(used(table)) - _names_set(source) if table else set()
