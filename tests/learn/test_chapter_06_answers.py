"""Chapter 06's exercises accept other right solutions, and say what they expect for unusual wrong answers."""

from fractions import Fraction

import numpy as np
import pytest

from course_lib.learn.exercises import find_exercise
from course_lib.learn.exercises.engine import judge
from course_lib.rag.evaluate import calibration_error, faithful, squad_tokens, token_f1


def f1_by_hand(prediction, gold):
    left, shared = squad_tokens(gold), 0
    total = len(left) + len(squad_tokens(prediction))
    for word in squad_tokens(prediction):
        if word in left:
            left.remove(word)
            shared += 1
    return Fraction(2 * shared, total)


def lost_by_zip(found, with_gold, with_found):
    rows = [(f, g) for f, g, right in zip(found, with_gold, with_found, strict=True) if not right]
    return {
        "both": rows.count((False, False)),
        "reading": sum(f for f, _ in rows),
        "retrieval": rows.count((False, True)),
    }


def fit_with_sum(lengths, room):
    inside = ()
    for i in range(len(lengths)):
        if sum(lengths[j] for j in (*inside, i)) <= room:
            inside += (i,)
    return inside, tuple(i for i in range(len(lengths)) if i not in inside)


def threshold_by_search(confidence, answerable, allowed):
    own = [c for c, a in zip(confidence, answerable, strict=True) if a]
    return max(t for t in own if np.mean([c < t for c in own]) <= allowed + 1e-9)


def done_by_lines(text, batch_size, total):
    rows = text.split("\n")[:-1]
    return total if len(rows) == total else len(rows) - len(rows) % batch_size


def error_with_a_loop(confidence, correct, bins=10):
    groups = {}
    for c, right in zip(confidence, correct, strict=True):
        groups.setdefault(min(int(c * bins), bins - 1), []).append((c, right))
    return sum(abs(sum(c - right for c, right in g)) for g in groups.values()) / len(confidence)


@pytest.mark.parametrize(
    ("number", "answer"),
    [
        ("06.1", token_f1),
        ("06.1", f1_by_hand),
        ("06.2", lost_by_zip),
        ("06.3", fit_with_sum),
        ("06.5", threshold_by_search),
        ("06.4", lambda answer, passage: faithful(answer, [passage])),
        ("06.6", done_by_lines),
        ("06.7", error_with_a_loop),
        ("06.7", lambda c, r, bins=10: calibration_error(c, r, bins, draws=1).value),
    ],
)
def test_other_right_solutions_are_accepted(number, answer):
    assert judge(find_exercise(number), answer)[0] == "right"


@pytest.mark.parametrize(
    ("number", "answer", "feedback"),
    [
        ("06.1", lambda p, g: "4/9", "expected a number"),
        ("06.2", lambda *_: [1, 2, 1], "expected a dict"),
        ("06.2", lambda *_: {"search": 1}, "the keys are 'search'"),
        ("06.2", lambda *_: {"retrieval": 0, "reading": 0, "both": 4}, "4 of the 8 questions are lost"),
        ("06.3", lambda *_: ([3], []), "put [3] in"),
        ("06.5", lambda *_: 0.123, "should be 0.4"),
        ("06.4", lambda *_: None, "gave None"),
        ("06.6", lambda text, *_: 8 if text.count("\n") == 11 else 30, "an empty file gave 30"),
        ("06.7", lambda *_: 1.0, "should be 0.225"),
    ],
)
def test_unusual_wrong_answers_are_told_what_is_expected(number, answer, feedback):
    verdict, reply = judge(find_exercise(number), answer)
    assert verdict == "not yet" and feedback in reply
