"""The formulas of BM25: what one term of a question adds to the score of one document, `idf x share of its count`.

Every variant rewards rare terms (idf) and terms that come often, with less and less gain for each further time, and lets a
short document reach the same score with fewer. They differ in details that Kamphuis et al. 2020
(doi:10.1007/978-3-030-45442-5_4) compare; two of those matter and are told at their functions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[Any]  # float64
EPSILON = 0.25  # Okapi's floor, as a share of the mean idf (rank_bm25)
DELTA = 1.0  # what BM25+ adds for a term that is there at all (Lv and Zhai 2011, section 5)


def length_norm(lengths: NDArray[np.int64], mean: float, k1: float, b: float) -> Numbers:
    """The count at which a term has earned half of what it can, per document: k1, less in short documents, more in long ones.

    lengths: tokens of each document, (documents,); mean: of all of them. b: from 0, length does not matter, to 1, only the
    count per token does.

    >>> length_norm(np.array([50, 100, 200]), 100, k1=1.2, b=0.75).round(2).tolist()
    [0.75, 1.2, 2.1]
    """
    return k1 * (1 - b + b * lengths / mean)


# -- idf: df is in how many of n documents each term is, (terms,), each at least 1 ----------------------------------------


def okapi_idf(df: NDArray[np.int64], n: int) -> Numbers:
    """ln((n - df + .5) / (df + .5)) (Robertson et al. 1994, Okapi at TREC-3), floored as rank_bm25 does it.

    Below 0 for a term in more than half of all documents: that term gets EPSILON x the mean idf of all terms in its place, and
    can then weigh more than one that is rarer. In exactly half of the documents it is 0.

    >>> okapi_idf(np.array([1, 1, 1, 2, 3]), 4).round(2).tolist()
    [0.85, 0.85, 0.85, 0.0, 0.08]
    """
    idf = np.log(n - df + 0.5) - np.log(df + 0.5)
    return np.where(idf < 0, EPSILON * idf.mean(), idf)


def lucene_idf(df: NDArray[np.int64], n: int) -> Numbers:
    """ln(1 + (n - df + .5) / (df + .5)): never below 0, and a rarer term always weighs more (Lucene's BM25Similarity).

    >>> lucene_idf(np.array([1, 2, 3, 4]), 4).round(2).tolist()
    [1.2, 0.69, 0.36, 0.11]
    """
    return np.log(1 + (n - df + 0.5) / (df + 0.5))


def atire_idf(df: NDArray[np.int64], n: int) -> Numbers:
    """ln(n / df): 0 for a term in every document (Trotman et al. 2014, doi:10.1145/2682862.2682863)."""
    return np.log(n / df)


def plus_idf(df: NDArray[np.int64], n: int) -> Numbers:
    """ln((n + 1) / df) (Lv and Zhai 2011, doi:10.1145/2063576.2063584)."""
    return np.log((n + 1) / df)


# -- the share: counts of a term in documents that contain it, and their length norms, both (documents,) ------------------


def lucene_share(counts: NDArray[np.int32], norms: Numbers, k1: float) -> Numbers:
    """count / (count + norm), from 0 to 1 (Lucene left out the factor k1 + 1: it changes no order).

    >>> lucene_share(np.array([1, 2, 10]), np.array([1.2, 1.2, 1.2]), 1.2).round(2).tolist()
    [0.45, 0.62, 0.89]
    """
    return counts / (counts + norms)


def okapi_share(counts: NDArray[np.int32], norms: Numbers, k1: float) -> Numbers:
    """count (k1 + 1) / (count + norm), from 0 to k1 + 1; 1 for one time in a document of mean length."""
    return counts * (k1 + 1) / (counts + norms)


def plus_share(counts: NDArray[np.int32], norms: Numbers, k1: float) -> Numbers:
    """Okapi's share + DELTA: in a document however long, a term that is there counts more than one that is not.

    As in the paper a term that is absent adds nothing; rank_bm25 and bm25s add DELTA x idf for it.
    """
    return okapi_share(counts, norms, k1) + DELTA


class Variant(NamedTuple):
    """idf(df, n) and share(counts, norms, k1)."""

    idf: Callable[[NDArray[np.int64], int], Numbers]
    share: Callable[[NDArray[np.int32], Numbers, float], Numbers]


VARIANTS = {
    "lucene": Variant(lucene_idf, lucene_share),
    "okapi": Variant(okapi_idf, okapi_share),
    "atire": Variant(atire_idf, okapi_share),
    "bm25+": Variant(plus_idf, plus_share),
}
