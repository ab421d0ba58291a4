"""One learner's work as one file: `course submit` writes it, and `course grade` reads it without unpacking.

A submission is a zip of the notebooks (sources of cells, no outputs), the progress, and `submission.json`
with the learner's name, versions, and the SHA-256 of each file. Notebooks alone, zipped or not, are read too.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from course_lib.atomic import atomic_file
from course_lib.chapters import all_chapters, read_notebook
from course_lib.errors import CourseError
from course_lib.grade.answers import answered, chapter_of, course_chapters, exercise_ids, parse_notebook
from course_lib.grade.values import printable
from course_lib.names import nfc
from course_lib.shell import command_line

LARGEST_FILE = 20_000_000  # bytes of a notebook, to protect the teacher's machine
LARGEST_ZIP = 100_000_000  # bytes of all that is read from a zip
CARD = "submission.json"  # the file about the submission itself
# What zipfile raises for a damaged or encrypted file, or for one with an unknown method of compression.
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, RuntimeError, EOFError, ValueError)


@dataclass
class Submission:
    """The content of a submission.

    login: the learner's id on the learning platform, or ''. source: the submission's file or folder, relative
    to the teacher's folder. cells: chapter -> exercise id -> source. unreadable: chapters whose notebook
    cannot be read; "" stands for all. notes: remarks for the teacher.
    """

    student: str
    source: str
    login: str = ""
    cells: dict[str, dict[str, str]] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class HandedIn:
    """What `submit` wrote.

    answers: notebook -> (exercises whose cell was changed, exercises).
    damaged: notebook -> why it cannot be read. ignored: notebooks in the workspace without a chapter's name.
    """

    path: Path
    answers: dict[str, tuple[int, int]]
    damaged: dict[str, str]
    ignored: list[str]


def submit(
    name: str, login: str, out: Path, chapters: Sequence[str] = (), *, workspace: Path, progress: str
) -> HandedIn:
    """Write the learner's notebooks to a zip in the folder `out`. A damaged one is named in it, not included.

    login: the learner's id on the learning platform, or ''. chapters: their numbers; () means all.
    progress: the content of the progress file.
    Raises CourseError if there is nothing to submit, or the file cannot be written.
    """
    paths = [p for p in all_chapters(workspace) if not chapters or p.name[:2] in chapters]
    missing = sorted(set(chapters) - {p.name[:2] for p in paths})
    if missing or not paths:
        raise CourseError(
            f"{workspace.name}/ has no chapter {', '.join(missing) or 'at all'}", "course start"
        )
    files, damaged = _read_workspace(paths)
    answers = {n: _count_answers(content) for n, content in files.items()}
    files["progress.json"] = progress.encode()
    digests = {n: hashlib.sha256(content).hexdigest() for n, content in files.items()}
    card = {
        "student": printable(nfc(name)),
        "login": printable(login),
        "versions": versions(),
        "sha256": digests,
        "damaged": damaged,
    }
    files[CARD] = json.dumps(card, ensure_ascii=False, indent=1).encode()
    target = out / f"{_file_name(name)}.zip"
    try:
        with atomic_file(target) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as z:
            for file, content in files.items():
                z.writestr(zipfile.ZipInfo(file), content, zipfile.ZIP_DEFLATED)
    except OSError as error:
        taken = os.path.exists(target)  # Path.exists raises where the folder cannot be read
        words = ["course", "submit", "--name", f"{name} 2" if taken else name]
        words += ["--id", login] if login else []
        words += [word for number in chapters for word in ("--chapter", number)]
        # Rather than the home folder: other users often can read that, but not a workspace.
        fix = command_line(*words, "--out", out if taken else workspace)
        raise CourseError(f"{target} cannot be written: {error}", fix) from error
    ignored = sorted(p.name for p in set(workspace.glob("*.ipynb")) - set(all_chapters(workspace)))
    return HandedIn(target, answers, damaged, ignored)


def _read_workspace(paths: Sequence[Path]) -> tuple[dict[str, bytes], dict[str, str]]:
    """Return name -> content of the notebooks, and name -> reason of those that cannot be read.

    Raises CourseError if none can be read.
    """
    files, damaged = dict[str, bytes](), dict[str, str]()
    for path in paths:
        try:
            files[path.name] = _sources_only(read_notebook(path))
        except CourseError as error:
            damaged[path.name] = error.what
    if not files:
        raise CourseError(f"nothing can be handed in: {'; '.join(damaged.values())}", "course start")
    return files, damaged


def _count_answers(content: bytes) -> tuple[int, int]:
    """Return how many exercises of a notebook are answered, and how many its chapter has."""
    number, cells = chapter_of(parse_notebook(content.decode()))
    chapter = course_chapters()[number]
    return len(answered(cells, chapter)), len(exercise_ids(chapter))


def versions() -> dict[str, str]:
    """Return the versions of the course and of Python."""
    import platform

    from course_lib import __version__

    return {"course": __version__, "python": platform.python_version()}


def _sources_only(notebook: Any) -> bytes:
    """Return a notebook with only the ids, types and sources of its cells, without outputs and metadata."""
    import nbformat

    copy = nbformat.v4.new_notebook()
    for cell in notebook.cells:
        make = {"code": nbformat.v4.new_code_cell, "markdown": nbformat.v4.new_markdown_cell}
        if cell.cell_type in make:
            copy.cells.append(make[cell.cell_type](cell.source, id=cell.id))
    return str(nbformat.writes(copy)).encode()


def _file_name(name: str) -> str:
    return re.sub(r"[^\w-]+", "-", nfc(name)).strip("-") or "submission"


def find(folder: Path) -> dict[str, list[Path]]:
    """Return the submissions in a folder: label -> its files. Raises CourseError if there are none.

    A zip is one submission. Notebooks in one subfolder are one submission together, as Moodle's "download
    all" makes them; a notebook in `folder` itself is a submission of its own. Symbolic links are left out,
    with a message, because the teacher can read files that the learner cannot.
    """
    submissions: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        hidden = any(part.startswith((".", "__MACOSX")) for part in inside.parts)
        if hidden or path.suffix.lower() not in (".zip", ".ipynb") or not path.is_file():
            continue
        if any(place.is_symlink() for place in (path, *path.parents[: len(inside.parts) - 1])):
            print(
                f"{printable(inside.as_posix())} is a link, maybe to somebody else's work, and is left out."
            )
            continue
        alone = path.suffix.lower() == ".zip" or len(inside.parts) == 1
        label = inside.as_posix() if alone else inside.parts[0]
        submissions.setdefault(nfc(label), []).append(path)
    if not submissions:
        raise CourseError(
            f"no submission in {folder}: no .zip and no .ipynb", "course grade FOLDER --out grades.csv"
        )
    return submissions


def read(label: str, paths: Sequence[Path]) -> Submission:
    """Read one submission. If a file cannot be read, that is noted in the result, and nothing is raised."""
    parts = PurePosixPath(label).parts
    is_file = len(parts) == 1 and parts[0].lower().endswith((".zip", ".ipynb"))
    student = PurePosixPath(label).stem if is_file else parts[0]
    submission = Submission(student=student, source=label)
    for name, content in _files(submission, paths):
        _add_notebook(submission, name, content)
    submission.student, submission.login = printable(nfc(submission.student)), printable(submission.login)
    submission.notes = [printable(note) for note in submission.notes]
    return submission


def _files(submission: Submission, paths: Sequence[Path]) -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of each notebook of a submission."""
    for path in paths:
        if path.suffix.lower() == ".zip":
            yield from _zipped(submission, path)
        elif path.stat().st_size > LARGEST_FILE:
            _refuse(submission, path.name, f"{path.stat().st_size / 1e6:,.0f} MB, more than 20")
        else:
            yield path.name, path.read_bytes()


