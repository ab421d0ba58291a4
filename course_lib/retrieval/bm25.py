"""A BM25 index: rank documents by the words they share with a query, and explain each score.

Scores are computed from counts at search time, so documents can be added and deleted at any time: the index
always scores as if it had just been built from the documents that it contains now.

A term is the number of a token in the vocabulary. A row is the number of a document; a deleted document keeps
its row until the index is compacted. Postings are lists that tell, for each term, which rows contain it and
how often (tf, the term frequency). A segment holds the postings of documents that were added together. The
document frequency df of a term is the number of documents with it; the fewer, the higher its weight, idf.
"""

from __future__ import annotations

import heapq
from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from course_lib.errors import CourseError, check_text
from course_lib.names import nfc
from course_lib.retrieval.documents import (
    Hit,
    IndexedById,
    SearchResult,
    best_first,
    check_choice,
    check_deletable,
    check_search,
    new_documents,
    string_error,
)
from course_lib.retrieval.postings import BM25State, Postings, top_rows
from course_lib.retrieval.scores import (
    VARIANTS,
    CorpusStatistics,
    Explanation,
    Floats,
    TermScore,
    corpus_statistics,
)
from course_lib.retrieval.tokenize import Tokenizer

MAX_K1 = 1_000_000  # excludes infinity, and values that let scores overflow


