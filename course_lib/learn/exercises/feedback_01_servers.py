"""Checkers of chapter 01's exercises on the numbers that an Ollama server reports with its answers.

A checker takes the student's answer, and returns feedback, or None if the answer is right. Each known mistake
is a wrong solution with the feedback for it, see `comparing.diagnose`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from statistics import mean, median

from course_lib.learn.exercises.comparing import diagnose

Call = tuple[str, dict[str, int]]  # a prompt, and the counts and durations (ns) in the reply


def _first_times(calls: Sequence[Call]) -> list[dict[str, int]]:
    """Return the first reply to each prompt; the server answers later ones from its cache."""
    seen: dict[str, dict[str, int]] = {}
    for prompt, reply in calls:
        seen.setdefault(prompt, reply)
    return list(seen.values())


def _read_rate(reply: dict[str, int], duration: str = "prompt_eval_duration") -> float:
    """Return the tokens per second of reading a prompt."""
    return reply["prompt_eval_count"] / reply[duration] * 1e9


def _reading(calls: Sequence[Call]) -> float:
    """The right solution of 01.4."""
    return median(map(_read_rate, _first_times(calls)))


# Known mistakes: a wrong answer, and the feedback on it.
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
    (
        lambda calls: median(
            _read_rate(r) for i, (p, r) in enumerate(calls) if i == 0 or calls[i - 1][0] != p
        ),
        "only repetitions that follow at once were dropped; others come later, after other prompts",
    ),
    (
        lambda calls: median(r["eval_count"] / r["eval_duration"] * 1e9 for _, r in calls),
        "that is the speed of writing; prompt_eval_... belongs to reading",
    ),
)


def check_reading(reading_speed: Callable[[Sequence[Call]], float]) -> str | None:
    """Check 01.4: `reading_speed(calls)`, the median tokens per second of reading uncached prompts."""
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


# Name -> tokens of the text, tokens asked for as context (num_ctx), tokens read (prompt_eval_count).
Sent = dict[str, tuple[int, int, int]]


def _cut(sent: Sent) -> list[str]:
    """The right solution of 01.5."""
    return [name for name, (tokens, _, read) in sent.items() if read < tokens]


SENT: Sent = {
    "a short question": (120, 4096, 131),  # the chat template adds tokens around a message
    "a raw prompt": (500, 4096, 500),  # without a template
    "a letter": (4085, 4096, 4096),  # it fits exactly, with its template
    "a contract": (9000, 4096, 4096),
    "a long contract": (9000, 4096, 2061),  # the server cut more than it had to
    "a page for a model that reads little": (3000, 8192, 2048),  # num_ctx is more than the model can read
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
    (
        lambda sent: [n for n, (tokens, _, read) in sent.items() if read <= tokens],
        "'a raw prompt' has no template: as many tokens were read as it has, so nothing was cut",
    ),
    (
        lambda sent: [n for n, (_, context, read) in sent.items() if read < context],
        "a short text never fills num_ctx ('a short question'); compare with the tokens of the text",
    ),
    (
        lambda sent: [n for n, (tokens, context, read) in sent.items() if read < min(tokens, context)],
        "'a contract' has 9,000 tokens and 4,096 were read: what num_ctx cuts off is lost, too",
    ),
)


def check_cut(cut: Callable[[Sent], list[str]]) -> str | None:
    """Check 01.5: `cut(sent)`, the names of the prompts of which the server dropped a part."""
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
