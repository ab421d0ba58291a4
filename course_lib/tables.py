"""Tables as plain text: the same for a screen reader, a terminal and a test."""

from __future__ import annotations

import re
from collections.abc import Sequence

NUMBER = re.compile(r"[+-]?\d[\d,.]*( ?[%\w/]+)?$")


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns padded to their widest cell; numbers to the right, words to the left.

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
