"""The formulas of BM25: one query term adds idf x tf_weight to a document's score.

Every variant rewards rare terms (idf), gives less and less for each further occurrence of a term, and needs
fewer of them in a short document. Kamphuis et al. 2020 (doi:10.1007/978-3-030-45442-5_4) compare the
variants.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]  # float64
EPSILON = 0.25  # rank_bm25's floor of a negative idf, relative to the mean idf
DELTA = 1.0  # BM25+'s bonus for a term that occurs at all (Lv and Zhai 2011, section 5)


def length_norm(lengths: NDArray[np.int64], mean: float, k1: float, b: float) -> Floats:
    """The count at which a term reaches half of its highest weight, for each document: below k1 in short
    ones.

    lengths: number of tokens of each document, (documents,); mean: their mean. b: 0 ignores lengths, 1 counts
    per token.

    >>> length_norm(np.array([50, 100, 200]), 100, k1=1.2, b=0.75).round(2).tolist()
    [0.75, 1.2, 2.1]
    """
    return k1 * (1 - b + b * lengths / mean)


# -- idf of terms that df of n documents contain; df: (terms,), at least 1 -----------------------------------


def okapi_idf(df: NDArray[np.int64], n: int) -> Floats:
    """ln((n - df + .5) / (df + .5)) (Robertson et al. 1994, Okapi at TREC-3), with rank_bm25's floor.

    The formula is 0 for a term in half of the documents, and negative for one in more. A negative value is
    replaced by EPSILON x the mean idf of all terms, and can then exceed that of a rarer term.

    >>> okapi_idf(np.array([1, 1, 1, 2, 3]), 4).round(2).tolist()
    [0.85, 0.85, 0.85, 0.0, 0.08]
    """
    idf = np.log(n - df + 0.5) - np.log(df + 0.5)
    return np.where(idf < 0, EPSILON * idf.mean(), idf)


def lucene_idf(df: NDArray[np.int64], n: int) -> Floats:
    """ln(1 + (n - df + .5) / (df + .5)): never negative, and higher for rarer terms (Lucene's
    BM25Similarity).

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


# -- tf_weight of a term's counts in the documents that contain it; counts, norms: (documents,) --------------


def lucene_tf_weight(counts: NDArray[np.int32], norms: Floats, k1: float) -> Floats:
    """count / (count + norm), from 0 to 1. Lucene leaves out the factor k1 + 1, which changes no order.

    >>> lucene_tf_weight(np.array([1, 2, 10]), np.array([1.2, 1.2, 1.2]), 1.2).round(2).tolist()
    [0.45, 0.62, 0.89]
    """
    return counts / (counts + norms)


def okapi_tf_weight(counts: NDArray[np.int32], norms: Floats, k1: float) -> Floats:
    """count (k1 + 1) / (count + norm), from 0 to k1 + 1; 1 for one occurrence at mean length."""
    return counts * (k1 + 1) / (counts + norms)


def plus_tf_weight(counts: NDArray[np.int32], norms: Floats, k1: float) -> Floats:
    """Okapi's weight + DELTA, so that a term that occurs counts more than a missing one in documents of any
    length.

    As in the paper, a missing term adds nothing; rank_bm25 and bm25s add DELTA x idf for it.
    """
    return okapi_tf_weight(counts, norms, k1) + DELTA


class Variant(NamedTuple):
    """The two formulas of a variant: idf(df, n) and tf_weight(counts, norms, k1)."""

    idf: Callable[[NDArray[np.int64], int], Floats]
    tf_weight: Callable[[NDArray[np.int32], Floats, float], Floats]


VARIANTS = {
    "lucene": Variant(lucene_idf, lucene_tf_weight),
    "okapi": Variant(okapi_idf, okapi_tf_weight),
    "atire": Variant(atire_idf, okapi_tf_weight),
    "bm25+": Variant(plus_idf, plus_tf_weight),
}


# -- explained scores ----------------------------------------------------------------------------------------


class TermScore(NamedTuple):
    """What one term of a query adds to a document's score: score = query_tf x idf x tf_weight.

    query_tf, tf: how often the term occurs in the query and in the document. df: number of documents that
    contain it.
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
    """A document's score and the terms that add up to it, highest first; terms that the document lacks are
    left out.

    documents: number of documents in the index.
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
