"""Checkers of chapter 08's exercises on face verification, and on the memory of a pipeline's parts.

A checker takes the student's answer, and returns feedback, or None if the answer is right. Each known mistake
is a wrong solution with the feedback for it, see `comparing.diagnose`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from course_lib.learn.exercises.comparing import diagnose

Groups = Mapping[str, Sequence[float]]  # group -> distances of pairs of different persons


def _of_one(distances: Sequence[float], most: float) -> float:
    """Return the largest threshold below which at most the share `most` of the distances lies."""
    return sorted(distances)[int(most * len(distances) + 1e-9)]


def _threshold(groups: Groups, most: float) -> float:
    """The right solution of 08.6."""
    return min(_of_one(distances, most) for distances in groups.values())


def check_threshold(threshold_for: Callable[[Groups, float], float]) -> str | None:
    """Check 08.6: `threshold_for(groups, most)`, the largest threshold that keeps the rule in every group.

    The rule: at most the share `most` of a group's pairs of different persons is accepted, that is, below it.
    """
    rng = np.random.default_rng(3)
    low, high = (
        sorted(round(float(d), 3) for d in rng.normal(m, 0.1, n)) for m, n in ((0.9, 40), (1.1, 120))
    )
    cases: list[tuple[Groups, float]] = [
        ({"all": [0.9, 0.5, 0.7, 0.8, 0.6]}, 0.4),
        ({"glasses": low, "none": high}, 0.05),
        ({"none": high, "glasses": low}, 0.1),
        ({"a": [0.4, 0.6, 0.6, 0.6, 0.8], "b": [0.5, 0.9, 0.9, 0.9, 1.0]}, 0.2),
        ({"a": [0.7, 0.8, 0.9], "b": [0.75, 0.8, 0.85, 0.95]}, 0.01),
    ]

    def pooled(groups: Groups) -> list[float]:
        return [d for distances in groups.values() for d in distances]

    def at(shift: int) -> Callable[[Groups, float], float]:
        """Return a mistake: the threshold `shift` distances further."""

        def place(distances: Sequence[float], most: float) -> float:
            return sorted(distances)[max(0, int(most * len(distances) + 1e-9) + shift)]

        return lambda groups, most: min(place(d, most) for d in groups.values())

    mistakes = (
        (
            lambda g, m: _of_one(pooled(g), m),
            "all pairs together keep the rule, but a group alone does not: it hides behind the larger one",
        ),
        (
            lambda g, m: max(_of_one(d, m) for d in g.values()),
            "at the largest of the groups' thresholds another group is accepted too often: take "
            "the one that suits all",
        ),
        (
            lambda g, m: sum(_of_one(d, m) for d in g.values()) / len(g),
            "the mean of the groups' thresholds is too large for one of the groups",
        ),
        (
            lambda g, m: min(float(np.quantile(d, m)) for d in g.values()),
            "np.quantile goes between two distances, so fewer or more pairs than allowed can lie "
            "below: count pairs",
        ),
        (
            lambda g, m: float(np.quantile(pooled(g), m)),
            "np.quantile of all pairs together: count pairs instead, and do so in each group",
        ),
        (
            at(-1),
            "one pair more may lie below: the threshold can rise to the next distance, which is "
            "not below itself",
        ),
        (at(1), "one pair too many lies below this threshold"),
        (
            lambda g, m: min(sorted(d, reverse=True)[int(m * len(d) + 1e-9)] for d in g.values()),
            "a small distance means the same person: pairs below the threshold are accepted, so "
            "count from the smallest",
        ),
    )
    return diagnose(threshold_for, _threshold, cases, mistakes, name="threshold_for")


def _alarms(people: int, wanted: int, listed: int, far: float, frr: float) -> tuple[float, float]:
    """The right solution of 08.7."""
    false = (people - wanted) * (1 - (1 - far) ** listed)
    return false, false / (false + wanted * (1 - frr))


def check_alarms(alarms: Callable[[int, int, int, float, float], tuple[float, float]]) -> str | None:
    """Check 08.7: `alarms(people, wanted, listed, far, frr)`, the false alarms and their share of all alarms.

    Each of the people is compared with every listed face. far: the chance that two persons are taken for one.
    frr: the chance that a wanted person is not recognised.
    """
    cases = [
        (10_000, 5, 1000, 0.0001, 0.1),
        (500, 20, 50, 0.01, 0.2),
        (100_000, 1, 10_000, 0.001, 0.05),
        (2000, 100, 2, 0.05, 0.3),
    ]

    def with_false(false_of: Callable[[int, int, int, float], float]) -> Callable[..., tuple[float, float]]:
        """Return a mistake in the number of false alarms."""

        def other(people: int, wanted: int, listed: int, far: float, frr: float) -> tuple[float, float]:
            false = false_of(people, wanted, listed, far)
            return false, false / (false + wanted * (1 - frr))

        return other

    mistakes = (
        (
            with_false(lambda p, w, n, f: (p - w) * f),
            "each person is compared with every listed face, so there are many chances to be "
            "mistaken for one",
        ),
        (
            with_false(lambda p, w, n, f: (p - w) * n * f),
            "far * listed counts people twice who resemble two listed faces, and can exceed 1: "
            "what is the chance to resemble none?",
        ),
        (
            with_false(lambda p, w, n, f: p * (1 - (1 - f) ** n)),
            "the wanted people are not among those who raise a false alarm",
        ),
        (
            with_false(lambda p, w, n, f: (p - w) * f**n),
            "far ** listed is the chance to be mistaken for all listed faces; one is enough for an alarm",
        ),
        (
            lambda p, w, n, f, r: (_alarms(p, w, n, f, r)[0], _alarms(p, w, n, f, 1 - r)[1]),
            "frr is the share of wanted people that is missed; the others raise the alarm",
        ),
        (
            lambda p, w, n, f, r: (_alarms(p, w, n, f, r)[0], _alarms(p, w, n, f, 0)[1]),
            "not every wanted person raises an alarm: the share frr is missed",
        ),
        (
            lambda p, w, n, f, r: (_alarms(p, w, n, f, r)[0], 1 - _alarms(p, w, n, f, r)[1]),
            "that is the share of alarms that are right; the share of false ones is asked for",
        ),
        (
            lambda p, w, n, f, r: (_alarms(p, w, n, f, r)[0], _alarms(p, w, n, f, r)[0] / p),
            "the share is of the alarms, not of the people",
        ),
    )
    return diagnose(alarms, _alarms, cases, mistakes, name="alarms")


Parts = Sequence[tuple[float, float]]  # GiB of weights and of working memory of each part


def _memory(parts: Parts) -> tuple[float, float]:
    """The right solution of 08.8."""
    return sum(w for w, _ in parts) + max(a for _, a in parts), max(w + a for w, a in parts)


def check_memory(two_ways: Callable[[Parts], tuple[float, float]]) -> str | None:
    """Check 08.8: `two_ways(parts)`, the memory if all parts are loaded, and if each is only to compute."""
    cases = [
        ([(9.1, 0.2), (0.2, 0.1), (22.2, 1.5), (0.2, 2.5)],),
        ([(10, 1), (8, 9)],),
        ([(3, 0.5), (5, 4), (7, 1), (1, 8)],),
        ([(4, 2)],),
    ]
    weights, work = (lambda p: [w for w, _ in p]), (lambda p: [a for _, a in p])
    mistakes = (
        (lambda p: _memory(p)[::-1], "the two numbers are the wrong way round: first all at once"),
        (
            lambda p: (sum(map(sum, p)), _memory(p)[1]),
            "the parts compute one after another, so only one part's work is there at a time",
        ),
        (
            lambda p: (_memory(p)[0], max(weights(p)) + max(work(p))),
            "one by one, the part with the most weights and the one with the most work are never "
            "there together",
        ),
        (lambda p: (sum(weights(p)), max(weights(p))), "weights alone: computing needs memory, too"),
        (
            lambda p: (sum(weights(p)) + max(work(p)), max(weights(p))),
            "one by one, the part that computes needs its work, too",
        ),
        (
            lambda p: (sum(weights(p)), _memory(p)[1]),
            "all at once, the part that computes needs its work, too",
        ),
        (
            lambda p: (_memory(p)[0], max(p)[0] + max(p)[1]),
            "the part with the most weights is not always the one that needs the most: add each "
            "part's work first",
        ),
    )
    return diagnose(two_ways, _memory, cases, mistakes, name="two_ways")
