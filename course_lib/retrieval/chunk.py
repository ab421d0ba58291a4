"""Split long documents into chunks that are short enough for an embedding model.

Lengths are counted with the model's own tokenizer. A chunk ends with a sentence, a table row or a line of
code wherever possible. Every Markdown heading begins a new chunk, and short sections are not merged, because
texts under different headings answer different questions.
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

from course_lib.errors import CourseError, check_text
from course_lib.retrieval.documents import Span
from course_lib.retrieval.outline import Outline, Section, outline, skip_space, splits_character
from course_lib.retrieval.table_rows import Table

BLOCK_CHARS = 100_000  # characters per call of the tokenizer, to limit memory
SLACK_TOKENS = 2  # tokenized alone, a text may have this many tokens fewer than within its document
MIN_MAX_TOKENS = 16  # smallest `max_tokens`
END_KINDS = ("sentence", "line", "word", "character", "code point")  # where a chunk may end, best first


@dataclass(frozen=True)
class TokenSpans:
    """A model's tokenizer, reduced to the positions of the tokens in a text.

    spans: Function from a text to the (start, end) of each token. special: The number of special tokens, such
    as [CLS], that the model adds to each text.
    """

    spans: Callable[[str], list[Span]]
    special: int = 0

    def count(self, text: str) -> int:
        """Count the tokens of a text, without special tokens."""
        return len(self.spans(text))


def token_spans(tokenizer: Any) -> TokenSpans:
    """Wrap a tokenizer of `tokenizers` or a fast one (built on it) of `transformers`.

    Raises CourseError for any other tokenizer.

    A copy is used, with truncation off, because many tokenizers truncate silently (MiniLM's to 128 tokens).
    """
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if not hasattr(backend, "no_truncation"):
        message = f"a tokenizer of type {type(tokenizer).__name__} does not give the positions of its tokens"
        raise CourseError(message, 'token_spans(AutoTokenizer.from_pretrained("folder-with-tokenizer.json"))')
    copy = type(backend).from_str(backend.to_str())
    copy.no_truncation()
    copy.no_padding()
    special = copy.num_special_tokens_to_add(False)
    return TokenSpans(lambda text: copy.encode(text, add_special_tokens=False).offsets, special)


@dataclass(frozen=True)
class Chunk:
    """A part of a document: `document[chunk.start:chunk.end] == chunk.text`.

    tokens: The number of tokens in `text`, without special tokens. headings: The titles of the sections that
    contain the chunk, outermost first. table_header: The header of the table in whose rows the chunk begins,
    or ''. context_prefix: The headings and the table header that are not in `text`, one per line. They take
    at most half of the tokens; if a sentence or row would not fit, the outermost headings are omitted.
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
        """context_prefix + text: at most `max_tokens` tokens, including special tokens."""
        return self.context_prefix + self.text


def split_text(text: str, tokenizer: TokenSpans, *, max_tokens: int = 512, overlap: int = 64) -> list[Chunk]:
    """Split a text into chunks, in order. They omit only white space, so a blank text has none.

    tokenizer: The model's, see `token_spans`. max_tokens: The maximum length of a chunk with its prefix and
    special tokens. overlap: A chunk repeats the last complete sentences of the previous one if they have at
    most this many tokens, except after a heading. A sentence that is too long for a chunk is split between
    lines or table cells, else between words, else between characters. Raises CourseError for sizes out of
    range, and for a text that UTF-8 cannot write.

    >>> import re
    >>> words = TokenSpans(lambda text: [match.span() for match in re.finditer(r"\\S+", text)])
    >>> text = "# Card\\nIt costs 2,000 won, i.e. little.\\n## Limits\\n"
    >>> text += "".join(f"Limit {n} is here. " for n in range(4))
    >>> for chunk in split_text(text, words, max_tokens=16, overlap=4):
    ...     print(chunk.headings, repr(chunk.text))
    ('Card',) '# Card\\nIt costs 2,000 won, i.e. little.'
    ('Card', 'Limits') '## Limits\\nLimit 0 is here. Limit 1 is here. Limit 2 is here.'
    ('Card', 'Limits') 'Limit 2 is here. Limit 3 is here.'
    """
    limit = _text_limit(tokenizer, max_tokens, overlap)
    check_text(text)
    structure = outline(text)
    cutter = _Cutter(
        text, lru_cache(256)(tokenizer.count), limit, overlap, structure, _token_starts(text, tokenizer)
    )
    return [chunk for section in structure.sections for chunk in cutter.chunks(section)]


def chunk_documents(
    documents: Mapping[str, str], tokenizer: TokenSpans, *, max_tokens: int = 512, overlap: int = 64
) -> dict[str, Chunk]:
    """Split all documents (id -> text). The chunks of a document have the ids "ID#0", "ID#1" and so on.

    `chunk_id.rpartition("#")[0]` gives the document's id, even if that contains a "#". Raises CourseError as
    `split_text` does.
    """
    return {
        f"{doc_id}#{n}": chunk
        for doc_id, text in documents.items()
        for n, chunk in enumerate(split_text(text, tokenizer, max_tokens=max_tokens, overlap=overlap))
    }


def _text_limit(tokenizer: TokenSpans, max_tokens: int, overlap: int) -> int:
    """Return max_tokens minus the special tokens. Raises CourseError for sizes out of range."""
    special = tokenizer.special
    if (
        not isinstance(max_tokens, int)
        or max_tokens < MIN_MAX_TOKENS
        or max_tokens - special < MIN_MAX_TOKENS // 2
    ):
        message = f"max_tokens={max_tokens!r}, of which {special} are special: too few for a sentence"
        raise CourseError(message, "max_tokens=256")
    limit = max_tokens - special
    if not isinstance(overlap, int) or not 0 <= overlap < limit:
        message = f"overlap={overlap!r}; with max_tokens={max_tokens} it must be from 0 to {limit - 1}"
        raise CourseError(message, f"overlap={limit // 8}")
    return limit


def _token_starts(text: str, tokenizer: TokenSpans) -> NDArray[np.int64]:
    """Return the start of each token, (tokens,). Tokenizes block by block, split at line or word ends."""
    starts, begin = [np.zeros(0, np.int64)], 0
    while begin < len(text):
        end = begin + BLOCK_CHARS
        if end < len(text):
            last_space = text.rfind(" ", begin + BLOCK_CHARS // 2, end)
            end = max(text.rfind("\n", begin, end), last_space) + 1 or end
        starts.append(np.array([start for start, _ in tokenizer.spans(text[begin:end])], np.int64) + begin)
        begin = end
    return np.maximum.accumulate(np.concatenate(starts))


@dataclass
class _Cutter:
    """Splits the sections of one text into chunks.

    count: Cached function from a text to its number of tokens. limit: The maximum number of tokens of a
    chunk, without special tokens. starts: The start of each token in the text, (tokens,). In the methods,
    positions are character offsets in the text: a chunk is text[begin:end], and the previous one ended at
    `done`. `floor` is a position that the chunk must end after.
    """

    text: str
    count: Callable[[str], int]
    limit: int
    overlap: int
    outline: Outline
    starts: NDArray[np.int64]

    def chunks(self, section: Section) -> Iterator[Chunk]:
        """Yield the chunks of a section, none if it is blank."""
        previous_begin = done = section.start
        while (start := skip_space(self.text, done)) < section.end:
            begin, done, prefix = self._next(section, previous_begin, done, start)
            text = self.text[begin:done]
            header = "".join(self._table_header(begin))
            yield Chunk(text, begin, done, self.count(text), section.headings, header, prefix)
            previous_begin = begin

    def _next(self, section: Section, previous_begin: int, done: int, start: int) -> tuple[int, int, str]:
        """Return begin, end and context prefix of the next chunk. start: The first character not in a chunk.

        Tries, in this order: end with a sentence, repeating some overlap; end with a sentence, without
        overlap; other kinds of ends. Raises CourseError if a single character exceeds the limit.
        """
        floor = section.heading_end if start == section.start else done
        overlaps = self._overlaps(max(previous_begin, section.heading_end - 1), done)
        with_overlap = ((begin, next(self._prefixes(section, begin))) for begin in overlaps)
        without = ((start, prefix) for prefix in self._prefixes(section, start))
        for begin, prefix in chain(with_overlap, without):
            if end := self._end("sentence", prefix, begin, floor, section.end):
                return begin, end, prefix
        full = next(self._prefixes(section, start))
        row_below_heading = floor > start and self._row_fits(skip_space(self.text, floor))
        if row_below_heading and (end := self._end("sentence", full, start, start, floor)):
            return start, end, full  # only the headings, because the table row needs a chunk of its own
        for prefix, lowest_end in ((full, floor), (full, start), ("", start)):
            for kind in END_KINDS[1:]:
                if end := self._end(kind, prefix, start, lowest_end, section.end):
                    return start, end, prefix
        raise CourseError(
            f"the character {self.text[start]!r} has more than the {self.limit} tokens of a chunk",
            f"max_tokens={4 * self.limit}",
        )

    def _overlaps(self, first: int, done: int) -> Iterator[int]:
        """Yield positions, ascending, where a chunk could begin to repeat whole sentences before `done`."""
        breaks = self.outline.breaks
        token = int(np.searchsorted(self.starts, done)) - self.overlap - SLACK_TOKENS
        lowest = max(first, int(self.starts[token]) - 1 if token > 0 else 0)
        for i in range(bisect_left(breaks, lowest), bisect_left(breaks, done) if self.overlap else 0):
            begin = skip_space(self.text, breaks[i])
            if first < begin < done and self.count(self.text[begin:done]) <= self.overlap:
                yield begin

    def _prefixes(self, section: Section, begin: int) -> Iterator[str]:
        """Yield the possible context prefixes of a chunk, longest first; the last is empty."""
        headings = section.parents if begin == section.start else section.headings
        lines = [*headings, *self._table_header(begin)]
        for first in range(len(lines) + 1):
            prefix = "".join(line + "\n" for line in lines[first:])
            if self.count(prefix) <= self.limit // 2:
                yield prefix

    def _end(self, kind: str, prefix: str, begin: int, floor: int, last: int) -> int:
        """Return the largest end in (floor, last] that is of a kind and keeps to the limit, 0 if none is."""
        budget, first = (
            self.limit - self.count(prefix) + SLACK_TOKENS,
            int(np.searchsorted(self.starts, begin)),
        )
        while budget > 0:
            highest = int(self.starts[first + budget]) if first + budget < self.starts.size else last
            end = self._last_end(kind, begin, floor, min(last, highest))
            if end <= floor:
                break
            excess = self.count(prefix + self.text[begin:end]) - self.limit
            if excess <= 0:
                return end
            budget, last = budget - excess, end - 1
        return 0

    def _last_end(self, kind: str, begin: int, floor: int, highest: int) -> int:
        """Return the last end of a kind in (floor, highest], or a value <= floor if there is none."""
        text, end = self.text, highest
        if kind == "sentence":
            i = bisect_right(self.outline.breaks, highest)
            return self.outline.breaks[i - 1] if i else 0
        if kind == "line":
            table = self._table(skip_space(text, floor))
            separator = table.separator if table else "\n"
            end = text.rfind(separator, floor, highest) + (separator in ",;")
        elif (
            kind == "word"
            and highest < len(text)
            and not any(c.isspace() for c in text[highest - 1 : highest + 1])
        ):
            words = text[floor:highest].rsplit(None, 1)
            end = floor + len(words[0]) if len(words) > 1 else floor
        while kind == "character" and end > floor and splits_character(text, begin, end):
            end -= 1
        return floor + len(text[floor:end].rstrip()) if end > floor else floor

    def _row_fits(self, position: int) -> bool:
        """Whether a table row begins at a position, and is not too long for a chunk."""
        breaks = self.outline.breaks
        if not self._table(position):
            return False
        return self.count(self.text[position : breaks[bisect_right(breaks, position)]]) <= self.limit

    def _table(self, position: int) -> Table | None:
        """Return the table that contains a position, if any."""
        tables = self.outline.tables
        i = bisect_right(tables, position, key=lambda table: table.start)
        return tables[i - 1] if i and position < tables[i - 1].end else None

    def _table_header(self, position: int) -> list[str]:
        """Return the header of the table whose rows below the header contain a position, or an empty list."""
        table = self._table(position)
        return [table.header] if table and table.header and position >= table.body else []
