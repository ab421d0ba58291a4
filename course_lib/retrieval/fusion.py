"""Combine the results of two retrievers into one ranking.

The lexical retriever matches words (BM25 scores), the dense retriever compares vectors (cosines). The result
of a retriever is a dict from document ids to scores, without the documents that it did not find. MiniLM and
E5 are trained embedding models; LSA is computed from the documents (lsa.py). KorQuAD and NPL are collections
of documents and queries.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from course_lib.errors import CourseError
from course_lib.retrieval.documents import Hit, Span, check_choice
from course_lib.retrieval.metrics import check_ranking

if TYPE_CHECKING:
    from langchain_core.documents import Document

Fusion = Literal["min-max", "theoretical", "z-score", "rrf"]
FUSIONS: tuple[Fusion, ...] = get_args(Fusion)
MAX_SCORE = 1e100  # squares of larger scores overflow
RRF_K = 60  # of reciprocal rank fusion (Cormack et al. 2009, section 2)
MIN_BM25, MIN_COSINE = 0.0, -1.0  # the lowest possible scores
# `theoretical_min_max` scales over at most this many standard deviations of the scores. Between -1 and the
# best hit, the embedders MiniLM and LSA have 10 to 30 of them; E5, whose cosines are all similar, 60 to 130.
MAX_DEVIATIONS = 30


class NormalizedScores(NamedTuple):
    """A retriever's scores on a common scale. missing: The score for documents that it did not find."""

    scores: dict[str, float]
    missing: float

    def get(self, doc_id: str) -> float:
        """Return the score of a document, or `missing` if the retriever did not find it."""
        return self.scores.get(doc_id, self.missing)


def finite_scores(scores: Mapping[str, float]) -> dict[str, float]:
    """Convert scores to float. Raises CourseError for NaN, infinity and absolute values above MAX_SCORE."""
    for doc_id, score in scores.items():
        if not abs(score) <= MAX_SCORE:
            raise CourseError(
                f"document {doc_id!r} has the score {score}, which cannot be ranked",
                "check the embedder's vectors for NaN and infinity",
            )
    return {doc_id: float(score) for doc_id, score in scores.items()}


# -- scores on a common scale --------------------------------------------------------------------------------


def min_max(scores: Mapping[str, float]) -> NormalizedScores:
    """Scale the scores linearly, so that the highest becomes 1 and the lowest 0. Missing documents get 0.

    If all scores are equal, they become 1. Raises CourseError as `finite_scores` does.

    >>> min_max({"a": 12.0, "b": 9.0, "c": 6.0}).scores
    {'a': 1.0, 'b': 0.5, 'c': 0.0}
    """
    scores = finite_scores(scores)
    low, high = min(scores.values(), default=0.0), max(scores.values(), default=0.0)
    return NormalizedScores(
        {doc_id: 1.0 if high == low else (s - low) / (high - low) for doc_id, s in scores.items()}, 0.0
    )


def theoretical_min_max(scores: Mapping[str, float], min_score: float) -> NormalizedScores:
    """Scale the scores linearly, so that the highest becomes 1 and `min_score` becomes 0.

    min_score: The lowest possible score: 0 for BM25, -1 for a cosine. Unlike with `min_max`, the worst of
    several good hits does not become 0. If all scores equal `min_score`, they become 0. The source is Bruch
    et al. 2023 (arXiv:2210.11934). One change: where the scores lie so close together that all would become
    nearly 1, the score MAX_DEVIATIONS standard deviations below the highest becomes 0, and so do lower ones.
    Raises CourseError as `finite_scores` does, and for a score below `min_score`.

    >>> theoretical_min_max({"a": 12.0, "b": 9.0, "c": 6.0}, MIN_BM25).scores
    {'a': 1.0, 'b': 0.75, 'c': 0.5}
    """
    scores = finite_scores(scores)
    low = min(scores.values(), default=min_score)
    if not abs(min_score) <= MAX_SCORE or low < min_score:
        raise CourseError(
            f"min_score={min_score}, but the lowest score is {low}",
            "set min_score to the lowest possible score: 0 for BM25, -1 for a cosine",
        )
    high = max(scores.values(), default=min_score)
    reach = MAX_DEVIATIONS * _mean_and_deviation(scores)[1] if high > low else 0.0
    zero = max(min_score, high - reach) if reach else min_score
    span = high - zero
    return NormalizedScores(
        {doc_id: max(s - zero, 0.0) / span if span else 0.0 for doc_id, s in scores.items()}, 0.0
    )


