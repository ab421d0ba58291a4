"""Combine the results of two retrievers into one ranking.

A retriever is one way to search: the lexical one matches words (BM25), the dense one compares vectors
(cosine). Its result maps document ids to scores; a document that it did not find, or that scored 0, is
missing. All functions are pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from course_lib.errors import CourseError
from course_lib.retrieval.documents import Hit, check_choice
from course_lib.retrieval.metrics import check_ranking

Fusion = Literal["min-max", "theoretical", "z-score", "rrf"]
FUSIONS: tuple[Fusion, ...] = get_args(Fusion)
MAX_SCORE = 1e100  # squares of larger scores overflow
RRF_K = 60  # Cormack et al. 2009, section 2
MIN_BM25, MIN_COSINE = 0.0, -1.0  # the lowest possible scores


class NormalizedScores(NamedTuple):
    """A retriever's scores on a common scale. missing: the score of documents that it did not find."""

    scores: dict[str, float]
    missing: float

    def get(self, doc_id: str) -> float:
        """The score of a document, found or not."""
        return self.scores.get(doc_id, self.missing)


def finite_scores(scores: Mapping[str, float]) -> dict[str, float]:
    """Scores as floats. Raises CourseError for NaN, infinity and absolute values above MAX_SCORE."""
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

    A single score, and scores that are all equal, become 1. Raises CourseError as `finite_scores` does.

    >>> min_max({"a": 12.0, "b": 9.0, "c": 6.0}).scores
    {'a': 1.0, 'b': 0.5, 'c': 0.0}
    """
    scores = finite_scores(scores)
    low, high = min(scores.values(), default=0.0), max(scores.values(), default=0.0)
    return NormalizedScores(
        {doc_id: 1.0 if high == low else (s - low) / (high - low) for doc_id, s in scores.items()}, 0.0
    )


def theoretical_min_max(scores: Mapping[str, float], min_score: float) -> NormalizedScores:
    """Scale the scores linearly, so that the highest becomes 1 and `min_score` becomes 0 (Bruch et al. 2023,
    arXiv:2210.11934).

    min_score: the lowest score that the formula can give: 0 for BM25, -1 for a cosine. Unlike with `min_max`,
    the worst of 25 good hits keeps most of its score. If every score equals `min_score`, all become 0. Raises
    CourseError as `finite_scores` does, and for a score below `min_score`.

    >>> theoretical_min_max({"a": 12.0, "b": 9.0, "c": 6.0}, MIN_BM25).scores
    {'a': 1.0, 'b': 0.75, 'c': 0.5}
    """
    scores = finite_scores(scores)
    low = min(scores.values(), default=min_score)
    if not abs(min_score) <= MAX_SCORE or low < min_score:
        raise CourseError(
            f"min_score={min_score}, but the lowest score is {low}",
            "give the lowest score that the formula can give: 0 for BM25, -1 for a cosine",
        )
    span = max(scores.values(), default=min_score) - min_score
    return NormalizedScores(
        {doc_id: (s - min_score) / span if span else 0.0 for doc_id, s in scores.items()}, 0.0
    )


def z_score(scores: Mapping[str, float]) -> NormalizedScores:
    """Standard deviations above the mean of the scores.

    A single score, and scores that are all equal, become 0. A missing document gets the lowest score that was
    found, and at most -1: with 0 it would stand in the middle of those that were found. Raises CourseError as
    `finite_scores` does.

    >>> z_score({"a": 12.0, "b": 12.0, "c": 6.0, "d": 6.0})
    NormalizedScores(scores={'a': 1.0, 'b': 1.0, 'c': -1.0, 'd': -1.0}, missing=-1.0)
    """
    scores = finite_scores(scores)
    mean = math.fsum(scores.values()) / max(len(scores), 1)
    deviation = math.sqrt(math.fsum((s - mean) ** 2 for s in scores.values()) / max(len(scores), 1))
    if len(set(scores.values())) < 2 or not deviation:
        return NormalizedScores(dict.fromkeys(scores, 0.0), -1.0)
    z = {doc_id: (s - mean) / deviation for doc_id, s in scores.items()}
    return NormalizedScores(z, min(-1.0, *z.values()))


# -- one score from two --------------------------------------------------------------------------------------


def check_alpha(alpha: float) -> None:
    """Raises CourseError for a weight outside 0 to 1."""
    if not 0 <= alpha <= 1:
        raise CourseError(
            f"alpha={alpha}; the weight of the dense retriever must be from 0 to 1", "alpha=0.7"
        )


def convex(dense: NormalizedScores, lexical: NormalizedScores, alpha: float = 0.7) -> dict[str, float]:
    """alpha x dense + (1 - alpha) x lexical, for every document that either retriever found, unless its
    weight is 0.

    alpha=1 returns what the dense retriever found and nothing else; alpha=0 what the lexical one found. A
    retriever that found nothing leaves the order to the other. Raises CourseError for an alpha outside 0 to
    1.

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
    """Reciprocal rank fusion: for each document the sum of weight / (k + rank), with ranks from 1 (Cormack et
    al. 2009).

    rankings: document ids, best first; a ranking adds nothing to a document that it lacks. weights: one for
    each ranking, by default 1; documents that occur only in rankings of weight 0 are left out. RRF ignores
    scores: a hit far ahead of all others counts no more than one that is barely ahead. Raises CourseError for
    an id that occurs twice in a ranking, for negative weights or a wrong number of them, and for a negative
    k.

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
    """What both retrievers found for one query. `fuse` can rank it with any alpha without searching again.

    dense, lexical: the hits of each retriever, best first. min_score: the lowest score that the dense
    retriever can give, None if unknown. extra_dense: dense scores of documents that only the lexical
    retriever found; extra_lexical: the reverse.
    """

    query: str
    dense: tuple[Hit, ...]
    lexical: tuple[Hit, ...]
    min_score: float | None
    extra_dense: tuple[Hit, ...] = ()
    extra_lexical: tuple[Hit, ...] = ()


@dataclass(frozen=True)
class RetrieverScore:
    """How one retriever scored a document.

    rank: from 1, None if the document is not among the candidates. score: the retriever's own, such as a
    cosine. normalized: the score on the common scale of the fusion.
    """

    rank: int | None
    score: float
    normalized: float


@dataclass(frozen=True)
class FusedHit:
    """A document in the fused ranking. dense, lexical: None if that retriever has no score for it."""

    id: str
    rank: int
    score: float
    dense: RetrieverScore | None
    lexical: RetrieverScore | None


def fuse(candidates: Candidates, alpha: float = 0.7, fusion: Fusion = "theoretical") -> list[FusedHit]:
    """All documents that either retriever found, best first, ties by id. alpha: weight of the dense
    retriever, 0 to 1.

    "min-max", "theoretical" and "z-score" add normalized scores; "rrf" adds alpha / (60 + rank) and (1 -
    alpha) / (60 + rank). "theoretical" is the default because at alpha 0.7 it was the best of the four, or
    within .002 of it, on every collection of `benchmarks/retrieval.py` except Korean with English names,
    where it was .008 behind. Raises CourseError for an unknown fusion, an alpha outside 0 to 1, and as
    `finite_scores` does.

    >>> candidates = Candidates("q", (Hit("a", 0.9), Hit("b", 0.7)), (Hit("b", 8.0), Hit("c", 5.0)), -1.0)
    >>> [(hit.id, round(hit.score, 2)) for hit in fuse(candidates, alpha=0.7)]
    [('b', 0.93), ('a', 0.7), ('c', 0.19)]
    """
    check_choice("fusion", fusion, FUSIONS)
    check_alpha(alpha)
    hits = candidates.dense, candidates.lexical
    if fusion == "rrf":
        scores = rrf([[hit.id for hit in found] for found in hits], [alpha, 1 - alpha])
        dense, lexical = (
            NormalizedScores({h.id: 1 / (RRF_K + rank) for rank, h in enumerate(found, 1)}, 0.0)
            for found in hits
        )
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
    scores = {h.id: RetrieverScore(None, h.score, normalized.get(h.id)) for h in extra}
    return scores | {h.id: RetrieverScore(i, h.score, normalized.get(h.id)) for i, h in enumerate(hits, 1)}


def _normalized(candidates: Candidates, fusion: Fusion) -> tuple[NormalizedScores, NormalizedScores]:
    """Normalized dense and lexical scores. A document that one retriever found gets its true score from the
    other, too, if that is known (Bruch et al. 2023, section 3).

    Raises CourseError for "theoretical" if the lowest dense score is unknown.
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
