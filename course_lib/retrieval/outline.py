"""Find the structure of a document (sections, tables, sentences, lines of code), to decide where to split it.

Understands Markdown as in CommonMark (but not headings that are underlined), tables separated by pipes, tabs,
commas or semicolons, and sentences in English and Korean.
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
LIST_ITEM = re.compile(r"\s*(?:[-*+•·]|\d{1,3}[.)]|[가-하][.)])[ \t]+\S")  # beginning of a list item
QUOTED = re.compile(r'"[^"]*"')
NUMERIC_CELL = re.compile(r'[\s"+-]*\d[\d.,]*[\s"%]*')
# separator -> consecutive lines with the same number of cells that are taken for a table
MIN_TABLE_LINES = {"|": 2, "\t": 2, ",": 3, ";": 3}
SENTENCE_MARK = re.compile(r"([.!?。！？…]+)[\"'”’»)\]）」』】》〉*_]*")
BULLET = re.compile(r"[\W_]*(?:\d{1,3}|[A-Za-z]|[가-힣]|[ivxIVX]{1,4})")
INITIALS = re.compile(r"(?:[A-Za-z]\.)*[A-Za-z]")  # U.S, e.g, the J in J. Smith
DATE = re.compile(r"\d\.(?:\d{1,2}\.)?\s?\d{1,2}$")  # 2024. 3. 15 and 2024.3.15
HANGUL = re.compile(r"[가-힣\u1100-\u115f]")
KOREAN_ENDINGS = frozenset("다요죠까")  # last syllables of sentences; often no space follows the full stop
WORD = re.compile(r"\w+")
ABBREVIATIONS = frozenset(
    WORD.findall(
        "dr mr mrs ms prof st jr sr vs etc cf approx inc ltd co corp dept est mt al viz gen rev "
        "jan feb mar apr jun jul aug sep sept oct nov dec"
    )
)
BEFORE_NUMBER = frozenset(WORD.findall("no nos p pp fig figs art sec vol ch eq para"))  # No. 5
FLAGS = "".join(map(chr, range(0x1F1E6, 0x1F200)))  # regional indicators; two of them are displayed as a flag
# characters displayed as one with the previous: joiner, Hangul vowels and finals, skin tones, tags
JOINING = re.compile("[\u200d\u1160-\u11ff\ud7b0-\ud7ff\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]")


Span = tuple[int, int]  # start and end in a text


class Heading(NamedTuple):
    """A Markdown heading at text[start:end]. level: 1 to 6."""

    start: int
    end: int
    level: int
    title: str


class Section(NamedTuple):
    """The section text[start:end]: a heading (or nested ones with no text in between) and the text below it.

    heading_end: The end of the last of these headings. parents: The titles of the outer sections, outermost
    first. headings: `parents` and the titles of this section's own headings.
    """

    start: int
    heading_end: int
    end: int
    parents: tuple[str, ...]
    headings: tuple[str, ...]


class Table(NamedTuple):
    """The table text[start:end]. body: The start of the rows below the header. header: '' without one."""

    start: int
    body: int
    end: int
    separator: str
    header: str


@dataclass
class Outline:
    """A document's structure. breaks: The ends of sentences, rows, lines of code and headings, ascending."""

    sections: list[Section] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    breaks: list[int] = field(default_factory=list)


def outline(text: str) -> Outline:
    """Return a document's structure. As in CommonMark, a code fence that is not closed extends to the end."""
    result, headings, block, fence, fence_end, next_line = Outline(), list[Heading](), list[Span](), "", 0, 0
    for line in text.splitlines(keepends=True):
        start, end, next_line = next_line, next_line + len(line.rstrip()), next_line + len(line)
        mark = FENCE.match(line.rstrip())
        if fence:
            closes = mark and mark[1].startswith(fence) and mark.end() == end - start
            if closes and result.breaks and result.breaks[-1] > fence_end:
                result.breaks.pop()  # keep the last line of code and the closing fence together
            fence = "" if closes else fence
            result.breaks += [end] if line.strip() else []
            continue
        if not (mark or line.isspace() or (heading := HEADING.match(line))):
            block.append((start, end))
            continue
        _read_block(text, block, result)
        block = []
        if mark:  # no break here, to keep the opening fence and the first line of code together
            fence, fence_end = mark[1], end
        elif not line.isspace() and heading:
            headings.append(Heading(start, end, len(heading[1]), _title(line[heading.end() :])))
            result.breaks.append(end)
    _read_block(text, block, result)
    result.breaks += [len(text.rstrip())] if fence else []
    result.sections = _sections(text, headings)
    return result


def _title(line: str) -> str:
    """Return the title in a heading's line, without closing #s."""
    title = line.rstrip()
    bare = title.rstrip("#")
    return bare.rstrip() or title if bare.endswith((" ", "\t")) else title


