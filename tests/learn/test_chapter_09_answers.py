"""Chapter 09's exercises accept other right solutions, and say what they expect for unusual wrong answers."""

import re

import pytest

from course_lib.learn.exercises import find_exercise
from course_lib.learn.exercises.engine import judge


def refused_by_days(model, rules, bits):
    import calendar
    from datetime import date

    broken = []
    if model["published"]:
        year, month = map(int, model["published"].split("-"))
        last = date(year, month, calendar.monthrange(year, month)[1])
        broken += ["date"] * (last >= date.fromisoformat(rules["before"]))
    else:
        broken.append("date")
    broken += ["memory"] * (model["parameters"] * bits > rules["memory_gib"] * 8 * 1024**3)
    return broken + ["use"] * (rules["use"] != "research" and not model["commercial"])


def slow_by_counting(left, n, slow, fast):
    count = 0
    while count < n and (count + 1) * slow + (n - count - 1) * fast <= left + 1e-9:
        count += 1
    return count


def leaked_by_words(training, exam):
    def words(text):
        return re.findall(r"\w+", text.lower())

    def same(a, b):
        x, y = words(a), words(b)
        odd = set(x) ^ set(y)
        polite = {"please", "tell", "me", "hello", "a", "per", "the"}
        return odd <= polite

    return {i for i, q in enumerate(training) if any(same(q, e) for e in exam)}


def filter_by_shares(wanted, right, passes_right, passes_wrong):
    count = 0
    while count * right * passes_right < wanted - 1e-9:
        count += 1
    passing = right * passes_right + (1 - right) * passes_wrong
    return [count, 1 - right * passes_right / passing]


@pytest.mark.parametrize(
    ("exercise", "answer"),
    [
        ("09.1", refused_by_days),
        ("09.2", slow_by_counting),
        ("09.3", [[-1, 1, -1], [-2, 40, -2], [-30, 2, -90.5]]),
        ("09.4", lambda p, u, cost: p * (1 + cost) > u + cost + 1e-12),
        ("09.5", leaked_by_words),
        ("09.6", filter_by_shares),
        ("09.7", lambda n, r, w, p, b, c, bw, op: sum([n * r * p / op * 2, w * b / bw, w * n * c / bw])),
    ],
)
def test_other_right_answers_pass(exercise, answer):
    assert judge(find_exercise(exercise), answer)[0] == "right", judge(find_exercise(exercise), answer)[1]


@pytest.mark.parametrize(
    ("exercise", "answer", "told"),
    [
        ("09.1", lambda model, rules, bits: None, "did you forget `return`"),
        ("09.1", lambda model, rules, bits: rules["nothing"], "KeyError"),
        ("09.2", lambda left, n, slow, fast: 1 / 0, "ZeroDivisionError"),
        ("09.3", [(-1, 1, -1)] * 3, "two options share the first place"),
        ("09.3", [(-1, 0.5, -1)] * 3, "whole number from 1 on"),
        ("09.3", [1, 2, 3], "option 0: expected 3 numbers"),
        ("09.4", lambda p, u, cost: p < 2, "should give False"),
        ("09.5", lambda training, exam: None, "expected the list of indices"),
        ("09.5", lambda training, exam: [99], "99 is no index"),
        ("09.6", lambda *a: (1, 2), "after_filter(100, 0.5, 0.9, 0.1) gave (1, 2)"),
    ],
)
def test_unusual_wrong_answers_are_told(exercise, answer, told):
    verdict, feedback = judge(find_exercise(exercise), answer)
    assert verdict == "not yet" and told in feedback, feedback
