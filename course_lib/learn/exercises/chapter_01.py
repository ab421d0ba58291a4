"""Exercises of chapter 01: memory of the weights, speed, perplexity, and comparing two models."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import mean, median

from course_lib.learn.exercises.comparing import check_length, check_letter, compare
from course_lib.learn.exercises.engine import Exercise


def check_megabytes(megabytes: Callable[[int, float], float]) -> str | None:
    parameters, bits = 8_000_000_000, 4
    size_bytes = parameters * bits / 8
    return compare(
        "megabytes(8_000_000_000, 4)",
        megabytes(parameters, bits),
        size_bytes / 10**6,
        {
            parameters * bits / 10**6: "that counts 4 bits as 4 bytes; a byte has 8 bits",
            1.2 * size_bytes / 10**6: (
                "the weights alone take no factor 1.2; the KV cache and the program are added in chapter 02"
            ),
            size_bytes / 2**20: "dividing by 2**20 gives MiB; a megabyte (MB) is 10**6 bytes",
            size_bytes: "that is in bytes; divide by 10**6 for megabytes",
        },
    ) or compare("megabytes(1_377_408, 16)", megabytes(1_377_408, 16), 1_377_408 * 16 / 8 / 10**6)


COLD_COUNTED = "the first run is included; it is a cold start, so leave it out"


def check_speed(speed: Callable[[int, Sequence[float]], float]) -> str | None:
    tokens = 100
    seconds = [9.0, 2.0, 2.5, 1.0, 2.0, 6.0]  # the first run is a cold start, the last one was disturbed
    warm = seconds[1:]
    feedback = compare(
        f"speed({tokens}, {seconds})",
        speed(tokens, list(seconds)),
        tokens / median(warm),
        {
            tokens / median(seconds): COLD_COUNTED,
            tokens
            / mean(warm): "that uses the mean, which the disturbed run of 6 s distorts; take the median",
            tokens / mean(seconds): "that is the mean of all runs; leave out the first and take the median",
            tokens / min(seconds): "that is the fastest run, a lucky exception; take the median",
            median(warm) / tokens: "that is seconds per token; divide tokens by seconds",
        },
    )
    seconds = [3.6, 2.0, 4.0, 3.0, 7.0]
    warm = seconds[1:]
    return feedback or compare(
        f"speed({tokens}, {seconds})",
        speed(tokens, list(seconds)),
        tokens / median(warm),
        {
            tokens / median(seconds[:-1]): "that leaves out the slowest or the last run; leave out the first",
            tokens / median(seconds): COLD_COUNTED,
            tokens / min(seconds): "that is a single run; take the median of all but the first",
        },
    )


def check_perplexity(perplexity: Callable[[Sequence[float]], float]) -> str | None:
    probabilities = [1 / 2, 1 / 4, 1 / 64]
    logs = [math.log(p) for p in probabilities]
    mean_loss = -sum(logs) / len(logs)
    feedback = compare(
        "perplexity of three tokens with probabilities 1/2, 1/4 and 1/64",
        perplexity(list(logs)),
        math.exp(mean_loss),
        {
            math.exp(-mean_loss): "perplexity is never below 1; put a minus before the mean log-probability",
            math.exp(-sum(logs)): (
                "that is exp of the sum, which grows with the length of the text; take the mean of the "
                "log-probabilities"
            ),
            mean(
                1 / p for p in probabilities
            ): "that is the mean of 1/p; average the logarithms, then take exp",
            1 / median(probabilities): "that uses the median of the log-probabilities; take their mean",
            2**mean_loss: "these are natural logarithms, so invert them with exp, not with a power of 2",
        },
    )
    return feedback or compare("perplexity([log(1)])", perplexity([0.0]), 1.0)


def check_advantage(
    advantage: Callable[[Sequence[bool], Sequence[bool]], tuple[int, int, float]],
) -> str | None:
    a = [True, True, True, False, True, False, True, False]
    b = [True, False, False, True, True, False, False, False]
    a_only = sum(x and not y for x, y in zip(a, b, strict=True))
    b_only = sum(y and not x for x, y in zip(a, b, strict=True))
    result = advantage(a, b)
    if feedback := check_length(result, "values: wins, losses and the difference", 3):
        return feedback
    wins, losses, difference = result
    if (wins, losses) == (b_only, a_only):
        return "wins and losses are swapped: a win is a question that `a` has right and `b` has wrong"
    if (wins, losses) == (sum(a), sum(b)):
        return "those are all right answers of each; where both are right, neither has won"
    return (
        compare("wins", wins, a_only)
        or compare("losses", losses, b_only)
        or compare(
            "the difference",
            difference,
            (a_only - b_only) / len(a),
            {
                a_only - b_only: "that is wins minus losses; divide by the number of questions",
                (b_only - a_only) / len(a): "that is b minus a; subtract the share of b from the share of a",
                (a_only - b_only) / (a_only + b_only): (
                    "that divides by wins plus losses; divide by all questions, those where both agree too"
                ),
            },
        )
    )


REPLY = {
    "prompt_eval_count": 300,
    "prompt_eval_duration": 50_000_000,  # all durations in nanoseconds
    "eval_count": 40,
    "eval_duration": 200_000_000,
    "total_duration": 400_000_000,
}


def check_speeds(speeds: Callable[[dict[str, int]], tuple[float, float]]) -> str | None:
    result = speeds(dict(REPLY))
    if feedback := check_length(result, "speeds, of reading and of writing"):
        return feedback
    read, written = REPLY["prompt_eval_count"], REPLY["eval_count"]
    reading, writing, total = (
        REPLY[name] / 1e9 for name in ("prompt_eval_duration", "eval_duration", "total_duration")
    )
    feedback = compare(
        "the speed of writing",
        result[1],
        written / writing,
        {
            read / reading: "the speeds of reading and writing are swapped",
            written / writing / 1e9: "that is tokens per nanosecond; a second has 10**9 nanoseconds",
            written / writing / 1e6: "that treats the durations as milliseconds; they are nanoseconds",
            writing / written: "that is seconds per token; divide tokens by seconds",
            written / total: "total_duration includes loading and reading; divide by eval_duration",
        },
    )
    return feedback or compare(
        "the speed of reading",
        result[0],
        read / reading,
        {
            read / total: "total_duration includes loading and writing; divide by prompt_eval_duration",
            read / (reading + writing): "that divides by the time of reading and writing together",
        },
    )


def check_waiting(waiting: Callable[[int, int, float, float], tuple[float, float]]) -> str | None:
    prompt, answer, reads, writes = 1000, 100, 5000.0, 50.0  # tokens, and tokens per second
    result = waiting(prompt, answer, reads, writes)
    if feedback := check_length(result, "times, to the first token and to the last"):
        return feedback
    first, last = result
    feedback = compare(
        "the time to the last token",
        last,
        prompt / reads + answer / writes,
        {
            answer / writes: "the prompt is read before anything is written: add the time of reading",
            prompt / reads
            + (answer + 1) / writes: "the first token is part of the answer; you counted it twice",
            (prompt + answer) / writes: "the prompt is read, not written; divide it by the speed of reading",
            prompt / writes + answer / reads: "the two speeds are swapped",
        },
    )
    return feedback or compare(
        "the time to the first token",
        first,
        prompt / reads + 1 / writes,
        {
            prompt / reads: "after the prompt is read, the first token must also be written",
            1 / writes: "the whole prompt is read before the first token is written",
            prompt / reads + answer / writes: "that is the time to the last token",
        },
    )


PROPOSALS = {
    "a": "no model of that name exists: Llama 3 was published with 8 and with 70 billion weights",
    "b": "it fits and it knows Korean, but its licence forbids commercial use",
    "c": None,
    "d": "in 16 bits its weights take 14 GiB, but the machine has 8; in 4.5 bits the same model fits",
}


READINGS = {
    "a": "zero lies inside the interval; how much of the interval is above zero does not matter",
    "b": None,
    "c": "finding no difference does not show that they are equal; more questions might show a difference",
    "d": "the interval shows only the chance in drawing these questions; it says nothing about training time",
}


EXERCISES = (
    Exercise(
        "01.1",
        "megabytes of weights",
        (
            "The number of bytes is weights × bits, divided by the bits in a byte.",
            "A megabyte is 10**6 bytes.",
            "parameters * bits / 8 / 10**6",
        ),
        check_megabytes,
    ),
    Exercise(
        "01.2",
        "a fair speed",
        (
            "The first run is a cold start; seconds[1:] leaves it out.",
            "`median` is imported in the same cell.",
            "tokens / median(seconds[1:])",
        ),
        check_speed,
    ),
    Exercise(
        "01.3",
        "perplexity by hand",
        (
            "Perplexity is exp of the negative mean log-probability.",
            "The mean is sum(logs) / len(logs).",
            "exp(-sum(logs) / len(logs))",
        ),
        check_perplexity,
    ),
    Exercise(
        "01.4",
        "wins and losses, question by question",
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
            "If it is, these questions cannot tell which model is better; nothing more follows.",
        ),
        lambda answer: check_letter(answer, READINGS),
    ),
    Exercise(
        "01.6",
        "speeds from a reply",
        (
            "Tokens per second is a count divided by a duration in seconds.",
            "Durations are in nanoseconds: divide them by 10**9.",
            'reply["eval_count"] / reply["eval_duration"] * 1e9; the same with prompt_eval_... for reading',
        ),
        check_speeds,
    ),
    Exercise(
        "01.7",
        "time to the first and last token",
        (
            "The whole prompt is read before the first token is written, in prompt / reads seconds.",
            "Writing one token takes 1 / writes seconds, and n tokens take n / writes.",
            "prompt / reads + 1 / writes, and prompt / reads + answer / writes",
        ),
        check_waiting,
    ),
    Exercise(
        "01.8",
        "choose one of four models",
        (
            "Do all four exist? Look them up in the catalogue table.",
            "Does the licence allow commercial use? Look at the column `commercial`.",
            "Which of the others fits into 8 GiB with room to spare?",
        ),
        lambda answer: check_letter(answer, PROPOSALS),
    ),
)
