"""Long documents into chunks that an embedding model reads whole, measured by the model's own tokenizer.

A chunk ends with a sentence, a row of a table or a line of code wherever one ends within the limit. A heading of Markdown
begins a chunk, and short sections are not merged: what stands under one heading answers other questions than its neighbour.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from course_lib.errors import CourseError
from course_lib.retrieval.outline import Outline, Place, Section, Table, joined, outline, skip

PIECE = 100_000  # characters that are tokenized at once, which bounds the memory; what it changes at a seam is checked later
SLACK = 2  # tokens by which a text may have fewer on its own than within its document; every chunk is counted on its own
LEAST = 16  # tokens, for `most`
ENDS = ("sentence", "line", "word", "character", "code point")  # how a chunk may end, the best way first


# -- what is said to, and what comes back ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class TokenSpans:
    """How a model cuts a text. spans: (start, end) of each token; special: how many it adds to a text, such as [CLS]."""

    spans: Callable[[str], list[Place]]
    special: int = 0

    def count(self, text: str) -> int:
        """Tokens of a text, without the special ones."""
        return len(self.spans(text))


def token_spans(tokenizer: Any) -> TokenSpans:
    """The cuts of a fast tokenizer, of `transformers` or of `tokenizers`. Raises CourseError for another.

    A copy is asked: many a tokenizer.json silently truncates (MiniLM's to 128 tokens), and the model still needs its own.
    """
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if not hasattr(backend, "no_truncation"):
        what = f"a tokenizer of type {type(tokenizer).__name__} does not say where its tokens lie"
        raise CourseError(what, "AutoTokenizer.from_pretrained(FOLDER), of a folder with a tokenizer.json")
    own = type(backend).from_str(backend.to_str())
    own.no_truncation()
    own.no_padding()
    return TokenSpans(
        lambda text: own.encode(text, add_special_tokens=False).offsets, own.num_special_tokens_to_add(False)
    )


@dataclass(frozen=True)
class Chunk:
    """A part of a document: `document[chunk.start:chunk.end] == chunk.text`.

    tokens: of the text alone, without special ones. headings: those above it and in its first lines, the outermost first.
    table_header: the first row of the table in whose later rows it begins, or ''. lead: the headings and the header that its
    text lacks, a line each. They may take half of the limit, and give way, the outermost first, to a sentence or a row that
    fits whole only without them.
    """

    text: str
    start: int
    end: int
    tokens: int
    headings: tuple[str, ...] = ()
    table_header: str = ""
    lead: str = ""

    @property
    def for_embedding(self) -> str:
        """The text with its lead in front: with special tokens never longer than `most`."""
        return self.lead + self.text


def chunks(text: str, tokens: TokenSpans, *, most: int = 512, overlap: int = 64) -> list[Chunk]:
    """The chunks of a text, in its order; none for a blank one. Together they hold everything but white space.

    most: tokens that the model reads, special ones included. overlap: a chunk begins with whole sentences of the one before,
    of so many tokens at most, and with none where the last is longer, before a heading, and where that would cut a sentence.
    A sentence that alone is too long is cut between lines, cells or words, in this order, or else between characters.
    Raises CourseError for sizes out of range, and for a text with half a surrogate pair.

    >>> import re
    >>> words = TokenSpans(lambda text: [found.span() for found in re.finditer(r"\\S+", text)])
    >>> text = "# Card\\nIt costs 2,000 won, i.e. little.\\n## Limits\\n" + "".join(f"Limit {n} is here. " for n in range(4))
    >>> for chunk in chunks(text, words, most=16, overlap=4):
    ...     print(chunk.headings, repr(chunk.text))
    ('Card',) '# Card\\nIt costs 2,000 won, i.e. little.'
    ('Card', 'Limits') '## Limits\\nLimit 0 is here. Limit 1 is here. Limit 2 is here.'
    ('Card', 'Limits') 'Limit 2 is here. Limit 3 is here.'
    """
    limit = _limit(tokens, most, overlap)
    if not isinstance(text, str):
        raise CourseError(f"a {type(text).__name__} is no text", "pass a str")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        what = f"character {error.start:,} of {len(text):,} is half of a surrogate pair, which no tokenizer reads"
        raise CourseError(what, 'read the file with encoding="utf-8", errors="replace"') from error
    found = outline(text)
    cutter = _Cutter(text, lru_cache(256)(tokens.count), limit, overlap, found, _starts(text, tokens))
    return [chunk for section in found.sections for chunk in cutter.chunks(section)]


def chunk_documents(
    documents: Mapping[str, str], tokens: TokenSpans, *, most: int = 512, overlap: int = 64
) -> dict[str, Chunk]:
    """The chunks of all documents by the ids "ID#0", "ID#1" and so on, which are unique even where an id has a #.

    `chunk_id.rpartition("#")[0]` is the id of the document. Raises CourseError as `chunks` does.
    """
    cut = ((id, chunks(text, tokens, most=most, overlap=overlap)) for id, text in documents.items())
    return {f"{id}#{n}": chunk for id, found in cut for n, chunk in enumerate(found)}


def _limit(tokens: TokenSpans, most: int, overlap: int) -> int:
    """Tokens left for a text beside the special ones. Raises CourseError for sizes out of range."""
    if not isinstance(most, int) or most < LEAST or most - tokens.special < LEAST // 2:
        what = f"most={most!r}, of which the model takes {tokens.special} for itself: too few for a sentence"
        raise CourseError(what, f"most={max(LEAST, 256)}, or what the model's card says that it reads")
    limit = most - tokens.special
    if not isinstance(overlap, int) or not 0 <= overlap < limit:
        what = f"overlap={overlap!r}, and most={most} leaves {limit} tokens for text: an overlap is from 0 to {limit - 1}"
        raise CourseError(what, f"overlap={limit // 8}")
    return limit


def _starts(text: str, tokens: TokenSpans) -> NDArray[np.int64]:
    """Where each token starts. Read in pieces, which end with a line or a word where one ends."""
    found, at = [], 0
    while at < len(text):
        end = at + PIECE
        if end < len(text):
            end = max(text.rfind("\n", at, end), text.rfind(" ", at + PIECE // 2, end)) + 1 or end
        found.append(np.array([start for start, _ in tokens.spans(text[at:end])], np.int64) + at)
        at = end
    return np.maximum.accumulate(np.concatenate(found)) if found else np.zeros(0, np.int64)


# -- the cutting ----------------------------------------------------------------------------------------------------------


@dataclass
class _Cutter:
    """Cuts the sections of one text. count: of tokens, which remembers the last; starts: where each token of the text starts."""

    text: str
    count: Callable[[str], int]
    limit: int
    overlap: int
    found: Outline
    starts: NDArray[np.int64]

    def chunks(self, section: Section) -> Iterator[Chunk]:
        """The chunks of a section, none for one that is blank."""
        before = done = section.start
        while (start := skip(self.text, done)) < section.end:
            begin, done, lead = self._next(section, before, done, start)
            text = self.text[begin:done]
            header = "".join(self._header(begin))
            yield Chunk(text, begin, done, self.count(text), section.headings, header, lead)
            before = begin

    def _next(self, section: Section, before: int, done: int, start: int) -> tuple[int, int, str]:
        """Start, end and lead of the chunk that holds the text from `start` on: the first way to end with a sentence, if any.

        Raises CourseError for a character that alone has more tokens than a chunk.
        """
        floor = section.floor if start == section.start else done
        overlaps = self._overlaps(max(before, section.floor - 1), done)
        again = ((begin, next(self._leads(section, begin))) for begin in overlaps)
        for begin, lead in chain(again, ((start, lead) for lead in self._leads(section, start))):
            if end := self._end("sentence", lead, begin, floor, section.end):
                return begin, end, lead
        fullest = next(self._leads(section, start))
        row = floor > start and self._fits_row(skip(self.text, floor))
        if row and (end := self._end("sentence", fullest, start, start, floor)):
            return start, end, fullest  # headings that do not fit into one chunk with a row that does
        for lead, least in ((fullest, floor), (fullest, start), ("", start)):
            for kind in ENDS[1:]:
                if end := self._end(kind, lead, start, least, section.end):
                    return start, end, lead
        raise CourseError(
            f"{self.text[start]!r} alone has more than the {self.limit} tokens of a chunk", "raise `most`"
        )

    def _overlaps(self, before: int, done: int) -> Iterator[int]:
        """Where a chunk may begin to repeat whole sentences of the one between two places, the most sentences first."""
        stops, first = self.found.stops, int(np.searchsorted(self.starts, done)) - self.overlap - SLACK
        least = max(before, int(self.starts[first]) - 1 if first > 0 else 0)
        for at in range(bisect_left(stops, least), bisect_left(stops, done) if self.overlap else 0):
            begin = skip(self.text, stops[at])
            if before < begin < done and self.count(self.text[begin:done]) <= self.overlap:
                yield begin

    def _leads(self, section: Section, begin: int) -> Iterator[str]:
        """What may stand before the text of a chunk that begins at a place, the fullest first; the last is empty."""
        lines = [*(section.above if begin == section.start else section.headings), *self._header(begin)]
        for first in range(len(lines) + 1):
            lead = "".join(line + "\n" for line in lines[first:])
            if self.count(lead) <= self.limit // 2:
                yield lead

    def _end(self, kind: str, lead: str, begin: int, floor: int, last: int) -> int:
        """The last end of a kind behind `floor`, up to `last`, at which lead and text are within the limit; 0 for none."""
        room, first = self.limit - self.count(lead) + SLACK, int(np.searchsorted(self.starts, begin))
        while room > 0:
            reach = min(last, int(self.starts[first + room]) if first + room < self.starts.size else last)
            end = self._last(kind, begin, floor, reach)
            if end <= floor:
                break
            over = self.count(lead + self.text[begin:end]) - self.limit
            if over <= 0:
                return end
            room, last = room - over, end - 1
        return 0

    def _last(self, kind: str, begin: int, floor: int, reach: int) -> int:
        """The last end of a kind up to `reach`, or a place that is not behind `floor`."""
        text, end = self.text, reach
        if kind == "sentence":
            at = bisect_right(self.found.stops, reach)
            return self.found.stops[at - 1] if at else 0
        if kind == "line":
            table = self._table(skip(text, floor))
            separator = table.separator if table else "\n"
            end = text.rfind(separator, floor, reach) + (separator in ",;")
        elif kind == "word" and reach < len(text) and not any(map(str.isspace, text[reach - 1 : reach + 1])):
            words = text[floor:reach].rsplit(None, 1)
            end = floor + len(words[0]) if len(words) > 1 else floor
        while kind == "character" and end > floor and joined(text, begin, end):
            end -= 1
        return floor + len(text[floor:end].rstrip()) if end > floor else floor

    def _fits_row(self, at: int) -> bool:
        """Whether a row begins here that fits into a chunk."""
        stops = self.found.stops
        return (
            bool(self._table(at)) and self.count(self.text[at : stops[bisect_right(stops, at)]]) <= self.limit
        )

    def _table(self, at: int) -> Table | None:
        """The table that a place is in."""
        tables = self.found.tables
        before = bisect_right(tables, at, key=lambda table: table.start)
        return tables[before - 1] if before and at < tables[before - 1].end else None

    def _header(self, at: int) -> list[str]:
        """The header of the table in whose later rows a place is, if there is one."""
        table = self._table(at)
        return [table.header] if table and table.header and at >= table.body else []
