"""Split a question that needs two answers into two simple ones, and join their answers.

The patterns are those of the practice questions of chapter 09: "Tell me both: A of the X, and B of the Y.",
"Which A has the X, and which B has the Y?", "Between the X and the Y, whose A is lower?", "Does the X or the
Y have the higher A?".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

PAIR = (
    re.compile(r"Tell me both: (?P<a>.+), and (?P<b>.+)\."),
    re.compile(r"Which (?P<a>.+ has the .+), and which (?P<b>.+ has the .+)\?"),
)
COMPARISON = (
    re.compile(r"Between the (?P<a>.+) and the (?P<b>.+), whose (?P<what>.+) is (?P<which>\w+)\?"),
    re.compile(r"Does the (?P<a>.+) or the (?P<b>.+) have the (?P<which>\w+) (?P<what>.+)\?"),
)
SMALLER = {"lower", "shorter", "smaller", "earlier", "less"}
HOURS = {"minute": 1 / 60, "hour": 1, "day": 24, "week": 168, "month": 730, "year": 8760}


class Composite(NamedTuple):
    """Two simple questions, and a function that joins their answers."""

    parts: tuple[str, str]
    join: Callable[[str, str], str]


def split(question: str) -> Composite | None:
    """Return the two questions of which this one consists, or None if it has no known pattern.

    >>> split("Which fee has the Blue Card, and which limit has the Red Card?").parts
    ('Which fee has the Blue Card?', 'Which limit has the Red Card?')
    """
    for form in PAIR:
        if found := form.fullmatch(question):
            begin, end = ("What is the ", "?") if "both" in form.pattern else ("Which ", "?")
            a, b = (begin + found[name] + end for name in ("a", "b"))
            return Composite((a, b), lambda first, second: f"{first}; {second}")
    for form in COMPARISON:
        if found := form.fullmatch(question):
            return _comparison(found["a"], found["b"], found["what"], found["which"])
    return None


def _comparison(a: str, b: str, what: str, which: str) -> Composite:
    """Return the questions for both values, and a function that names the product that wins."""

    def better(first: str, second: str) -> str:
        x, y = quantity(first), quantity(second)
        if x is None or y is None or x == y:
            return ""
        return a if (x < y) == (which in SMALLER) else b

    return Composite((f"What is the {what} of the {a}?", f"What is the {what} of the {b}?"), better)


def quantity(text: str) -> float | None:
    """Return the first number in a text, or None; a length of time is converted to hours.

    >>> quantity("KRW 3,500"), quantity("2 days")
    (3500.0, 48.0)
    """
    found = re.search(r"(\d[\d,]*(?:\.\d+)?)(?: business)?(?: (\w+?)s?\b)?", text)
    if not found:
        return None
    return float(found[1].replace(",", "")) * HOURS.get(found[2] or "", 1)
