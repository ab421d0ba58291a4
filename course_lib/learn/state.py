"""What a student has done: one readable JSON file on this machine, and nowhere else."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from filelock import FileLock
from pydantic import BaseModel, ConfigDict

from course_lib.atomic import atomic_write_text, rename_damaged
from course_lib.data import WORKSPACE
from course_lib.errors import CourseError

VERSION = 1
Verdict = Literal["right", "not yet", "not answered"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_assignment=True)


class Tried(_Strict):
    """One exercise: answers given, the last verdict, whether it was ever right, hints read."""

    attempts: int = 0
    verdict: Verdict = "not answered"
    passed: bool = False
    hints: int = 0


class Guess(_Strict):
    """One prediction: its unit and range, the guess, and what was measured."""

    unit: str
    low: float
    high: float
    guess: float | None = None
    measured: float | None = None


class State(_Strict):
    """The whole file."""

    version: int = VERSION
    exercises: dict[str, Tried] = {}
    predictions: dict[str, Guess] = {}


# What this session did where nothing is kept, or could not be: it still knows its own hints and guesses.
_unsaved: dict[Path | None, State] = {}


def path() -> Path | None:
    """COURSE_STATE where it is set; the workspace's file where the notebook lies in the workspace; else None: nothing is kept.

    The solved chapters keep nothing, so that running one is not counted as the student's work.
    """
    if named := os.environ.get("COURSE_STATE"):
        return Path(named)
    here = Path.cwd()
    return default_path() if WORKSPACE in (here, *here.parents) else None


def default_path() -> Path:
    """The student's file."""
    return WORKSPACE / "progress.json"


class Damaged(Exception):
    """A state file that cannot be read."""


def _read(file: Path) -> State:
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        version = int(said["version"])
        if version <= VERSION:
            return State.model_validate(said)
    except FileNotFoundError:
        return State()
    except (ValueError, KeyError, TypeError, OverflowError) as error:  # no UTF-8, no JSON, or not of our form
        raise Damaged(f"{file.name} is damaged: {type(error).__name__}") from error
    raise CourseError(
        f"{file.name} was written by a newer course (version {version}, this one reads {VERSION})", "git pull"
    )


def load(file: Path) -> State:
    """Read a state file; a missing one is an empty state. A damaged one is moved aside, and a line says where to.

    Raises CourseError for a file of a newer version, which stays as it is.
    """
    try:
        return _read(file)
    except Damaged:
        kept = rename_damaged(file, ".json")
        print(f"{file.name} could not be read. It was kept as {kept.name}, and a new one begins.")
        return State()


def problem(file: Path) -> str:
    """What is wrong with a state file, or ''. Changes nothing."""
    try:
        _read(file)
    except (Damaged, OSError) as error:
        return str(error)
    except CourseError as error:
        return error.what
    return ""


def _joined(kept: State, here: State) -> State:
    """What the file says, and what this session could not write into it."""
    return State(exercises=kept.exercises | here.exercises, predictions=kept.predictions | here.predictions)


def _not_kept(error: Exception) -> None:
    print(f"Your progress is not kept this time: {error}")


@contextmanager
def change() -> Iterator[State]:
    """The state to change; written back at the end, as one step, also when two notebooks do so at once.

    Where it cannot be read or written (a full disk, a file of a newer course), a line says so and the lesson goes on.
    """
    file = place = path()
    changed = _unsaved.setdefault(place, State())
    lock = FileLock(file.with_name(f".{file.name}.lock"), timeout=10) if file else None
    try:
        if file and lock:
            file.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
            changed = _joined(load(file), _unsaved[place])
    except (OSError, CourseError) as error:  # filelock's Timeout is an OSError
        _not_kept(error)
        file = None
    try:
        yield changed
        _unsaved[place] = changed
        if file:
            atomic_write_text(file, changed.model_dump_json(indent=1) + "\n")
            del _unsaved[place]
    except OSError as error:
        _not_kept(error)
    finally:
        if lock:
            lock.release()


def current() -> State:
    """The state as it is now, to read."""
    file = path()
    here = _unsaved.get(file, State())
    try:
        return _joined(load(file), here) if file else here
    except (OSError, CourseError) as error:
        _not_kept(error)
        return here
