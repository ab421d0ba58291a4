"""The one kind of error this library raises on purpose: what happened, and the command that mends it."""

from __future__ import annotations


class CourseError(Exception):
    """Something the reader can mend.

    `what` says what happened, with the numbers; `mend` is one command or one action.
    """

    def __init__(self, what: str, mend: str) -> None:
        self.what, self.mend = what, mend
        super().__init__(f"{what}\n  To mend it: {mend}")
