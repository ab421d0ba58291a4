"""Judge a student's answer: right, not yet (and why), or not answered; show hints and the solution."""

from __future__ import annotations

import functools
import importlib
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import EllipsisType
from typing import Any

from course_lib.errors import CourseError
from course_lib.learn import state
from course_lib.learn.student import exercise_cell, make_stub, solution_in

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Exercise:
    """One exercise of a chapter.

    `check` takes the student's answer and returns None when it is right, else feedback on this very mistake.
    It may raise what the student's code raises: that is reported. NotImplementedError means not answered.
    """

    id: str  # chapter and number, such as 01.3
    title: str
    hints: tuple[str, ...]
    check: Callable[[Any], str | None]

    @property
    def reference(self) -> str:
        """The solution, from the chapter. Raises CourseError in a copy of the course without solutions."""
        return solution_in(exercise_cell(self.id))

    @property
    def stub(self) -> str:
        """The cell as the student finds it, without the solution."""
        return make_stub(exercise_cell(self.id))


class ExerciseFailed(AssertionError):
    """An answer is not right, and COURSE_CHECK=strict asks for an error."""


def of_chapter(number: str) -> tuple[Exercise, ...]:
    """The exercises of a chapter such as '01', in order; none for a chapter without exercises."""
    if not (FOLDER / f"chapter_{number}.py").is_file():
        return ()
    return tuple(importlib.import_module(f"course_lib.learn.exercises.chapter_{number}").EXERCISES)


def all_exercises() -> dict[str, Exercise]:
    """The exercises of all chapters by their ids."""
    numbers = sorted(p.stem.removeprefix("chapter_") for p in FOLDER.glob("chapter_*.py"))
    return {e.id: e for number in numbers for e in of_chapter(number)}


def find_exercise(exercise_id: str) -> Exercise:
    """The exercise with this id; "1.3" means "01.3". Raises CourseError for an unknown id."""
    chapter, _, number = str(exercise_id).strip().partition(".")
    known = {e.id: e for e in of_chapter(chapter.zfill(2))} if chapter.isdigit() else {}
    full_id = f"{chapter.zfill(2)}.{number}"
    if full_id not in known:
        names = ", ".join(known or all_exercises())
        raise CourseError(
            f"no exercise {exercise_id!r}; there are {names}",
            f'check("{next(iter(known), "00.1")}", your_answer)',
        )
    return known[full_id]


def setting(name: str, *, on: str, off: str, default: bool) -> bool:
    """A setting of two words, in any case. Raises CourseError for a third word."""
    value = os.environ.get(name, "").strip().lower()
    if value not in ("", on, off):
        raise CourseError(
            f"{name}={value!r} means nothing; it is {on} or {off}", f"export {name}={off if default else on}"
        )
    return value == on if value else default


def strict() -> bool:
    """Whether an answer that is not right is an error (COURSE_CHECK=strict)."""
    return setting("COURSE_CHECK", on="strict", off="gentle", default=False)


def _print_errors(function: Callable[..., None]) -> Callable[..., None]:
    """Print a mistake in the call instead of raising it, unless COURSE_CHECK=strict: a notebook runs on."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        try:
            inspect.signature(function).bind(*args, **kwargs)
            function(*args, **kwargs)
        except (CourseError, TypeError) as error:
            if strict():
                raise
            print(error)
            if isinstance(error, TypeError):
                print('  For example: check("00.1", your_answer), hint("00.1"), solution("00.1")')

    return wrapper


def judge(exercise: Exercise, answer: object) -> tuple[state.Verdict, str]:
    """The verdict on an answer, and the feedback."""
    not_answered = f'write your code, run the cell again; hint("{exercise.id}") helps'
    if isinstance(answer, EllipsisType):
        return "not answered", not_answered
    if answer is None:
        return "not yet", "your answer is None: was it printed where it should be returned or assigned?"
    try:
        feedback = exercise.check(answer)
    except NotImplementedError:
        return "not answered", not_answered
    except (Exception, SystemExit) as error:
        return "not yet", f"your code stopped with {type(error).__name__}: {error}"
    return ("right", exercise.title) if feedback is None else ("not yet", feedback)


@_print_errors
def check(exercise_id: str, answer: object) -> None:
    """Say whether an answer is right, and remember that it was tried.

    Raises nothing, unless COURSE_CHECK=strict: then ExerciseFailed for anything but a right answer,
    CourseError for an unknown id.
    """
    exercise = find_exercise(exercise_id)
    verdict, feedback = judge(exercise, answer)
    message = f"{exercise.id} {verdict}: {feedback}"
    print(message)
    with state.change() as s:
        tried = s.exercises.setdefault(exercise.id, state.ExerciseRecord())
        tried.attempts += verdict != "not answered"
        tried.verdict = verdict
        tried.passed = tried.passed or verdict == "right"
    if strict() and verdict != "right":
        raise ExerciseFailed(message)


@_print_errors
def hint(exercise_id: str) -> None:
    """Print the hints so far and one more, each time it is called."""
    exercise = find_exercise(exercise_id)
    with state.change() as s:
        tried = s.exercises.setdefault(exercise.id, state.ExerciseRecord())
        tried.hints = min(tried.hints + 1, len(exercise.hints))
        count = tried.hints
    for number, text in enumerate(exercise.hints[:count], 1):
        print(f"Hint {number} of {len(exercise.hints)}: {text}")


@_print_errors
def solution(exercise_id: str) -> None:
    """Print the solution, once an answer was tried. COURSE_SOLUTIONS=off forbids it."""
    exercise = find_exercise(exercise_id)
    if not setting("COURSE_SOLUTIONS", on="on", off="off", default=True):
        print(f"{exercise.id}: solutions are switched off here (COURSE_SOLUTIONS=off); ask your teacher")
    elif not state.current().exercises.get(exercise.id, state.ExerciseRecord()).attempts:
        print(f'{exercise.id}: try it once first, right or wrong; hint("{exercise.id}") helps')
    else:
        print(exercise.reference)
