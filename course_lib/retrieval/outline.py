"""Find the structure of a document (sections, tables, sentences, lines of code), to decide where to split it.

Understands Markdown as in CommonMark (but not headings that are underlined), tables separated by pipes, tabs,
commas or semicolons, and sentences in English and Korean.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from course_lib.retrieval.documents import Span
from course_lib.retrieval.sentences import sentence_ends
from course_lib.retrieval.table_rows import QUOTE, Table, table_in, table_runs, unquoted

NONSPACE = re.compile(r"\S")
QUOTED_CELL = re.compile(  # "..." at the beginning of a line or after a separator, up to the next separator
    r'^"[^"]*(?:""[^"]*)*"(?=[,;\t])|(?<=[,;\t])"[^"]*(?:""[^"]*)*"(?=[,;\t]|[ \t\r]*$)', re.MULTILINE
)
MAX_CELL = 2_000  # characters of a quoted cell with line breaks; in a longer one the quotation mark is stray
# A code fence, ``` or ~~~, after any spaces and marks of list items.
FENCE = re.compile(r"([ \t]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)*)(`{3,}(?=[^`]*$)|~{3,})")
HTML_BLOCK = re.compile(
    r" {0,3}<(?:(?P<comment>!--)|(?P<raw>pre|script|style|textarea)\b|/?(?:address|article|aside|blockquote|"
    r"body|center|dd|details|div|dl|dt|fieldset|figure|footer|form|h[1-6]|head|header|hr|html|iframe|legend|li|link|"
    r"main|menu|nav|ol|option|p|section|summary|table|tbody|td|tfoot|th|thead|title|tr|ul)(?:[\s/>]|$))",
    re.IGNORECASE,
)
HEADING = re.compile(r"\ufeff? {0,3}(#{1,6})[ \t]+(?=\S)")
LIST_ITEM = re.compile(r"\s*(?:[-*+•·]|\d{1,3}[.)]|[가-하][.)])[ \t]+\S")  # beginning of a list item
FLAGS = "".join(map(chr, range(0x1F1E6, 0x1F200)))  # regional indicators; two of them are displayed as a flag
# characters displayed as one with the previous: joiner, Hangul vowels and finals, skin tones, tags
JOINING = re.compile("[\u200d\u1160-\u11ff\ud7b0-\ud7ff\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]")


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


@dataclass
class Outline:
    """A document's structure. breaks: The ends of sentences, rows, lines of code and headings, ascending."""

    sections: list[Section] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    breaks: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class _Fence:
    """An open code fence. mark: Its backticks or tildes. end: The end of its line.

    quoted, indent: Whether it is in a block quote, and the column of the list item that it is in.
    """

    mark: str
    end: int
    quoted: bool
    indent: int

    def closes(self, line: str) -> bool:
        """Whether a line closes the fence."""
        mark = FENCE.fullmatch(unquoted(line))
        return bool(mark and mark[2].startswith(self.mark) and not mark[1].strip())

    def contains(self, line: str) -> bool:
        """Whether a line is in the block quote and in the list item in which the fence began."""
        if self.quoted and not QUOTE.match(line):
            return False
        return not line.strip() or _indent(line) >= self.indent


def outline(text: str) -> Outline:
    """Return a document's structure, as in CommonMark.

    A code fence that is not closed extends to the end of the block quote or list item that contains it, else
    of the document. There are no headings in fences, in HTML comments and in blocks of HTML.
    """
    return _Reader(text).read()


class _Reader:
    """Reads the lines of a text one by one.

    block: The lines since the last heading, fence or blank line. html_end: What ends the open HTML block, a
    blank line if " ". item_indent: The column of the text of the last list item, 0 outside lists.
    """

    def __init__(self, text: str) -> None:
        self.text, self.outline, self.headings = text, Outline(), list[Heading]()
        self.block, self.html_end, self.item_indent = list[Span](), "", 0
        self.fence: _Fence | None = None

    def read(self) -> Outline:
        """Return the structure of the whole text."""
        for start, next_line in self._lines():
            line = self.text[start:next_line].rstrip()
            if self.fence and not self.fence.contains(line):
                self.fence = None
            if self.fence:
                self._read_code(line, start + len(line))
            else:
                self._read_line(line, start)
        self._end_block()
        self.outline.breaks += [len(self.text.rstrip())] if self.fence else []
        self.outline.sections = _sections(self.text, self.headings)
        return self.outline

    def _lines(self) -> Iterator[Span]:
        """Yield the start of each line and of the next. A quoted table cell may have line breaks."""
        cells = [m.span() for m in QUOTED_CELL.finditer(self.text) if "\n" in m[0] and len(m[0]) <= MAX_CELL]
        start = end = cell = 0
        for line in self.text.splitlines(keepends=True):
            end += len(line)
            while cell < len(cells) and cells[cell][1] <= end:
                cell += 1
            if self.fence or cell == len(cells) or cells[cell][0] >= end:
                yield start, end
                start = end

    def _read_code(self, line: str, end: int) -> None:
        assert self.fence
        breaks = self.outline.breaks
        if self.fence.closes(line):
            if breaks and breaks[-1] > self.fence.end:
                breaks.pop()  # keep the last line of code and the closing fence together
            self.fence = None
        breaks += [end] if line.strip() else []

    def _read_line(self, line: str, start: int) -> None:
        """Read a line that is not code in a fence."""
        in_html, bare = self._is_html(line), unquoted(line)
        if not line:
            return self._end_block()
        item, indent = LIST_ITEM.match(bare), _indent(line)
        if item:
            self.item_indent = _columns(item[0]) - 1
        elif indent < self.item_indent:
            self.item_indent = 0
        mark = FENCE.match(bare)
        if mark and not in_html and _columns(mark[1]) < self.item_indent + 4:  # else it is indented code
            self._end_block()  # no break here, to keep the opening fence and the first line of code together
            self.fence = _Fence(mark[2], start + len(line), bool(QUOTE.match(line)), self.item_indent)
        elif not in_html and (heading := HEADING.match(line)):
            self._end_block()
            title = _title(line[heading.end() :])
            self.headings.append(Heading(start, start + len(line), len(heading[1]), title))
            self.outline.breaks.append(start + len(line))
        else:
            self.block.append((start, start + len(line)))
        return None

    def _is_html(self, line: str) -> bool:
        """Whether a line is in a block of HTML. Also records where such blocks begin and end."""
        if not self.html_end and (opening := HTML_BLOCK.match(line)):
            self.html_end = (
                "-->" if opening["comment"] else f"</{opening['raw']}>".lower() if opening["raw"] else " "
            )
        found = bool(self.html_end)
        if self.html_end in line.lower() if self.html_end != " " else not line:
            self.html_end = ""
        return found

    def _end_block(self) -> None:
        _read_block(self.text, self.block, self.outline)
        self.block = []


def _indent(line: str) -> int:
    bare = unquoted(line)
    return _columns(bare[: len(bare) - len(bare.lstrip())])


def _columns(text: str) -> int:
    return len(text.expandtabs(4))


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
            result.breaks += sentence_ends(text, prose[0][0], prose[-1][1])
            prose.clear()

    for separator, rows in table_runs([unquoted(text[start:end]) for start, end in lines], lines):
        if separator:
            read_prose()
            result.tables.append(table_in(text, rows, separator))
            result.breaks += [end for _, end in rows]
            continue
        for line in rows:
            if LIST_ITEM.match(text, *line):
                read_prose()
            prose.append(line)
    read_prose()


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
