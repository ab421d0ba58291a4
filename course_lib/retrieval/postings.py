"""Postings: for each term the documents that contain it, so that a search reads those of its terms and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Postings:
    """Entries (term, document, count), sorted by term and then by document. Terms and documents are numbers; none changes.

    terms: distinct ones, ascending, (terms,). starts: the entries of terms[i] are starts[i] to starts[i + 1], (terms + 1,).
    documents, counts: of each entry, (entries,).
    """

    terms: NDArray[np.int32]
    starts: NDArray[np.int64]
    documents: NDArray[np.int32]
    counts: NDArray[np.int32]

    @classmethod
    def empty(cls) -> Postings:
        """Of no document."""
        return cls.of_entries(*np.zeros((3, 0), np.int32))

    @classmethod
    def of_entries(
        cls, terms: NDArray[np.int32], documents: NDArray[np.int32], counts: NDArray[np.int32]
    ) -> Postings:
        """Of sorted entries."""
        starts = np.flatnonzero(np.diff(terms, prepend=-1))
        return cls(terms[starts], np.append(starts, terms.size), documents, counts)

    @classmethod
    def of_tokens(cls, tokens: NDArray[np.int32], lengths: NDArray[np.int64], first: int) -> Postings:
        """Of the tokens of documents, one after the other, (sum of lengths,); documents are numbered from `first`."""
        document = np.repeat(np.arange(lengths.size, dtype=np.int64), lengths)
        keys = (
            tokens.astype(np.int64) * max(lengths.size, 1) + document
        )  # one number for a pair, which sorts fast
        keys.sort()
        starts = np.flatnonzero(np.diff(keys, prepend=-1))
        term, document = np.divmod(keys[starts], max(lengths.size, 1))
        counts = np.diff(starts, append=keys.size)
        return cls.of_entries(
            term.astype(np.int32), (document + first).astype(np.int32), counts.astype(np.int32)
        )

    @classmethod
    def merged(cls, parts: Sequence[Postings], numbers: NDArray[np.int32]) -> Postings:
        """Of several, whose documents get new numbers: numbers[old], in the same order; -1 leaves a document out.

        The documents of a part come before those of the next.
        """
        documents = numbers[np.concatenate([p.documents for p in parts])]
        terms = np.concatenate([np.repeat(p.terms, np.diff(p.starts)) for p in parts])
        counts = np.concatenate([p.counts for p in parts])
        order = np.argsort(terms, kind="stable")
        order = order[documents[order] >= 0]
        return cls.of_entries(terms[order], documents[order], counts[order])

    def entries(self, terms: NDArray[np.int32]) -> list[slice]:
        """Of each term its entries; an empty slice for one that is not here."""
        if not self.terms.size:
            return [slice(0, 0)] * terms.size
        at = np.minimum(np.searchsorted(self.terms, terms), self.terms.size - 1)
        here = self.terms[at] == terms
        begin, end = self.starts[at].tolist(), self.starts[at + here].tolist()
        return [slice(b, e) for b, e in zip(begin, end, strict=True)]

    def terms_of(self, wanted: NDArray[np.bool_]) -> NDArray[np.int32]:
        """The terms of documents, one after the other: wanted[number] says of which documents."""
        entries = np.flatnonzero(wanted[self.documents])
        return self.terms[np.searchsorted(self.starts, entries, side="right") - 1]

    def fits(self, terms: int, documents: int) -> bool:
        """Whether the arrays belong together, and name no other terms and documents than these many."""
        whole = (
            self.starts.size == self.terms.size + 1
            and self.starts[0] == 0
            and self.starts[-1] == self.documents.size
        )
        known = all(
            a.min(initial=0) >= 0 and a.max(initial=-1) < n
            for a, n in ((self.terms, terms), (self.documents, documents))
        )
        return bool(
            whole and known and self.counts.size == self.documents.size and (np.diff(self.starts) > 0).all()
        )


class Stored(NamedTuple):
    """All that an index knows of its documents, but for their ids: tokens in the order of their terms, how many of them each
    document has, and the postings."""

    tokens: list[str]
    lengths: NDArray[np.int64]
    terms: NDArray[np.int32]
    starts: NDArray[np.int64]
    documents: NDArray[np.int32]
    counts: NDArray[np.int32]
