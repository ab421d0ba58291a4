"""Checkers of chapter 01's exercises on speed and servers: return feedback, None if right.

Each known mistake is a function that makes it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from statistics import mean, median
from typing import Any

from course_lib.learn.exercises.comparing import diagnose

Runs = Sequence[tuple[float, str]]
Counter = Callable[[str], int]


def _speed(runs: Runs, count_tokens: Counter) -> float:
    return median(count_tokens(text) / seconds for seconds, text in runs[1:])


def _rates(runs: Runs, count: Counter) -> list[float]:
    return [count(text) / seconds for seconds, text in runs]


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
    chance = random.Random(1)
    cases = []
    for runs in (5, 6, 9):
        words = ["w " * chance.randint(10, 60) for _ in range(runs)]
        seconds = [len(w.split()) / chance.uniform(20, 30) for w in words]
        seconds[0], seconds[runs // 2] = 4 * seconds[0], 9 * seconds[runs // 2]  # cold, disturbed
        cases.append((list(zip(seconds, words, strict=True)), _count_words))
    return diagnose(speed, _speed, cases, SPEEDS, name="speed")


def _count_words(text: str) -> int:
    return len(text.split())


def _most(
    question: int, passage: int, answer: int, reads: float, writes: float, first: float, last: float
) -> int:
    def fits(n: int) -> bool:
        waiting = (question + n * passage) / reads
        return waiting <= first and waiting + (answer - 1) / writes <= last

    return next(n - 1 for n in range(10**6) if not fits(n))


def _most_by(rule: Callable[..., float]) -> Callable[..., int]:
    """Return a wrong rule: `rule` gives a bound on the prompt's tokens, from the arguments in order."""
    return lambda q, p, a, r, w, first, last: max(-1, math.floor((rule(q, p, a, r, w, first, last) - q) / p))


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
)


def check_most(most_passages: Callable[..., int]) -> str | None:
    chance = random.Random(3)
    cases: list[tuple[Any, ...]] = [
        (60, 120, 40, 2000.0, 50.0, 0.5011, 9.0),  # the first token limits
        (60, 120, 200, 2000.0, 50.0, 3.0, 4.2511),  # the last token limits
        (300, 120, 10, 500.0, 50.0, 0.45, 9.0),  # not even the question
    ]
    for _ in range(200):
        reads, writes, answer = chance.uniform(50, 5000), chance.uniform(5, 300), chance.randint(1, 300)
        first, wait = chance.uniform(0.2, 4), (answer - 1) / writes
        last = wait + chance.uniform(0.2, 4)
        cases.append((chance.randint(10, 200), chance.randint(60, 300), answer, reads, writes, first, last))
    return diagnose(most_passages, _most, cases, FITTING, name="most_passages")


Call = tuple[str, dict[str, int]]


def _first_times(calls: Sequence[Call]) -> list[dict[str, int]]:
    seen: dict[str, dict[str, int]] = {}
    for prompt, reply in calls:
        seen.setdefault(prompt, reply)
    return list(seen.values())


def _read_rate(reply: dict[str, int], duration: str = "prompt_eval_duration") -> float:
    return reply["prompt_eval_count"] / reply[duration] * 1e9


def _reading(calls: Sequence[Call]) -> float:
    return median(map(_read_rate, _first_times(calls)))


READING = (
    (
        lambda calls: median(_read_rate(reply) for _, reply in calls),
        "repeated prompts are among them: their tokens were counted but not read",
    ),
    (
        lambda calls: median(_read_rate(dict(calls)[p]) for p in dict(calls)),
        "of a repeated prompt you took the last reply; only the first time it was read",
    ),
    (
        lambda calls: mean(map(_read_rate, _first_times(calls))),
        "the mean is moved by the one disturbed reply; take the median",
    ),
    (lambda calls: _reading(calls) / 1e9, "that is tokens per nanosecond; a second has 10**9 nanoseconds"),
    (lambda calls: _reading(calls) / 1e3, "that treats the durations as microseconds; they are nanoseconds"),
    (lambda calls: _reading(calls) / 1e6, "that treats the durations as milliseconds; they are nanoseconds"),
    (lambda calls: 1 / _reading(calls), "that is seconds per token; divide tokens by seconds"),
    (
        lambda calls: median(_read_rate(r, "total_duration") for r in _first_times(calls)),
        "total_duration includes loading and writing; divide by prompt_eval_duration",
    ),
    (
        lambda calls: median(r["eval_count"] / r["eval_duration"] * 1e9 for r in _first_times(calls)),
        "that is the speed of writing; prompt_eval_... belongs to reading",
    ),
    (
        lambda calls: median(_read_rate(r) for (p, r) in calls if [q for q, _ in calls].count(p) == 1),
        "a prompt that was sent twice was read the first time; drop only the repetitions",
    ),
)


