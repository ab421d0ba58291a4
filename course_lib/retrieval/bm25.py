"""BM25 over postings: documents come and go by their ids, a search returns hits and nothing else, and every hit is explained.

Scores are computed from counts when they are asked for. So a document that is added or deleted changes the idf and the mean
length at once: the index always scores as if it had been built from the documents that are in it now.
"""

from __future__ import annotations

import heapq
from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from course_lib.errors import CourseError
from course_lib.retrieval.documents import (
    Hit,
    Numbered,
    best_first,
    checked_gone,
    checked_search,
    new_documents,
)
from course_lib.retrieval.postings import Postings, Stored
from course_lib.retrieval.scores import VARIANTS, Numbers, length_norm
from course_lib.retrieval.tokenize import Tokenizer

GROUP = 32  # scores of which only the largest is looked at first


class Part(NamedTuple):
    """What one term of a question adds to a document's score: in_question x idf x share.

    in_question, in_document: how often it is there. documents: how many contain it.
    """

    term: str
    in_question: int
    in_document: int
    documents: int
    idf: float
    share: float
    score: float


@dataclass(frozen=True)
class Explanation:
    """A score and the parts that add up to it, the largest first. Terms that the document lacks are no part."""

    id: str
    score: float
    parts: tuple[Part, ...]
    of: int  # documents in the index

    def __str__(self) -> str:
        told = [
            f"{p.term!r} {p.score:.2f} (here {p.in_document}x, in {p.documents} of {self.of} documents)"
            for p in self.parts
        ]
        return f"{self.id}: {self.score:.2f}" + (" = " + " + ".join(told) if told else ", no word in common")


class Figures(NamedTuple):
    """What every score depends on: df and idf of each term, (terms,); length norm of each document, (numbers,)."""

    df: NDArray[np.int64]
    idf: Numbers
    norms: Numbers


def best(scores: Numbers, k: int) -> tuple[NDArray[np.intp], float]:
    """The places of the best k scores above 0, and of all that tie with the last of them; that last score.

    Of groups of scores the largest is taken first, fast. The k-th largest of those is reached by k scores at least, so
    nothing below it can be among the best, and few are left to be looked at.
    """
    groups = (
        scores[: scores.size - scores.size % GROUP].reshape(GROUP, -1).max(axis=0) if scores.size else scores
    )
    bound = np.partition(groups, -k)[-k] if groups.size >= k else 0.0
    found = np.flatnonzero(scores >= bound) if bound > 0 else np.flatnonzero(scores > 0)
    if found.size > k:
        bound = np.partition(scores[found], -k)[-k]
        found = found[scores[found] >= bound]
    return found, float(scores[found].min(initial=np.inf))


