"""The formulas of BM25, search by words: each query term in a document adds idf x tf_weight to its score.

idf is higher for rarer terms. tf_weight grows with the number of occurrences, ever more slowly, and is higher
in short documents. Kamphuis et al. 2020 (doi:10.1007/978-3-030-45442-5_4) compare the variants. Lucene is a
search library, rank_bm25 and bm25s are Python packages, Okapi and ATIRE are research systems.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]  # float64
EPSILON = 0.25  # rank_bm25 replaces a negative idf by this fraction of the mean idf
# The lowest idf of a term in an index. Okapi's and ATIRE's is 0 or negative for a term in half of the
# documents or in all; a document whose only common word with the query is such a term must still be found.
MIN_IDF = 1e-6
DELTA = 1.0  # BM25+ adds this to the weight of every term that occurs (Lv and Zhai 2011, section 5)


def length_norm(lengths: NDArray[np.int64], mean: float, k1: float, b: float) -> Floats:
    """For each document, the term count that gives half of the maximum weight: k1 at mean length.

    lengths: The number of tokens in each document, (documents,). mean: The mean length. b: With 0 lengths are
    ignored; with 1 the norm is proportional to the length.

    >>> length_norm(np.array([50, 100, 200]), 100, k1=1.2, b=0.75).round(2).tolist()
    [0.75, 1.2, 2.1]
    """
    return k1 * (1 - b + b * lengths / mean)


# -- idf; df: number of documents with each term, (terms,), at least 1; n: number of documents ---------------


def okapi_idf(df: NDArray[np.int64], n: int) -> Floats:
    """ln((n - df + .5) / (df + .5)) (Robertson et al. 1994, Okapi at TREC-3), with rank_bm25's correction.

    The formula is negative for a term in more than half of the documents. As in rank_bm25, EPSILON x the mean
    idf replaces a negative value, which can make it larger than the idf of a rarer term.

    >>> okapi_idf(np.array([1, 1, 1, 2, 3]), 4).round(2).tolist()
    [0.85, 0.85, 0.85, 0.0, 0.08]
    """
    idf = np.log(n - df + 0.5) - np.log(df + 0.5)
    return np.where(idf < 0, EPSILON * idf.mean(), idf)


def lucene_idf(df: NDArray[np.int64], n: int) -> Floats:
    """ln(1 + (n - df + .5) / (df + .5)), which is never negative (Lucene's BM25Similarity).

    >>> lucene_idf(np.array([1, 2, 3, 4]), 4).round(2).tolist()
    [1.2, 0.69, 0.36, 0.11]
    """
    return np.log(1 + (n - df + 0.5) / (df + 0.5))


def atire_idf(df: NDArray[np.int64], n: int) -> Floats:
    """ln(n / df): 0 for a term in every document (Trotman et al. 2014, doi:10.1145/2682862.2682863)."""
    return np.log(n / df)


def plus_idf(df: NDArray[np.int64], n: int) -> Floats:
    """ln((n + 1) / df) (Lv and Zhai 2011, doi:10.1145/2063576.2063584)."""
    return np.log((n + 1) / df)


# -- tf_weight; counts: how often a term occurs in each document that contains it; counts, norms: (documents,)


def lucene_tf_weight(counts: NDArray[np.int32], norms: Floats, k1: float) -> Floats:
    """count / (count + norm), from 0 to 1. The constant factor k1 + 1 is omitted: it changes no ranking.

    >>> lucene_tf_weight(np.array([1, 2, 10]), np.array([1.2, 1.2, 1.2]), 1.2).round(2).tolist()
    [0.45, 0.62, 0.89]
    """
    return counts / (counts + norms)


def okapi_tf_weight(counts: NDArray[np.int32], norms: Floats, k1: float) -> Floats:
    """count (k1 + 1) / (count + norm), from 0 to k1 + 1; 1 for one occurrence at mean length."""
    return counts * (k1 + 1) / (counts + norms)


def plus_tf_weight(counts: NDArray[np.int32], norms: Floats, k1: float) -> Floats:
    """Okapi's weight + DELTA, so that a single occurrence counts even in a very long document.

    As in the paper, a missing term adds nothing; rank_bm25 and bm25s add DELTA x idf for it.
    """
    return okapi_tf_weight(counts, norms, k1) + DELTA


class Variant(NamedTuple):
    """The two formulas of a BM25 variant: idf(df, n) and tf_weight(counts, norms, k1)."""

    idf: Callable[[NDArray[np.int64], int], Floats]
    tf_weight: Callable[[NDArray[np.int32], Floats, float], Floats]


VARIANTS = {
    "lucene": Variant(lucene_idf, lucene_tf_weight),
    "okapi": Variant(okapi_idf, okapi_tf_weight),
    "atire": Variant(atire_idf, okapi_tf_weight),
    "bm25+": Variant(plus_idf, plus_tf_weight),
}


# -- statistics of an index ----------------------------------------------------------------------------------


class CorpusStatistics(NamedTuple):
    """The statistics that all scores of an index depend on.

    df: The number of documents with each term, (terms,). idf: (terms,), at least MIN_IDF. norms:
    `length_norm` of each row, (rows,).
    """

    df: NDArray[np.int64]
    idf: Floats
    norms: Floats


def corpus_statistics(
    df: NDArray[np.int64],
    lengths: NDArray[np.int64],
    alive: NDArray[np.bool_],
    *,
    variant: str,
    k1: float,
    b: float,
) -> CorpusStatistics:
    """Compute the statistics of an index. lengths, alive: (rows,); alive is False for deleted documents."""
    documents, tokens = int(np.count_nonzero(alive)), int(lengths[alive].sum())
    idf, used = np.zeros(df.size), df > 0
    if used.any():
        idf[used] = np.maximum(VARIANTS[variant].idf(df[used], documents), MIN_IDF)
    mean = tokens / documents if tokens else 1.0  # unused if there are no tokens, but must not be 0
    return CorpusStatistics(df.copy(), idf, length_norm(lengths, mean, k1, b))


# -- explained scores ----------------------------------------------------------------------------------------


class TermScore(NamedTuple):
    """The contribution of one query term to a document's score: score = query_tf x idf x tf_weight.

    query_tf, tf: The number of occurrences in the query and in the document. df: The number of documents that
    contain the term.
    """

    term: str
    query_tf: int
    tf: int
    df: int
    idf: float
    tf_weight: float
    score: float


@dataclass(frozen=True)
class Explanation:
    """A document's score, split into the contributions of the query terms that it contains, highest first.

    documents: The number of documents in the index.
    """

    id: str
    score: float
    terms: tuple[TermScore, ...]
    documents: int

    def __str__(self) -> str:
        terms = " + ".join(
            f"{t.term!r} {t.score:.2f} (here {t.tf}x, in {t.df} of {self.documents} documents)"
            for t in self.terms
        )
        return f"{self.id}: {self.score:.2f}" + (f" = {terms}" if terms else ", no word in common")
