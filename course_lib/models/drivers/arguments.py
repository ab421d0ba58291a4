"""Check the arguments of an engine (a loaded model): an error names the argument and shows its value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from typing import Any, TypeVar

from course_lib.errors import CourseError, check_text
from course_lib.models.drivers.reply import Prompt

ROLES = ("system", "user", "assistant")
T = TypeVar("T")


class InputError(CourseError, ValueError):
    """An argument of an engine's method that the method cannot take."""


def as_list(items: Iterable[T], name: str, call: str) -> list[T]:
    """The items as a list. Raises InputError if they are no list, or a single text, conversation or table.

    Python would iterate over the letters of a text, the turns of a conversation, or the keys of a dict. name:
    The argument's name. call: The correct call, with `{}` for an item, which the error shows.
    """
    if isinstance(items, str):
        what = f"{name} is {items[:40]!r}, a single text, where a list is expected"
        raise InputError(what, call.format(repr(items) if len(items) <= 40 else "text"))
    is_table = hasattr(items, "columns")  # iterating over a DataFrame would give the names of its columns
    if not isinstance(items, Iterable) or isinstance(items, bytes | Mapping | Set) or is_table:
        raise InputError(f"{name} is {_shown(items)}, where a list is expected", call.format("text"))
    items = list(items)
    if items and isinstance(items[0], Mapping):
        what = f"{name} is a single conversation, {_shown(items)}, where a list of prompts is expected"
        raise InputError(what, call.format("conversation"))
    return items


def as_texts(items: Iterable[str], name: str, call: str) -> list[str]:
    """The items as a list of texts. Raises InputError as `as_list` does, and for other items."""
    return [as_text(item, f"{name}[{i}]") for i, item in enumerate(as_list(items, name, call))]


def as_text(value: object, name: str) -> str:
    """The value. Raises InputError if it is no text, CourseError for a text that UTF-8 cannot write."""
    if not isinstance(value, str):
        raise InputError(f"{name} is {_shown(value)}, where a text is expected", f"give a text for {name}")
    check_text(value)
    return value


def as_folder(value: object) -> Path:
    """The path of a folder in which `save` writes. Raises InputError for anything but a text or a path."""
    if not isinstance(value, str | Path):
        raise InputError(f"folder is {_shown(value)}, where a path is expected", 'save("./my-model")')
    return Path(value).expanduser()


def as_prompt(value: Prompt, name: str) -> Prompt:
    """The value. Raises InputError if it is neither a text nor the turns of a conversation."""
    if isinstance(value, str):
        return as_text(value, name)
    turns_fix = 'generate([[{"role": "user", "content": "Hello."}]])'
    if not isinstance(value, list | tuple) or not all(isinstance(turn, Mapping) for turn in value):
        what = f"{name} is {_shown(value)}; a prompt is a text or a list of turns"
        raise InputError(what, turns_fix)
    if not value:
        raise InputError(f"{name} is a conversation without turns", turns_fix)
    for i, turn in enumerate(value):
        if turn.get("role") not in ROLES or not isinstance(turn.get("content"), str):
            what = (
                f"{name}[{i}] is no turn, which has a role (one of {', '.join(ROLES)}) and a text as content"
            )
            raise InputError(f"{what}: {_shown(turn)}", turns_fix)
        if others := [str(key) for key in turn if key not in ("role", "content")]:
            raise InputError(f"{name}[{i}] has {', '.join(others)}, which no driver reads", turns_fix)
        check_text(turn["content"])
    return value


def _shown(value: Any) -> str:
    """A short repr of a value, with its type unless it is None."""
    text = repr(value)
    text = text if len(text) <= 100 else f"{text[:97]}..."
    return text if value is None else f"{text} (type {type(value).__name__})"