class BM25(Numbered):
    """An index of documents by their tokens.

    tokenizer: text to tokens, for documents and for questions. variant: a name of `scores.VARIANTS`. k1: from 0, at which a
    second time counts nothing; b: from 0, at which length does not matter, to 1. Lucene's defaults; rank_bm25 has k1=1.5.
    Raises CourseError for an unknown variant and for k1 and b out of range.

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
        if variant not in VARIANTS:
            raise CourseError(f"there is no BM25 variant {variant!r}", f"choose one of {', '.join(VARIANTS)}")
        if not 0 <= k1 < 1e6 or not 0 <= b <= 1:
            raise CourseError(
                f"k1={k1}, b={b}: k1 is at least 0, b from 0 to 1", "leave them at 1.2 and 0.75"
            )
        self.tokenizer, self.variant, self.k1, self.b = tokenizer or Tokenizer(), variant, k1, b
        self._vocabulary: dict[str, int] = {}  # token -> term, the number of a token
        self._df: NDArray[np.int64] = np.zeros(
            0, np.int64
        )  # of each term, how many living documents contain it
        self._ids: list[str] = []  # number -> id; the number of a document is its place here
        self._numbers: dict[str, int] = {}  # id -> number, of living documents
        self._lengths: NDArray[np.int64] = np.zeros(0, np.int64)  # number -> tokens
        self._alive: NDArray[np.bool_] = np.zeros(0, np.bool_)  # number -> not deleted
        self._parts: list[Postings] = []  # each of documents that were added before those of the next
        self._figures: Figures | None = None  # None after a change, until they are needed

    # -- documents come and go

    def add(self, documents: Mapping[str, str] | Iterable[tuple[str, str]]) -> None:
        """Add documents, id and text. All are added, or none where one is refused.

        Raises CourseError for an id that is there already or twice, and for what is no pair of two strings.
        """
        new: dict[str, int] = {}
        lengths, tokens, terms = array("q"), array("i"), self._vocabulary
        for id, text in new_documents(documents, self._numbers):
            found = self.tokenizer(text)
            new[id] = len(self._ids) + len(new)
            lengths.append(len(found))
            tokens.extend([terms.setdefault(token, len(terms)) for token in found])
        self._append(new, np.array(lengths, np.int64), np.array(tokens, np.int32))

    def _append(self, new: dict[str, int], lengths: NDArray[np.int64], tokens: NDArray[np.int32]) -> None:
        """New documents by their tokens. Postings are merged while the last are no smaller than half of those before them,
        so that there are never more than some 20, and each entry is moved no more often than that."""
        part = Postings.of_tokens(tokens, lengths, len(self._ids))
        self._df = np.pad(self._df, (0, len(self._vocabulary) - self._df.size))
        self._df[part.terms] += np.diff(part.starts)
        self._ids += new
        self._numbers |= new
        self._lengths = np.concatenate([self._lengths, lengths])
        self._alive = np.concatenate([self._alive, np.ones(len(new), np.bool_)])
        self._parts = [*self._parts, part]
        while len(self._parts) > 1 and 2 * self._parts[-1].documents.size >= self._parts[-2].documents.size:
            numbers = np.where(self._alive, np.arange(self._alive.size), -1).astype(np.int32)
            self._parts = [*self._parts[:-2], Postings.merged(self._parts[-2:], numbers)]
        self._figures = None

    def delete(self, ids: Collection[str]) -> None:
        """Delete documents by id: all, or none where one is not there. Raises CourseError then, and for a lone string."""
        ids = checked_gone(ids, self._numbers)
        gone = np.zeros(self._alive.size, np.bool_)
        gone[[self._numbers.pop(id) for id in ids]] = True
        self._alive = self._alive & ~gone
        for part in self._parts:
            np.subtract.at(self._df, part.terms_of(gone), 1)
        self._figures = None
        if 2 * len(self) < len(self._ids):
            self._compact()

    def _compact(self) -> None:
        """Forget what was deleted: living documents, and the terms that they still have, get new numbers, in the same order."""
        numbers = np.where(self._alive, np.cumsum(self._alive) - 1, -1).astype(np.int32)
        kept = np.flatnonzero(self._df)
        tokens = list(self._vocabulary)
        self._vocabulary = {tokens[term]: i for i, term in enumerate(kept.tolist())}
        self._df = self._df[kept]
        part = Postings.merged(self._parts, numbers) if self._parts else Postings.empty()
        self._parts = [replace(part, terms=np.searchsorted(kept, part.terms).astype(np.int32))]
        self._ids = list(self._numbers)
        self._numbers = {id: number for number, id in enumerate(self._ids)}
        self._lengths = self._lengths[self._alive]
        self._alive = np.ones(len(self._ids), np.bool_)

    def stored(self) -> Stored:
        """What `of_stored` takes, without what was deleted."""
        self._compact()
        (part,) = self._parts
        return Stored(
            list(self._vocabulary), self._lengths, part.terms, part.starts, part.documents, part.counts
        )

    @classmethod
    def of_stored(cls, ids: list[str], stored: Stored, **settings: Any) -> BM25:
        """The index of documents that `stored` tells of. Raises CourseError where its parts do not fit each other."""
        made, terms = cls(**settings), len(stored.tokens)
        part = Postings(stored.terms, stored.starts, stored.documents, stored.counts)
        if len(stored.lengths) != len(ids) or not part.fits(terms, len(ids)):
            raise CourseError(
                f"postings of {len(stored.lengths)} documents and {terms} tokens do not fit {len(ids)} ids",
                "build the index anew",
            )
        made._vocabulary = {token: term for term, token in enumerate(stored.tokens)}
        made._ids, made._numbers = list(ids), {id: number for number, id in enumerate(ids)}
        made._lengths, made._alive, made._parts = stored.lengths, np.ones(len(ids), np.bool_), [part]
        made._df = np.zeros(terms, np.int64)
        made._df[part.terms] = np.diff(part.starts)
        return made

    # -- questions

    def search(self, query: str, k: int = 10, allowed: Collection[str] | None = None) -> list[Hit]:
        """The best k documents with a score above 0, best first, ties by id; fewer where fewer were found.

        allowed: ids among which to search (a filter chooses before the best k are taken, so that it costs no hits); ids that
        are not in the index cannot be found. Raises CourseError for k below 1, and for a lone string as `allowed`.
        """
        return self.ask(query).best(k, allowed)

    def ask(self, query: str) -> AskedWords:
        """The question with all its scores, which are computed once: `best(k)` as `search` has it, and `of(ids)`."""
        return AskedWords(self, self._scores(query))

    def scores(self, query: str) -> dict[str, float]:
        """The score of every document, found or not, as `rank_bm25.BM25Okapi.get_scores` gives it."""
        scores = self._scores(query)
        return {id: float(scores[number]) for id, number in self._numbers.items()}

    def explain(self, query: str, id: str) -> Explanation:
        """Why a document has the score that it has. Raises CourseError for an id that is not in the index."""
        if id not in self._numbers:
            raise CourseError(f"the id {id!r} is not in the index of {len(self)} documents", "look at .ids")
        number, figures, parts, wanted = self._numbers[id], self._known(), [], self._terms(query)
        terms = np.array([term for _, _, term in wanted], np.int32)
        for part in self._parts:
            for (token, times, term), entries in zip(wanted, part.entries(terms), strict=True):
                at = entries.start + part.documents[entries].searchsorted(number)
                if at < entries.stop and part.documents[at] == number:
                    share = VARIANTS[self.variant].share(
                        part.counts[at : at + 1], figures.norms[number : number + 1], self.k1
                    )
                    idf, df = figures.idf[term], int(figures.df[term])
                    score = float(times * idf * share[0])
                    parts.append(
                        Part(token, times, int(part.counts[at]), df, float(idf), float(share[0]), score)
                    )
        total = float(sum(p.score for p in parts))
        return Explanation(id, total, tuple(sorted(parts, key=lambda p: (-p.score, p.term))), len(self))

    def _terms(self, query: str) -> list[tuple[str, int, int]]:
        """(token, times, term) of a question's tokens that some document has. Sorted, so that the order of words in a
        question cannot change the last digit of a score."""
        counts = sorted(Counter(self.tokenizer(query)).items())
        found = [(token, n, self._vocabulary.get(token, self._df.size)) for token, n in counts]
        return [t for t in found if t[2] < self._df.size]  # later ones are of documents that `add` refused

    def _known(self) -> Figures:
        if self._figures is None:
            idf, some = np.zeros(self._df.size), self._df > 0
            if some.any():
                idf[some] = VARIANTS[self.variant].idf(self._df[some], len(self))
            tokens = int(self._lengths[self._alive].sum())
            mean = (
                tokens / len(self) if tokens else 1.0
            )  # without a token nothing is found, whatever the mean
            self._figures = Figures(self._df.copy(), idf, length_norm(self._lengths, mean, self.k1, self.b))
        return self._figures

    def _scores(self, query: str) -> Numbers:
        """The score of every number, (numbers,)."""
        figures, wanted = self._known(), self._terms(query)
        terms = np.array([term for _, _, term in wanted], np.int32)
        weights = np.array([times for _, times, _ in wanted]) * figures.idf[terms]
        documents, counts, sizes = [], [], []
        for part in self._parts:
            for entries in part.entries(terms):
                documents.append(part.documents[entries])
                counts.append(part.counts[entries])
                sizes.append(entries.stop - entries.start)
        if not sum(sizes):
            return np.zeros(len(self._ids))
        at = np.concatenate(documents)
        shares = VARIANTS[self.variant].share(np.concatenate(counts), figures.norms.take(at), self.k1)
        shares *= np.repeat(np.tile(weights, len(self._parts)), sizes)
        return np.bincount(at, weights=shares, minlength=len(self._ids))

    def _among(self, allowed: Collection[str]) -> NDArray[np.bool_]:
        may = np.zeros(len(self._ids), np.bool_)
        may[[self._numbers[id] for id in allowed if id in self._numbers]] = True
        return may


class AskedWords:
    """A question that an index was asked, until the index is changed."""

    def __init__(self, index: BM25, scores: Numbers) -> None:
        self._index, self._scores = index, scores

    def best(self, k: int, allowed: Collection[str] | None = None) -> list[Hit]:
        """As `BM25.search`."""
        checked_search(k, allowed)
        index, scores = self._index, self._scores
        if allowed is not None or len(index) < len(index._ids):
            scores = scores * (index._alive if allowed is None else index._among(allowed))
        numbers, least = best(scores, k)
        better = [Hit(index._ids[i], float(scores[i])) for i in numbers[scores[numbers] > least].tolist()]
        tied = (index._ids[i] for i in numbers[scores[numbers] == least].tolist())
        last = [Hit(id, least) for id in heapq.nsmallest(k - len(better), tied)]
        return best_first(better) + last

    def of(self, ids: Collection[str]) -> list[Hit]:
        """The scores of these documents, of those that have a word of the question."""
        found = [Hit(id, float(self._scores[self._index._numbers[id]])) for id in sorted(ids)]
        return [hit for hit in found if hit.score > 0]
