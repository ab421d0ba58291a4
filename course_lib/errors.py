"""The one kind of error that this library raises on purpose: what happened, and how to fix it."""

from __future__ import annotations

from typing import Any


class CourseError(Exception):
    """Something that the reader can fix.

    what: what happened, with the numbers. fix: one command or one call to paste, or one action.
    """

    def __init__(self, what: str, fix: str) -> None:
        self.what, self.fix = what, fix
        super().__init__(f"{what}\n  Fix: {fix}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy without calling __init__, whose arguments differ between subclasses."""
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[CourseError], args: tuple[Any, ...], state: dict[str, Any]) -> CourseError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error
