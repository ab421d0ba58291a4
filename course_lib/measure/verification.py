"""Evaluate face verification: do two pictures show the same person? Error rates, and a threshold for them.

A pair of pictures is accepted if its similarity is at least the threshold. FAR, the false accept rate, is the
share of accepted pairs among those of different persons; TAR, the true accept rate, among those of the same
person. An embedding is the vector that a model computes for a picture; the similarity is the cosine of two.
Intervals come from resampling identities (persons), not pairs, because pairs that share a face are not
independent (Bolle, Ratha and Pankanti 2004, "Error analysis of pattern recognition systems: the subsets
bootstrap").
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from course_lib.measure.intervals import Estimate

if TYPE_CHECKING:
    from numpy.typing import NDArray

DRAWS = 1000  # bootstrap resamples of an interval
COVERAGE = 0.95  # confidence level of the intervals


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of pictures, with their similarities.

    first, second: the numbers of the two pictures of each pair. similarity: the cosine of each pair.
    identity: the person that each picture shows, as a number from 0; an entry per picture, not per pair.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    identity: NDArray[np.int64]
    similarity: NDArray[np.float64]

    @property
    def same(self) -> NDArray[np.bool_]:
        """Whether both pictures of a pair show one identity."""
        return self.identity[self.first] == self.identity[self.second]

    def where(self, chosen: NDArray[np.bool_]) -> Pairs:
        """The pairs for which `chosen`, (pairs,), is True."""
        return Pairs(self.first[chosen], self.second[chosen], self.identity, self.similarity[chosen])


@dataclass(frozen=True)
class Roc:
    """FAR and TAR at each threshold, from strict to lenient (the receiver operating characteristic)."""

    threshold: NDArray[np.float64]
    far: NDArray[np.float64]
    tar: NDArray[np.float64]


def all_pairs(embeddings: NDArray[Any], identities: Sequence[Hashable]) -> Pairs:
    """Every pair of pictures once. embeddings: (pictures, dimensions), of any length.

    Raises ValueError if the numbers of embeddings and identities differ, or if no two pictures share an
    identity, or all do.
    """
    vectors = np.asarray(embeddings, np.float64)
    if vectors.ndim != 2 or len(vectors) != len(identities):
        raise ValueError(f"embeddings of shape {vectors.shape} for {len(identities)} identities")
    if not np.isfinite(vectors).all() or not np.linalg.norm(vectors, axis=1).all():
        raise ValueError("an embedding is 0 or not finite, so it has no direction")
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    numbers = {identity: n for n, identity in enumerate(dict.fromkeys(identities))}
    identity = np.array([numbers[i] for i in identities])
    first, second = np.triu_indices(len(vectors), 1)
    pairs = Pairs(first, second, identity, (vectors @ vectors.T)[first, second])
    if pairs.same.all() or not pairs.same.any():
        raise ValueError("both same and different pairs are needed: two pictures of two identities at least")
    return pairs


def roc(pairs: Pairs) -> Roc:
    """FAR and TAR at every threshold that equals the similarity of a pair."""
    threshold = np.unique(pairs.similarity)[::-1]
    same, different = _sides(pairs)
    return Roc(threshold, _share(different, threshold), _share(same, threshold))


def threshold_at(pairs: Pairs, far: float) -> float:
    """The lowest threshold whose FAR on these pairs is at most `far`.

    Raises ValueError unless 0 < far < 1, or if there are fewer than 1 / far different pairs.
    """
    _check(pairs, far)
    _, different = _sides(pairs)
    return _threshold(np.sort(different)[::-1], np.ones(len(different)), far)


def far_and_tar(pairs: Pairs, threshold: float) -> tuple[Estimate, Estimate]:
    """FAR and TAR at a threshold that was chosen on other pairs, with 95% intervals."""
    accepted = pairs.similarity >= threshold
    same = pairs.same

    def rates(weights: NDArray[np.float64]) -> tuple[float, float]:
        return _mean(accepted[~same], weights[~same]), _mean(accepted[same], weights[same])

    draws = np.array(_resample(pairs, rates))
    far, tar = rates(np.ones(len(same)))
    return _estimate(far, draws[:, 0]), _estimate(tar, draws[:, 1])


def tar_at_far(pairs: Pairs, far: float) -> Estimate:
    """TAR at the threshold that has this FAR on the same pairs, with a 95% interval.

    Each resample chooses its own threshold. Raises ValueError as `threshold_at` does.
    """
    _check(pairs, far)
    same, order = pairs.same, np.argsort(-pairs.similarity, kind="stable")
    different, genuine = order[~same[order]], np.flatnonzero(same)

    def rate(weights: NDArray[np.float64]) -> float:
        threshold = _threshold(pairs.similarity[different], weights[different], far)
        return _mean(pairs.similarity[genuine] >= threshold, weights[genuine])

    return _estimate(rate(np.ones(len(same))), np.array(_resample(pairs, rate)))


def _sides(pairs: Pairs) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The similarities of same and of different pairs."""
    return pairs.similarity[pairs.same], pairs.similarity[~pairs.same]


def _share(similarity: NDArray[np.float64], threshold: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of the similarities that are at least each threshold."""
    return 1 - np.searchsorted(np.sort(similarity), threshold, side="left") / len(similarity)


def _threshold(descending: NDArray[np.float64], weights: NDArray[np.float64], far: float) -> float:
    """The lowest threshold at which at most a share `far` of the weight is accepted."""
    accepted = np.cumsum(weights)
    k = int(np.searchsorted(accepted, far * accepted[-1] * (1 + 1e-12), side="right"))
    # Accepting pair k would exceed `far`: the threshold lies just above its similarity.
    return float(np.nextafter(descending[min(k, len(descending) - 1)], np.inf))


def _mean(accepted: NDArray[np.bool_], weights: NDArray[np.float64]) -> float:
    total = weights.sum()
    return float(weights[accepted].sum() / total) if total else float("nan")


def _resample(pairs: Pairs, statistic: Callable[[NDArray[np.float64]], Any]) -> list[Any]:
    """Return `statistic` of the pairs' weights, (pairs,), for each of DRAWS resamples of the identities.

    The weight of a pair is the product of the numbers of times that its two identities were drawn; if both
    pictures show one identity, it is the number of times that this identity was drawn.
    """
    rng, count = np.random.default_rng(0), int(pairs.identity.max()) + 1
    first, second, same = pairs.identity[pairs.first], pairs.identity[pairs.second], pairs.same
    results = []
    for _ in range(DRAWS):
        times = np.bincount(rng.integers(0, count, count), minlength=count).astype(np.float64)
        results.append(statistic(np.where(same, times[first], times[first] * times[second])))
    return results


def _estimate(value: float, draws: NDArray[np.float64]) -> Estimate:
    tail = (1 - COVERAGE) / 2
    low, high = np.nanquantile(draws, [tail, 1 - tail])
    return Estimate(value, float(low), float(high), COVERAGE)


def _check(pairs: Pairs, far: float) -> None:
    different = int((~pairs.same).sum())
    if not 0 < far < 1 or different * far < 1 - 1e-9:
        raise ValueError(f"FAR {far} of {different} different pairs; 1 / FAR of them are needed, 0 < FAR < 1")