def check_reading(reading_speed: Callable[[Sequence[Call]], float]) -> str | None:
    chance = random.Random(5)
    cases = []
    for _ in range(4):
        calls: list[Call] = []
        for i in (0, 1, 1, 2, 1, 3, 0, 4, 2, 2):
            again = any(prompt == f"prompt {i}" for prompt, _ in calls)
            count, speed = 200 + 100 * i, chance.uniform(900, 1100) / (4 if i == 3 else 1)
            reading = round(1e9 * (2 if again else count) / speed)
            writing = round(1e9 * 40 / chance.uniform(40, 60))
            reply = {"prompt_eval_count": count, "prompt_eval_duration": reading, "eval_count": 40}
            reply |= {"eval_duration": writing, "total_duration": reading + writing + 20_000_000}
            calls.append((f"prompt {i}", reply))
        cases.append((calls,))
    return diagnose(reading_speed, _reading, cases, READING, name="reading_speed")


Sent = dict[str, tuple[int, int, int]]  # name -> tokens of the text, num_ctx, prompt_eval_count


def _cut(sent: Sent) -> list[str]:
    return [name for name, (tokens, _, read) in sent.items() if read < tokens]


SENT: Sent = {
    "a short question": (120, 4096, 131),  # the template adds tokens
    "a letter": (4085, 4096, 4096),  # it fits exactly, with its template
    "a contract": (9000, 4096, 4096),
    "a long contract": (9000, 4096, 2061),  # the server cut more than it had to
    "a page for a model that reads little": (3000, 8192, 2048),  # num_ctx says more than the model can
    "a report": (6000, 8192, 6009),
}
CUTS = (
    (
        lambda sent: [n for n, (tokens, context, _) in sent.items() if tokens > context],
        "num_ctx was asked for; a model may read less ('a page for a model that reads little'). "
        "What was read is in the reply",
    ),
    (
        lambda sent: [n for n, (_, context, read) in sent.items() if read == context],
        "a full context proves nothing: 'a letter' fits exactly; and a server may cut more than it must",
    ),
    (
        lambda sent: [n for n, (_, context, read) in sent.items() if read >= context],
        "a full context proves nothing: 'a letter' fits exactly; and a server may cut more than it must",
    ),
    (
        lambda sent: [n for n, (tokens, _, read) in sent.items() if read != tokens],
        "more tokens than the text has are no loss: the template adds some ('a short question')",
    ),
    (
        lambda sent: [n for n, (tokens, _, read) in sent.items() if read > tokens],
        "the comparison points the wrong way: less was read than was sent where something was cut",
    ),
)


def check_cut(cut: Callable[[Sent], list[str]]) -> str | None:
    chance = random.Random(7)
    cases: list[tuple[Sent]] = [(SENT,)]
    for _ in range(30):
        tokens, context = chance.randint(50, 6000), chance.choice((2048, 4096))
        read = min(tokens + chance.randint(0, 20), context, chance.choice((1000, 9000)))
        cases.append(({"text": (tokens, context, read)},))

    def names(sent: Sent) -> list[str]:
        found = cut(sent)
        return sorted(found) if isinstance(found, (list, tuple, set)) else found

    return diagnose(
        names, lambda sent: sorted(_cut(sent)), cases, [(_sorted(f), t) for f, t in CUTS], name="cut"
    )


def _sorted(function: Callable[[Sent], list[str]]) -> Callable[[Sent], list[str]]:
    return lambda sent: sorted(function(sent))
