"""Find a learner's answers in a notebook, with the code of the chapter that each of them needs.

Only exercise cells are taken from the learner's notebook; one that still has the course's stub (placeholder)
is not answered. The imports, functions and values that an answer needs come from the earlier cells of the
course's chapter, whose exercise cells hold the learner's answers.
"""

from __future__ import annotations

import ast
import functools
import json
import re
import symtable
from collections.abc import Iterable, Iterator
from typing import Any

from course_lib.chapters import all_chapters
from course_lib.grade.judge import Answer
from course_lib.grade.worker import plain_python
from course_lib.learn.exercises.engine import find_exercise
from course_lib.learn.student import REGION, make_stub, tags

CHECK = re.compile(r'^check\("(?P<id>\d\d\.\d+)", (?P<name>\w+)\)', re.M)  # as the course's cells call it
CALL = re.compile(r"""\bcheck\(\s*["'](\d\d\.\d+)["']""")  # as learners may call it


class _Node(dict[str, Any]):
    """A dict whose keys are also attributes, like the notebook nodes of nbformat."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    __setattr__ = dict.__setitem__


def parse_notebook(text: str) -> Any:
    """Return a notebook of format 4, without validation. nbformat is not used: its import takes a second.

    Raises ValueError, AttributeError or TypeError for a text that is not a notebook.
    """
    notebook = json.loads(text, object_hook=_Node)
    for cell in notebook.cells:
        cell.source = cell.source if isinstance(cell.source, str) else "".join(cell.source)
    return notebook


@functools.cache
def course_chapters() -> dict[str, Any]:
    """Return number -> chapter, for the chapters with exercises, with stubs in place of the solutions."""
    chapters = {}
    for path in all_chapters():
        chapter = parse_notebook(path.read_text("utf-8"))
        chapter.cells = [cell for cell in chapter.cells if "solution" not in tags(cell)]
        for cell in chapter.cells:
            if "exercise" in tags(cell) and REGION.search(cell.source):  # a handout may have no solutions
                cell.source = make_stub(cell.source)
        chapters[path.name[:2]] = chapter
    return {number: chapter for number, chapter in chapters.items() if exercise_ids(chapter)}


def exercise_ids(chapter: Any) -> dict[str, str]:
    """Return cell id -> exercise id for a chapter of the course."""
    cells = ((cell, CHECK.search(cell.source)) for cell in chapter.cells if "exercise" in tags(cell))
    return {cell.id: found["id"] for cell, found in cells if found}


def tidy(source: str) -> str:
    """Return a source with \\n as line ends, and without white space at the ends of lines."""
    return "\n".join(line.rstrip() for line in source.splitlines()).strip()


def cells_of(notebook: Any, chapter: Any) -> dict[str, str]:
    """Return exercise id -> source of the learner's cell, for the exercises that are in the notebook.

    A cell is recognised by its id. If a program has renewed the ids, or the learner answered in a copy of the
    cell, it is recognised by its call of `check`; a cell that only calls `check`, without setting the answer,
    does not count. Of several cells for an exercise, the last one that the learner changed is taken.
    """
    ids = exercise_ids(chapter)
    names = {call["id"]: call["name"] for c in chapter.cells for call in CHECK.finditer(c.source)}
    given = {ids[cell.id]: tidy(cell.source) for cell in chapter.cells if cell.id in ids}
    sources: dict[str, str] = {}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            by_id = ids.get(str(cell.get("id")))
            called = [id_ for id_ in CALL.findall(cell.source) if id_ in given]
            called = [id_ for id_ in called if _may_set(cell.source, names[id_])]
            for id_ in [by_id] if by_id else called:
                source = tidy(cell.source)
                if source != given[id_] or id_ not in sources:
                    sources[id_] = source
    return sources


def chapter_of(notebook: Any) -> tuple[str, dict[str, str]]:
    """Return the number of the chapter with most of its exercises in a notebook, and `cells_of` for it."""
    by_number = [(number, cells_of(notebook, chapter)) for number, chapter in course_chapters().items()]
    return max(by_number, key=lambda pair: len(pair[1]))


def answered(cells: dict[str, str], chapter: Any) -> list[str]:
    """Return the ids of the exercises whose cell the learner changed. cells: as `cells_of` returns them."""
    ids = exercise_ids(chapter)
    given = {ids[cell.id]: tidy(cell.source) for cell in chapter.cells if cell.id in ids}
    return [id_ for id_, source in cells.items() if tidy(source) != given[id_]]


def _may_set(source: str, name: str) -> bool:
    """Whether a source sets a name; also True for a source that is not valid Python."""
    return _symbols(source) is None or name in _names_set(source)


def answers(cells: dict[str, str], chapter: Any) -> Iterator[tuple[str, Answer | None]]:
    """Yield (exercise id, answer) for each exercise of a chapter; None where the cell is missing or a stub.

    chapter: one of `course_chapters`. cells: exercise id -> source, as `cells_of` returns them.
    """
    before: list[str] = []
    for cell in chapter.cells:
        call = CHECK.search(cell.source) if "exercise" in tags(cell) else None
        source = cell.source
        if call:
            source = cells.get(call["id"], source)
            if tidy(source) == tidy(cell.source):
                yield call["id"], None
            else:
                needed = tuple(needed_before(source, before))
                yield call["id"], Answer(find_exercise(call["id"]), source, call["name"], needed)
        if cell.cell_type == "code":
            before.append(source)


def needed_before(cell: str, before: Iterable[str]) -> list[str]:
    """Return the statements of earlier cells that a cell needs, in order.

    A statement is needed if it sets a name that the cell, or another needed statement, uses without setting
    it. A cell that is not valid Python needs nothing.
    """
    statements = [statement for source in before for statement in _statements(source)]
    wanted, kept = _names_used(cell), set[int]()
    while needed := {i for i, s in enumerate(statements) if i not in kept and wanted & _names_set(s)}:
        kept |= needed
        wanted |= {name for i in needed for name in _names_used(statements[i])}
    return [statements[i] for i in sorted(kept)]


def _statements(source: str) -> list[str]:
    """Return the top-level statements of a cell; an empty list if it is not valid Python."""
    try:
        return [ast.unparse(statement) for statement in ast.parse(plain_python(source)).body]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def _symbols(source: str) -> symtable.SymbolTable | None:
    """Return the symbol table of a source, or None if it is not valid Python."""
    try:
        return symtable.symtable(plain_python(source), "cell", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _names_set(source: str) -> set[str]:
    """Return the names that a source sets at its top level."""
    table = _symbols(source)
    return (
        {s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported()} if table else set()
    )


def _names_used(source: str) -> set[str]:
    """Return the global names that a source uses, also in functions, and does not set itself."""

    def used(table: symtable.SymbolTable) -> Iterator[str]:
        for symbol in table.get_symbols():
            if symbol.is_referenced() and (table.get_type() == "module" or symbol.is_global()):
                yield symbol.get_name()
        for child in table.get_children():
            yield from used(child)

    table = _symbols(source)
    return set(used(table)) - _names_set(source) if table else set()