def z_score(scores: Mapping[str, float]) -> NormalizedScores:
    """Convert scores to standard deviations above their mean.

    If all scores are equal, they become 0. Missing documents get the lowest of the new scores, or -1 if that
    is lower: with 0 they would rank above half of the documents found. Raises CourseError as `finite_scores`
    does.

    >>> z_score({"a": 12.0, "b": 12.0, "c": 6.0, "d": 6.0})
    NormalizedScores(scores={'a': 1.0, 'b': 1.0, 'c': -1.0, 'd': -1.0}, missing=-1.0)
    """
    scores = finite_scores(scores)
    mean, deviation = _mean_and_deviation(scores)
    if len(set(scores.values())) < 2 or not deviation:
        return NormalizedScores(dict.fromkeys(scores, 0.0), -1.0)
    z = {doc_id: (s - mean) / deviation for doc_id, s in scores.items()}
    return NormalizedScores(z, min(-1.0, *z.values()))


def _mean_and_deviation(scores: Mapping[str, float]) -> tuple[float, float]:
    """Return the mean of the scores and their standard deviation; 0 and 0 without scores."""
    count = max(len(scores), 1)
    mean = math.fsum(scores.values()) / count
    return mean, math.sqrt(math.fsum((score - mean) ** 2 for score in scores.values()) / count)


# -- one score from two --------------------------------------------------------------------------------------


def check_alpha(alpha: float) -> None:
    """Raise CourseError for a weight outside 0 to 1."""
    if not 0 <= alpha <= 1:
        raise CourseError(
            f"alpha={alpha}; the weight of the dense retriever must be from 0 to 1", "alpha=0.7"
        )


def convex(dense: NormalizedScores, lexical: NormalizedScores, alpha: float = 0.7) -> dict[str, float]:
    """Return alpha x dense + (1 - alpha) x lexical for every document that either retriever found.

    Documents that only a retriever with weight 0 found are omitted: with alpha=1 the result has the documents
    of the dense retriever, with alpha=0 those of the lexical one. Raises CourseError for an alpha outside 0
    to 1.

    >>> dense, lexical = min_max({"a": 0.9, "b": 0.7}), min_max({"b": 8.0, "c": 5.0, "d": 2.0})
    >>> {id: round(score, 2) for id, score in convex(dense, lexical, alpha=0.5).items()}
    {'a': 0.5, 'b': 0.5, 'c': 0.25, 'd': 0.0}
    """
    check_alpha(alpha)
    ids = [*(dense.scores if alpha > 0 else ()), *(lexical.scores if alpha < 1 else ())]
    return {
        doc_id: alpha * dense.get(doc_id) + (1 - alpha) * lexical.get(doc_id) for doc_id in dict.fromkeys(ids)
    }


def rrf(
    rankings: Sequence[Sequence[str]], weights: Sequence[float] | None = None, k: float = RRF_K
) -> dict[str, float]:
    """Reciprocal rank fusion (Cormack et al. 2009): give each document the sum of weight / (k + rank).

    rankings: Document ids, best first; ranks are from 1. weights: One for each ranking, by default 1;
    documents that occur only in rankings of weight 0 are omitted. RRF ignores scores, so it makes no
    difference how far a hit is ahead of the next. Raises CourseError for an id that occurs twice in a
    ranking, for negative weights or a wrong number of them, and for a negative k.

    >>> {id: round(score, 4) for id, score in rrf([["a", "b"], ["b", "c"]]).items()}
    {'a': 0.0164, 'b': 0.0325, 'c': 0.0161}
    """
    weights = [1.0] * len(rankings) if weights is None else weights
    if (
        len(weights) != len(rankings)
        or not all(0 <= w <= MAX_SCORE for w in weights)
        or not 0 <= k <= MAX_SCORE
    ):
        raise CourseError(
            f"{len(rankings)} rankings, weights={list(weights)}, k={k}",
            "give one weight of at least 0 for each ranking, and k of at least 0",
        )
    fused: dict[str, float] = {}
    for ranking, weight in zip(rankings, weights, strict=True):
        check_ranking(ranking)
        for rank, doc_id in enumerate(ranking if weight else (), start=1):
            fused[doc_id] = fused.get(doc_id, 0.0) + weight / (k + rank)
    return fused


# -- two retrievers, one ranking -----------------------------------------------------------------------------