def _sections(text: str, headings: list[Heading]) -> list[Section]:
    """Return the sections of a text. Nested headings without text between them are in the same section."""
    ends = [*(heading.start for heading in headings), len(text)]
    start = skip_space(text, 0)
    sections, path = [Section(start, start, ends[0], (), ())], list[Heading]()
    for heading, end in zip(headings, ends[1:], strict=True):
        last = path[-1] if path else None
        path = [parent for parent in path if parent.level < heading.level]
        titles = tuple(parent.title for parent in path)
        section = Section(skip_space(text, heading.start), heading.end, end, titles, (*titles, heading.title))
        if last and last.level < heading.level and not text[last.end : heading.start].strip():
            outer = sections.pop()
            section = section._replace(start=outer.start, parents=outer.parents)
        sections.append(section)
        path.append(heading)
    return sections


def _read_block(text: str, lines: list[Span], result: Outline) -> None:
    """Add the tables and breaks in a block of consecutive lines (table rows, prose or lists) to `result`."""
    prose: list[Span] = []

    def read_prose() -> None:
        if prose:
            result.breaks += _sentence_ends(text, prose[0][0], prose[-1][1])
            prose.clear()

    for (separator, _), run in groupby(lines, key=lambda line: _cells(text[line[0] : line[1]])):
        rows = list(run)
        first = text[rows[0][0] : rows[0][1]].strip()
        if separator and (len(rows) >= MIN_TABLE_LINES[separator] or first.startswith("|")):
            read_prose()
            result.tables.append(_table(text, rows, separator, first))
            result.breaks += [end for _, end in rows]
            continue
        for line in rows:
            if LIST_ITEM.match(text, *line):
                read_prose()
            prose.append(line)
    read_prose()


def _cells(line: str) -> tuple[str, int]:
    """Return the cell separator of a line and its count, 0 for "|". The separator is "" for prose."""
    bare = line.strip()
    if bare.startswith("|") or " | " in bare or (set(bare) <= set("|:- ") and "|" in bare):
        return "|", 0
    if "\t" in bare:
        return "\t", line.count("\t")
    bare = QUOTED.sub("", bare)
    return next(
        ((mark, bare.count(mark)) for mark in ",;" if mark in bare and mark + " " not in bare), ("", 0)
    )


def _table(text: str, rows: list[Span], separator: str, first: str) -> Table:
    """Build a table. Its first row is a header if dashes follow or, without pipes, if no cell is a number."""
    start, end, header = rows[0][0], rows[-1][1], ""
    if len(rows) > 1:
        second = set(text[rows[1][0] : rows[1][1]])
        dashed = "-" in second and second <= set("|:- \t")
        named = separator != "|" and not any(NUMERIC_CELL.fullmatch(cell) for cell in first.split(separator))
        header = first if dashed or named else ""
    return Table(start, rows[1][0] if header else end, end, separator, header)


def _sentence_ends(text: str, start: int, end: int) -> Iterator[int]:
    """Yield the ends of the sentences in the prose text[start:end]; the last is `end`."""
    for mark in SENTENCE_MARK.finditer(text, start, end):
        if mark.end() < end and _ends_sentence(text, start, mark, end):
            yield mark.end()
            start = mark.end()
    yield end


def _ends_sentence(text: str, start: int, mark: re.Match[str], end: int) -> bool:
    """Whether a mark ends the sentence that began at `start`, rather than an abbreviation or a number."""
    dots, after, head = mark[1], text[mark.end()], text[max(start, mark.start() - 16) : mark.start()]
    if set(dots) & set("。！？"):
        return True
    if not after.isspace():
        closed = unicodedata.normalize("NFC", head[-2:])[-1:]
        return mark[0] == dots and closed in KOREAN_ENDINGS and HANGUL.match(after) is not None
    follows = NONSPACE.search(text, mark.end(), end)
    if not follows or follows[0].islower() or dots != ".":
        return not (follows and follows[0].islower())
    word = "".join(head.split()[-1:]).strip("([{\"'“‘«*_")
    if follows[0].isdigit() and (word[-1:].isdigit() or word.lower() in BEFORE_NUMBER):
        return False
    if HANGUL.match(follows[0]) and DATE.search(head):
        return False
    sentence = unicodedata.normalize("NFC", head) if mark.start() - start <= 16 else "..."
    return not (BULLET.fullmatch(sentence) or word.lower() in ABBREVIATIONS or INITIALS.fullmatch(word))


def skip_space(text: str, start: int) -> int:
    """Return the position of the first character from `start` that is not white space, or len(text)."""
    match = NONSPACE.search(text, start)
    return match.start() if match else len(text)


def splits_character(text: str, start: int, end: int) -> bool:
    """Whether cutting text[start:] at `end` would split code points that are displayed as one character.

    Examples: a letter and its accent, the letters of a decomposed (NFD) Hangul syllable, joined emoji, the
    two halves of a flag, and CR LF.
    """
    if not start < end < len(text):
        return False
    before, after = text[end - 1], text[end]
    if after in FLAGS and before in FLAGS:
        return (end - start - len(text[start:end].rstrip(FLAGS))) % 2 == 1
    return bool(
        before == "\u200d"
        or JOINING.match(after)
        or unicodedata.category(after)[0] == "M"
        or before + after == "\r\n"
    )
