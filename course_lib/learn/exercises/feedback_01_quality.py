"""Checkers of chapter 01's exercises on memory, bits per byte, and comparing two models.

A checker takes the student's answer, and returns feedback, or None if the answer is right. Each known mistake
is a wrong solution with the feedback for it, see `comparing.diagnose`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from statistics import mean

from course_lib.learn.exercises.comparing import compare, diagnose
from course_lib.measure.intervals import bootstrap_interval


def _megabytes(parameters: int, bits: float) -> float:
    """The right solution of 01.1."""
    return parameters * bits / 8 / 10**6


# Known mistakes: a wrong answer, and the feedback on it.
SIZES = (
    (lambda p, b: _megabytes(p, int(b)), "4.5 bits were taken for 4: `bits` may be a fraction"),
    (lambda p, b: p * b / 10**6, "that counts 4 bits as 4 bytes; a byte has 8 bits"),
    (
        lambda p, b: 1.2 * _megabytes(p, b),
        "the weights alone take no factor 1.2; the KV cache and the program are added in chapter 02",
    ),
    (lambda p, b: p * b / 8 / 2**20, "dividing by 2**20 gives MiB; a megabyte (MB) is 10**6 bytes"),
    (lambda p, b: p * b / 8, "that is in bytes; divide by 10**6 for megabytes"),
    (lambda p, b: p * b / 8 / 10**9, "that is in gigabytes; a megabyte is 10**6 bytes"),
    (lambda p, b: p * b // 8 / 10**6, "// cuts off a part of a byte; divide with /"),
)


def check_megabytes(megabytes: Callable[[int, float], float]) -> str | None:
    """Check 01.1: `megabytes(parameters, bits)`, the size of a model's weights in MB (10**6 bytes)."""
    cases = [(8_000_000_000, 4), (1_377_408, 16), (1_000_001, 4.5)]
    return diagnose(megabytes, _megabytes, cases, SIZES, name="megabytes")


def _bits(logs: Sequence[float], text: str) -> float:
    """The right solution of 01.6."""
    return -sum(logs) / math.log(2) / len(text.encode())


# Known mistakes: a wrong answer, and the feedback on it.
BITS = (
    (
        lambda logs, text: -sum(logs) / math.log(2) / len(text),
        "that is bits per character: a Korean syllable takes three bytes, len(text.encode()) counts them",
    ),
    (
        lambda logs, text: -sum(logs) / len(text.encode()),
        "the logarithms are natural: divide by log(2) for bits",
    ),
    (
        lambda logs, text: -sum(logs) / len(logs) / math.log(2),
        "that is bits per token, which depends on the tokenizer; share the sum out over the bytes",
    ),
    (
        lambda logs, text: math.exp(-sum(logs) / len(logs)),
        "that is the perplexity, which depends on how the tokenizer cuts the text",
    ),
    (
        lambda logs, text: -_bits(logs, text),
        "logarithms of probabilities are negative: put a minus before the sum",
    ),
    (
        lambda logs, text: -sum(logs) * math.log(2) / len(text.encode()),
        "a bit is log(2) = 0.69 nats: divide by log(2), do not multiply",
    ),
    (
        lambda logs, text: _bits(logs, text) / len(logs),
        "the mean was divided by the bytes, so you divided twice: the *sum* belongs to the whole text",
    ),
)


def check_bits(bits_per_byte: Callable[[Sequence[float], str], float]) -> str | None:
    """Check 01.6: `bits_per_byte(logs, text)`, the bits of surprise for a model in a byte of the text.

    logs: the natural log-probabilities that the model gave the text's tokens.
    """
    chance = random.Random(9)
    cases = [
        ([-chance.expovariate(0.4) for _ in range(chance.randint(3, 30))], text)
        for text in ("It opens at 10:30.", "하늘은행은 10시에 연다.", "café", "통장")
    ]
    return diagnose(bits_per_byte, _bits, cases, BITS, name="bits_per_byte")