class Candidates(NamedTuple):
    """The results of both retrievers for one query, which `fuse` can rank with any alpha.

    dense, lexical: The hits of each retriever, best first. min_score: The lowest possible dense score, None
    if unknown. extra_dense: The dense scores of documents that only the lexical retriever found;
    extra_lexical: the reverse. chunks: Document id -> start and end of its best chunk, for an index of
    chunks. documents: Document id -> its LangChain document.
    """

    query: str
    dense: tuple[Hit, ...]
    lexical: tuple[Hit, ...]
    min_score: float | None
    extra_dense: tuple[Hit, ...] = ()
    extra_lexical: tuple[Hit, ...] = ()
    chunks: Mapping[str, Span] = MappingProxyType({})
    documents: Mapping[str, Document] = MappingProxyType({})


@dataclass(frozen=True)
class RetrieverScore:
    """One retriever's score for a document.

    rank: From 1; None if the document is not among the retriever's hits. score: The original score, such as a
    cosine. normalized: The score on the common scale of the fusion.
    """

    rank: int | None
    score: float
    normalized: float


@dataclass(frozen=True)
class FusedHit:
    """A document in the combined ranking. dense, lexical: None if that retriever has no score for it."""

    id: str
    rank: int
    score: float
    dense: RetrieverScore | None
    lexical: RetrieverScore | None


def fuse(candidates: Candidates, alpha: float = 0.7, fusion: Fusion = "theoretical") -> list[FusedHit]:
    """Rank all documents that either retriever found, best first, ties by id.

    alpha: The weight of the dense retriever, 0 to 1. fusion: "min-max", "theoretical" (`theoretical_min_max`)
    and "z-score" combine normalized scores with `convex`; "rrf" is `rrf` with weights alpha and 1 - alpha.
    The default is "theoretical" at alpha 0.7. With the embedders MiniLM and E5, its nDCG@10 (a quality of
    rankings, see `metrics`) was never significantly below that of the better retriever, on the collections of
    `benchmarks/retrieval.py`. With LSA, a weaker embedder, it was: by .009 on KorQuAD and .024 on NPL. So a
    `HybridRetriever` over LSA has alpha 0.5. Raises CourseError for an unknown fusion, for an alpha outside 0
    to 1, and as `finite_scores` does.

    >>> candidates = Candidates("q", (Hit("a", 0.9), Hit("b", 0.7)), (Hit("b", 8.0), Hit("c", 5.0)), -1.0)
    >>> [(hit.id, round(hit.score, 2)) for hit in fuse(candidates, alpha=0.7)]
    [('b', 0.93), ('a', 0.7), ('c', 0.19)]
    """
    check_choice("fusion", fusion, FUSIONS)
    check_alpha(alpha)
    if fusion == "rrf":
        rankings = [[hit.id for hit in hits] for hits in (candidates.dense, candidates.lexical)]
        scores = rrf(rankings, [alpha, 1 - alpha])
        dense, lexical = (NormalizedScores(rrf([ranking]), 0.0) for ranking in rankings)
    else:
        dense, lexical = _normalized(candidates, fusion)
        scores = convex(dense, lexical, alpha)
    by_dense = _retriever_scores(candidates.dense, candidates.extra_dense, dense)
    by_lexical = _retriever_scores(candidates.lexical, candidates.extra_lexical, lexical)
    ranked = sorted(finite_scores(scores).items(), key=lambda item: (-item[1], item[0]))
    return [
        FusedHit(doc_id, i, score, by_dense.get(doc_id), by_lexical.get(doc_id))
        for i, (doc_id, score) in enumerate(ranked, 1)
    ]


def _retriever_scores(
    hits: Sequence[Hit], extra: Sequence[Hit], normalized: NormalizedScores
) -> dict[str, RetrieverScore]:
    """Return the `RetrieverScore` of each document: those of `extra` have no rank."""
    scores = {h.id: RetrieverScore(None, h.score, normalized.get(h.id)) for h in extra}
    return scores | {h.id: RetrieverScore(i, h.score, normalized.get(h.id)) for i, h in enumerate(hits, 1)}


def _normalized(candidates: Candidates, fusion: Fusion) -> tuple[NormalizedScores, NormalizedScores]:
    """Return the normalized dense and lexical scores of all candidates.

    A document that one retriever found also gets its score from the other, if that is known (Bruch et al.
    2023, section 3). Raises CourseError for "theoretical" if the lowest possible dense score is unknown.
    """
    dense = dict(candidates.dense + candidates.extra_dense)
    lexical = dict(candidates.lexical + candidates.extra_lexical)
    if fusion == "theoretical":
        if candidates.min_score is None:
            raise CourseError(
                "the lowest possible score of this vector store is unknown", 'search(query, fusion="min-max")'
            )
        return theoretical_min_max(dense, candidates.min_score), theoretical_min_max(lexical, MIN_BM25)
    normalize = min_max if fusion == "min-max" else z_score
    return normalize(dense), normalize(lexical)
