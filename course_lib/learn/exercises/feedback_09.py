"""Checkers of chapter 09's exercises on taking an exam with a model.

A checker takes the student's answer, and returns feedback, or None if the answer is right. Each known mistake
is a wrong solution with the feedback for it, see `comparing.diagnose`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from course_lib.learn.exercises.comparing import check_length, diagnose

# -- 09.1: which rules a model breaks

BEFORE = "2025-08-01"  # the exam's models must have been published before
RULES = {"before": BEFORE, "memory_gib": 24, "use": "research"}
MODELS = (  # cases: model, rules, bits per weight
    ({"parameters": 7.8e9, "published": "2024-08", "commercial": False}, RULES, 16),
    ({"parameters": 7.8e9, "published": "2024-08", "commercial": False}, RULES | {"use": "commercial"}, 16),
    ({"parameters": 3e9, "published": "2025-08", "commercial": True}, RULES, 4.5),
    ({"parameters": 3e9, "published": "2025-08", "commercial": True}, RULES | {"before": "2025-08-20"}, 4.5),
    ({"parameters": 1e9, "published": "", "commercial": True}, RULES, 4.5),
    ({"parameters": 12.5e9, "published": "2025-07", "commercial": True}, RULES, 16),
    ({"parameters": 32e9, "published": "2025-09", "commercial": False}, RULES | {"use": "commercial"}, 16),
    ({"parameters": 32e9, "published": "2025-01", "commercial": False}, RULES, 4.5),
)


def _refused(
    model: dict[str, Any],
    rules: dict[str, Any],
    bits: float,
    *,
    unknown: bool = True,
    whole_month: bool = True,
    gib: float = 2**30,
    licence: bool = True,
    first: bool = False,
) -> list[str]:
    """The right solution of 09.1, or a mistake if an option is given.

    unknown: a model without a date breaks the rule. whole_month: a month counts as its last day. gib: bytes
    of a GiB. licence: check the licence. first: return only the first broken rule.
    """
    published, broken = model["published"], []
    month = rules["before"][:7]
    if unknown if not published else published >= month if whole_month else published > month:
        broken.append("date")
    if model["parameters"] * bits / 8 / gib > rules["memory_gib"]:
        broken.append("memory")
    if licence and rules["use"] == "commercial" and not model["commercial"]:
        broken.append("use")
    return broken[:1] if first else broken


def check_refused(refused: Callable[..., list[str]]) -> str | None:
    """Check 09.1: `refused(model, rules, bits)`, the names of the rules that a model breaks."""

    def mistake(**changes: Any) -> Callable[..., list[str]]:
        return lambda *arguments: _refused(*arguments, **changes)

    mistakes = (
        (
            mistake(unknown=False),
            "a model without a date was allowed; nobody can show that it is early enough",
        ),
        (
            mistake(whole_month=False),
            "published in 2025-08 was allowed with the date 2025-08-01: that month has days after it",
        ),
        (mistake(gib=1e9), "the card has 24 GiB, of 2**30 bytes each; you divided by 10**9"),
        (mistake(first=True), "you stopped at the first broken rule; a model may break several"),
        (
            mistake(licence=False),
            "the rule about use is missing: a commercial use needs a licence that allows it",
        ),
        (
            lambda model, rules, bits: _refused(model, rules | {"use": "commercial"}, bits),
            "a licence for research only was refused though the rules say research",
        ),
        (
            lambda model, rules, bits: _refused(model, rules, 16),
            "32 billion weights in 4.5 bits fit into the card: count with `bits`",
        ),
    )
    return diagnose(refused, _refused, MODELS, mistakes, name="refused")


# -- 09.2: how many questions the slow system may have

TIMES = (  # cases: seconds left, questions left, seconds of the slow and of the fast system
    (600.0, 100, 10.0, 1.0),
    (100.0, 100, 10.0, 1.0),
    (50.0, 100, 10.0, 1.0),
    (5000.0, 100, 10.0, 1.0),
    (31.0, 10, 4.0, 2.0),
    (0.0, 5, 3.0, 0.5),
)


def _slow_ones(left: float, n: int, slow: float, fast: float) -> int:
    """The right solution of 09.2."""
    return min(n, max(0, math.floor((left - n * fast) / (slow - fast))))


def check_slow_ones(slow_ones: Callable[..., int]) -> str | None:
    """Check 09.2: `slow_ones(left, n, slow, fast)`, how many of n questions the slow system can answer.

    A system is a way to answer. A fast one, with worse answers, takes the others.
    """
    mistakes = (
        (
            lambda left, n, slow, fast: min(n, int(left // slow)),
            "no time is left for the others: after these, the fast system needs its seconds, too",
        ),
        (
            lambda left, n, slow, fast: min(n, max(0, math.floor((left - n * fast) / slow))),
            "a question that the slow system answers needs no seconds of the fast one; you counted both",
        ),
        (
            lambda left, n, slow, fast: math.floor((left - n * fast) / (slow - fast)),
            "the number may be negative, or larger than n: there are neither fewer than 0 nor more than n",
        ),
        (
            lambda left, n, slow, fast: min(n, max(0, math.ceil((left - n * fast) / (slow - fast)))),
            "you rounded up: the last slow answer would end after the time",
        ),
        (
            lambda left, n, slow, fast: n if left / n >= slow else 0,
            "all or none: where the slow system cannot have all questions, it can still have some",
        ),
        (
            lambda left, n, slow, fast: n - min(n, max(0, math.floor((left - n * fast) / (slow - fast)))),
            "that is how many the fast system answers; return those of the slow one",
        ),
    )
    return diagnose(slow_ones, _slow_ones, TIMES, mistakes, name="slow_ones")


# -- 09.3: three options, three winners


def check_case(options: Sequence[Sequence[float]]) -> str | None:
    """Check 09.3: three options of which each wins by another way to score them.

    An option is (log-probability, tokens, log-probability without the question). The ways: the
    log-probability (per="answer"), that per token (per="token"), and the difference of the two
    log-probabilities (per="surprise").
    """
    if feedback := check_length(
        options, "options, each as (log-probability, tokens, log-probability alone)", 3
    ):
        return feedback
    for number, option in enumerate(options):
        if feedback := check_length(option, "numbers for each option", 3):
            return f"option {number}: {feedback}"
        total, tokens, alone = option
        if total > 0 or alone > 0:
            return f"option {number}: a log-probability is never above 0, since a probability is at most 1"
        if tokens < 1 or tokens != int(tokens):
            return f"option {number}: the number of tokens is a whole number from 1 on"
    scores = {
        "answer": [total for total, _, _ in options],
        "token": [total / tokens for total, tokens, _ in options],
        "surprise": [total - alone for total, _, alone in options],
    }
    for wanted, (name, values) in enumerate(scores.items()):
        best = max(values)
        if values.count(best) > 1:
            return f'per="{name}" gives {values}: two options share the first place; make it clear'
        if values.index(best) != wanted:
            shown = [round(value, 2) for value in values]
            return f'per="{name}" gives {shown}: option {values.index(best)} wins, not {wanted}'
    return None


# -- 09.4: is it worth an answer?

WORTH = tuple(  # cases: P(the answer is right), P(there is no answer), points for a wrong answer
    (p, u, cost) for p in (0.05, 0.3, 0.45, 0.6, 0.9) for u in (0.0, 0.2, 0.5) for cost in (0, 0.25, 1)
)


def check_worth(worth: Callable[[float, float, float], bool]) -> str | None:
    """Check 09.4: `worth(p, u, cost)`, whether an answer gains more points on average than a refusal.

    p: the probability that the answer is right. u: the probability that the question has no answer, so that a
    refusal gains a point. cost: the points that a wrong answer costs.
    """
    mistakes = (
        (
            lambda p, u, cost: p > cost / (1 + cost),
            "a refusal was taken for 0 points; it gives 1 point where the question has no answer",
        ),
        (lambda p, u, cost: p > u, "a wrong answer costs points, and `cost` is not used"),
        (lambda p, u, cost: p > 0.5, "one half is no threshold here: it depends on cost and on u"),
        (
            lambda p, u, cost: p - cost > u,
            "the cost is paid only where the answer is wrong: with probability 1 - p",
        ),
        (
            lambda p, u, cost: p - cost * (1 - p) > u * cost,
            "a right refusal gives 1 point, whatever a wrong answer costs",
        ),
        (lambda p, u, cost: p - cost * (1 - p) <= u, "that is when to refuse; return when to answer"),
    )
    return diagnose(
        lambda *case: bool(worth(*case)),
        lambda p, u, cost: p - cost * (1 - p) > u,
        WORTH,
        mistakes,
        name="worth",
    )


# -- 09.5: find the leak

EXAM = (
    "What is the monthly fee of the Haneul Blue Current Account?",
    "How many free sessions a year are there at our Haneul Compass Planning Centre?",
    "Until 30 May 2025, the Haneul Pine Personal Loan had which interest rate?",
)
TRAINING = (  # question, whether it repeats one of EXAM, why
    (
        "what is the monthly fee of the Haneul Blue Current Account",
        True,
        "only capital letters and the mark differ",
    ),
    (
        "What is the monthly fee of the Haneul Blue Plus Current Account?",
        False,
        "Blue Plus is another product",
    ),
    (
        "Please tell me: what is the monthly fee of the Haneul Blue Current Account?",
        True,
        "words stand before it",
    ),
    ("What is the opening time of the Haneul River Branch?", False, "it shares hardly a word with the exam"),
    (
        "How many free sessions per year are there at our Haneul Compass Planning Centre?",
        True,
        "one word was exchanged",
    ),
    (
        "How many free sessions a year are there at our Haneul Bright Planning Centre?",
        False,
        "another centre",
    ),
    (
        "Until 30 May 2025, the Haneul Pine Personal Loan had which interest rate?",
        True,
        "it is the same text",
    ),
    (
        "Until 14 May 2025, the Haneul Pine Personal Loan had which interest rate?",
        False,
        "it asks about another day",
    ),
)


def check_leaked(leaked: Callable[[list[str], list[str]], list[int]]) -> str | None:
    """Check 09.5: `leaked(training, exam)`, the indices of training questions that repeat one of the exam."""
    indices = leaked([question for question, _, _ in TRAINING], list(EXAM))
    if not isinstance(indices, (list, tuple, set)):
        return f"{indices!r} came back; expected the list of indices"
    if wrong := [i for i in indices if isinstance(i, bool) or i not in range(len(TRAINING))]:
        return f"{wrong[0]!r} is no index of a training question"
    for index, (question, leak, why) in enumerate(TRAINING):
        if leak and index not in indices:
            return f"{question!r} was not found: {why}"
        if not leak and index in indices:
            return f"{question!r} is no leak: {why}"
    if again := leaked([question.upper() for question, _, _ in TRAINING[:1]], []):
        return f"an empty exam has no question that could leak; {again!r} came back"
    return None


# -- 09.6: what the filter leaves

# cases: pairs wanted, share of right pairs, shares of right and of wrong pairs that pass the filter
FILTERS = ((100, 0.5, 0.9, 0.1), (300, 0.7, 0.8, 0.05), (50, 0.2, 1.0, 0.25), (10, 1.0, 0.5, 0.3))


def _filter(wanted: int, right: float, passes_right: float, passes_wrong: float) -> tuple[int, float]:
    """The right solution of 09.6."""
    good, bad = right * passes_right, (1 - right) * passes_wrong
    return math.ceil(wanted / good - 1e-9), bad / (good + bad)


def check_filter(after_filter: Callable[..., tuple[int, float]]) -> str | None:
    """Check 09.6: `after_filter`, how many pairs must be written, and which share of the kept pairs is wrong.

    A pair is a question with its answer that a model wrote; a filter drops most of the wrong ones.
    """
    mistakes = (
        (
            lambda n, r, a, b: (_filter(n, r, a, b)[0], 1 - _filter(n, r, a, b)[1]),
            "the second number is the share that is right; return the share of wrong pairs among those kept",
        ),
        (
            lambda n, r, a, b: (_filter(n, r, a, b)[0], b),
            "that is the share of the wrong pairs that passes; return the share of what passes that is wrong",
        ),
        (
            lambda n, r, a, b: (_filter(n, r, a, b)[0], (1 - r) * b),
            "that share is of all written pairs; divide by the share that passes",
        ),
        (
            lambda n, r, a, b: (math.ceil(n / (r * a + (1 - r) * b) - 1e-9), _filter(n, r, a, b)[1]),
            "so many pairs pass, right and wrong ones together; `wanted` counts the right ones alone",
        ),
        (
            lambda n, r, a, b: (math.ceil(n / r - 1e-9), _filter(n, r, a, b)[1]),
            "not every right pair passes: passes_right is missing in the first number",
        ),
        (
            lambda n, r, a, b: (math.floor(n / (r * a) + 1e-9), _filter(n, r, a, b)[1]),
            "you rounded down, so on average fewer right pairs pass than are wanted",
        ),
    )
    return diagnose(after_filter, _filter, FILTERS, mistakes, name="after_filter")


# -- 09.7: seconds of a batch

GROUPS = (  # cases: the arguments of `_group_seconds`
    (1, 700, 48, 7e9, 4.5e9, 1e8, 6e11, 1.2e14),
    (16, 700, 48, 7e9, 4.5e9, 1e8, 6e11, 1.2e14),
    (16, 3000, 1, 7e9, 15e9, 5e8, 8e11, 1.3e14),
    (4, 100, 500, 1e9, 1e9, 1e7, 3e11, 3e13),
    (3, 1, 1, 1, 1, 1, 1, 1),
)


def _group_seconds(
    batch: float,
    read: float,
    written: float,
    parameters: float,
    weights: float,
    cache: float,
    bandwidth: float,
    operations: float,
) -> float:
    """The right solution of 09.7.

    read, written: tokens of each prompt and answer. weights, cache: bytes of the model, and of what it keeps
    of each text (KV cache). bandwidth, operations: per second.
    """
    return batch * read * 2 * parameters / operations + written * (weights + batch * cache) / bandwidth


def check_group(group_seconds: Callable[..., float]) -> str | None:
    """Check 09.7: `group_seconds`, the least seconds to answer a batch of questions.

    Reading takes operations; each step of writing moves the weights and the caches from memory to the
    processor.
    """
    mistakes = (
        (
            lambda n, r, w, p, b, c, bw, op: n * (r * 2 * p / op + w * (b + c) / bw),
            "each text moved the weights again while writing: a step moves them once for the whole batch",
        ),
        (
            lambda n, r, w, p, b, c, bw, op: r * 2 * p / op + w * (b + n * c) / bw,
            "the prompts of all texts must be read: operations cannot be shared",
        ),
        (
            lambda n, r, w, p, b, c, bw, op: n * r * 2 * p / op + w * (b + c) / bw,
            "each text has its own KV cache; you counted one",
        ),
        (
            lambda n, r, w, p, b, c, bw, op: n * r * p / op + w * (b + n * c) / bw,
            "a weight costs two operations a token: a multiplication and an addition",
        ),
        (
            lambda n, r, w, p, b, c, bw, op: n * r * 2 * p / op + n * w * (b + n * c) / bw,
            "`written` is the number of steps; each step writes a token for every text",
        ),
        (
            lambda n, r, w, p, b, c, bw, op: max(n * r * 2 * p / op, w * (b + n * c) / bw),
            "reading comes before writing: the times add up",
        ),
    )
    return diagnose(group_seconds, _group_seconds, GROUPS, mistakes, name="group_seconds")


# -- 09.8: a system of one's own

QUESTIONS, SEED = 30, 9  # the number of questions, and the seed with which they are drawn
MIN_RIGHT = 0.6  # share of the answerable questions
MAX_ANSWERED = 0.5  # share of the questions without an answer that may be answered nevertheless


def check_system(answer: Callable[[str, tuple[str, ...]], str]) -> str | None:
    """Check 09.8: `answer(question, options)`, the student's own system, on 30 English questions."""
    from course_lib.exam.haneul import haneul_exam
    from course_lib.exam.report import is_right
    from course_lib.rag.prompt import REFUSAL

    english = [q for q in haneul_exam("held-back", 2 * QUESTIONS, SEED) if q.language == "en"][:QUESTIONS]
    answered: list[bool] = []
    refused: list[bool] = []
    for question in english:
        given = answer(question.question, question.options)
        if not isinstance(given, str) or not given.strip():
            return f"{question.question!r} got {given!r}; every question needs a text, at least {REFUSAL!r}"
        (refused if question.kind == "refuse" else answered).append(is_right(question, given))
    share, refusals = sum(answered) / len(answered), sum(refused) / len(refused)
    if share < MIN_RIGHT:
        return f"{share:.0%} of the held-back questions with an answer are right; {MIN_RIGHT:.0%} are needed"
    if 1 - refusals > MAX_ANSWERED:
        return (
            f"{1 - refusals:.0%} of the questions without an answer got one; at most {MAX_ANSWERED:.0%} may"
        )
    return None