class BM25(IndexedById):
    """A lexical index, which finds documents by their tokens.

    tokenizer: A function from a text to its tokens, for documents and queries; by default `Tokenizer()`.
    variant: A key of `scores.VARIANTS`. k1: From 0 to below MAX_K1; with 0, repeated occurrences of a term
    add nothing. b: From 0 (document length does not matter) to 1. The defaults are Lucene's; rank_bm25 uses
    k1=1.5. Raises CourseError for an unknown variant and for k1 or b out of range.

    Do not search while another thread adds or deletes documents; `HybridRetriever` has a lock for this.

    >>> index = BM25(Tokenizer("words"))
    >>> index.add({"fee": "The annual fee of the card is 2,000 won", "limit": "The daily limit of the card"})
    >>> [hit.id for hit in index.search("annual fee of 2000 won", k=10)]
    ['fee', 'limit']
    >>> print(index.explain("fee", "fee"))
    fee: 0.29 = 'fee' 0.29 (here 1x, in 1 of 2 documents)
    """

    def __init__(
        self,
        tokenizer: Callable[[str], list[str]] | None = None,
        *,
        variant: str = "lucene",
        k1: float = 1.2,
        b: float = 0.75,
    ) -> None:
        check_choice("variant", variant, VARIANTS)
        if not 0 <= k1 < MAX_K1 or not 0 <= b <= 1:
            what = f"k1={k1}, b={b}; k1 must be at least 0 and below {MAX_K1:,}, and b from 0 to 1"
            raise CourseError(what, "BM25(k1=1.2, b=0.75)")
        self.tokenizer, self.variant, self.k1, self.b = tokenizer or Tokenizer(), variant, k1, b
        self._vocabulary: dict[str, int] = {}  # token -> term
        self._df: NDArray[np.int64] = np.zeros(0, np.int64)  # term -> number of documents with it
        self._ids, self._rows = [], {}  # row -> id, and id -> row; see IndexedById
        self._lengths: NDArray[np.int64] = np.zeros(0, np.int64)  # row -> number of tokens
        self._alive: NDArray[np.bool_] = np.zeros(0, np.bool_)  # row -> False if deleted
        self._segments: list[Postings] = []  # in ascending order of rows
        self._statistics: CorpusStatistics | None = None  # None: recomputed by the next search

    def __repr__(self) -> str:
        sizes = f"{len(self)} documents, {np.count_nonzero(self._df)} terms"
        tokenizer = getattr(self.tokenizer, "__qualname__", repr(self.tokenizer))
        return f"BM25({sizes}, {tokenizer}, variant={self.variant!r}, k1={self.k1}, b={self.b})"

    # -- adding, deleting, saving

    def add(self, documents: Mapping[str, str] | Iterable[tuple[str, str]]) -> None:
        """Add documents, given as {id: text} or (id, text) pairs. If an error is raised, none is added.

        Raises CourseError for an id that exists already or occurs twice, and for an item that is not a pair
        of strings.
        """
        self.prepare(documents)()

    def prepare(self, documents: Mapping[str, str] | Iterable[tuple[str, str]]) -> Callable[[], None]:
        """Tokenize documents without changing the index, and return a function that adds them.

        Both raise CourseError as `add` does: documents may have been added between the two calls.
        """
        ids, lengths, terms, vocabulary = list[str](), array("q"), array("i"), dict[str, int]()
        for doc_id, text in new_documents(documents, self._rows):
            tokens = self.tokenizer(text)
            ids.append(doc_id)
            lengths.append(len(tokens))
            terms.extend([vocabulary.setdefault(token, len(vocabulary)) for token in tokens])
        arrays = np.array(lengths, np.int64), np.array(terms, np.int32)
        return partial(self._append, ids, *arrays, list(vocabulary))

    def _append(
        self, ids: list[str], lengths: NDArray[np.int64], terms: NDArray[np.int32], tokens: list[str]
    ) -> None:
        """Append a segment with new documents.

        lengths: The number of tokens in each document. terms: For each token of all documents, concatenated,
        its index in `tokens`, the distinct tokens.

        The last two segments are merged while the last is at least half as long as the one before it. This
        keeps the number of segments, and of copies of each entry, logarithmic: about 20 at most.
        """
        list(new_documents(((doc_id, "") for doc_id in ids), self._rows))  # raises for an id added meanwhile
        known = self._vocabulary
        numbers = np.array([known.setdefault(token, len(known)) for token in tokens], np.int32)
        self._df = np.pad(self._df, (0, len(known) - self._df.size))
        segment = Postings.from_tokens(numbers[terms], lengths, len(self._ids))
        self._df[segment.terms] += np.diff(segment.starts)
        self._add_rows(ids)
        self._lengths = np.concatenate([self._lengths, lengths])
        self._alive = np.concatenate([self._alive, np.ones(len(ids), np.bool_)])
        segments = [*self._segments, segment]
        while len(segments) > 1 and 2 * segments[-1].rows.size >= segments[-2].rows.size:
            new_rows = np.where(self._alive, np.arange(self._alive.size), -1).astype(np.int32)
            segments = [*segments[:-2], Postings.merged(segments[-2:], new_rows)]
        self._segments, self._statistics = segments, None

    def delete(self, ids: Collection[str]) -> None:
        """Delete documents by id. Raises CourseError, and deletes none, if an id is not in the index."""
        names = check_deletable(ids, self._rows)
        deleted = np.zeros(self._alive.size, np.bool_)
        deleted[[self._rows.pop(name) for name in names]] = True
        self._alive, self._statistics = self._alive & ~deleted, None
        for segment in self._segments:
            np.subtract.at(self._df, segment.terms_of(deleted), 1)
        if 2 * len(self) < len(self._ids):
            self._compact()

    def _compact(self) -> None:
        """Remove deleted documents and unused terms from all arrays, and renumber the remaining ones."""
        new_rows = np.where(self._alive, np.cumsum(self._alive) - 1, -1).astype(np.int32)
        used_terms = np.flatnonzero(self._df)
        tokens = list(self._vocabulary)
        self._vocabulary = {tokens[term]: i for i, term in enumerate(used_terms.tolist())}
        self._df = self._df[used_terms]
        segment = Postings.merged(self._segments, new_rows) if self._segments else Postings.empty()
        new_terms = np.searchsorted(used_terms, segment.terms).astype(np.int32)
        self._segments = [replace(segment, terms=new_terms)]
        ids, self._ids, self._rows = self.ids, [], {}
        self._add_rows(ids)
        self._lengths = self._lengths[self._alive]
        self._alive, self._statistics = np.ones(len(self._ids), np.bool_), None

    def compacted_state(self) -> BM25State:
        """Compact the index, then return its tokens and arrays, for `from_state`."""
        self._compact()
        (postings,) = self._segments
        return BM25State(list(self._vocabulary), self._lengths, **vars(postings))

    @classmethod
    def from_state(cls, ids: list[str], state: BM25State, **settings: Any) -> BM25:
        """Rebuild an index from its saved state.

        ids: The document ids, in row order. settings: tokenizer, variant, k1, b.
        Raises CourseError if the sizes of the arrays are inconsistent.
        """
        index, term_count = cls(**settings), len(state.tokens)
        postings = Postings(state.terms, state.starts, state.rows, state.counts)
        if len(state.lengths) != len(ids) or not postings.is_consistent(term_count, len(ids)):
            what = (
                f"the saved postings are inconsistent: {len(state.lengths)} documents, {term_count} tokens "
            )
            raise CourseError(f"{what}and {len(ids)} ids", "rebuild the index and save it again")
        index._vocabulary = {token: term for term, token in enumerate(state.tokens)}
        index._add_rows(ids)
        index._lengths, index._alive, index._segments = state.lengths, np.ones(len(ids), np.bool_), [postings]
        index._df = np.zeros(term_count, np.int64)
        index._df[postings.terms] = np.diff(postings.starts)
        return index

    # -- searching

    def search(self, query: str, k: int = 10, allowed: Collection[str] | None = None) -> list[Hit]:
        """Return the best k documents with a score above 0, best first; equal scores are ordered by id.

        allowed: The ids that can be returned; None allows all, unknown ones are ignored. Raises CourseError
        for k below 1, and for a string as `allowed`.
        """
        check_search(k, allowed)
        return self._search(query, k, allowed).hits

    def search_all(
        self, queries: Sequence[str], k: int, allowed: Collection[str] | None = None
    ) -> list[SearchResult]:
        """Search for several queries. Raises CourseError as `search` does, and for a single string.

        The function `scores_of` of a result is valid until the index changes.
        """
        check_search(k, allowed)
        if isinstance(queries, str):
            raise string_error("queries", queries)
        return [self._search(query, k, allowed) for query in queries]

    def _search(self, query: str, k: int, allowed: Collection[str] | None) -> SearchResult:
        ids, scores = self._ids, self._scores(query)
        all_allowed = allowed is None and len(self._rows) == len(ids)
        rows, last = top_rows(scores if all_allowed else scores * self._mask(allowed), k)
        better = [Hit(ids[row], float(scores[row])) for row in rows[scores[rows] > last].tolist()]
        tied = (ids[row] for row in rows[scores[rows] == last].tolist())
        hits = best_first(better) + [Hit(doc_id, last) for doc_id in heapq.nsmallest(k - len(better), tied)]
        return SearchResult(hits, partial(self._scores_of, scores))

    def _scores_of(self, scores: Floats, ids: Collection[str]) -> list[Hit]:
        """Return the documents among `ids` that have a score above 0. scores: As `_scores` returns them."""
        hits = [Hit(self._ids[row], float(scores[row])) for row in self._rows_of(sorted(ids))]
        return [hit for hit in hits if hit.score > 0]

    def scores(self, query: str) -> dict[str, float]:
        """Return id -> score for every document, including scores of 0."""
        scores = self._scores(query)
        return {self._ids[row]: float(scores[row]) for row in self._rows.values()}

    def explain(self, query: str, doc_id: str) -> Explanation:
        """Explain a document's score term by term. Raises CourseError for an unknown id."""
        if doc_id not in self:
            what = f"the id {doc_id!r} is not in the index of {len(self)} documents"
            raise CourseError(what, "explain a document that the attribute .ids lists")
        row, statistics = self._rows[nfc(doc_id)], self._current_statistics()
        query_terms, term_scores = self._terms(query), []
        terms = np.array([term for _, _, term in query_terms], np.int32)
        for segment in self._segments:
            for (token, query_tf, term), entries in zip(
                query_terms, segment.entry_slices(terms), strict=True
            ):
                entry = entries.start + segment.rows[entries].searchsorted(row)
                if entry < entries.stop and segment.rows[entry] == row:
                    weight = VARIANTS[self.variant].tf_weight(
                        segment.counts[entry : entry + 1], statistics.norms[row : row + 1], self.k1
                    )[0]
                    tf, df, idf = int(segment.counts[entry]), int(statistics.df[term]), statistics.idf[term]
                    score = float(query_tf * idf * weight)
                    term_scores.append(TermScore(token, query_tf, tf, df, float(idf), float(weight), score))
        total = float(sum(t.score for t in term_scores))
        term_scores.sort(key=lambda t: (-t.score, t.term))
        return Explanation(self._ids[row], total, tuple(term_scores), len(self))

    def _terms(self, query: str) -> list[tuple[str, int, int]]:
        """Return (token, count in the query, term) for each distinct token of the query in the vocabulary.

        They are sorted by token, so that the order of a query's words cannot change a score by rounding.
        """
        check_text(query)
        counts = sorted(Counter(self.tokenizer(query)).items())
        return [(token, n, self._vocabulary[token]) for token, n in counts if token in self._vocabulary]

    def _current_statistics(self) -> CorpusStatistics:
        if self._statistics is None:
            self._statistics = corpus_statistics(
                self._df, self._lengths, self._alive, variant=self.variant, k1=self.k1, b=self.b
            )
        return self._statistics

    def _scores(self, query: str) -> Floats:
        """Return the score of every row, an array of shape (rows,), including rows of deleted documents."""
        statistics, query_terms = self._current_statistics(), self._terms(query)
        terms = np.array([term for _, _, term in query_terms], np.int32)
        weights = np.array([query_tf for _, query_tf, _ in query_terms]) * statistics.idf[terms]
        entries = [(segment, e) for segment in self._segments for e in segment.entry_slices(terms)]
        sizes = [e.stop - e.start for _, e in entries]
        if not sum(sizes):
            return np.zeros(len(self._ids))
        rows = np.concatenate([segment.rows[e] for segment, e in entries])
        counts = np.concatenate([segment.counts[e] for segment, e in entries])
        scores = VARIANTS[self.variant].tf_weight(counts, statistics.norms.take(rows), self.k1)
        scores *= np.repeat(np.tile(weights, len(self._segments)), sizes)
        return np.bincount(rows, weights=scores, minlength=len(self._ids))

    def _mask(self, allowed: Collection[str] | None) -> NDArray[np.bool_]:
        """Return which rows a search may return, an array of shape (rows,)."""
        if allowed is None:
            return self._alive
        mask = np.zeros(len(self._ids), np.bool_)
        mask[self._rows_of(allowed)] = True
        return mask
