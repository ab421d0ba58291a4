"""Checkers of chapter 04's exercises on choosing and planning: return feedback, None if right."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from course_lib.learn.exercises.comparing import diagnose
from course_lib.retrieval.metrics import difference

# -- 04.5 ----------------------------------------------------------------------------------------------------

Values = dict[str, float]


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
    fitting = [n for n in seconds if seconds[n] < allowed or (seconds[n] == allowed and not under)]
    if not fitting:
        return none
    best = max(seconds if of_all else fitting, key=lambda n: sum(values[n].values()))
    if choose == "best":
        return max(fitting, key=lambda n: sum(values[n].values()))
    if choose in ("fewest", "most"):
        return min(fitting) if choose == "fewest" else max(fitting)
    return min((n for n in fitting if difference(values[best], values[n]).verdict != "A"), default=none)


def _measurements() -> list[tuple[dict[int, float], dict[int, Values], float]]:
    """Return cases with 5 to 50 candidates, in mixed order: few are clearly worse, and a lead may be luck."""
    rng = np.random.default_rng(0)
    seconds = {25: 1.5, 10: 0.6, 50: 3.0, 5: 0.3}
    cases = []
    for _ in range(6):
        base = rng.choice([0.0, 1 / 3, 0.5, 1.0], 60)
        lifted = np.where(rng.random(60) < 0.4, np.minimum(1, base + 0.5), base)
        more = np.where(rng.random(60) < 0.3, 1.0, lifted)
        of = {5: base, 10: lifted, 25: np.clip(lifted + rng.choice([-0.1, 0, 0.12], 60), 0, 1), 50: more}
        values = {n: {str(i): float(v) for i, v in enumerate(each)} for n, each in of.items()}
        cases += [(seconds, values, allowed) for allowed in (10.0, 1.6, 0.6, 0.4, 0.1)]
    return cases


def check_budget(how_many: Callable[[Mapping[int, float], Mapping[int, Values], float], int]) -> str | None:
    tried = _measurements()
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
    return diagnose(how_many, _how_many, tried, mistakes, name="how_many")


# -- 04.6 ----------------------------------------------------------------------------------------------------


def _trials() -> list[tuple[list[float], list[float]]]:
    rng = np.random.default_rng(0)
    cases = []
    for gain in (0.1, -0.15, 0.05):
        before = rng.choice([0.0, 1 / 3, 0.5, 1.0], 100)
        moved = rng.choice([-0.4, 0, 0, 0.4], 100)
        after = before + moved - moved.mean() + gain
        cases.append((before.tolist(), after.tolist()))
    return cases


def check_questions(questions_needed: Callable[[list[float], list[float]], int]) -> str | None:
    def needed(spread: Callable[..., float], power: float = 2, z: float = 1.96) -> Callable[..., float]:
        def count(before: list[float], after: list[float]) -> float:
            a, b = np.array(after), np.array(before)
            return float(abs(z * spread(a, b) / (a - b).mean()) ** power)

        return count

    def paired(a: np.ndarray, b: np.ndarray) -> float:
        return float((a - b).std(ddof=1))

    mistakes: tuple[tuple[Callable[..., float], str], ...] = (
        (
            needed(lambda a, b: math.hypot(a.std(ddof=1), b.std(ddof=1))),
            "you added the spreads of before and after, as for two sets of questions; the questions are the "
            "same, so take the spread of their differences",
        ),
        (needed(lambda a, b: a.std(ddof=1)), "that is the spread of `after`; take that of after - before"),
        (needed(lambda a, b: b.std(ddof=1)), "that is the spread of `before`; take that of after - before"),
        (needed(paired, power=1), "n stands under a root: square both sides"),
        (needed(paired, z=1.0), "one standard error is no 95% interval: 1.96 of them are"),
        (needed(paired, z=1 / 1.96), "1.96 belongs above the line: solve 1.96 x s / sqrt(n) = gain for n"),
        (
            lambda before, after: (1.96 * np.subtract(after, before).std(ddof=1)) ** 2,
            "a small gain needs more questions than a large one: divide by the gain",
        ),
        (lambda before, after: len(before), "that is how many questions the trial had"),
    )
    for before, after in _trials():
        result, right = questions_needed(list(before), list(after)), needed(paired)(before, after)
        if not isinstance(result, (int, float, np.number)) or isinstance(result, bool):
            return f"questions_needed gave {result!r}; expected a number of questions"
        if not _near(float(result), right):
            tries = (said for wrong, said in mistakes if _near(float(result), wrong(before, after)))
            return next(tries, f"questions_needed gave {result}; it should be about {right:.0f}")
    return None


def _near(a: float, b: float) -> bool:
    """Whether two counts are equal but for rounding and for n or n - 1 in a standard deviation."""
    return abs(a - b) <= max(1.01, 0.02 * b)
