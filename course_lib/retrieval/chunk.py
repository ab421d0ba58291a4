"""Cut long documents into chunks that an embedding model can read whole, counted with the model's own
tokenizer.

A chunk ends with a sentence, a table row or a line of code wherever one ends within the limit. A Markdown
heading begins a new chunk, and short sections are not merged: the text under each heading answers other
questions.
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
from course_lib.retrieval.outline import Outline, Section, Span, Table, outline, skip_space, splits_character

BLOCK = (
    100_000  # characters tokenized at once, which bounds the memory; each chunk is counted again on its own
)
SLACK = 2  # a text may have this many tokens fewer on its own than within its document
MIN_TOKENS = 16
END_KINDS = ("sentence", "line", "word", "character", "code point")  # how a chunk may end, the best first


@dataclass(frozen=True)
class TokenSpans:
    """How a model's tokenizer cuts a text.

    spans: text -> (start, end) of each token. special: number of tokens added to each text, such as [CLS].
    """

    spans: Callable[[str], list[Span]]
    special: int = 0

    def count(self, text: str) -> int:
        """Number of tokens, without the special ones."""
        return len(self.spans(text))


def token_spans(tokenizer: Any) -> TokenSpans:
    """The spans of a fast tokenizer of `transformers` or `tokenizers`. Raises CourseError for any other.

    Works on a copy without truncation: many tokenizer.json files truncate silently (MiniLM's to 128 tokens).
    """
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if not hasattr(backend, "no_truncation"):
        what = f"a tokenizer of type {type(tokenizer).__name__} does not give the positions of its tokens"
        raise CourseError(what, 'token_spans(AutoTokenizer.from_pretrained("folder-with-tokenizer.json"))')
    copy = type(backend).from_str(backend.to_str())
    copy.no_truncation()
    copy.no_padding()
    special = copy.num_special_tokens_to_add(False)
    return TokenSpans(lambda text: copy.encode(text, add_special_tokens=False).offsets, special)


@dataclass(frozen=True)
class Chunk:
    """A part of a document: `document[chunk.start:chunk.end] == chunk.text`.

    tokens: of the text, without special ones. headings: those above the chunk and in its first lines, the
    outermost first. table_header: the header of the table in which the chunk begins, '' if none or if it
    begins with it. context_prefix: the headings and the header that the text lacks, one a line. They may take
    half of the limit; the outermost are dropped first if a sentence or row would not fit otherwise.
    """

    text: str
    start: int
    end: int
    tokens: int
    headings: tuple[str, ...] = ()
    table_header: str = ""
    context_prefix: str = ""

    @property
    def for_embedding(self) -> str:
        """context_prefix + text; with special tokens never longer than `max_tokens`."""
        return self.context_prefix + self.text


def chunks(text: str, tokens: TokenSpans, *, max_tokens: int = 512, overlap: int = 64) -> list[Chunk]:
    """Cut a text into chunks, in order; a blank text has none. Together they contain everything but white
    space.

    tokens: of the model's tokenizer, see `token_spans`. max_tokens: what the model reads, special tokens
    included. overlap: a chunk repeats whole sentences from the end of the previous one, of at most this many
    tokens; it repeats none if the last sentence is longer, before a heading, and where that would cut a
    sentence. A sentence that is too long for a chunk is cut between lines or table cells, else between words,
    else between characters. Raises CourseError for sizes out of range, and for a text with half a surrogate
    pair.

    >>> import re
    >>> words = TokenSpans(lambda text: [match.span() for match in re.finditer(r"\\S+", text)])
    >>> text = "# Card\\nIt costs 2,000 won, i.e. little.\\n## Limits\\n"
    >>> text += "".join(f"Limit {n} is here. " for n in range(4))
    >>> for chunk in chunks(text, words, max_tokens=16, overlap=4):
    ...     print(chunk.headings, repr(chunk.text))
    ('Card',) '# Card\\nIt costs 2,000 won, i.e. little.'
    ('Card', 'Limits') '## Limits\\nLimit 0 is here. Limit 1 is here. Limit 2 is here.'
    ('Card', 'Limits') 'Limit 2 is here. Limit 3 is here.'
    """
    limit = _limit(tokens, max_tokens, overlap)
    if not isinstance(text, str):
        raise CourseError(f"a text must be a str; got {type(text).__name__}", 'text.decode("utf-8")')
    try:
        text.encode()
    except UnicodeEncodeError as error:
        what = f"character {error.start:,} of {len(text):,} is half of a surrogate pair"
        raise CourseError(what, 'open(path, encoding="utf-8", errors="replace").read()') from error
    structure = outline(text)
    cutter = _Cutter(
        text, lru_cache(256)(tokens.count), limit, overlap, structure, _token_starts(text, tokens)
    )
    return [chunk for section in structure.sections for chunk in cutter.chunks(section)]


def chunk_documents(
    documents: Mapping[str, str], tokens: TokenSpans, *, max_tokens: int = 512, overlap: int = 64
) -> dict[str, Chunk]:
    """The chunks of all documents, id -> text, by the ids "ID#0", "ID#1" and so on.

    `chunk_id.rpartition("#")[0]` is the document's id, even if it contains a "#". Raises CourseError as
    `chunks` does.
    """
    by_document = (
        (doc_id, chunks(text, tokens, max_tokens=max_tokens, overlap=overlap))
        for doc_id, text in documents.items()
    )
    return {f"{doc_id}#{n}": chunk for doc_id, found in by_document for n, chunk in enumerate(found)}


def _limit(tokens: TokenSpans, max_tokens: int, overlap: int) -> int:
    """Number of tokens left for text beside the special ones. Raises CourseError for sizes out of range."""
    if (
        not isinstance(max_tokens, int)
        or max_tokens < MIN_TOKENS
        or max_tokens - tokens.special < MIN_TOKENS // 2
    ):
        what = f"max_tokens={max_tokens!r}, of which {tokens.special} are special: too few for a sentence"
        raise CourseError(what, "max_tokens=256")
    limit = max_tokens - tokens.special
    if not isinstance(overlap, int) or not 0 <= overlap < limit:
        what = f"overlap={overlap!r}; with max_tokens={max_tokens} it must be from 0 to {limit - 1}"
        raise CourseError(what, f"overlap={limit // 8}")
    return limit


def _token_starts(text: str, tokens: TokenSpans) -> NDArray[np.int64]:
    """Where each token starts, (tokens,). Tokenizes in blocks that end with a line or a word."""
    starts, at = [np.zeros(0, np.int64)], 0
    while at < len(text):
        end = at + BLOCK
        if end < len(text):
            end = max(text.rfind("\n", at, end), text.rfind(" ", at + BLOCK // 2, end)) + 1 or end
        starts.append(np.array([start for start, _ in tokens.spans(text[at:end])], np.int64) + at)
        at = end
    return np.maximum.accumulate(np.concatenate(starts))


@dataclass
class _Cutter:
    """Cuts the sections of one text.

    count: counts tokens, with a cache. limit: tokens of a chunk without special ones. starts: where each
    token of the text starts, (tokens,). In the methods `begin` is where a chunk begins, `end` where it ends
    and `done` where the last one ended.
    """

    text: str
    count: Callable[[str], int]
    limit: int
    overlap: int
    outline: Outline
    starts: NDArray[np.int64]

    def chunks(self, section: Section) -> Iterator[Chunk]:
        """The chunks of a section, none for a blank one."""
        previous_begin = done = section.start
        while (start := skip_space(self.text, done)) < section.end:
            begin, done, prefix = self._next(section, previous_begin, done, start)
            text = self.text[begin:done]
            header = "".join(self._table_header(begin))
            yield Chunk(text, begin, done, self.count(text), section.headings, header, prefix)
            previous_begin = begin

    def _next(self, section: Section, previous_begin: int, done: int, start: int) -> tuple[int, int, str]:
        """Begin, end and context prefix of the next chunk. start: the first character that no chunk holds
        yet.

        Tries, in this order: an end of a sentence with overlap and full prefix; one without overlap; other
        kinds of ends. Raises CourseError for a character that alone has more tokens than a chunk.
        """
        floor = section.heading_end if start == section.start else done  # the chunk must end beyond this
        overlaps = self._overlaps(max(previous_begin, section.heading_end - 1), done)
        with_overlap = ((begin, next(self._prefixes(section, begin))) for begin in overlaps)
        without = ((start, prefix) for prefix in self._prefixes(section, start))
        for begin, prefix in chain(with_overlap, without):
            if end := self._end("sentence", prefix, begin, floor, section.end):
                return begin, end, prefix
        full = next(self._prefixes(section, start))
        row_below_heading = floor > start and self._row_fits(skip_space(self.text, floor))
        if row_below_heading and (end := self._end("sentence", full, start, start, floor)):
            return start, end, full  # the headings alone, because they do not fit into a chunk with the row
        for prefix, least in ((full, floor), (full, start), ("", start)):
            for kind in END_KINDS[1:]:
                if end := self._end(kind, prefix, start, least, section.end):
                    return start, end, prefix
        raise CourseError(
            f"the character {self.text[start]!r} has more than the {self.limit} tokens of a chunk",
            f"max_tokens={4 * self.limit}",
        )

    def _overlaps(self, first: int, done: int) -> Iterator[int]:
        """Where a chunk may begin to repeat whole sentences of text[first:done], the most first."""
        breaks, token = self.outline.breaks, int(np.searchsorted(self.starts, done)) - self.overlap - SLACK
        least = max(first, int(self.starts[token]) - 1 if token > 0 else 0)
        for at in range(bisect_left(breaks, least), bisect_left(breaks, done) if self.overlap else 0):
            begin = skip_space(self.text, breaks[at])
            if first < begin < done and self.count(self.text[begin:done]) <= self.overlap:
                yield begin

    def _prefixes(self, section: Section, begin: int) -> Iterator[str]:
        """Possible context prefixes of a chunk, the longest first; the last is empty."""
        headings = section.parents if begin == section.start else section.headings
        lines = [*headings, *self._table_header(begin)]
        for first in range(len(lines) + 1):
            prefix = "".join(line + "\n" for line in lines[first:])
            if self.count(prefix) <= self.limit // 2:
                yield prefix

    def _end(self, kind: str, prefix: str, begin: int, floor: int, last: int) -> int:
        """The last end of a kind in (floor, last] with which prefix and text fit the limit; 0 if none."""
        room, first = self.limit - self.count(prefix) + SLACK, int(np.searchsorted(self.starts, begin))
        while room > 0:
            reach = min(last, int(self.starts[first + room]) if first + room < self.starts.size else last)
            end = self._last_end(kind, begin, floor, reach)
            if end <= floor:
                break
            excess = self.count(prefix + self.text[begin:end]) - self.limit
            if excess <= 0:
                return end
            room, last = room - excess, end - 1
        return 0

    def _last_end(self, kind: str, begin: int, floor: int, reach: int) -> int:
        """The last end of a kind up to `reach`, or a position that is not after `floor`."""
        text, end = self.text, reach
        if kind == "sentence":
            at = bisect_right(self.outline.breaks, reach)
            return self.outline.breaks[at - 1] if at else 0
        if kind == "line":
            table = self._table(skip_space(text, floor))
            separator = table.separator if table else "\n"
            end = text.rfind(separator, floor, reach) + (separator in ",;")
        elif kind == "word" and reach < len(text) and not any(map(str.isspace, text[reach - 1 : reach + 1])):
            words = text[floor:reach].rsplit(None, 1)
            end = floor + len(words[0]) if len(words) > 1 else floor
        while kind == "character" and end > floor and splits_character(text, begin, end):
            end -= 1
        return floor + len(text[floor:end].rstrip()) if end > floor else floor

    def _row_fits(self, at: int) -> bool:
        """Whether a table row begins here that fits into a chunk."""
        breaks = self.outline.breaks
        return (
            bool(self._table(at))
            and self.count(self.text[at : breaks[bisect_right(breaks, at)]]) <= self.limit
        )

    def _table(self, at: int) -> Table | None:
        """The table that contains a position, if any."""
        tables = self.outline.tables
        after = bisect_right(tables, at, key=lambda table: table.start)
        return tables[after - 1] if after and at < tables[after - 1].end else None

    def _table_header(self, at: int) -> list[str]:
        """The header of the table that contains a position below its header, if any."""
        table = self._table(at)
        return [table.header] if table and table.header and at >= table.body else []
