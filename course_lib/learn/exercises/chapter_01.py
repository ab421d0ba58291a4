"""Exercises of chapter 01: memory, speed, perplexity, differences and their reading."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from course_lib.learn.exercises.engine import Exercise, Wrong, compare


def _megabytes(weigh: Callable[[int, float], float]) -> str | None:
    said = compare("megabytes(8_000_000_000, 4)", weigh(8_000_000_000, 4), 4000.0, {
        32000.0: "that counts 4 bits as 4 bytes; a byte has 8 bits",
        4000.0 * 1.2: "the rule has no factor 1.2; the KV cache and the program are counted apart, in chapter 02",
        8e9 / 2 / 2**20: "that divides by 2**20, which gives MiB; a megabyte (MB) is 10**6 bytes",
        4e9: "that is in bytes; a megabyte is 10**6 of them",
    })  # fmt: skip
    return said or compare("megabytes(1_377_408, 16)", weigh(1_377_408, 16), 2.754816, {})


def _speed(speed: Callable[[int, Sequence[float]], float]) -> str | None:
    seconds = [9.0, 2.0, 2.5, 1.0, 2.0, 6.0]  # the first run is a cold one
    said = compare("speed(100, [9.0, 2.0, 2.5, 1.0, 2.0, 6.0])", speed(100, seconds), 50.0, {
        100 / 2.25: "the first run is in it; it pays for what happens only once, leave it out",
        100 / 2.7: "that is the mean, which the one disturbed run of 6 s has moved; take the median",
        100 / 3.75: "that is the mean of all runs, the cold one too; leave the first out and take the median",
        100.0: "that is the fastest run; nobody will see that speed twice, take the median",
        0.02: "that is seconds for a token; tokens per second is the other way round",
    })  # fmt: skip
    return said or compare("speed(100, [3.6, 2.0, 4.0, 3.0, 7.0])", speed(100, [3.6, 2.0, 4.0, 3.0, 7.0]), 100 / 3.5, {
        100 / 3.3: "that leaves out the slowest or the last run; the one to leave out is the first",
        100 / 3.6: "the first run is in it; it pays for what happens only once, leave it out",
        50.0: "that is a single run; take the median of all but the first",
    })  # fmt: skip


def _perplexity(perplexity: Callable[[Sequence[float]], float]) -> str | None:
    logs = [math.log(1 / 2), math.log(1 / 4), math.log(1 / 64)]
    said = compare("perplexity of three tokens with probabilities 1/2, 1/4 and 1/64", perplexity(logs), 8.0, {
        0.125: "a perplexity below 1 cannot be; log-probabilities are negative, so the minus sign is missing",
        512.0: "that is exp of the sum, which grows with the length of the text; take the mean of the log-probabilities",
        70 / 3: "that is the mean of 1/p; take the mean of the logarithms first, then exp",
        4.0: "that is the median of the log-probabilities; take their mean",
        2 ** math.log(8): "these are natural logarithms, so the way back is exp, not a power of 2",
    })  # fmt: skip
    return said or compare("perplexity([log(1)])", perplexity([0.0]), 1.0, {})


def _advantage(advantage: Callable[[Sequence[bool], Sequence[bool]], tuple[int, int, float]]) -> str | None:
    a = [True, True, True, False, True, False, True, False]
    b = [True, False, False, True, True, False, False, False]
    got = advantage(a, b)
    if not isinstance(got, (tuple, list)) or len(got) != 3:
        return f"three values are wanted: wins, losses, difference; got {got!r}"
    wins, losses, difference = got
    if (wins, losses) == (1, 3):
        return "wins and losses are the wrong way round: a win is a question that `a` has right and `b` has not"
    if (wins, losses) == (5, 3):
        return "those are all right answers of each; where both are right nobody has won"
    return compare("wins", wins, 3, {}) or compare("losses", losses, 1, {}) or compare("the difference", difference, 0.25, {
        2.0: "that is wins minus losses; divide by the number of questions",
        -0.25: "that is b minus a; the difference is the share of a minus the share of b",
        0.5: "that divides by wins and losses alone; the questions where both agree count, too",
    })  # fmt: skip


READINGS = {
    "a": "an interval is no vote: zero lies inside it, however much of it lies above",
    "b": None,
    "c": "no difference found is not no difference: with more questions one might show",
    "d": "the interval is about these questions and the luck of drawing them; it says nothing about the time of training",
}


def _reading(answer: str) -> str | None:
    letter = str(answer).strip().lower()
    if letter not in READINGS:
        return f"{answer!r} is none of the letters a, b, c, d"
    return READINGS[letter]


EXERCISES = (
    Exercise(
        "01.1", "megabytes of weights",
        ("Bytes are weights × bits, divided by the bits in a byte.",
         "A megabyte is 10**6 bytes.",
         "parameters * bits / 8 / 10**6"),
        _megabytes,
        {
            "bits for bytes": Wrong("return parameters * bits / 10**6", "a byte has 8 bits"),
            "overhead": Wrong("return 1.2 * parameters * bits / 8 / 10**6", "no factor 1.2"),
            "MiB": Wrong("return parameters * bits / 8 / 2**20", "gives MiB"),
            "bytes": Wrong("return parameters * bits / 8", "that is in bytes"),
        },
    ),
    Exercise(
        "01.2", "an honest speed",
        ("The first of the runs is the cold one: seconds[1:].",
         "`median` is imported in the same cell.",
         "tokens / median(seconds[1:])"),
        _speed,
        {
            "cold run counted": Wrong("return tokens / median(seconds)", "the first run is in it"),
            "mean": Wrong("return tokens / (sum(seconds[1:]) / len(seconds[1:]))", "that is the mean"),
            "fastest": Wrong("return tokens / min(seconds)", "the fastest run"),
            "slowest dropped": Wrong("return tokens / median(sorted(seconds)[:-1])", "the slowest or the last run"),
            "upside down": Wrong("return median(seconds[1:]) / tokens", "the other way round"),
        },
    ),
    Exercise(
        "01.3", "perplexity by hand",
        ("Perplexity is exp of minus the mean log-probability.",
         "The mean is sum(logs) / len(logs).",
         "exp(-sum(logs) / len(logs))"),
        _perplexity,
        {
            "no minus": Wrong("return exp(sum(logs) / len(logs))", "minus sign is missing"),
            "sum": Wrong("return exp(-sum(logs))", "take the mean"),
            "mean of 1/p": Wrong("return sum(exp(-x) for x in logs) / len(logs)", "mean of 1/p"),
            "median": Wrong("return exp(-sorted(logs)[len(logs) // 2])", "the median of the log-probabilities"),
            "base two": Wrong("return 2 ** (-sum(logs) / len(logs))", "not a power of 2"),
        },
    ),
    Exercise(
        "01.4", "who wins, question by question",
        ("Go through both lists side by side: zip(a, b).",
         "A win: x and not y. A loss: y and not x.",
         "The difference is (wins - losses) / len(a)."),
        _advantage,
        {
            "swapped": Wrong(
                "wins = sum(y and not x for x, y in zip(a, b))\nlosses = sum(x and not y for x, y in zip(a, b))\n"
                "return wins, losses, (wins - losses) / len(a)", "the wrong way round"),
            "ties counted": Wrong("return sum(a), sum(b), (sum(a) - sum(b)) / len(a)", "nobody has won"),
            "not divided": Wrong(
                "wins = sum(x and not y for x, y in zip(a, b))\nlosses = sum(y and not x for x, y in zip(a, b))\n"
                "return wins, losses, wins - losses", "divide by the number of questions"),
            "agreement left out": Wrong(
                "wins = sum(x and not y for x, y in zip(a, b))\nlosses = sum(y and not x for x, y in zip(a, b))\n"
                "return wins, losses, (wins - losses) / (wins + losses)", "both agree count, too"),
        },
    ),
    Exercise(
        "01.5", "what an interval says",
        ("Is zero inside the interval?",
         "When it is, the questions cannot tell the two apart; that is all they say."),
        _reading,
        {
            "a vote": Wrong('follows = "a"', "an interval is no vote"),
            "equality": Wrong('follows = "c"', "no difference found is not no difference"),
            "training": Wrong('follows = "D"', "nothing about the time of training"),
            "no letter": Wrong('follows = "they are equal"', "none of the letters"),
        },
    ),
)  # fmt: skip
