"""Exercises: judge a student's answer (right, not yet, or not answered), and show hints and the solution.

Students call `check`, `hint` and `solution` in a chapter. Authors declare an `Exercise` in `chapter_NN.py`.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import EllipsisType
from typing import Any

from course_lib.errors import CourseError
from course_lib.learn import state
from course_lib.learn.student import exercise_cell, make_stub, solution_in

FOLDER = Path(__file__).parent
# Verdict -> its sign, and its colour in a notebook as an ANSI code (green, red, blue). In bold, Jupyter draws
# these dark enough to be read. The sign and the word carry the meaning for readers who see no colours.
MARKS: dict[state.Verdict, tuple[str, int]] = {
    "right": ("✓", 32),
    "not yet": ("✗", 31),
    "not answered": ("○", 34),
}


@dataclass(frozen=True)
class Exercise:
    """One exercise of a chapter.

    `check` takes the student's answer. It returns None if the answer is right, else feedback on the mistake.
    An exception of the student's code is reported as feedback; NotImplementedError means "not answered".
    seconds: the time limit for an answer when a teacher grades it with `course grade`.
    """

    id: str  # the chapter and the number within it, such as "01.3"
    title: str
    hints: tuple[str, ...]
    check: Callable[[Any], str | None]
    seconds: int = 30

    @property
    def reference(self) -> str:
        """The solution code from the chapter. Raises CourseError if this copy of the course has none."""
        return solution_in(exercise_cell(self.id))

    @property
    def stub(self) -> str:
        """The exercise cell as the student finds it, without the solution."""
        return make_stub(exercise_cell(self.id))


class ExerciseFailed(AssertionError):
    """Raised for an answer that is not right when COURSE_CHECK=strict."""


def chapter_exercises(number: str) -> tuple[Exercise, ...]:
    """Return the exercises of a chapter such as "01", in order; an empty tuple if it has none."""
    if not (FOLDER / f"chapter_{number}.py").is_file():
        return ()
    return tuple(importlib.import_module(f"course_lib.learn.exercises.chapter_{number}").EXERCISES)


def all_exercises() -> dict[str, Exercise]:
    """Return the exercises of all chapters, by id."""
    numbers = sorted(p.stem.removeprefix("chapter_") for p in FOLDER.glob("chapter_*.py"))
    return {e.id: e for number in numbers for e in chapter_exercises(number)}


def find_exercise(exercise_id: str) -> Exercise:
    """Return the exercise with this id; "1.3" means "01.3". Raises CourseError for an unknown id."""
    chapter, _, number = str(exercise_id).strip().partition(".")
    known = {e.id: e for e in chapter_exercises(chapter.zfill(2))} if chapter.isdigit() else {}
    full_id = f"{chapter.zfill(2)}.{number}"
    if full_id not in known:
        names = ", ".join(known or all_exercises())
        raise CourseError(
            f"there is no exercise {exercise_id!r}, only {names}",
            f'check("{next(iter(known), "00.1")}", your_answer)',
        )
    return known[full_id]


def read_switch(name: str, *, on: str, off: str, default: bool) -> bool:
    """Return whether the environment variable `name` has the value `on` rather than `off`; case is ignored.

    Returns `default` if it is not set. Raises CourseError for any other value.
    """
    value = os.environ.get(name, "").strip().lower()
    if value not in ("", on, off):
        raise CourseError(
            f"{name}={value!r} is not valid; use {on} or {off}", f"export {name}={off if default else on}"
        )
    return value == on if value else default


def is_strict() -> bool:
    """Return whether a wrong answer raises an error: with COURSE_CHECK=strict, and in the grader nbgrader."""
    return read_switch("COURSE_CHECK", on="strict", off="gentle", default="NBGRADER_EXECUTION" in os.environ)


def _print_errors(function: Callable[..., None]) -> Callable[..., None]:
    """Make `function` print errors about its arguments, so that a notebook runs on.

    With COURSE_CHECK=strict the errors are raised.
    """

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        try:
            inspect.signature(function).bind(*args, **kwargs)  # checked before the call
            function(*args, **kwargs)
        except (CourseError, TypeError) as error:
            if is_strict():
                raise
            print(error)
            if isinstance(error, TypeError):
                print('  For example: check("00.1", your_answer), hint("00.1"), solution("00.1")')

    return wrapper


def judge(exercise: Exercise, answer: object) -> tuple[state.Verdict, str]:
    """Return the verdict on an answer, and the feedback."""
    not_answered = f'write your code and run the cell again; hint("{exercise.id}") helps'
    if isinstance(answer, EllipsisType):
        return "not answered", not_answered
    if answer is None:
        return (
            "not yet",
            "your answer is None: did you print the result instead of returning or assigning it?",
        )
    try:
        feedback = exercise.check(answer)
    except NotImplementedError:
        return "not answered", not_answered
    except (Exception, SystemExit) as error:
        return "not yet", f"your code stopped with {type(error).__name__}: {error}"
    return ("right", exercise.title) if feedback is None else ("not yet", feedback)


def mark(exercise_id: str, verdict: state.Verdict) -> str:
    """Return the sign, the exercise and the verdict, such as "✓ 01.3 right"; in a notebook, in colour."""
    sign, colour = MARKS[verdict]
    text = f"{sign} {exercise_id} {verdict}"
    ipython = sys.modules.get("IPython")
    return f"\x1b[1;{colour}m{text}\x1b[0m" if ipython and ipython.get_ipython() else text


@_print_errors
def check(exercise_id: str, answer: object) -> None:
    """Print whether an answer is right, and record the attempt.

    Raises only with COURSE_CHECK=strict: ExerciseFailed unless the answer is right, and CourseError for an
    unknown id.
    """
    exercise = find_exercise(exercise_id)
    verdict, feedback = judge(exercise, answer)
    print(f"{mark(exercise.id, verdict)}: {feedback}")
    with state.change() as progress:
        record = progress.exercises.setdefault(exercise.id, state.ExerciseRecord())
        record.attempts += verdict != "not answered"
        record.verdict = verdict
        record.passed = record.passed or verdict == "right"
    if is_strict() and verdict != "right":
        raise ExerciseFailed(f"{exercise.id} {verdict}: {feedback}")


@_print_errors
def hint(exercise_id: str) -> None:
    """Print the next hint, or all hints again if each was shown before."""
    exercise = find_exercise(exercise_id)
    with state.change() as progress:
        record = progress.exercises.setdefault(exercise.id, state.ExerciseRecord())
        shown, count = record.hints, len(exercise.hints)
        record.hints = min(shown + 1, count)
    for number in [shown] if shown < count else range(count):
        print(f"Hint {number + 1} of {count}: {exercise.hints[number]}")
    if shown >= count:
        print(f'Those were all hints. After a try, solution("{exercise.id}") shows ours.')


@_print_errors
def solution(exercise_id: str) -> None:
    """Print the solution if an answer was tried before. COURSE_SOLUTIONS=off forbids it."""
    exercise = find_exercise(exercise_id)
    if not read_switch("COURSE_SOLUTIONS", on="on", off="off", default=True):
        print(f"{exercise.id}: solutions are switched off here (COURSE_SOLUTIONS=off); ask your teacher")
    elif not state.current().exercises.get(exercise.id, state.ExerciseRecord()).attempts:
        print(f'{exercise.id}: try to answer it first; hint("{exercise.id}") helps')
    else:
        print(exercise.reference)
