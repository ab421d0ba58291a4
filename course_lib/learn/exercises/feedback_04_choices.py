"""Checkers of chapter 04's exercises on how many candidates a reranker reads, and on how many test questions.

Candidates are the passages that a search found and a reranker sorts again; more of them take more time. A
checker takes the student's answer, and returns feedback, or None if the answer is right. Each known mistake
is a wrong solution with the feedback for it, see `comparing.diagnose`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from statistics import NormalDist
from typing import Any

import numpy as np

from course_lib.learn.exercises.comparing import diagnose
from course_lib.retrieval.metrics import difference

# -- 04.5 ----------------------------------------------------------------------------------------------------

Values = dict[str, float]  # question id -> score


def _how_many(
    seconds: dict[int, float],
    values: dict[int, Values],
    allowed: float,
    *,
    choose: str = "fewest not worse",
    under: bool = False,
    of_all: bool = False,
    none: int | None = 0,
) -> int | None:
    """The right solution of 04.5, or a mistake if an option is given.

    choose: the rule. under: exactly the allowed seconds do not fit. of_all: compare with the best number of
    candidates, even if it takes too long. none: the result if nothing fits.
    """
    fitting = [n for n in seconds if seconds[n] < allowed or (seconds[n] == allowed and not under)]
    if not fitting:
        return none
    best = max(seconds if of_all else fitting, key=lambda n: sum(values[n].values()))
    if choose == "best":
        return max(fitting, key=lambda n: sum(values[n].values()))
    if choose in ("fewest", "most"):
        return min(fitting) if choose == "fewest" else max(fitting)
    if choose in ("last chosen", "neighbour"):
        return _step_by_step(sorted(fitting), values, neighbour=choose == "neighbour")
    # verdict "A": the best is clearly better than n
    return min((n for n in fitting if difference(values[best], values[n]).verdict != "A"), default=none)


def _step_by_step(fitting: list[int], values: dict[int, Values], *, neighbour: bool) -> int:
    """A mistake: go up while a number is clearly better than the last chosen one (or its neighbour)."""
    chosen = fitting[0]
    for before, n in pairwise(fitting):
        if difference(values[n], values[before if neighbour else chosen]).verdict == "A":
            chosen = n
    return chosen


def _within(seconds: dict[int, float], values: dict[int, Values], allowed: float, *, margin: float) -> int:
    """A mistake: the fewest candidates whose mean is at most `margin` below the best one."""
    means = {n: float(np.mean(list(values[n].values()))) for n in seconds if seconds[n] <= allowed}
    return min((n for n in means if means[n] >= max(means.values()) - margin), default=0)


def _measurements() -> list[tuple[dict[int, float], dict[int, Values], float]]:
    """Return cases (seconds, scores, allowed seconds) with 5 to 50 candidates.

    In some cases 5 candidates are clearly worse, in others the best mean may be luck.
    """
    rng = np.random.default_rng(0)
    seconds = {25: 1.5, 10: 0.6, 50: 3.0, 5: 0.3}
    cases = []
    for _ in range(6):
        base = rng.choice([0.0, 1 / 3, 0.5, 1.0], 60)
        lifted = np.where(rng.random(60) < 0.4, np.minimum(1, base + 0.5), base)
        more = np.where(rng.random(60) < 0.3, 1.0, lifted)
        scores = {5: base, 10: lifted, 25: np.clip(lifted + rng.choice([-0.1, 0, 0.12], 60), 0, 1), 50: more}
        values = {n: {str(i): float(v) for i, v in enumerate(each)} for n, each in scores.items()}
        cases += [(seconds, values, allowed) for allowed in (10.0, 1.6, 0.6, 0.4, 0.1)]
    scores = {5: np.zeros(60), 10: np.zeros(60), 25: np.zeros(60)}
    scores[10][:3] = 1.0  # not clearly better than 5; 25 is, and not clearly better than 10
    scores[25][2:8] = 1.0
    return [*cases, (seconds, {n: {str(i): float(v) for i, v in enumerate(scores[n])} for n in scores}, 1.6)]


def check_budget(how_many: Callable[[Mapping[int, float], Mapping[int, Values], float], int]) -> str | None:
    """Check 04.5: `how_many(seconds, values, allowed)`.

    It is the smallest number of candidates that is not clearly worse than the best one within the allowed
    seconds. seconds: number of candidates -> seconds. values: number of candidates -> question id -> score.
    """
    cases = _measurements()
    mistakes: tuple[tuple[Callable[..., Any], str], ...] = (
        (
            partial(_how_many, choose="best"),
            "you took the best mean, but its lead over fewer candidates may be luck: compare "
            "them by difference",
        ),
        (
            partial(_how_many, choose="fewest"),
            "the fewest candidates that fit, even where they are clearly worse",
        ),
        (partial(_how_many, choose="most"), "the most candidates that fit, whether they are better or not"),
        (
            partial(_how_many, choose="last chosen"),
            "you compare each number with the last one that you chose: a number that is not clearly better "
            "than that may still be as good as the best. Compare with the best mean",
        ),
        (
            partial(_how_many, choose="neighbour"),
            "you compare each number with the one before it: several small steps may be one clear "
            "difference. Compare with the best mean",
        ),
        *(
            (
                partial(_within, margin=margin),
                "a fixed margin does not know how many questions there are, nor how much they vary: "
                "ask `difference` whether the best is clearly better",
            )
            for margin in (0.005, 0.01, 0.02, 0.03, 0.05, 0.1)
        ),
        (
            partial(_how_many, of_all=True),
            "you compared with the best of all; it may not fit into the seconds allowed",
        ),
        (partial(_how_many, under=True), "what takes exactly the seconds allowed fits, too: use <="),
        (partial(_how_many, none=5), "where nothing fits, 5 candidates do not fit either: return 0"),
        (partial(_how_many, none=None), "where nothing fits, return 0"),
    )
    try:
        how_many({5: 1.0}, {5: {"q": 1.0, "r": 0.0}}, 0.5)
    except ValueError:
        return "max() and min() raise a ValueError when no number of candidates fits: return 0 then"
    return diagnose(how_many, _how_many, cases, mistakes, name="how_many")


# -- 04.6 ----------------------------------------------------------------------------------------------------

Needed = Callable[[list[float], list[float]], float]  # (scores before, after) -> number of questions


def _trials() -> list[tuple[list[float], list[float]]]:
    """Return cases: the scores of 100 questions before and after a change."""
    rng = np.random.default_rng(0)
    cases = []
    for gain in (0.1, -0.15, 0.05):
        before = rng.choice([0.0, 1 / 3, 0.5, 1.0], 100)
        moved = rng.choice([-0.4, 0, 0, 0.4], 100)
        after = before + moved - moved.mean() + gain
        cases.append((before.tolist(), after.tolist()))
    return cases


Z_95 = 1.96  # standard errors from the mean to the end of a 95% interval; enough for a power of one half


def _needed(spread: Callable[..., float], z: float = Z_95, *, root: bool = False, add: int = 0) -> Needed:
    """Return a solution: n = (z x spread / gain)^2.

    spread: a function from the scores after and before to a standard deviation. root: forget the square. add:
    how often the trial's own questions are subtracted.
    """

    def count(before: list[float], after: list[float]) -> float:
        a, b = np.array(after), np.array(before)
        return float(abs(z * spread(a, b) / (a - b).mean()) ** (1 if root else 2)) - add * len(b)

    return count


def _paired(a: np.ndarray, b: np.ndarray) -> float:
    """Return the standard deviation of the differences."""
    return float((a - b).std(ddof=1))


# Known mistakes: a wrong answer, and the feedback on it.
MISTAKES_AT_HALF: tuple[tuple[Needed, str], ...] = (
    (_needed(lambda a, b: (a - b).std()), "s is estimated from the trial, so divide by n - 1: .std(ddof=1)"),
    (_needed(_paired, add=1), "those are the questions that are missing; asked is how many it takes in all"),
    (_needed(_paired, z=2.0), "2 is a round number for 1.96; take 1.96 here"),
    (
        _needed(lambda a, b: math.hypot(a.std(ddof=1), b.std(ddof=1))),
        "you added the spreads of before and after, as for two sets of questions; the questions are the "
        "same, so take the spread of their differences",
    ),
    (_needed(lambda a, b: a.std(ddof=1)), "that is the spread of `after`; take that of after - before"),
    (_needed(lambda a, b: b.std(ddof=1)), "that is the spread of `before`; take that of after - before"),
    (_needed(_paired, root=True), "n stands under a root: square both sides"),
    (_needed(_paired, z=1.0), "one standard error is no 95% interval: 1.96 of them are"),
    (_needed(_paired, z=1 / 1.96), "1.96 belongs above the line: solve 1.96 x s / sqrt(n) = gain for n"),
    (
        _needed(_paired, z=1.96 + 0.84),
        "2.8 is for a power of .8; with one half the next gain may as well be below the trial's as above",
    ),
    (
        _needed(_paired, z=1.96 + NormalDist().inv_cdf(0.75)),
        "with a power of one half no reserve is needed: that the gain comes out too small happens on one "
        "side only, so take the quantile of `power` itself",
    ),
    (
        lambda before, after: (1.96 * np.subtract(after, before).std(ddof=1)) ** 2,
        "a small gain needs more questions than a large one: divide by the gain",
    ),
    (lambda before, after: len(before), "that is how many questions the trial had"),
)


def _mistakes(power: float) -> tuple[tuple[Needed, str], ...]:
    """Return the known mistakes for a power."""
    if power == 0.5:
        return MISTAKES_AT_HALF
    reserve = NormalDist().inv_cdf(power)

    def in_proportion(before: list[float], after: list[float]) -> float:
        return 2 * power * _needed(_paired)(before, after)

    return (
        (_needed(_paired), "right for a power of one half, but `power` changes nothing"),
        (_needed(_paired, Z_95 - reserve), "a higher power takes more questions, not fewer"),
        (
            in_proportion,
            "the number does not grow in proportion to the power: how far must the true gain lie "
            "above the end of the interval, in standard errors?",
        ),
        (
            _needed(_paired, Z_95 + power - 0.5),
            "power is a probability, not a number of standard errors: take its normal quantile",
        ),
    )


def check_questions(questions_needed: Callable[[list[float], list[float], float], int]) -> str | None:
    """Check 04.6: `questions_needed(before, after, power)`.

    It is the number of questions with which a gain as large as that of the trial is found to be significant
    with the probability `power`. before, after: the trial's scores of each question.
    """
    for power in (0.5, 0.8, 0.95, 0.3):
        for before, after in _trials():
            result = questions_needed(list(before), list(after), power)
            right = _needed(_paired, Z_95 + NormalDist().inv_cdf(power))(before, after)
            if not isinstance(result, (int, float, np.number)) or isinstance(result, bool):
                return f"questions_needed gave {result!r}; expected a number of questions"
            if result in (math.ceil(right), math.ceil(right * (1 - 1e-4))):  # some write 1.95996 for 1.96
                continue
            if result == math.floor(right) or math.isclose(result, right):
                few = math.floor(right)
                return f"with {few} questions the interval still contains zero: round {right:.2f} up"
            known = (
                feedback for wrong, feedback in _mistakes(power) if abs(result - wrong(before, after)) <= 1
            )
            unknown = f"with power={power} questions_needed gave {result}; it should be {math.ceil(right)}"
            return next(known, unknown)
    return None
