"""Checkers of chapter 03's exercises on fusion: mixing the scores of two searches, by words and by meaning.

alpha is the weight of the search by meaning, 1 - alpha that of the search by words. nDCG scores the ranking
of a question from 0 to 1.

A checker takes the student's answer, and returns feedback, or None if the answer is right. Each known mistake
is a wrong solution with the feedback for it, see `comparing.diagnose`.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from course_lib.learn.exercises.comparing import diagnose

Scores = Mapping[str, float]

# -- 03.4: a mixture with four faults ------------------------------------------------------------------------

# fault -> feedback. A "leg" is one of the two searches with its scores, as in the chapter.
FAULTS = {
    "both": "a passage that only one leg found must be kept, with 0 from the other leg",
    "swapped": "at alpha = 1 words decide alone: alpha belongs to meaning",
    "divided": (
        "where all scores of a leg are equal, highest - lowest is 0: give 1 to each passage of that leg"
    ),
    "empty": "a leg that found nothing has no lowest score: min() of nothing is an error",
}


def _mixture(words: Scores, meaning: Scores, alpha: float, *, faults: tuple[str, ...] = ()) -> Scores:
    """The right solution of 03.4, or a mistake with these faults (see FAULTS).

    Scales the scores of each leg from 0 to 1, and returns alpha x meaning + (1 - alpha) x words.
    """

    def scaled(scores: Scores) -> Scores:
        if not scores and "empty" not in faults:
            return {}
        low, high = min(scores.values()), max(scores.values())
        if low == high and "divided" not in faults:
            return dict.fromkeys(scores, 1.0)
        return {id_: (score - low) / (high - low) for id_, score in scores.items()}

    a, b = scaled(words), scaled(meaning)
    weight = 1 - alpha if "swapped" in faults else alpha
    ids = a.keys() & b.keys() if "both" in faults else a.keys() | b.keys()
    return {id_: weight * b.get(id_, 0.0) + (1 - weight) * a.get(id_, 0.0) for id_ in ids}


def _scaled_otherwise(words: Scores, meaning: Scores, alpha: float, *, constant: float, low: bool) -> Scores:
    """A mistake: `constant` instead of 1 for equal scores, or (low) the lowest score is not subtracted."""

    def scaled(scores: Scores) -> Scores:
        lowest, highest = min(scores.values(), default=0.0), max(scores.values(), default=0.0)
        if low:
            return {id_: score / highest for id_, score in scores.items()}
        span = highest - lowest
        return {id_: (score - lowest) / span if span else constant for id_, score in scores.items()}

    a, b = scaled(words), scaled(meaning)
    return {id_: alpha * b.get(id_, 0.0) + (1 - alpha) * a.get(id_, 0.0) for id_ in a.keys() | b.keys()}


def _filled_first(words: Scores, meaning: Scores, alpha: float) -> Scores:
    """A mistake: passages that a leg did not find get 0 before scaling, instead of after it."""
    missing = dict.fromkeys(words.keys() | meaning.keys(), 0.0)
    return _mixture(missing | dict(words), missing | dict(meaning), alpha)


def _legs(count: int) -> list[tuple[Scores, Scores, float]]:
    """Return cases (words, meaning, alpha): legs that overlap, and legs of one, of equal and of no scores."""
    rng = random.Random(0)

    def leg(size: int, equal: bool = False) -> Scores:
        ids = rng.sample("abcdefgh", size)
        return {id_: 0.5 if equal else round(rng.uniform(0.1, 9), 2) for id_ in ids}

    usual = [(leg(rng.randint(2, 5)), leg(rng.randint(2, 5)), round(rng.random(), 2)) for _ in range(count)]
    odd = [(leg(3), leg(1), 0.3), (leg(3, equal=True), leg(3), 0.6), (leg(2), {}, 0.7), ({}, {}, 0.5)]
    return [*usual, (leg(3), leg(3), 1.0), *odd]


def check_mixture(mixture: Callable[[Scores, Scores, float], Scores]) -> str | None:
    """Check 03.4: `mixture(words, meaning, alpha)`, passage id -> mixed score."""
    combinations = [c for n in range(1, 5) for c in itertools.combinations(FAULTS, n)]
    mistakes: list[tuple[Callable[..., Any], str]] = [
        (partial(_mixture, faults=faults), "; ".join(FAULTS[fault] for fault in faults))
        for faults in combinations
    ]
    for constant, shown in ((0.0, "0, as if they had not been found"), (0.5, "0.5")):
        other = partial(_scaled_otherwise, constant=constant, low=False)
        mistakes.append((other, f"passages with equal scores got {shown}; they should get 1"))
    mistakes.append(
        (
            _filled_first,
            "you gave 0 to the missing passages before you scaled, so 0 became the lowest score: scale what "
            "a leg found, then give 0 to the others",
        )
    )
    mistakes.append(
        (
            partial(_scaled_otherwise, constant=1.0, low=True),
            "the worst passage of a leg should get 0: subtract the lowest score before you divide",
        )
    )
    return diagnose(mixture, _mixture, _legs(20), mistakes, name="mixture")


# -- 03.5: the alpha at which a passage that only words found falls behind -----------------------------------


def check_largest_alpha(largest_alpha: Callable[[int, int], float]) -> str | None:
    """Check 03.5: `largest_alpha(k, n)`, the alpha at which two passages get the same score.

    One is at rank 1 of the search by words alone, the other at rank n of the search by meaning alone. In
    reciprocal rank fusion (RRF) a search gives the passage at rank r its weight / (k + r).
    """
    rng = random.Random(0)
    cases = [(60, 25), *((rng.randint(0, 100), rng.randint(1, 200)) for _ in range(20))]
    mistakes: tuple[tuple[Callable[[int, int], float], str], ...] = (
        (
            lambda k, n: 0.5,
            "0.5 would be right if both stood at the same place; they stand at places 1 and n",
        ),
        (
            lambda k, n: (k + n - 1) / (2 * k + n - 1),
            "places begin with 1: the terms are 1 / (k + 1) and 1 / (k + n)",
        ),
        (
            lambda k, n: (k + 1) / (2 * k + n + 1),
            "alpha is the weight of meaning, and 1 - alpha that of words; yours is the other way round",
        ),
        (lambda k, n: (k + 1) / (k + n), "that is how the two terms compare without weights; now weigh them"),
        (lambda k, n: (k + n) / (k + 1), "a weight is at most 1: write down both weighted terms first"),
        (lambda k, n: (k + 25) / (2 * k + 26), "n was not used: it is not always 25"),
        (lambda k, n: (60 + n) / (121 + n), "k was not used: it is not always 60"),
    )
    return diagnose(
        largest_alpha, lambda k, n: (k + n) / (2 * k + n + 1), cases, mistakes, name="largest_alpha"
    )


# -- 03.6: choose alpha on some questions, report on others --------------------------------------------------

Values = dict[str, float]


def _mean(values: Values, ids: Sequence[str]) -> float:
    return float(np.mean([values[id_] for id_ in ids]))


def _honest(
    by_alpha: dict[float, Values],
    words: Values,
    halves: Sequence[list[str]],
    *,
    choose: str = "other",
    worst: bool = False,
    directions: int = 2,
    by_half: bool = False,
) -> float:
    """The right solution of 03.6, or a mistake if an option is given: the mean gain over words alone.

    choose: the questions on which alpha is chosen: the "other" half, the "same" half, or "all". worst: choose
    the worst alpha. directions: the number of halves that are reported. by_half: average the means of the
    halves.
    """
    best, gains = (min if worst else max), []
    for half, other in (tuple(halves[::-1]), tuple(halves))[:directions]:
        chosen_on = {"other": other, "same": half, "all": [*half, *other]}[choose]
        alpha = best(by_alpha, key=lambda a: _mean(by_alpha[a], chosen_on))
        gains.append([by_alpha[alpha][id_] - words[id_] for id_ in half])
    return float(np.mean([np.mean(each) for each in gains] if by_half else np.concatenate(gains)))


def _experiments() -> list[tuple[dict[float, Values], Values, list[list[str]]]]:
    """Return cases in which the two halves have different best values of alpha."""
    rng = np.random.default_rng(0)
    cases = []
    for _ in range(8):
        ids = [f"q{i}" for i in range(12)]
        by_alpha = {
            a / 10: dict(zip(ids, rng.random(12).round(3).tolist(), strict=True)) for a in range(0, 11, 2)
        }
        words = dict(zip(ids, rng.random(12).round(3).tolist(), strict=True))
        cases.append((by_alpha, words, [ids[:8], ids[8:]]))
    return cases


def check_chosen_alpha(honest: Callable[..., float]) -> str | None:
    """Check 03.6: `honest(by_alpha, words, halves)`, the gain if alpha is chosen on the other half.

    by_alpha: alpha -> question id -> nDCG. words: question id -> nDCG of the search by words.
    """
    mistakes: list[tuple[Callable[..., Any], str]] = [
        (
            partial(_honest, choose="same"),
            "each half was reported with the alpha chosen on it: that is the exam paper among the lessons",
        ),
        (
            partial(_honest, choose="all"),
            "one alpha was chosen on all questions, so those of the report helped to choose",
        ),
        (
            partial(_honest, directions=1),
            "only the second half was reported: the first has its turn, too, with the alpha of the second",
        ),
        (
            lambda by_alpha, words, halves: _honest(by_alpha, words, halves[::-1], directions=1),
            "only the first half was reported: the second has its turn, too, with the alpha of the first",
        ),
        (
            partial(_honest, by_half=True),
            "the halves are not equally large: take the mean over all questions, not that of two means",
        ),
        (partial(_honest, worst=True), "you took the alpha with the lowest mean"),
        (
            lambda by_alpha, words, halves: _honest(by_alpha, dict.fromkeys(words, 0.0), halves),
            "that is the mixture's own nDCG; asked is how much better than words alone it is",
        ),
        (lambda *case: -_honest(*case), "the gain has the wrong sign: take words alone from the mixture"),
    ]
    return diagnose(honest, _honest, _experiments(), mistakes, name="honest")
