"""Recognize tables in plain text, with cells separated by pipes, tabs, commas or semicolons.

Used by `outline`. Tables in block quotes are recognized too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from course_lib.retrieval.documents import Span

QUOTE = re.compile(r"(?:[ \t]{0,3}>[ \t]?)+")  # the marks of a block quote
QUOTED = re.compile(r'"[^"]*"')
NUMERIC_CELL = re.compile(r'[\s"+-]*\d[\d.,]*[\s"%]*')
# separator -> how many consecutive lines with equally many cells a table has at least
MIN_TABLE_LINES = {"|": 2, "\t": 2, ",": 3, ";": 3}


class Table(NamedTuple):
    """The table text[start:end]. body: The start of the rows below the header. header: '' if it has none."""

    start: int
    body: int
    end: int
    separator: str
    header: str


def unquoted(line: str) -> str:
    """Return a line without the marks of block quotes."""
    mark = QUOTE.match(line)
    return line[mark.end() if mark else 0 :]


def table_runs(contents: list[str], lines: list[Span]) -> Iterator[tuple[str, list[Span]]]:
    """Yield (separator, lines) for each table, and ("", one line) for each line that is not in a table."""
    cells, i = [_cells(content) for content in contents], 0
    while i < len(lines):
        longest, separator = 1, ""
        for mark, count in cells[i].items():
            end = next((j for j in range(i, len(lines)) if cells[j].get(mark) != count), len(lines))
            least = 1 if contents[i].lstrip().startswith("|") else MIN_TABLE_LINES[mark]
            if end - i >= least and (end - i > longest or not separator):
                longest, separator = end - i, mark
        yield separator, lines[i : i + longest]
        i += longest


def _cells(line: str) -> dict[str, int]:
    """Return the cell separators that a line can have, and their counts (0 for "|"). Prose has none.

    Commas in a line can be separators, or decimal commas between semicolons: lines above and below decide.
    """
    bare = line.strip()
    if bare.startswith("|") or " | " in bare or (set(bare) <= set("|:- ") and "|" in bare):
        return {"|": 0}
    if "\t" in bare:
        return {"\t": line.count("\t")}
    bare = QUOTED.sub("", bare)
    return {mark: bare.count(mark) for mark in ";," if mark in bare and mark + " " not in bare}


def table_in(text: str, rows: list[Span], separator: str) -> Table:
    """Build a table. Its first row is a header if dashes follow or, without pipes, if no cell is a number."""
    start, end, header = rows[0][0], rows[-1][1], ""
    first = QUOTE.sub("", text[slice(*rows[0])], count=1).strip()
    if len(rows) > 1:
        second = set(unquoted(text[slice(*rows[1])]))
        dashed = "-" in second and second <= set("|:- \t")
        named = separator != "|" and not any(NUMERIC_CELL.fullmatch(cell) for cell in first.split(separator))
        header = first if dashed or named else ""
    return Table(start, rows[1][0] if header else end, end, separator, header)
