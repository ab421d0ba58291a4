"""CourseError, the exception for problems that the user can fix: it says what happened and how to fix it."""

from __future__ import annotations

from typing import Any


class CourseError(Exception):
    """A problem that the user can fix.

    what: what happened, with the relevant numbers. fix: a shell command, a Python call or an instruction.
    """

    def __init__(self, what: str, fix: str) -> None:
        self.what, self.fix = what, fix
        super().__init__(f"{what}\n  Fix: {fix}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Support pickle and copy without calling __init__, whose arguments differ between subclasses."""
        return _restore, (type(self), self.args, self.__dict__)


def check_text(text: Any) -> None:
    """Raise CourseError for anything but a str, and for a str with half of a surrogate pair.

    UTF-16 writes an emoji as such a pair. UTF-8 cannot hold a half, which comes from JSON or a cut text.
    """
    if not isinstance(text, str):
        call = 'text.decode("utf-8")' if isinstance(text, bytes) else "give a string"
        raise CourseError(f"a text must be a str; got {type(text).__name__} {text!r:.60}", call)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        what = f"character {error.start:,} of {len(text):,} is half of a surrogate pair"
        raise CourseError(what, 'text.encode("utf-8", "replace").decode()') from error


def _restore(kind: type[CourseError], args: tuple[Any, ...], state: dict[str, Any]) -> CourseError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error
