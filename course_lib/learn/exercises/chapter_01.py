"""Exercises of chapter 01: memory, speed, perplexity, differences and their reading."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from course_lib.learn.exercises.comparing import choose_letter, compare, count_values
from course_lib.learn.exercises.engine import Exercise


def check_megabytes(weigh: Callable[[int, float], float]) -> str | None:
    feedback = compare(
        "megabytes(8_000_000_000, 4)",
        weigh(8_000_000_000, 4),
        4000.0,
        {
            32000.0: "that counts 4 bits as 4 bytes; a byte has 8 bits",
            4800.0: (
                "the rule has no factor 1.2; the KV cache and the program are counted apart, in chapter 02"
            ),
            8e9 / 2 / 2**20: "that divides by 2**20, which gives MiB; a megabyte (MB) is 10**6 bytes",
            4e9: "that is in bytes; a megabyte is 10**6 of them",
        },
    )
    return feedback or compare("megabytes(1_377_408, 16)", weigh(1_377_408, 16), 2.754816)


def check_speed(speed: Callable[[int, Sequence[float]], float]) -> str | None:
    feedback = compare(
        "speed(100, [9.0, 2.0, 2.5, 1.0, 2.0, 6.0])",
        speed(100, [9.0, 2.0, 2.5, 1.0, 2.0, 6.0]),  # the first run is a cold one,
        50.0,
        {
            100 / 2.25: "the first run is in it; it pays for what happens only once, leave it out",
            100 / 2.7: "that is the mean, which the one disturbed run of 6 s has moved; take the median",
            100
            / 3.75: "that is the mean of all runs, the cold one too; leave the first out and take the median",
            100.0: "that is the fastest run; nobody will see that speed twice, take the median",
            0.02: "that is seconds for a token; tokens per second is the other way round",
        },
    )
    return feedback or compare(
        "speed(100, [3.6, 2.0, 4.0, 3.0, 7.0])",
        speed(100, [3.6, 2.0, 4.0, 3.0, 7.0]),
        100 / 3.5,
        {
            100 / 3.3: "that leaves out the slowest or the last run; the one to leave out is the first",
            100 / 3.6: "the first run is in it; it pays for what happens only once, leave it out",
            50.0: "that is a single run; take the median of all but the first",
        },
    )


def check_perplexity(perplexity: Callable[[Sequence[float]], float]) -> str | None:
    logs = [math.log(1 / 2), math.log(1 / 4), math.log(1 / 64)]
    feedback = compare(
        "perplexity of three tokens with probabilities 1/2, 1/4 and 1/64",
        perplexity(logs),
        8.0,
        {
            0.125: (
                "a perplexity below 1 cannot be; log-probabilities are negative, so the minus sign is missing"
            ),
            512.0: (
                "that is exp of the sum, which grows with the length of the text; take the mean of the "
                "log-probabilities"
            ),
            70 / 3: "that is the mean of 1/p; take the mean of the logarithms first, then exp",
            4.0: "that is the median of the log-probabilities; take their mean",
            2 ** math.log(8): "these are natural logarithms, so the way back is exp, not a power of 2",
        },
    )
    return feedback or compare("perplexity([log(1)])", perplexity([0.0]), 1.0)


def check_advantage(
    advantage: Callable[[Sequence[bool], Sequence[bool]], tuple[int, int, float]],
) -> str | None:
    a = [True, True, True, False, True, False, True, False]
    b = [True, False, False, True, True, False, False, False]
    got = advantage(a, b)
    if feedback := count_values(got, "values are wanted: wins, losses, difference", 3):
        return feedback
    wins, losses, difference = got
    if (wins, losses) == (1, 3):
        return (
            "wins and losses are the wrong way round: a win is a question that `a` has right and `b` has not"
        )
    if (wins, losses) == (5, 3):
        return "those are all right answers of each; where both are right nobody has won"
    return (
        compare("wins", wins, 3)
        or compare("losses", losses, 1)
        or compare(
            "the difference",
            difference,
            0.25,
            {
                2.0: "that is wins minus losses; divide by the number of questions",
                -0.25: "that is b minus a; the difference is the share of a minus the share of b",
                0.5: "that divides by wins and losses alone; the questions where both agree count, too",
            },
        )
    )


REPLY = {
    "prompt_eval_count": 300,
    "prompt_eval_duration": 50_000_000,
    "eval_count": 40,
    "eval_duration": 200_000_000,
    "total_duration": 400_000_000,
}


def check_speeds(speeds: Callable[[dict[str, int]], tuple[float, float]]) -> str | None:
    got = speeds(dict(REPLY))
    feedback = count_values(got, "speeds are wanted, reading and writing") or compare(
        "the speed of writing",
        got[1],
        200.0,
        {
            6000.0: "reading and writing are the wrong way round",
            2e-7: "that is tokens per nanosecond; a second has 10**9 of them",
            200e-6: "that takes the durations for milliseconds; they are nanoseconds, a second has 10**9",
            0.005: "that is seconds for a token; tokens per second is the other way round",
            100.0: "that divides by total_duration, in which loading and reading are, too",
        },
    )
    return feedback or compare(
        "the speed of reading",
        got[0],
        6000.0,
        {
            750.0: "that divides by total_duration, in which loading and writing are, too",
            300 / 0.25: "that divides by the time of reading and writing together",
        },
    )


def check_waiting(waiting: Callable[[int, int, float, float], tuple[float, float]]) -> str | None:
    got = waiting(1000, 100, 5000.0, 50.0)
    if feedback := count_values(got, "times are wanted, to the first token and to the last"):
        return feedback
    first, last = got
    feedback = compare(
        "the time to the last token",
        last,
        2.2,
        {
            2.0: "the prompt is read before anything is written: add the time of reading",
            2.22: "the first token is one of the answer's; it has been counted twice",
            22.0: "the prompt is not written but read, and reading has a speed of its own",
            20.02: "the two speeds have changed places",
        },
    )
    return feedback or compare(
        "the time to the first token",
        first,
        0.22,
        {
            0.2: "the first token must be written, too, after the prompt was read",
            0.02: "before the first token is written the whole prompt is read",
            2.2: "that is the time to the last token",
        },
    )


PROPOSALS = {
    "a": "no model of that name was ever published: Llama 3 came with 8 and 70 billion weights",
    "b": "it fits and it knows Korean, but its licence forbids use in a business",
    "c": None,
    "d": "in 16 bits its weights take 14 GiB, and the machine has 8; in 4.5 bits the same model fits",
}


READINGS = {
    "a": "an interval is no vote: zero lies inside it, however much of it lies above",
    "b": None,
    "c": "no difference found is not no difference: with more questions one might show",
    "d": (
        "the interval is about these questions and the luck of drawing them; it says nothing about the "
        "time of training"
    ),
}


EXERCISES = (
    Exercise(
        "01.1",
        "megabytes of weights",
        (
            "Bytes are weights × bits, divided by the bits in a byte.",
            "A megabyte is 10**6 bytes.",
            "parameters * bits / 8 / 10**6",
        ),
        check_megabytes,
    ),
    Exercise(
        "01.2",
        "an honest speed",
        (
            "The first of the runs is the cold one: seconds[1:].",
            "`median` is imported in the same cell.",
            "tokens / median(seconds[1:])",
        ),
        check_speed,
    ),
    Exercise(
        "01.3",
        "perplexity by hand",
        (
            "Perplexity is exp of minus the mean log-probability.",
            "The mean is sum(logs) / len(logs).",
            "exp(-sum(logs) / len(logs))",
        ),
        check_perplexity,
    ),
    Exercise(
        "01.4",
        "who wins, question by question",
        (
            "Go through both lists side by side: zip(a, b).",
            "A win: x and not y. A loss: y and not x.",
            "The difference is (wins - losses) / len(a).",
        ),
        check_advantage,
    ),
    Exercise(
        "01.5",
        "what an interval says",
        (
            "Is zero inside the interval?",
            "When it is, the questions cannot tell the two apart; that is all they say.",
        ),
        lambda answer: choose_letter(answer, READINGS),
    ),
    Exercise(
        "01.6",
        "speeds from a reply",
        (
            "Tokens per second: a count divided by a duration in seconds.",
            "Durations are in nanoseconds: divide them by 10**9.",
            'reply["eval_count"] / reply["eval_duration"] * 1e9, and the same with prompt_eval_ for reading',
        ),
        check_speeds,
    ),
    Exercise(
        "01.7",
        "how long one waits",
        (
            "Before the first token is written, the whole prompt is read: prompt / reads seconds.",
            "One token takes 1 / writes seconds, an answer of n takes n / writes.",
            "prompt / reads + 1 / writes, and prompt / reads + answer / writes",
        ),
        check_waiting,
    ),
    Exercise(
        "01.8",
        "one of four proposals",
        (
            "Does each of them exist? The table of the catalogue knows.",
            "May a business use it? Look at the column `commercial`.",
            "8 GiB of memory: which of the others fits with room to spare?",
        ),
        lambda answer: choose_letter(answer, PROPOSALS),
    ),
)
