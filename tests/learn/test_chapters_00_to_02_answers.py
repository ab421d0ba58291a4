"""Unusual right answers to the exercises of chapters 00 to 02 are accepted."""

import bisect
import itertools
import math
import re

import numpy as np
import pytest

from course_lib.learn.exercises import find_exercise
from course_lib.learn.exercises.engine import judge


def forge(text, old, new):
    forged, count = re.subn(re.escape(old), lambda _: new, text)
    if count == 0:
        raise ValueError("nothing to forge")
    return forged


def refusals(answers):
    return np.mean([a == "Not in the handbook." for a in answers]) if answers else 0


def speed(runs, count_tokens):
    return float(np.median(np.array([count_tokens(text) for _, text in runs[1:]]) / [s for s, _ in runs[1:]]))


def most_passages(question, passage, answer, reads, writes, first, last):
    for n in itertools.count():
        waiting = (question + n * passage) / reads
        if waiting > first or waiting + (answer - 1) / writes > last:
            return n - 1


def reading_speed(calls):
    speeds, seen = [], set()
    for prompt, reply in calls:
        if prompt not in seen:
            bisect.insort(speeds, 1e9 * reply["prompt_eval_count"] / reply["prompt_eval_duration"])
        seen.add(prompt)
    return (speeds[len(speeds) // 2] + speeds[~(len(speeds) // 2)]) / 2


def decide(a, b):
    """A sign test: the wins and losses as throws of a coin."""
    both = a.keys() & b.keys()
    wins, losses = sum(a[q] > b[q] for q in both), sum(a[q] < b[q] for q in both)
    tail = sum(math.comb(wins + losses, k) for k in range(min(wins, losses) + 1)) / 2 ** (wins + losses)
    return "cannot tell" if 2 * tail > 0.05 else "a" if wins > losses else "b"


def absmax_codes_by_where(weights):
    scale = abs(weights).max() / 127
    return np.where(scale > 0, np.rint(weights / scale), 0).astype(np.int8), scale


def absmax_codes(weights):
    scale = np.max([weights.max(), -weights.min()]) / 127
    return np.array(np.floor(weights / (scale or 1.0) + 0.5), dtype=np.int8), float(scale)


def nearest_codes(block, values):
    largest = max(map(abs, block))
    shares = [w / largest if largest else 0 for w in block]
    return [min(range(len(values)), key=lambda i: abs(share - values[i])) for share in shares], largest


def diagnosis(reports):
    """Compare ratios, and stop at the first that is near 1."""
    found = {}
    for name, (layers, table, bits, table_bits, reported) in reports.items():
        found[name] = "unknown"
        for word, size in (
            ("right", layers * bits + table * table_bits),
            ("layers left out", table * table_bits),
            ("embeddings left out", layers * bits),
            ("not packed", 32 * layers + 32 * table),
        ):
            if 0.95 <= reported / (size / 8) <= 1.05:
                found[name] = word
                break
    return found


def front(points):
    best, found = -1.0, []
    for name in sorted(points, key=lambda n: (points[n][0], -points[n][1])):
        if points[name][1] > best or (found and points[name] == points[found[-1]]):
            best, found = points[name][1], [*found, name]
    return found


ANSWERS = {
    "00.1": forge,
    "00.2": refusals,
    "01.1": lambda parameters, bits: bits * parameters / 8e6,
    "01.2": speed,
    "01.3": most_passages,
    "01.4": reading_speed,
    "01.5": lambda sent: {name for name, each in sent.items() if each[0] > each[2]},
    "01.6": lambda logs, text: sum(-x / math.log(2) for x in logs) / len(bytes(text, "utf-8")),
    "01.7": decide,
    "01.8": lambda n, low, high, gain: math.ceil(n * (high - low) ** 2 / (2 * gain) ** 2),
    "02.1": absmax_codes,
    "02.2": lambda bits, block, scale, group, more: (
        (bits * block * group + scale * group + more) / block / group
    ),
    "02.3": nearest_codes,
    "02.4": diagnosis,
    "02.5": front,
}


@pytest.mark.parametrize("id_", ANSWERS)
def test_an_unusual_right_answer_is_accepted(id_):
    exercise = find_exercise(id_)
    assert judge(exercise, ANSWERS[id_]) == ("right", exercise.title)


def test_zeros_of_a_masked_division_are_accepted():
    exercise = find_exercise("02.1")
    assert judge(exercise, absmax_codes_by_where)[0] == "right"


def test_twins_may_come_in_any_order():
    exercise = find_exercise("02.5")
    swapped = {"twin": "large q4", "large q4": "twin"}
    assert judge(exercise, lambda points: [swapped.get(n, n) for n in front(points)])[0] == "right"


@pytest.mark.parametrize(
    ("id_", "answer", "expected"),
    [
        ("02.1", lambda weights: ([[1], [2, 3]], 0.1), "gave"),
        ("02.3", lambda block, values: ([[1], [2, 3]], 0.1), "gave"),
        ("02.4", lambda reports: dict.fromkeys(reports, np.array(["right", "unknown"])), "gave"),
        ("02.4", lambda reports: [[1], [2, 3]], "gave"),
        ("02.6", lambda *case: [[1], [2, 3]], "gave"),
    ],
)
def test_a_ragged_answer_is_said_to_be_wrong_and_the_checker_does_not_stop(id_, answer, expected):
    verdict, reply = judge(find_exercise(id_), answer)
    assert verdict == "not yet" and expected in reply and "your code stopped" not in reply
