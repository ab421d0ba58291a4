"""The command `course handout`: zip the whole course for a class, with or without solutions."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

from course_lib.atomic import atomic_file
from course_lib.chapters import all_chapters, read_notebook
from course_lib.data import ROOT
from course_lib.errors import CourseError
from course_lib.learn.student import student_copy

FOLDER = "local-ai-measured"


def course_files() -> list[Path]:
    """Return the files that git tracks, relative to the course's root.

    Raises CourseError outside a git checkout.
    """
    try:
        output = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True).stdout
    except FileNotFoundError as error:
        raise CourseError(
            "git is not installed, so the files of the course cannot be listed", "sudo apt install git"
        ) from error
    names = [n for n in output.split("\0") if n and (ROOT / n).is_file()]
    if not names:
        raise CourseError(
            f"{ROOT.name}/ is not a git checkout, so the files of the course cannot be listed",
            "clone the course with git and run the command there",
        )
    return [Path(n) for n in names]


def handout(out: Path, *, solutions: bool = True) -> Path:
    """Write the course as a zip in the folder `out`, and return its path.

    Without solutions, it has student copies of the chapters and no tests. Raises CourseError if it cannot be
    written; then no partial zip is left behind.
    """
    import nbformat

    target = out / (f"{FOLDER}.zip" if solutions else f"{FOLDER}-no-solutions.zip")
    names, replaced = course_files(), {}
    if not solutions:  # the tests contain solutions, too
        names = [name for name in names if name.parts[0] != "tests"]
        replaced = {
            p.relative_to(ROOT): nbformat.writes(student_copy(read_notebook(p))) for p in all_chapters()
        }
    try:
        with atomic_file(target) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as z:
            for name in names:
                entry = zipfile.ZipInfo.from_file(
                    ROOT / name, f"{FOLDER}/{name.as_posix()}"
                )  # keeps its mode
                entry.compress_type = zipfile.ZIP_DEFLATED
                z.writestr(entry, replaced.get(name) or (ROOT / name).read_bytes())
    except OSError as error:
        raise CourseError(f"{target} cannot be written: {error}", "course handout --out ~/handout") from error
    with_or_without = "with" if solutions else "without"
    size = target.stat().st_size / 1e6
    print(f"{target}: {size:.0f} MB, {len(all_chapters())} chapters, {with_or_without} solutions")
    return target
