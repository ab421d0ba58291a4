"""Write files and folders so that an interruption leaves the old content or the new, never half of it."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from course_lib.errors import CourseError


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to, in the same folder, and rename it to `path` at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder to write into, and rename it to `path` at the end; on an error it is deleted.

    Raises CourseError where `path` exists already and is not an empty folder.
    """
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise CourseError(f"{path} exists already", "name a new folder, or remove it first")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.", suffix=".partial") as parent:
        partial = Path(parent) / path.name
        partial.mkdir()
        yield partial
        os.replace(partial, path)


def atomic_write_text(path: Path, text: str) -> None:
    """Write `text` to a file as UTF-8, atomically."""
    with atomic_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def rename_damaged(path: Path, suffix: str) -> Path:
    """Rename a damaged file to the first free `stem.damaged-N` with this suffix; returns the new path."""
    names = (path.with_name(f"{path.stem}.damaged-{n}{suffix}") for n in itertools.count(1))
    target = next(p for p in names if not p.exists())
    os.replace(path, target)
    return target
