"""Format tables as plain text, which terminals, screen readers and tests can all read."""

from __future__ import annotations

import re
from collections.abc import Sequence

# A number, with a unit if it has one.
NUMBER = re.compile(r"[+-]?\d[\d,.]*( ?[%\w/]+)?$")


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table with aligned columns: columns of numbers to the right, others to the left.

    >>> print(table(["model", "MB"], [["a", 7], ["bcd", 12]]))
    model  MB
    a       7
    bcd    12
    """
    lines = [list(header), *([str(c) for c in row] for row in rows)]
    padded = []
    for title, *cells in zip(*lines, strict=True):
        width = max(map(len, (title, *cells)))
        right = bool(cells) and all(NUMBER.match(c) for c in cells)
        padded.append([c.rjust(width) if right else c.ljust(width) for c in (title, *cells)])
    return "\n".join("  ".join(line).rstrip() for line in zip(*padded, strict=True))
