"""Judge an answer: right, not yet (and why), or not answered."""

from __future__ import annotations

import functools
import importlib
import inspect
import math
import numbers
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import EllipsisType
from typing import Any

from course_lib.errors import CourseError
from course_lib.learn import state
from course_lib.learn.student import exercise_cell, inside, stub_of

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Exercise:
    """One exercise of a chapter.

    `check` takes the learner's answer and returns None when it is right, else what to say about this very mistake.
    An exception that the learner's code raises on the way is reported; NotImplementedError means not answered.
    """

    id: str  # chapter and number, such as 01.3
    title: str
    hints: tuple[str, ...]
    check: Callable[[Any], str | None]

    @property
    def reference(self) -> str:
        """The solution, as it stands in the chapter. Raises CourseError where this copy came without solutions."""
        return inside(exercise_cell(self.id))

    @property
    def stub(self) -> str:
        """What the learner finds in its place."""
        return stub_of(exercise_cell(self.id))


class ExerciseFailed(AssertionError):
    """COURSE_CHECK=strict: an answer is not right."""


def of_chapter(number: str) -> tuple[Exercise, ...]:
    """The exercises of a chapter ('01'), in order."""
    if not (HERE / f"chapter_{number}.py").is_file():
        return ()
    return tuple(importlib.import_module(f"course_lib.learn.exercises.chapter_{number}").EXERCISES)


def all_exercises() -> dict[str, Exercise]:
    """Every exercise by its id, found by glob."""
    numbers = sorted(p.stem.removeprefix("chapter_") for p in HERE.glob("chapter_*.py"))
    return {e.id: e for number in numbers for e in of_chapter(number)}


def find(id_: str) -> Exercise:
    """The exercise with this id. Raises CourseError, naming the chapter's exercises, when there is none."""
    chapter, _, number = str(id_).strip().partition(".")
    known = {e.id: e for e in of_chapter(chapter.zfill(2))} if chapter.isdigit() else {}
    wanted = f"{chapter.zfill(2)}.{number}"  # 1.3 is 01.3
    if wanted not in known:
        names = ", ".join(known or all_exercises())
        raise CourseError(
            f"no exercise {id_!r}; there are {names}", f'check("{next(iter(known), "00.1")}", your_answer)'
        )
    return known[wanted]


def switch(name: str, *, on: str, off: str, default: bool) -> bool:
    """A setting of two words, in any case. Raises CourseError for a third: a teacher must not believe what does not hold."""
    said = os.environ.get(name, "").strip().lower()
    if said not in ("", on, off):
        raise CourseError(
            f"{name}={said!r} means nothing; it is {on} or {off}", f"export {name}={off if default else on}"
        )
    return default if not said else said == on


def strict() -> bool:
    """Whether an answer that is not right is an error (COURSE_CHECK=strict)."""
    return switch("COURSE_CHECK", on="strict", off="gentle", default=False)


def _gently(say: Callable[..., None]) -> Callable[..., None]:
    """A mistake in the call is told, not raised: a learner's notebook runs on. COURSE_CHECK=strict raises."""

    @functools.wraps(say)
    def told(*args: Any, **named: Any) -> None:
        try:
            inspect.signature(say).bind(*args, **named)
            say(*args, **named)
        except (CourseError, TypeError) as error:
            if strict():
                raise
            print(
                f'{error}\n  For example: check("00.1", your_answer), hint("00.1"), solution("00.1")'
                if isinstance(error, TypeError)
                else error
            )

    return told


def judge(exercise: Exercise, answer: object) -> tuple[state.Verdict, str]:
    """The verdict on an answer, and what to say about it."""
    empty: tuple[state.Verdict, str] = (
        "not answered",
        f'write your code, run the cell again; hint("{exercise.id}") helps',
    )
    if isinstance(answer, EllipsisType):
        return empty
    if answer is None:
        return "not yet", "your answer is None: was it printed where it should be returned or assigned?"
    try:
        said = exercise.check(answer)
    except NotImplementedError:
        return empty
    except (Exception, SystemExit) as error:
        return "not yet", f"your code stopped with {type(error).__name__}: {error}"
    return ("right", exercise.title) if said is None else ("not yet", said)


@_gently
def check(id_: str, answer: object) -> None:
    """Say whether an answer is right, and remember that it was tried.

    Raises nothing, unless COURSE_CHECK=strict: then ExerciseFailed for anything but a right answer, CourseError for an
    unknown id.
    """
    exercise = find(id_)
    id_ = exercise.id
    verdict, said = judge(exercise, answer)
    print(f"{id_} {verdict}: {said}")
    with state.change() as s:
        tried = s.exercises.setdefault(id_, state.Tried())
        tried.attempts += verdict != "not answered"
        tried.verdict = verdict
        tried.passed = tried.passed or verdict == "right"
    if strict() and verdict != "right":
        raise ExerciseFailed(f"{id_} {verdict}: {said}")


@_gently
def hint(id_: str) -> None:
    """Show one more step each time it is called."""
    exercise = find(id_)
    id_ = exercise.id
    with state.change() as s:
        tried = s.exercises.setdefault(id_, state.Tried())
        tried.hints = min(tried.hints + 1, len(exercise.hints))
        shown = tried.hints
    for i, text in enumerate(exercise.hints[:shown], 1):
        print(f"Hint {i} of {len(exercise.hints)}: {text}")


@_gently
def solution(id_: str) -> None:
    """Show the reference, once an answer was tried. COURSE_SOLUTIONS=off forbids it."""
    exercise = find(id_)
    id_ = exercise.id
    if not switch("COURSE_SOLUTIONS", on="on", off="off", default=True):
        print(f"{id_}: solutions are switched off here (COURSE_SOLUTIONS=off); ask your teacher")
    elif not state.current().exercises.get(id_, state.Tried()).attempts:
        print(f'{id_}: try it once first, right or wrong; hint("{id_}") helps')
    else:
        print(exercise.reference)


def compare(
    call: str, got: object, right: float, mistakes: Mapping[float, str], within: float = 1e-6
) -> str | None:
    """None when the number `got` is `right`, up to a share `within`; else what to say.

    mistakes: a known wrong value -> what to say about it; for any other value both numbers are named.
    """
    if isinstance(got, bool) or not isinstance(got, numbers.Real):
        return f"{call} gave {got!r}, a {type(got).__name__}; a number is wanted"

    def same(a: float) -> bool:
        return math.isclose(float(got), a, rel_tol=within, abs_tol=within)

    if same(right):
        return None
    for value, message in mistakes.items():
        if same(value):
            return message
    return f"{call} gave {float(got):.6g}; it should be {right:.6g}"


def letter(answer: str, replies: Mapping[str, str | None]) -> str | None:
    """The reply to one of several letters; None for the right one."""
    given = str(answer).strip().lower()
    return replies[given] if given in replies else f"{answer!r} is none of the letters {', '.join(replies)}"
