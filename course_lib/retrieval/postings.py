"""Postings: for each term the documents with it, so that a search reads only its own terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Postings:
    """Entries (term, row, count), sorted by term and then by row. Terms and documents' rows are numbers.

    terms: distinct, ascending, (terms,). starts: the entries of terms[i] are starts[i]:starts[i + 1], (terms
    + 1,). rows, counts: the document and the number of occurrences of each entry, (entries,).
    """

    terms: NDArray[np.int32]
    starts: NDArray[np.int64]
    rows: NDArray[np.int32]
    counts: NDArray[np.int32]

    @classmethod
    def empty(cls) -> Postings:
        """Postings without entries."""
        return cls.from_entries(*np.zeros((3, 0), np.int32))

    @classmethod
    def from_entries(
        cls, terms: NDArray[np.int32], rows: NDArray[np.int32], counts: NDArray[np.int32]
    ) -> Postings:
        """Postings of sorted entries, each array (entries,)."""
        starts = np.flatnonzero(np.diff(terms, prepend=-1))
        return cls(terms[starts], np.append(starts, terms.size), rows, counts)

    @classmethod
    def from_tokens(cls, tokens: NDArray[np.int32], lengths: NDArray[np.int64], first_row: int) -> Postings:
        """Postings of documents, whose rows are numbered from `first_row`.

        tokens: the terms of all documents, one document after the other, (sum of lengths,).
        """
        document = np.repeat(np.arange(lengths.size, dtype=np.int64), lengths)
        # one number for each pair (term, document), because sorting numbers is fast
        keys = tokens.astype(np.int64) * max(lengths.size, 1) + document
        keys.sort()
        starts = np.flatnonzero(np.diff(keys, prepend=-1))
        terms, documents = np.divmod(keys[starts], max(lengths.size, 1))
        counts = np.diff(starts, append=keys.size)
        entries = terms, documents + first_row, counts
        return cls.from_entries(*(array.astype(np.int32) for array in entries))

    @classmethod
    def merged(cls, segments: Sequence[Postings], new_rows: NDArray[np.int32]) -> Postings:
        """The entries of several postings, with row new_rows[old] for row old; -1 leaves a document out.

        The rows of each segment must be below those of the next, and `new_rows` must keep their order.
        """
        rows = new_rows[np.concatenate([s.rows for s in segments])]
        terms = np.concatenate([np.repeat(s.terms, np.diff(s.starts)) for s in segments])
        counts = np.concatenate([s.counts for s in segments])
        order = np.argsort(terms, kind="stable")
        order = order[rows[order] >= 0]
        return cls.from_entries(terms[order], rows[order], counts[order])

    def entries(self, terms: NDArray[np.int32]) -> list[slice]:
        """The slice of entries of each term; empty for a term that is not here."""
        if not self.terms.size:
            return [slice(0, 0)] * terms.size
        at = np.minimum(np.searchsorted(self.terms, terms), self.terms.size - 1)
        found = self.terms[at] == terms
        begin, end = self.starts[at].tolist(), self.starts[at + found].tolist()
        return [slice(b, e) for b, e in zip(begin, end, strict=True)]

    def terms_of(self, mask: NDArray[np.bool_]) -> NDArray[np.int32]:
        """The terms of the documents for which mask[row] is True, one term for each entry."""
        entries = np.flatnonzero(mask[self.rows])
        return self.terms[np.searchsorted(self.starts, entries, side="right") - 1]

    def fits(self, terms: int, rows: int) -> bool:
        """Whether the arrays fit each other, and hold only terms below `terms` and rows below `rows`."""
        return bool(
            self.starts.size == self.terms.size + 1
            and self.starts[0] == 0
            and self.starts[-1] == self.rows.size == self.counts.size
            and (np.diff(self.starts) > 0).all()
            and all(a.min(initial=0) >= 0 for a in (self.terms, self.rows))
            and self.terms.max(initial=-1) < terms
            and self.rows.max(initial=-1) < rows
        )


class BM25State(NamedTuple):
    """A BM25 index as plain data, without its documents' ids. tokens: the token of each term. lengths: tokens
    of each document, (documents,). terms, starts, rows, counts: its `Postings`."""

    tokens: list[str]
    lengths: NDArray[np.int64]
    terms: NDArray[np.int32]
    starts: NDArray[np.int64]
    rows: NDArray[np.int32]
    counts: NDArray[np.int32]
