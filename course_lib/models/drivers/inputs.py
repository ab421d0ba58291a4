"""Check the inputs of an engine: lists of texts or prompts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from course_lib.errors import CourseError, check_text

T = TypeVar("T")


def as_list(items: Iterable[T], call: str) -> list[T]:
    """The items as a list. Raises CourseError if they are one text or one conversation instead of several.

    Python would iterate over the letters of a text, or the turns of a conversation. call: the correct call,
    with `{}` for the argument, which the error shows.
    """
    if isinstance(items, str):
        what = f"{items[:40]!r} is a single text where a list is expected"
        raise CourseError(what, call.format(repr(items) if len(items) <= 40 else "text"))
    items = list(items)
    if items and isinstance(items[0], Mapping):
        what = "this is a single conversation where a list of prompts is expected"
        raise CourseError(what, call.format("conversation"))
    return items


def text_list(texts: Iterable[str], call: str) -> list[str]:
    """The texts as a list. Raises CourseError as `as_list` and `check_text` do."""
    texts = as_list(texts, call)
    for text in texts:
        check_text(text)
    return texts