def _zipped(submission: Submission, path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of the notebooks of a zip. It is not unpacked, so paths in it do no harm."""
    contents: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(path) as z:
            for member in z.infolist():
                name = member.filename.replace("\\", "/")
                if member.is_dir() or "__MACOSX" in name or not name.endswith((".ipynb", ".json")):
                    continue
                if name.startswith("/") or ".." in name.split("/") or ":" in name:
                    submission.notes.append(f"its file {name!r} points out of the zip")
                with z.open(member) as file:
                    contents[name] = file.read(LARGEST_FILE + 1)
                if len(contents[name]) > LARGEST_FILE:
                    _refuse(submission, PurePosixPath(name).name, "more than 20 MB")
                    del contents[name]
                if sum(map(len, contents.values())) > LARGEST_ZIP:
                    raise ValueError("its files have more than 100 MB together")
    except ZIP_ERRORS as error:
        submission.unreadable.append("")
        submission.notes.append(f"{path.name} is not a readable zip: {error}")
        return
    _read_card(submission, contents)
    yield from ((PurePosixPath(name).name, c) for name, c in contents.items() if name.endswith(".ipynb"))


def _read_card(submission: Submission, contents: dict[str, bytes]) -> None:
    """Take the learner's name from submission.json, and compare versions and checksums."""
    if CARD not in contents:
        return submission.notes.append("not made by `course submit`")
    try:
        card = json.loads(contents[CARD])
        submission.student = str(card["student"])[:100] or submission.student
        submission.login = str(card["login"])[:100]
        python, ours = str(card["versions"]["python"])[:20], versions()["python"]
        digests, damaged = dict(card["sha256"]), dict(card.get("damaged", {}))
    except (ValueError, KeyError, TypeError, RecursionError):
        return submission.notes.append(f"{CARD} is damaged")
    if python.split(".")[:2] != ours.split(".")[:2]:
        submission.notes.append(f"written with Python {python}, graded with {ours}")
    for name in damaged:
        _refuse(submission, str(name)[:100], "damaged on the learner's machine, and not in the zip")
    for name, digest in digests.items():
        if hashlib.sha256(contents.get(name, b"")).hexdigest() != digest:
            submission.notes.append(f"{name} was changed after `course submit`")


def _add_notebook(submission: Submission, name: str, content: bytes) -> None:
    """Add the exercise cells of one notebook, under the chapter with most of its exercises in it."""
    try:
        notebook = parse_notebook(content.decode("utf-8-sig"))
        number, cells = chapter_of(notebook)
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        return _refuse(submission, name, f"not a readable notebook: {type(error).__name__}: {error!s:.100}")
    if not cells:
        submission.notes.append(f"{name} has no exercise of the course")
    elif len(cells) >= len(submission.cells.get(number, ())):
        if number in submission.cells:
            submission.notes.append(f"more than one notebook of chapter {number}; {name} was graded")
        submission.cells[number] = cells


def _refuse(submission: Submission, name: str, why: str) -> None:
    """Note that a file cannot be read, and which chapter that is, if the name begins with its number."""
    number = re.match(r"\d\d", name)
    submission.unreadable.append(number[0] if number else "")
    submission.notes.append(f"{name}: {why}")
