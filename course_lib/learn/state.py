"""The student's progress (exercises and predictions), stored in one JSON file on this machine."""

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

VERSION = 1  # of the format of the progress file
Verdict = Literal["right", "not yet", "not answered"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_assignment=True)


class ExerciseRecord(_Strict):
    """The progress in one exercise.

    verdict: the verdict on the last attempt. passed: whether any attempt was right. hints: the number of
    hints that were shown.
    """

    attempts: int = 0
    verdict: Verdict = "not answered"
    passed: bool = False
    hints: int = 0


class PredictionRecord(_Strict):
    """One prediction: its unit and allowed range, the student's guess, and the measured value."""

    unit: str
    low: float
    high: float
    guess: float | None = None
    measured: float | None = None


class State(_Strict):
    """The content of the progress file."""

    version: int = VERSION
    exercises: dict[str, ExerciseRecord] = {}
    predictions: dict[str, PredictionRecord] = {}


# Progress file (None if there is none) -> progress of this session that could not be written to it.
_unsaved: dict[Path | None, State] = {}


def path() -> Path | None:
    """Return the progress file: COURSE_STATE if set, else the workspace's if the current folder is in it.

    Otherwise return None: when a solved chapter in chapters/ runs, that is not the student's work.
    """
    if file := os.environ.get("COURSE_STATE"):
        return Path(file)
    folder = Path.cwd()
    return default_path() if WORKSPACE in (folder, *folder.parents) else None


def default_path() -> Path:
    """Return the path of the workspace's progress file."""
    return WORKSPACE / "progress.json"


class DamagedFileError(Exception):
    """The progress file cannot be read."""


def _read(file: Path) -> State:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        version = int(content["version"])
        if version <= VERSION:
            return State.model_validate(content)
    except FileNotFoundError:
        return State()
    except OSError as error:
        raise CourseError(
            f"{file} cannot be read: {error.strerror}", "set COURSE_WORKSPACE to a folder of your own"
        ) from error
    except (ValueError, KeyError, TypeError, OverflowError) as error:  # not UTF-8, not JSON or not a State
        raise DamagedFileError(f"{file.name} is damaged: {type(error).__name__}") from error
    raise CourseError(
        f"{file.name} was written by a newer course (version {version}, this one reads {VERSION})", "git pull"
    )


def load(file: Path) -> State:
    """Read a progress file. A missing file gives an empty state; so does a damaged one, which is renamed.

    Raises CourseError for a file that cannot be opened, and for one of a newer version; both stay unchanged.
    """
    try:
        return _read(file)
    except DamagedFileError:
        renamed = rename_damaged(file, ".json")
        print(f"{file.name} could not be read. It was kept as {renamed.name}, and a new one begins.")
        return State()


def file_problem(file: Path) -> str:
    """Return what is wrong with a progress file, or ''. Read-only."""
    try:
        _read(file)
    except (DamagedFileError, OSError) as error:
        return str(error)
    except CourseError as error:
        return error.what
    return ""


def _merged(saved: State, unsaved: State) -> State:
    """Return the saved state, updated with the unsaved one."""
    exercises, predictions = saved.exercises | unsaved.exercises, saved.predictions | unsaved.predictions
    return State(exercises=exercises, predictions=predictions)


def _print_not_saved(error: Exception) -> None:
    print(f"Your progress could not be saved this time: {error}")


@contextmanager
def change() -> Iterator[State]:
    """Yield the state for modification, and save it when the block ends. Notebooks wait for each other.

    If the file cannot be read or written (a full disk, a newer course's file), print so and do not raise.
    """
    file = key = path()
    saved = State()
    lock = FileLock(file.with_name(f".{file.name}.lock"), timeout=10) if file else None
    try:
        if file and lock:
            file.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
            saved = load(file)
    except (OSError, CourseError) as error:  # filelock's Timeout is an OSError
        _print_not_saved(error)
        file = None
    changed = _merged(saved, _unsaved.get(key, State())).model_copy(deep=True)
    try:
        yield changed
        _unsaved[key] = _new_records(saved, changed)
        if file:
            _write(file, changed)
    finally:
        if lock:
            lock.release()


def _new_records(saved: State, changed: State) -> State:
    """Return the records that differ from the saved ones: another notebook may save the others meanwhile."""
    exercises = {name: e for name, e in changed.exercises.items() if e != saved.exercises.get(name)}
    predictions = {name: p for name, p in changed.predictions.items() if p != saved.predictions.get(name)}
    return State(exercises=exercises, predictions=predictions)


def _write(file: Path, state: State) -> None:
    try:
        atomic_write_text(file, state.model_dump_json(indent=1) + "\n")
        del _unsaved[file]
    except OSError as error:
        _print_not_saved(error)


def current() -> State:
    """Return the current state. Modifications to it are not saved; see `change`."""
    file = path()
    unsaved = _unsaved.get(file, State())
    try:
        return _merged(load(file), unsaved) if file else unsaved
    except (OSError, CourseError) as error:
        _print_not_saved(error)
        return unsaved