Right = Mapping[str, bool]  # question id -> whether the model was right
Scores = Callable[[Right, Right], tuple[list[float], list[float]]]


def _by_question(a: Right, b: Right) -> tuple[list[float], list[float]]:
    """Return both models' scores (1 or 0) on the questions that both answered, in the same order."""
    both = [id_ for id_ in a if id_ in b]
    return [float(a[id_]) for id_ in both], [float(b[id_]) for id_ in both]


def _by_place(a: Right, b: Right) -> tuple[list[float], list[float]]:
    """A mistake: pair the answers by their position in the dicts."""
    return (list(map(float, list(a.values())[: len(b)])), list(map(float, list(b.values())[: len(a)])))


def _missing_is_wrong(a: Right, b: Right) -> tuple[list[float], list[float]]:
    """A mistake: a question that a model was not asked counts as wrong."""
    ids = [*a, *(id_ for id_ in b if id_ not in a)]
    return [float(a.get(id_, False)) for id_ in ids], [float(b.get(id_, False)) for id_ in ids]


def _all_of_each(a: Right, b: Right) -> tuple[list[float], list[float]]:
    """A mistake: take all answers of each model, on different questions."""
    return list(map(float, a.values())), list(map(float, b.values()))


def _paired(scores: Scores = _by_question) -> Callable[[Right, Right], str]:
    """Return the right solution of 01.7, or a mistake if other `scores` are given."""

    def decide(a: Right, b: Right) -> str:
        low, high = bootstrap_interval([x - y for x, y in zip(*scores(a, b), strict=True)])
        return "a" if low > 0 else "b" if high < 0 else "cannot tell"

    return decide


def _higher(scores: Scores) -> Callable[[Right, Right], str]:
    """Return a mistake: decide for the higher mean, whatever the interval."""

    def decide(a: Right, b: Right) -> str:
        mean_a, mean_b = map(mean, scores(a, b))
        return "a" if mean_a > mean_b else "b" if mean_b > mean_a else "cannot tell"

    return decide


def _apart(scores: Scores) -> Callable[[Right, Right], str]:
    """Return a mistake: decide only if the intervals of the two means do not overlap."""

    def decide(a: Right, b: Right) -> str:
        (low_a, high_a), (low_b, high_b) = map(bootstrap_interval, scores(a, b))
        return "a" if low_a > high_b else "b" if low_b > high_a else "cannot tell"

    return decide


_decide = _paired()


def _including_zero(a: Right, b: Right) -> str:
    """A mistake: decide although the interval begins or ends at 0."""
    low, high = bootstrap_interval([x - y for x, y in zip(*_by_question(a, b), strict=True)])
    return "cannot tell" if low == high == 0 else "a" if low >= 0 else "b" if high <= 0 else "cannot tell"


LEAD = "a lead was taken for a proof; with 30 wins and 20 losses of 80, luck explains the lead"
OVERLAP = (
    "you asked whether two intervals overlap; with 12 wins and no loss they do, and yet a is better: "
    "take the interval of the differences, question by question"
)
DECISIONS: tuple[tuple[Callable[[Right, Right], str], str], ...] = (
    *((_higher(scores), LEAD) for scores in (_by_question, _all_of_each)),
    *((_apart(scores), OVERLAP) for scores in (_by_question, _all_of_each)),
    (
        _paired(_by_place),
        "the two dicts list their questions in different orders: pair the answers by id, not by place",
    ),
    (
        _paired(_missing_is_wrong),
        "a question that only one model was asked says nothing about the other: it was taken for wrong",
    ),
    (
        lambda a, b: {"b": "a"}.get(_decide(a, b), _decide(a, b)),
        "where b is better, your function says a: the sign of the difference was lost",
    ),
    (
        lambda a, b: {"b": "a", "a": "b"}.get(_decide(a, b), "cannot tell"),
        "a and b are swapped: a positive difference a - b speaks for a",
    ),
    (_including_zero, "2 wins and no loss of 10: the interval begins at 0, so zero is in it"),
    (
        lambda a, b: "b" if _decide(a, b) == "b" else "cannot tell",
        "where a is better, your function cannot tell",
    ),
    (
        lambda a, b: "a" if _decide(a, b) == "a" else "cannot tell",
        "where b is better, your function cannot tell",
    ),
)


