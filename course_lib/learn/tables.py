"""Tables as plain text: the same for a screen reader, a terminal and a test."""

from __future__ import annotations

from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns padded to their widest cell; numbers to the right, words to the left.

    >>> print(table(["model", "MB"], [["a", 7], ["bcd", 12]]))
    model  MB
    a       7
    bcd    12
    """
    cells = [[str(c) for c in row] for row in rows]
    widths = [max(len(line[i]) for line in [list(header), *cells]) for i in range(len(header))]
    right = [bool(rows) and all(isinstance(row[i], int | float) or _numeric(str(row[i])) for row in rows) for i in range(len(header))]
    lines = [
        "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(line, widths, right, strict=True)).rstrip()
        for line in [list(header), *cells]
    ]
    return "\n".join(lines)


def _numeric(text: str) -> bool:
    return text[:1].isdigit() or text[:1] in "+-" and text[1:2].isdigit()
