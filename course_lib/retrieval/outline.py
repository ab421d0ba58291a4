"""Where a document may be cut: its sections, tables, sentences and lines of code, and between which characters.

Markdown as CommonMark has it, without headings that are underlined; rows of tables with pipes, tabs or commas; sentences of
English and Korean.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

NONSPACE = re.compile(r"\S")
FENCE = re.compile(r"[ \t>]*(`{3,}(?=[^`]*$)|~{3,})")
HEADING = re.compile(r"\ufeff? {0,3}(#{1,6})[ \t]+(?=\S)")
ITEM = re.compile(r"\s*(?:[-*+•·]|\d{1,3}[.)]|[가-하][.)])[ \t]+\S")  # begins an item of a list
QUOTED = re.compile(r'"[^"]*"')
NUMBER = re.compile(r'[\s"+-]*\d[\d.,]*[\s"%]*')
ROWS = {
    "|": 2,
    "\t": 2,
    ",": 3,
    ";": 3,
}  # lines in a row, with as many cells each, from which on they are a table
MARK = re.compile(r"([.!?。！？…]+)[\"'”’»)\]）」』】》〉*_]*")
BULLET = re.compile(r"[\W_]*(?:\d{1,3}|[A-Za-z]|[가-힣]|[ivxIVX]{1,4})")
LETTERS = re.compile(r"(?:[A-Za-z]\.)*[A-Za-z]")  # U.S, e.g, and the J in J. Smith
DATE = re.compile(r"\d\.(?:\d{1,2}\.)?\s?\d{1,2}$")  # 2024. 3. 15 and 2024.3.15
HANGUL = re.compile(r"[가-힣\u1100-\u115f]")
DONE = frozenset("다요죠까")  # Korean sentences end so, often with no space after the full stop
ABBREVIATIONS = frozenset(
    [
        "dr",
        "mr",
        "mrs",
        "ms",
        "prof",
        "st",
        "jr",
        "sr",
        "vs",
        "etc",
        "cf",
        "approx",
        "inc",
        "ltd",
        "co",
        "corp",
        "dept",
        "est",
        "jan",
        "feb",
        "mar",
        "apr",
        "jun",
        "jul",
        "aug",
        "sep",
        "sept",
        "oct",
        "nov",
        "dec",
        "mt",
        "al",
        "viz",
        "gen",
        "rev",
    ]
)
NUMBERED = frozenset(
    ["no", "nos", "p", "pp", "fig", "figs", "art", "sec", "vol", "ch", "eq", "para"]
)  # only before a number
FLAGS = "".join(map(chr, range(0x1F1E6, 0x1F200)))  # letters of which two make a flag
JOINING = re.compile("[\u200d\u1160-\u11ff\ud7b0-\ud7ff\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]")


Place = tuple[int, int]  # start and end in a text


class Heading(NamedTuple):
    start: int
    end: int
    level: int
    title: str


class Section(NamedTuple):
    """A heading, or several with no text between them, and the text below. floor: the end of the last of these headings,
    behind which its first chunk must end; above: the headings over the first of them; headings: those and its own."""

    start: int
    floor: int
    end: int
    above: tuple[str, ...]
    headings: tuple[str, ...]


class Table(NamedTuple):
    """Rows between start and end, those from `body` on below the header."""

    start: int
    body: int
    end: int
    separator: str
    header: str


@dataclass
class Outline:
    """stops: ends of sentences, rows, lines of code and headings, in their order."""

    sections: list[Section] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    stops: list[int] = field(default_factory=list)


def outline(text: str) -> Outline:
    """A document's structure, line by line. A fence of code that is never closed reaches to the end, as in CommonMark."""
    out, headings, block, fence, fenced, at = Outline(), list[Heading](), list[Place](), "", 0, 0
    for line in text.splitlines(keepends=True):
        start, end, at = at, at + len(line.rstrip()), at + len(line)
        mark = FENCE.match(line.rstrip())
        if fence:
            closes = mark and mark[1].startswith(fence) and mark.end() == end - start
            if closes and out.stops and out.stops[-1] > fenced:
                out.stops.pop()  # the last line of code and the closing fence stay together
            fence = "" if closes else fence
            out.stops += [end] if line.strip() else []
            continue
        if not (mark or line.isspace() or (found := HEADING.match(line))):
            block.append((start, end))
            continue
        _read_block(text, block, out)
        block = []
        if mark:  # not a stop: the opening fence stays with the first line of code
            fence, fenced = mark[1], end
        elif not line.isspace() and found:
            headings.append(Heading(start, end, len(found[1]), _title(line[found.end() :])))
            out.stops.append(end)
    _read_block(text, block, out)
    out.stops += [len(text.rstrip())] if fence else []
    out.sections = _sections(text, headings)
    return out


def _title(line: str) -> str:
    """The title of a heading, without the #s that may close it."""
    title = line.rstrip()
    bare = title.rstrip("#")
    return bare.rstrip() or title if bare.endswith((" ", "\t")) else title


