"""Checkers of chapter 01's exercises on the speed of a model.

A checker takes the student's answer, and returns feedback, or None if the answer is right. Each known mistake
is a wrong solution with the feedback for it, see `comparing.diagnose`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from statistics import mean, median
from typing import Any

from course_lib.learn.exercises.comparing import diagnose

Runs = Sequence[tuple[float, str]]  # seconds and answer of each run
Counter = Callable[[str], int]  # counts the tokens of a text


def _speed(runs: Runs, count_tokens: Counter) -> float:
    """The right solution of 01.2."""
    return median(count_tokens(text) / seconds for seconds, text in runs[1:])


def _rates(runs: Runs, count: Counter) -> list[float]:
    return [count(text) / seconds for seconds, text in runs]


# Known mistakes: a wrong answer, and the feedback on it.
SPEEDS = (
    (
        lambda runs, count: sum(len(text) for _, text in runs) / sum(s for s, _ in runs),
        "that is the colleague's figure, with all three faults in it",
    ),
    (lambda runs, count: _speed(runs, len), "len(text) counts characters; count_tokens(text) counts tokens"),
    (
        lambda runs, count: median(_rates(runs, count)),
        "the first run is included; it is a cold start, so leave it out",
    ),
    (
        lambda runs, count: mean(_rates(runs[1:], count)),
        "the mean is moved by the one disturbed run; take the median of the runs' speeds",
    ),
    (
        lambda runs, count: sum(count(t) for _, t in runs[1:]) / sum(s for s, _ in runs[1:]),
        "all tokens by all seconds: the disturbed run weighs most; take the median of the runs' speeds",
    ),
    (
        lambda runs, count: sum(count(t) for _, t in runs) / sum(s for s, _ in runs),
        "tokens are right, but the cold run counts, and the disturbed one weighs most; take a median",
    ),
    (
        lambda runs, count: median(count(t) for _, t in runs[1:]) / median(s for s, _ in runs[1:]),
        "the median of the tokens is of one run, that of the seconds of another; divide run by run first",
    ),
    (
        lambda runs, count: max(_rates(runs, count)),
        "that is the fastest run, a lucky exception; take the median",
    ),
    (
        lambda runs, count: median(s / count(t) for s, t in runs[1:]),
        "that is seconds per token; divide tokens by seconds",
    ),
    (
        lambda runs, count: median(_rates(runs[:-1], count)),
        "that leaves out the last run; the cold one is the first",
    ),
)


def check_speed(speed: Callable[[Runs, Counter], float]) -> str | None:
    """Check 01.2: `speed(runs, count_tokens)`, the median tokens per second without the slow first run."""
    chance = random.Random(1)
    cases = []
    for runs in (5, 6, 9):
        words = ["w " * chance.randint(10, 60) for _ in range(runs)]
        seconds = [len(w.split()) / chance.uniform(20, 30) for w in words]
        seconds[0], seconds[runs // 2] = (4 * seconds[0], 9 * seconds[runs // 2])  # slow start, disturbance
        cases.append((list(zip(seconds, words, strict=True)), _count_words))
    return diagnose(speed, _speed, cases, SPEEDS, name="speed")


def _count_words(text: str) -> int:
    return len(text.split())


def _most(
    question: int, passage: int, answer: int, reads: float, writes: float, first: float, last: float
) -> int:
    """The right solution of 01.3.

    question, passage, answer: numbers of tokens. reads, writes: tokens per second. first, last: the longest
    times in seconds to the first and to the last token of the answer.
    """

    def fits(n: int) -> bool:
        waiting = (question + n * passage) / reads
        return waiting <= first and waiting + (answer - 1) / writes <= last

    return next(n - 1 for n in range(10**6) if not fits(n))


def _most_by(rule: Callable[..., float]) -> Callable[..., int]:
    """Return a mistake: `rule` gives the largest number of prompt tokens, from the arguments of `_most`."""
    return lambda q, p, a, r, w, first, last: max(-1, math.floor((rule(q, p, a, r, w, first, last) - q) / p))


# Known mistakes: a wrong answer, and the feedback on it.
FITTING = (
    (
        _most_by(lambda q, p, a, r, w, first, last: first * r),
        "the time to the last token was forgotten: a long answer leaves less time for reading",
    ),
    (
        _most_by(lambda q, p, a, r, w, first, last: (last - (a - 1) / w) * r),
        "the time to the first token was forgotten: it has a limit of its own",
    ),
    (
        _most_by(lambda q, p, a, r, w, first, last: min(first, last) * r),
        "writing takes time, too: subtract that of the other answer tokens from the time to the last token",
    ),
    (
        _most_by(lambda q, p, a, r, w, first, last: min(first - 1 / w, last - a / w) * r),
        "the pass that reads the prompt yields the first token already: answer - 1 are left to write",
    ),
    (
        _most_by(lambda q, p, a, r, w, first, last: min(first, last - a / w) * r),
        "the first token comes with the end of reading, so only answer - 1 tokens are left to write",
    ),
    (
        lambda q, p, a, r, w, first, last: max(-1, math.floor(min(first, last - (a - 1) / w) * r / p)),
        "the question's own tokens are read, too: subtract them before you divide by those of a passage",
    ),
    (
        lambda *arguments: max(0, _most(*arguments)),
        "where even the question alone takes too long, return -1; 0 means that it fits alone",
    ),
    (
        lambda q, p, a, r, w, first, last: max(-1, math.ceil((min(first, last - (a - 1) / w) * r - q) / p)),
        "rounding up gives one passage too many; the largest number that still fits is wanted",
    ),
    (
        lambda q, p, a, r, w, first, last: max(-1, round((min(first, last - (a - 1) / w) * r - q) / p)),
        "round() sometimes gives one passage too many; the largest number that still fits is wanted",
    ),
    (
        lambda q, p, a, r, w, first, last: int((min(first, last - (a - 1) / w) * r - q) / p),
        "int() rounds towards zero: where the question alone takes too long, it gives 0, not -1",
    ),
    (
        lambda q, p, a, r, w, first, last: math.floor((min(first, last - (a - 1) / w) * r - q) / p),
        "where the question alone is far too long, that is -9 or so; return -1, however much is missing",
    ),
)


def check_most(most_passages: Callable[..., int]) -> str | None:
    """Check 01.3: `most_passages`, how many passages fit into the prompt within two time limits."""
    chance = random.Random(3)
    cases: list[tuple[Any, ...]] = [
        (60, 120, 40, 2000.0, 50.0, 0.5011, 9.0),  # the first token limits
        (60, 120, 200, 2000.0, 50.0, 3.0, 4.2511),  # the last token limits
        (300, 120, 10, 500.0, 50.0, 0.45, 9.0),  # the question alone takes too long
        (1000, 100, 10, 100.0, 50.0, 1.0, 10.0),  # the question alone takes far too long
    ]
    for _ in range(200):
        reads, writes, answer = chance.uniform(50, 5000), chance.uniform(5, 300), chance.randint(1, 300)
        first, wait = chance.uniform(0.2, 4), (answer - 1) / writes
        last = wait + chance.uniform(0.2, 4)
        cases.append((chance.randint(10, 200), chance.randint(60, 300), answer, reads, writes, first, last))
    return diagnose(most_passages, _most, cases, FITTING, name="most_passages")