def _answered(wins: int, losses: int, both: int, neither: int) -> tuple[Right, Right]:
    """Return the answers of two models, in different orders; each was also asked some other questions.

    wins, losses, both, neither: the numbers of questions that only a, only b, both and neither answered
    rightly.
    """
    kinds = (
        [(True, False)] * wins + [(False, True)] * losses + [(True, True)] * both + [(False, False)] * neither
    )
    a = {f"q{i}": right for i, (right, _) in enumerate(kinds)} | {f"a{i}": True for i in range(9)}
    b = {f"q{i}": right for i, (_, right) in enumerate(kinds)} | {f"b{i}": True for i in range(21)}
    chance = random.Random(wins)
    return tuple(dict(chance.sample(list(m.items()), len(m))) for m in (a, b))  # type: ignore[return-value]


def check_decide(decide: Callable[[Right, Right], str]) -> str | None:
    """Check 01.7: `decide(a, b)`, which model is better: "a", "b" or "cannot tell".

    The differences on the questions that both answered are resampled: if the interval of their mean (paired
    bootstrap) contains 0, nobody can tell.
    """
    counts = [(12, 0, 40, 28), (30, 20, 10, 20), (0, 12, 40, 28), (2, 0, 5, 3), (3, 3, 60, 14)]
    counts += [(50, 10, 80, 60), (10, 50, 80, 60), (20, 30, 20, 10)]
    return diagnose(decide, _decide, [_answered(*each) for each in counts], DECISIONS, name="decide")


def _needed(n: int, low: float, high: float, gain: float) -> float:
    """The right solution of 01.8."""
    return n * ((high - low) / 2 / gain) ** 2


# Known mistakes: a wrong answer, and the feedback on it.
NEEDED = (
    (
        lambda n, low, high, gain: n * (high - low) / 2 / gain,
        "the interval narrows with the square root: for half the width four times the questions",
    ),
    (
        lambda n, low, high, gain: n * ((high - low) / gain) ** 2,
        "the interval reaches half its width to each side of the gain: take (high - low) / 2",
    ),
    (
        lambda n, low, high, gain: n * (gain / ((high - low) / 2)) ** 2,
        "that is upside down: a smaller gain needs more questions, not fewer",
    ),
    (
        lambda n, low, high, gain: n * ((high - low) / 2 / gain) ** 0.5,
        "the width falls with the square root of n, so n grows with the square of the factor",
    ),
    (
        lambda n, low, high, gain: n * (high - low) / gain,
        "half the width, and squared: (high - low) / 2 / gain",
    ),
    *(
        (wrong, "that measures from one end of the interval; its reach is half its width, (high - low) / 2")
        for wrong in (
            lambda n, low, high, gain: n * ((gain - low) / gain) ** 2,
            lambda n, low, high, gain: n * ((high - gain) / gain) ** 2,
            lambda n, low, high, gain: n * (low / gain) ** 2,
            lambda n, low, high, gain: n * (high / gain) ** 2,
        )
    ),
)


def check_needed(questions_needed: Callable[[int, float, float, float], float]) -> str | None:
    """Check 01.8: `questions_needed(n, low, high, gain)`.

    It is the number of questions at which the interval, (low, high) with n questions, no longer contains 0
    for a difference of `gain`.
    """
    chance = random.Random(11)
    for case in [(80, -3.0, 11.0, 4.0), *((chance.randint(40, 90), -2.0, 7.0, 1.5) for _ in range(3))]:
        feedback = compare(
            f"questions_needed{case}",
            questions_needed(*case),
            _needed(*case),
            {mistake(*case): text for mistake, text in NEEDED},
            tolerance=0.01,  # whether and how the student rounds
        )
        if feedback:
            return feedback
    return None
