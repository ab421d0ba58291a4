"""The command `course start`: make or update the student's copies of the chapters in workspace/.

What the student wrote is never changed. A copy's metadata hold a digest of each cell as it was in the
chapter, which shows later whether the student has changed the cell.
"""

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

NEWER_ID = "-newer-"  # part of the id of an added cell that shows the course's new text below the student's


@dataclass
class CopyUpdate:
    """The result of updating one copy.

    updated_cells: how many cells took the course's new text. unknown: the copy has no cell of the course and
    was left unchanged. conflicts: ids of the cells that both the student and the course changed.
    """

    name: str
    created: bool = False
    updated_cells: int = 0
    unknown: bool = False
    conflicts: list[str] = field(default_factory=list)


def digest(source: str) -> str:
    """Return the first 16 hex digits of the SHA-256 of a cell's text."""
    return hashlib.sha256(source.encode()).hexdigest()[:16]


def _given(notebook: Any) -> dict[str, str]:
    """Return cell id -> digest of the cell's original text, from the notebook's metadata."""
    metadata = notebook.metadata.get("course", {})
    given = metadata.get("given", {}) if isinstance(metadata, dict) else {}
    return {k: v for k, v in given.items() if isinstance(v, str)} if isinstance(given, dict) else {}


def fresh_copy(chapter: Any) -> Any:
    """Return a new student copy, with the digests of its cells in the metadata."""
    out = student_copy(chapter)
    out.metadata.setdefault("course", {})["given"] = {c.id: digest(c.source) for c in out.cells}
    return out


def _note_id(cell: Any) -> str:
    return f"{cell.id}{NEWER_ID}{digest(cell.source)[:6]}"


def _note(cell: Any) -> Any:
    """Return a Markdown cell that shows the new text of a cell that the student changed."""
    from nbformat.v4 import new_markdown_cell

    text = f"```python\n{cell.source}\n```" if cell.cell_type == "code" else cell.source
    return new_markdown_cell(
        f"*The course has changed the cell above. Yours is kept; this is the new one:*\n\n{text}",
        id=_note_id(cell),
    )


def merge(theirs: Any, ours: Any, update: CopyUpdate) -> Any:
    """Return the student's copy `theirs`, updated to `ours`, a fresh copy of the new chapter.

    A cell that the student has not changed takes our new text. One that they changed stays; if ours changed
    too, a note with the new text is added below it. Cells that the student added stay after the cell that
    they follow. Deleted cells stay deleted.
    """
    given, new = _given(theirs), {c.id: c for c in ours.cells}
    digests = dict(ours.metadata["course"]["given"])
    mine = {c.id: c for c in theirs.cells if c.id in new}
    notes = {c.id for c in theirs.cells if NEWER_ID in c.id and digest(c.source) == given.get(c.id)}
    edited_notes = {c.id for c in theirs.cells if NEWER_ID in c.id} - notes
    followers: dict[str, list[Any]] = {}
    last = ""
    for cell in theirs.cells:
        if cell.id in mine:
            last = cell.id
        elif digest(cell.source) != given.get(cell.id):  # added by the student, or changed and then removed
            followers.setdefault(last, []).append(cell)
    cells = followers.get("", [])
    for id_, cell in new.items():
        if id_ in mine:
            merged = _merge_cell(
                mine[id_], cell, given.get(id_, ""), update, has_note=_note_id(cell) in notes
            )
            cells += [c for c in merged if c.id not in edited_notes]
            digests |= {c.id: digest(c.source) for c in cells[-1:] if NEWER_ID in c.id}
        elif id_ not in given:
            cells.append(cell)
            update.updated_cells += 1
        cells += followers.get(id_, [])
    ours.cells, ours.metadata["course"]["given"] = cells, digests
    return ours


def _merge_cell(their: Any, our: Any, given: str, update: CopyUpdate, has_note: bool) -> list[Any]:
    """Merge one cell: return theirs, ours, or theirs and a note with ours.

    given: digest of the cell's original text. has_note: whether the copy already has that note.
    """
    if their.source == our.source:
        return [their]
    if digest(their.source) == given:
        update.updated_cells += 1
        return [our]
    if given != digest(our.source):
        update.conflicts.append(their.id)
        return [their, _note(our)]
    return [their, _note(our)] if has_note else [their]


def update_copy(path: Path, target: Path) -> CopyUpdate:
    """Make or update the copy `target` of the chapter `path`. An unreadable copy is renamed, not deleted."""
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
    # Exactly as Jupyter writes it, so that equal notebooks are equal texts.
    text = nbformat.writes(copy) + "\n"
    if not target.exists() or target.read_text(encoding="utf-8") != text:
        atomic_write_text(target, text)
    return update


def start(workspace: Path = WORKSPACE, chapters: Path = CHAPTERS) -> list[CopyUpdate]:
    """Make or update the copies of all chapters, and print a summary. Raises CourseError if writing fails.

    Other users of the machine cannot read a workspace that is made here.
    """
    updates = []
    try:
        workspace.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in all_chapters(chapters):
            updates.append(update_copy(path, workspace / path.name))
    except OSError as error:
        what = f"the copies of the chapters cannot be written: {error}"
        raise CourseError(what, "set COURSE_WORKSPACE to a folder that you can write to") from error
    created, cells = sum(u.created for u in updates), sum(u.updated_cells for u in updates)
    print(f"{workspace}: {len(updates)} chapters; {created} new, {cells} cells brought up to date.")
    for u in updates:
        if u.unknown:
            print(f"  {u.name}: none of its cells comes from the course, so it was left unchanged.", end=" ")
            print("Rename it to get a fresh copy.")
        for id_ in u.conflicts:
            print(f"  {u.name}: you changed cell {id_}, and so did the course.", end=" ")
            print("Yours is kept; the new one is shown below it.")
    return updates
