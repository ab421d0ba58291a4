"""The inverted index of `bm25` (search by words): for each term, the documents with it, and how often.

Terms and documents are integers: a term is the index of a token in the vocabulary, a row that of a document.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

GROUP_SIZE = 32  # scores per group in `top_rows`


@dataclass(frozen=True)
class Postings:
    """Entries (term, row, count), sorted by term and then by row.

    terms: The distinct terms, ascending, (terms,). starts: The entries of terms[i] are at
    starts[i]:starts[i + 1], (terms + 1,). rows, counts: The document and the number of occurrences of each
    entry, (entries,).
    """

    terms: NDArray[np.int32]
    starts: NDArray[np.int64]
    rows: NDArray[np.int32]
    counts: NDArray[np.int32]

    @classmethod
    def empty(cls) -> Postings:
        """Return postings without entries."""
        return cls.from_entries(*np.zeros((3, 0), np.int32))

    @classmethod
    def from_entries(
        cls, terms: NDArray[np.int32], rows: NDArray[np.int32], counts: NDArray[np.int32]
    ) -> Postings:
        """Build postings from entries sorted by term and row. Each array has the shape (entries,)."""
        starts = np.flatnonzero(np.diff(terms, prepend=-1))
        return cls(terms[starts], np.append(starts, terms.size), rows, counts)

    @classmethod
    def from_tokens(cls, tokens: NDArray[np.int32], lengths: NDArray[np.int64], first_row: int) -> Postings:
        """Build the postings of documents, whose rows are numbered from `first_row`.

        tokens: The term of each token of all documents, concatenated, (sum of lengths,).
        lengths: The number of tokens in each document, (documents,).
        """
        document = np.repeat(np.arange(lengths.size, dtype=np.int64), lengths)
        # one integer for each (term, document) pair, because sorting integers is fast
        keys = tokens.astype(np.int64) * max(lengths.size, 1) + document
        keys.sort()
        starts = np.flatnonzero(np.diff(keys, prepend=-1))
        terms, documents = np.divmod(keys[starts], max(lengths.size, 1))
        counts = np.diff(starts, append=keys.size)
        entries = terms, documents + first_row, counts
        return cls.from_entries(*(array.astype(np.int32) for array in entries))

    @classmethod
    def merged(cls, segments: Sequence[Postings], new_rows: NDArray[np.int32]) -> Postings:
        """Merge several postings, and renumber rows: row i becomes new_rows[i], or is dropped if that is -1.

        Segments must be in ascending order of rows, and `new_rows` must keep the order.
        """
        rows = new_rows[np.concatenate([s.rows for s in segments])]
        terms = np.concatenate([np.repeat(s.terms, np.diff(s.starts)) for s in segments])
        counts = np.concatenate([s.counts for s in segments])
        order = np.argsort(terms, kind="stable")
        order = order[rows[order] >= 0]
        return cls.from_entries(terms[order], rows[order], counts[order])

    def entry_slices(self, terms: NDArray[np.int32]) -> list[slice]:
        """Return the slice of `rows` and `counts` with each term's entries, empty if it has none."""
        if not self.terms.size:
            return [slice(0, 0)] * terms.size
        positions = np.minimum(np.searchsorted(self.terms, terms), self.terms.size - 1)
        is_present = self.terms[positions] == terms
        starts, ends = self.starts[positions].tolist(), self.starts[positions + is_present].tolist()
        return [slice(start, end) for start, end in zip(starts, ends, strict=True)]

    def terms_of(self, mask: NDArray[np.bool_]) -> NDArray[np.int32]:
        """Return the terms of the documents for which mask[row] is True, one term for each entry."""
        entries = np.flatnonzero(mask[self.rows])
        return self.terms[np.searchsorted(self.starts, entries, side="right") - 1]

    def is_consistent(self, term_count: int, row_count: int) -> bool:
        """Whether array sizes match, and terms are below `term_count` and rows below `row_count`."""
        return bool(
            self.starts.size == self.terms.size + 1
            and self.starts[0] == 0
            and self.starts[-1] == self.rows.size == self.counts.size
            and (np.diff(self.starts) > 0).all()
            and all(a.min(initial=0) >= 0 for a in (self.terms, self.rows))
            and self.terms.max(initial=-1) < term_count
            and self.rows.max(initial=-1) < row_count
        )


class BM25State(NamedTuple):
    """A BM25 index as plain data, for saving. The document ids are kept elsewhere.

    tokens: The vocabulary: the token of each term. lengths: The number of tokens in each document,
    (documents,). terms, starts, rows, counts: The fields of its `Postings`.
    """

    tokens: list[str]
    lengths: NDArray[np.int64]
    terms: NDArray[np.int32]
    starts: NDArray[np.int64]
    rows: NDArray[np.int32]
    counts: NDArray[np.int32]


def top_rows(scores: NDArray[np.float64], k: int) -> tuple[NDArray[np.intp], float]:
    """Return the rows of the k best scores above 0 with all ties of the k-th score, and the k-th score.

    Works like a full sort, but faster: at least k scores reach the k-th largest of the group maxima, so all
    scores below it can be skipped.
    """
    grouped = scores.size - scores.size % GROUP_SIZE
    maxima = scores[:grouped].reshape(GROUP_SIZE, -1).max(axis=0) if scores.size else scores
    threshold = np.partition(maxima, -k)[-k] if maxima.size >= k else 0.0
    rows = np.flatnonzero(scores >= threshold) if threshold > 0 else np.flatnonzero(scores > 0)
    if rows.size > k:
        threshold = np.partition(scores[rows], -k)[-k]
        rows = rows[scores[rows] >= threshold]
    return rows, float(scores[rows].min(initial=np.inf))
