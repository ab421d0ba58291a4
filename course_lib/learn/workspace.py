"""`course start`: make or update the student's copies of the chapters; what they wrote is never touched."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from course_lib.atomic import atomic_write_text, rename_damaged
from course_lib.chapters import all_chapters, read_notebook
from course_lib.data import CHAPTERS, WORKSPACE
from course_lib.errors import CourseError
from course_lib.learn.student import student_copy

NEWER_ID = "-newer-"  # in the id of a cell that shows our new text below the student's


@dataclass
class CopyUpdate:
    """What `course start` did to one copy."""

    name: str
    created: bool = False
    updated_cells: int = 0
    unknown: bool = False  # no cell of the copy is the course's: it was left as it is
    conflicts: list[str] = field(
        default_factory=list
    )  # ids of cells that both the student and the course changed


def digest(source: str) -> str:
    """The first 16 hex digits of the SHA-256 of a cell's text."""
    return hashlib.sha256(source.encode()).hexdigest()[:16]


def _given(notebook: Any) -> dict[str, str]:
    """Cell id -> digest of the text that the course gave, from the notebook's metadata."""
    metadata = notebook.metadata.get("course", {})
    given = metadata.get("given", {}) if isinstance(metadata, dict) else {}
    return {k: v for k, v in given.items() if isinstance(v, str)} if isinstance(given, dict) else {}


def fresh_copy(chapter: Any) -> Any:
    """A new student copy that records the digests of its cells."""
    out = student_copy(chapter)
    out.metadata.setdefault("course", {})["given"] = {c.id: digest(c.source) for c in out.cells}
    return out


def _note_id(cell: Any) -> str:
    return f"{cell.id}{NEWER_ID}{digest(cell.source)[:6]}"


def _note(cell: Any) -> Any:
    """A Markdown cell with the new text of a cell that the student changed: to read, not to run."""
    from nbformat.v4 import new_markdown_cell

    text = f"```python\n{cell.source}\n```" if cell.cell_type == "code" else cell.source
    return new_markdown_cell(
        f"*The course has changed the cell above. Yours is kept; this is the new one:*\n\n{text}",
        id=_note_id(cell),
    )


def merge(theirs: Any, ours: Any, update: CopyUpdate) -> Any:
    """The student's copy brought up to date with `ours`, a fresh copy.

    A cell that the student left as it was takes our new text. One that they changed stays; where ours changed
    too, the new text is added below it. Cells of their own stay behind the cell that they follow. Deleted
    cells stay deleted.
    """
    given, new = _given(theirs), {c.id: c for c in ours.cells}
    digests = dict(ours.metadata["course"]["given"])
    mine = {c.id: c for c in theirs.cells if c.id in new}
    notes = {c.id for c in theirs.cells if NEWER_ID in c.id and digest(c.source) == given.get(c.id)}
    remarks = {
        c.id for c in theirs.cells if NEWER_ID in c.id
    } - notes  # notes that the student has written into
    followers: dict[str, list[Any]] = {}
    last = ""
    for cell in theirs.cells:
        if cell.id in mine:
            last = cell.id
        elif digest(cell.source) != given.get(cell.id):  # their own, or changed where ours is gone
            followers.setdefault(last, []).append(cell)
    cells = followers.get("", [])
    for id_, cell in new.items():
        if id_ in mine:
            pair = _pair(mine[id_], cell, given.get(id_, ""), update, kept=_note_id(cell) in notes)
            cells += [c for c in pair if c.id not in remarks]
            digests |= {c.id: digest(c.source) for c in cells[-1:] if NEWER_ID in c.id}
        elif id_ not in given:
            cells.append(cell)
            update.updated_cells += 1
        cells += followers.get(id_, [])
    ours.cells, ours.metadata["course"]["given"] = cells, digests
    return ours


def _pair(their: Any, our: Any, given: str, update: CopyUpdate, kept: bool) -> list[Any]:
    """The cells in place of one: theirs, ours, or both. kept: ours stands below theirs already."""
    if their.source == our.source:
        return [their]
    if digest(their.source) == given:
        update.updated_cells += 1
        return [our]
    if given != digest(our.source):
        update.conflicts.append(their.id)
        return [their, _note(our)]
    return [their, _note(our)] if kept else [their]


def update_copy(path: Path, target: Path) -> CopyUpdate:
    """Make or update the copy `target` of the chapter `path`; an unreadable copy is renamed and kept."""
    import nbformat

    update, copy = CopyUpdate(target.name), fresh_copy(read_notebook(path))
    if target.exists():
        try:
            theirs = read_notebook(target)
            if not any(c.get("id") in _given(theirs) for c in theirs.cells):
                update.unknown = True
                return update
            copy = merge(theirs, copy, update)
        except CourseError:
            renamed = rename_damaged(target, ".txt")
            print(f"{target.name} could not be read. It was kept as {renamed.name}, and a new copy made.")
            update.created = True
    else:
        update.created = True
    text = nbformat.writes(copy) + "\n"  # as Jupyter writes it, so that what is unchanged stays unwritten
    if not target.exists() or target.read_text(encoding="utf-8") != text:
        atomic_write_text(target, text)
    return update


def start(workspace: Path = WORKSPACE, chapters: Path = CHAPTERS) -> list[CopyUpdate]:
    """Make or update the copies of all chapters, and print what happened.

    Raises CourseError where writing fails.
    """
    updates = []
    for path in all_chapters(chapters):
        try:
            updates.append(update_copy(path, workspace / path.name))
        except OSError as error:
            raise CourseError(
                f"{workspace.name}/{path.name} cannot be written: {error}",
                "copy the course to a folder that you can write to",
            ) from error
    created, cells = sum(u.created for u in updates), sum(u.updated_cells for u in updates)
    print(f"{workspace.name}/: {len(updates)} chapters; {created} new, {cells} cells brought up to date.")
    for u in updates:
        if u.unknown:
            print(f"  {u.name}: none of its cells is known, so it was left as it is.", end=" ")
            print("Give it another name to get a fresh copy.")
        for id_ in u.conflicts:
            print(f"  {u.name}: you changed cell {id_}, and so did the course.", end=" ")
            print("Yours is kept, ours stands below it.")
    return updates
