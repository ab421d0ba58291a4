"""A JSON Lines file of results, from which an interrupted run continues; its first line identifies the run.

Used by `course_lib.batch`, `course exam` and `course grade`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from course_lib.errors import CourseError


def resume(
    path: Path, header: dict[str, Any], foreign: CourseError, *, batch_size: int, total: int
) -> list[str]:
    """Return the lines of the complete batches in the file, and cut off an incomplete batch at its end.

    header: identifies the run; it is written to a new file. foreign: the error to raise for the file of
    another run. total: the number of lines of a complete run, whose last batch may be smaller.
    """
    first = (json.dumps(header, ensure_ascii=False) + "\n").encode()
    if not path.exists() or first.startswith(path.read_bytes()):  # new, or killed within the first line
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(first)
        return []
    lines = path.read_bytes().split(b"\n")[:-1]  # what follows the last newline is incomplete
    if not lines or lines[0] + b"\n" != first:
        raise foreign
    rows = lines[1:]
    complete = rows if len(rows) == total else rows[: len(rows) // batch_size * batch_size]
    with open(path, "r+b") as file:
        file.truncate(sum(len(line) + 1 for line in (lines[0], *complete)))
    return [line.decode() for line in complete]


def append(path: Path, lines: Sequence[str]) -> None:
    """Add lines to the file; they are on the disk when this returns."""
    with open(path, "ab") as file:
        file.write("".join(f"{line}\n" for line in lines).encode())
        file.flush()
        os.fsync(file.fileno())
