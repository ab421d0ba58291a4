"""The command `course handout`: zip the whole course for a class, with or without solutions."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

from course_lib.atomic import atomic_file
from course_lib.chapters import all_chapters, read_notebook
from course_lib.data import ROOT, need_repository
from course_lib.errors import CourseError
from course_lib.learn.student import student_copy

FOLDER = "local-ai-measured"  # in the zip


def course_files() -> list[Path]:
    """Return the files that git tracks, relative to the course's root.

    Raises CourseError outside a git checkout.
    """
    need_repository("the files of a handout are")
    try:
        listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, encoding="utf-8")
    except FileNotFoundError as error:
        raise CourseError(
            "git is not installed, so the files of the course cannot be listed", "sudo apt install git"
        ) from error
    names = [n for n in listing.stdout.split("\0") if n and (ROOT / n).is_file()]
    if listing.returncode or not names:
        reason = listing.stderr.strip() or f"{ROOT.name}/ is not a git checkout"
        raise CourseError(
            f"{reason}, so the files of the course cannot be listed",
            "clone the course with git and run the command there",
        )
    return [Path(n) for n in names]


def handout(out: Path, *, solutions: bool = True) -> Path:
    """Write the course as a zip in the folder `out`, and return its path.

    With solutions=False, the chapters are student copies (placeholders for the solutions), and tests/ is
    left out. Raises CourseError, and leaves no partial file, if the zip cannot be written.
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
                # from_file keeps the file's permissions; zip has no dates before 1980.
                member = f"{FOLDER}/{name.as_posix()}"
                entry = zipfile.ZipInfo.from_file(ROOT / name, member, strict_timestamps=False)
                entry.compress_type = zipfile.ZIP_DEFLATED
                z.writestr(entry, replaced.get(name) or (ROOT / name).read_bytes())
    except OSError as error:
        raise CourseError(f"{target} cannot be written: {error}", "course handout --out ~/handout") from error
    with_or_without = "with" if solutions else "without"
    size = target.stat().st_size / 1e6
    print(f"{target}: {size:.0f} MB, {len(all_chapters())} chapters, {with_or_without} solutions")
    return target