def _sections(text: str, headings: list[Heading]) -> list[Section]:
    """The parts of a text that no chunk crosses. A heading whose section is empty is a part of its own."""
    ends = [*(heading.start for heading in headings), len(text)]
    start = skip(text, 0)
    parts, path = [Section(start, start, ends[0], (), ())], list[Heading]()
    for heading, end in zip(headings, ends[1:], strict=True):
        last = path[-1] if path else None
        path = [above for above in path if above.level < heading.level]
        titles = tuple(above.title for above in path)
        part = Section(skip(text, heading.start), heading.end, end, titles, (*titles, heading.title))
        if last and last.level < heading.level and not text[last.end : heading.start].strip():
            before = parts.pop()
            part = part._replace(start=before.start, above=before.above)
        parts.append(part)
        path.append(heading)
    return parts


def _read_block(text: str, lines: list[Place], out: Outline) -> None:
    """Stops and tables of lines with no blank one between them: runs of rows, and prose with its lists."""
    prose: list[Place] = []

    def read_prose() -> None:
        if prose:
            out.stops += _sentence_ends(text, prose[0][0], prose[-1][1])
            prose.clear()

    for (separator, _), run in groupby(lines, key=lambda line: _cells(text[line[0] : line[1]])):
        rows = list(run)
        first = text[rows[0][0] : rows[0][1]].strip()
        if separator and (len(rows) >= ROWS[separator] or first.startswith("|")):
            read_prose()
            out.tables.append(_table(text, rows, separator, first))
            out.stops += [end for _, end in rows]
            continue
        for line in rows:
            if ITEM.match(text, *line):
                read_prose()
            prose.append(line)
    read_prose()


def _cells(line: str) -> tuple[str, int]:
    """What separates the cells of a line, and how often; rows of one table have it in common. An empty string for prose."""
    bare = line.strip()
    if bare.startswith("|") or " | " in bare or (set(bare) <= set("|:- ") and "|" in bare):
        return "|", 0
    if "\t" in bare:
        return "\t", line.count("\t")
    bare = QUOTED.sub("", bare)
    return next(
        ((mark, bare.count(mark)) for mark in ",;" if mark in bare and mark + " " not in bare), ("", 0)
    )


def _table(text: str, rows: list[Place], separator: str, first: str) -> Table:
    """A table. Its first row is a header where a row of dashes follows or, without pipes, where no cell of it is a number."""
    start, end, header = rows[0][0], rows[-1][1], ""
    if len(rows) > 1:
        second = set(text[rows[1][0] : rows[1][1]])
        dashed = "-" in second and second <= set("|:- \t")
        named = separator != "|" and not any(NUMBER.fullmatch(cell) for cell in first.split(separator))
        header = first if dashed or named else ""
    return Table(start, rows[1][0] if header else end, end, separator, header)


def _sentence_ends(text: str, start: int, end: int) -> Iterator[int]:
    """Where sentences of a block of prose end; its own end is the last."""
    for mark in MARK.finditer(text, start, end):
        if mark.end() < end and _ends_sentence(text, start, mark, end):
            yield mark.end()
            start = mark.end()
    yield end


def _ends_sentence(text: str, start: int, mark: re.Match[str], end: int) -> bool:
    """Whether a sentence that began at `start` ends with a mark such as a full stop, and not only an abbreviation."""
    dots, after, head = mark[1], text[mark.end()], text[max(start, mark.start() - 16) : mark.start()]
    if set(dots) & set("。！？"):
        return True
    if not after.isspace():
        closed = unicodedata.normalize("NFC", head[-2:])[-1:]
        return mark[0] == dots and closed in DONE and HANGUL.match(after) is not None
    follows = NONSPACE.search(text, mark.end(), end)
    if not follows or follows[0].islower() or dots != ".":
        return not (follows and follows[0].islower())
    word = "".join(head.split()[-1:]).strip("([{\"'“‘«*_")
    if follows[0].isdigit() and (word[-1:].isdigit() or word.lower() in NUMBERED):
        return False
    if HANGUL.match(follows[0]) and DATE.search(head):
        return False
    whole = unicodedata.normalize("NFC", head) if mark.start() - start <= 16 else "..."
    return not (BULLET.fullmatch(whole) or word.lower() in ABBREVIATIONS or LETTERS.fullmatch(word))


def skip(text: str, at: int) -> int:
    """The first character from a place on that is no white space, or the end of the text."""
    found = NONSPACE.search(text, at)
    return found.start() if found else len(text)


def joined(text: str, start: int, at: int) -> bool:
    """Whether a cut of `text[start:]` at a place would part what is read as one character.

    A letter from its marks, NFD's letters of a syllable, emoji that are joined, the two halves of a flag, CR from LF.
    """
    if not start < at < len(text):
        return False
    before, after = text[at - 1], text[at]
    if after in FLAGS and before in FLAGS:
        return (at - start - len(text[start:at].rstrip(FLAGS))) % 2 == 1
    return bool(
        before == "\u200d"
        or JOINING.match(after)
        or unicodedata.category(after)[0] == "M"
        or before + after == "\r\n"
    )
