"""Two rankings into one. Pure functions of scores: each leg's are made comparable, then added with weights; or ranks alone are.

A leg is one way of searching: "lexical", by words, and "dense", by meaning. Its scores are id -> score of what it found, and
nothing else: a document that it did not find (or that scored 0) has no place there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from course_lib.errors import CourseError
from course_lib.retrieval.documents import Hit
from course_lib.retrieval.metrics import checked_ranking

Fusion = Literal["min-max", "theoretical", "z-score", "rrf"]
FUSIONS: tuple[Fusion, ...] = ("min-max", "theoretical", "z-score", "rrf")
LARGEST = 1e100  # of a score; squares of larger ones overflow
RRF_K = 60  # Cormack et al. 2009, section 2
LOWEST_BM25, LOWEST_COSINE = 0.0, -1.0  # what a score cannot fall below


class Leg(NamedTuple):
    """Normalised scores of one leg: of what it found, and of anything that it did not find."""

    found: dict[str, float]
    absent: float

    def of(self, id: str) -> float:
        return self.found.get(id, self.absent)


def checked(scores: Mapping[str, float]) -> dict[str, float]:
    """Scores as float. Raises CourseError for NaN, infinity and what is larger than LARGEST."""
    for id, score in scores.items():
        if not abs(score) <= LARGEST:
            raise CourseError(
                f"the score of {id!r} is {score}: no ranking can be made with it",
                "look where it comes from; a query vector of NaN gives such scores",
            )
    return {id: float(score) for id, score in scores.items()}


# -- scores that can be compared ------------------------------------------------------------------------------------------


def min_max(scores: Mapping[str, float]) -> Leg:
    """The best 1, the worst that was found 0, as is what was not found.

    One hit, or hits that are all equal, get 1: the leg found them, and nothing better. Raises CourseError as `checked`.

    >>> min_max({"a": 12.0, "b": 9.0, "c": 6.0}).found
    {'a': 1.0, 'b': 0.5, 'c': 0.0}
    """
    scores = checked(scores)
    low, high = min(scores.values(), default=0.0), max(scores.values(), default=0.0)
    return Leg({id: 1.0 if high == low else (s - low) / (high - low) for id, s in scores.items()}, 0.0)


def theoretical_min_max(scores: Mapping[str, float], lowest: float) -> Leg:
    """The best 1, and 0 the lowest that a score could be: 0 for BM25, -1 for a cosine (Bruch et al. 2023, arXiv:2210.11934).

    So the worst of 25 good hits is not taken for worthless. Where even the best hit is at the lowest, all get 0.
    Raises CourseError as `checked`, and for a score below `lowest`.

    >>> theoretical_min_max({"a": 12.0, "b": 9.0, "c": 6.0}, LOWEST_BM25).found
    {'a': 1.0, 'b': 0.75, 'c': 0.5}
    """
    scores = checked(scores)
    if not abs(lowest) <= LARGEST or (scores and min(scores.values()) < lowest):
        raise CourseError(
            f"lowest={lowest}, but there is a score of {min(scores.values(), default=lowest)}",
            "give the least that this leg's formula can give: 0 for BM25, -1 for a cosine",
        )
    span = max(scores.values(), default=lowest) - lowest
    return Leg({id: (s - lowest) / span if span else 0.0 for id, s in scores.items()}, 0.0)


def z_score(scores: Mapping[str, float]) -> Leg:
    """Standard deviations above the mean of what was found.

    One hit, or hits that are all equal, get 0. A document that was not found gets the lowest score that was, and at most -1:
    0 would place it in the middle of those that were. Raises CourseError as `checked`.

    >>> z_score({"a": 12.0, "b": 12.0, "c": 6.0, "d": 6.0})
    Leg(found={'a': 1.0, 'b': 1.0, 'c': -1.0, 'd': -1.0}, absent=-1.0)
    """
    scores = checked(scores)
    mean = math.fsum(scores.values()) / max(len(scores), 1)
    deviation = math.sqrt(math.fsum((s - mean) ** 2 for s in scores.values()) / max(len(scores), 1))
    if len(set(scores.values())) < 2 or not deviation:
        return Leg(dict.fromkeys(scores, 0.0), -1.0)
    found = {id: (s - mean) / deviation for id, s in scores.items()}
    return Leg(found, min(-1.0, *found.values()))


# -- one score from two ---------------------------------------------------------------------------------------------------


def checked_alpha(alpha: float) -> float:
    """`alpha`. Raises CourseError where it is not from 0 to 1."""
    if not 0 <= alpha <= 1:
        raise CourseError(f"alpha={alpha}: it is the weight of the dense leg, from 0 to 1", "choose e.g. 0.7")
    return alpha


def convex(dense: Leg, lexical: Leg, alpha: float = 0.7) -> dict[str, float]:
    """alpha x dense + (1 - alpha) x lexical, of every document that either leg found, unless its weight is 0.

    alpha=1 is the dense leg alone, with what it found and nothing else; alpha=0 the lexical one. A leg that found nothing
    leaves the order to the other. Raises CourseError for an alpha outside 0 to 1.

    >>> dense, lexical = min_max({"a": 0.9, "b": 0.7}), min_max({"b": 8.0, "c": 5.0, "d": 2.0})
    >>> {id: round(score, 2) for id, score in convex(dense, lexical, alpha=0.5).items()}
    {'a': 0.5, 'b': 0.5, 'c': 0.25, 'd': 0.0}
    """
    checked_alpha(alpha)
    ids = [*(dense.found if alpha > 0 else ()), *(lexical.found if alpha < 1 else ())]
    return {id: alpha * dense.of(id) + (1 - alpha) * lexical.of(id) for id in dict.fromkeys(ids)}


def rrf(
    rankings: Sequence[Sequence[str]], weights: Sequence[float] | None = None, k: float = RRF_K
) -> dict[str, float]:
    """Reciprocal rank fusion: of every document the sum of weight / (k + rank), ranks from 1 (Cormack et al. 2009, SIGIR).

    rankings: ids, best first; a document adds nothing where it is missing. weights: one for each ranking, else all 1; what a
    ranking of weight 0 alone has is left out. It knows ranks alone: a hit far better than all others counts no more than one
    that is barely ahead. Raises CourseError for an id twice in a ranking, weights below 0 or not as many as rankings, and k
    below 0.

    >>> {id: round(score, 4) for id, score in rrf([["a", "b"], ["b", "c"]]).items()}
    {'a': 0.0164, 'b': 0.0325, 'c': 0.0161}
    """
    weights = [1.0] * len(rankings) if weights is None else weights
    if len(weights) != len(rankings) or not all(0 <= w <= LARGEST for w in weights) or not 0 <= k <= LARGEST:
        raise CourseError(
            f"{len(rankings)} rankings, weights={list(weights)}, k={k}",
            "give each ranking a weight of 0 or more, and k of 0 or more",
        )
    fused: dict[str, float] = {}
    for ranking, weight in zip(rankings, weights, strict=True):
        ids = checked_ranking(ranking)
        for rank, id in enumerate(ids if weight else (), start=1):
            fused[id] = fused.get(id, 0.0) + weight / (k + rank)
    return fused


def ranked(scores: Mapping[str, float]) -> list[tuple[str, float]]:
    """Ids and scores, best first, ties by id. Raises CourseError as `checked`."""
    return sorted(checked(scores).items(), key=lambda pair: (-pair[1], pair[0]))


# -- two legs into one ranking ---------------------------------------------------------------------------------------------


class Legs(NamedTuple):
    """What each leg found for a question, best first, before anything is fused: alpha can be moved without a new search."""

    query: str
    dense: tuple[Hit, ...]
    lexical: tuple[Hit, ...]
    lowest: float | None  # of the dense leg's scores
    more_dense: tuple[Hit, ...] = ()  # scores of what the lexical leg alone found
    more_lexical: tuple[Hit, ...] = ()  # and of what the dense leg alone found


@dataclass(frozen=True)
class Place:
    """A document's place in one leg: its rank from 1, None beyond the leg's candidates, the leg's own score, and that score
    as fusion takes it."""

    rank: int | None
    score: float
    normalised: float


@dataclass(frozen=True)
class Fused:
    """A document in the fused ranking. dense, lexical: its place there; None where that leg has no score for it."""

    id: str
    rank: int
    score: float
    dense: Place | None
    lexical: Place | None


def fuse(legs: Legs, alpha: float = 0.7, fusion: Fusion = "theoretical") -> list[Fused]:
    """All that either leg found, best first, ties by id. alpha: weight of the dense leg; 1 is that leg alone.

    "min-max", "theoretical" (min-max) and "z-score" add scores that were made comparable, "rrf" adds alpha / (60 + rank) and
    (1 - alpha) / (60 + rank). "theoretical" is the default: at alpha 0.7 it was the best of the four, or within .002 of it, on
    every collection of `benchmarks/retrieval.py` but Korean with English names, where it was .008 behind. Raises CourseError
    for an unknown fusion, an alpha outside 0 to 1, and as `checked`.

    >>> legs = Legs("q", (Hit("a", 0.9), Hit("b", 0.7)), (Hit("b", 8.0), Hit("c", 5.0)), -1.0)
    >>> [(hit.id, round(hit.score, 2)) for hit in fuse(legs, alpha=0.7)]
    [('b', 0.93), ('a', 0.7), ('c', 0.19)]
    """
    if fusion not in FUSIONS:
        raise CourseError(f"there is no fusion {fusion!r}", f"choose one of {', '.join(FUSIONS)}")
    checked_alpha(alpha)
    found = legs.dense, legs.lexical
    if fusion == "rrf":
        scores = rrf([[hit.id for hit in hits] for hits in found], [alpha, 1 - alpha])
        dense, lexical = (Leg({h.id: 1 / (RRF_K + i) for i, h in enumerate(hits, 1)}, 0.0) for hits in found)
    else:
        dense, lexical = normalised(legs, fusion)
        scores = convex(dense, lexical, alpha)
    places = [
        {h.id: Place(None, h.score, leg.of(h.id)) for h in more}
        | {h.id: Place(i, h.score, leg.of(h.id)) for i, h in enumerate(hits, 1)}
        for hits, more, leg in zip(found, (legs.more_dense, legs.more_lexical), (dense, lexical), strict=True)
    ]
    return [
        Fused(id, i, score, places[0].get(id), places[1].get(id))
        for i, (id, score) in enumerate(ranked(scores), 1)
    ]


def normalised(legs: Legs, fusion: Fusion) -> tuple[Leg, Leg]:
    """Comparable scores of the dense and of the lexical leg. A candidate of one leg counts in the other with its true score
    where that is known (Bruch et al. 2023, section 3), and with nothing where it is not.

    Raises CourseError for "theoretical" where nobody knows how low the dense scores could be.
    """
    dense, lexical = dict(legs.dense + legs.more_dense), dict(legs.lexical + legs.more_lexical)
    if fusion == "theoretical":
        if legs.lowest is None:
            raise CourseError(
                "the lowest score of this vector store is not known", 'say lowest=..., or choose "min-max"'
            )
        return theoretical_min_max(dense, legs.lowest), theoretical_min_max(lexical, LOWEST_BM25)
    scale = min_max if fusion == "min-max" else z_score
    return scale(dense), scale(lexical)
