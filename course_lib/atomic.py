"""Write files and folders atomically: an interruption leaves the old content or the new, never a mixture."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from course_lib.errors import CourseError


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; when the block ends, rename it to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def check_new_folder(path: Path) -> None:
    """Raise CourseError unless `path` does not exist or is an empty folder."""
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise CourseError(f"{path} already exists", "choose a new folder, or remove this one first")


@contextmanager
def atomic_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield a temporary folder; when the block ends, rename it to `path`. On an error, delete it.

    replace: whether to replace what is at `path`; if False, raises CourseError as `check_new_folder` does.
    """
    if not replace:
        check_new_folder(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.", suffix=".partial") as parent:
        partial = Path(parent) / path.name
        partial.mkdir()
        yield partial
        replaced = Path(parent) / "replaced"
        try:
            if replace and path.exists():
                os.replace(path, replaced)
            os.replace(partial, path)
        except BaseException:  # the temporary folder is deleted now, with what is in it
            if replaced.exists() and not path.exists():
                os.replace(replaced, path)
            raise


def check_free_disk(path: Path, needed: int, name: str, fix: str) -> None:
    """Raise CourseError if the disk on which `path` would be has fewer than `needed` bytes free.

    name: what needs the space, for the error message.
    """
    folder = next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
    free = shutil.disk_usage(folder).free
    if needed > free:
        what = f"{name} needs {needed / 1e6:,.0f} MB, but {free / 1e6:,.0f} MB are free at {folder}"
        raise CourseError(what, fix)


def atomic_write_text(path: Path, text: str) -> None:
    """Write `text` to a file as UTF-8, atomically."""
    with atomic_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def rename_damaged(path: Path, suffix: str) -> Path:
    """Rename a damaged file to the first unused name `STEM.damaged-N` + `suffix`, and return the new path."""
    names = (path.with_name(f"{path.stem}.damaged-{n}{suffix}") for n in itertools.count(1))
    target = next(p for p in names if not p.exists())
    os.replace(path, target)
    return target
