"""Chapter 07's exercises accept other right solutions, and say what they expect for unusual wrong answers."""

import json
import math

import pytest

from course_lib.learn.exercises import find_exercise
from course_lib.learn.exercises.engine import judge


def events_by_buffer(chunks):
    buffer = bytearray()
    for chunk in chunks:
        buffer += chunk
        while (end := buffer.find(b"\n")) >= 0:
            line = bytes(buffer[:end]).decode()
            del buffer[: end + 1]
            if line[:6] == "data: " and line[6:] != "[DONE]":
                yield json.loads(line[6:])


def report_by_counting(requests, warm_up):
    counted = requests[warm_up:]
    answered = sorted(r[2] - r[0] for r in counted if r[3])
    enough = [t for t in answered if sum(x <= t for x in answered) >= 0.95 * len(counted) - 1e-9]
    return [min(enough, default=math.inf), 1 - len(answered) / len(counted)]


def queue_by_steps(slots, seconds, limit):
    waiting, begins = 0, seconds
    while begins <= limit:
        waiting, begins = waiting + slots, begins + seconds
    return waiting


def users_by_counting(memory, weights, token, context, mean, page, prefix):
    pages, users = (memory - weights) // (token * page) - prefix // page, 0
    while pages >= math.ceil((mean - prefix // page * page) / page):
        pages, users = pages - math.ceil((mean - prefix // page * page) / page), users + 1
    return [int((memory - weights) / (token * context)), users]


def next_by_ifs(status, tokens, tries):
    if status == 200:
        return "done"
    if tries == 3 or tokens > 0:
        return "error"
    if status is None:
        return "again"
    return "wait" if status == 429 or (status > 500 and status < 505) else "error"


def replicas_by_steps(users, per_hour, seconds, slots, most, spare):
    count, busy = 0, users * per_hour * seconds / 3600
    while count * slots * most < busy - 1e-9:
        count += 1
    return count + spare


def draft_by_steps(alpha, cost, most):
    best, found = 1.0, 0
    tokens, power = 1.0, 1.0
    for k in range(1, most + 1):
        power *= alpha
        tokens += power
        if tokens / (1 + k * cost) > best:
            best, found = tokens / (1 + k * cost), k
    return found


@pytest.mark.parametrize(
    ("exercise_id", "answer"),
    [
        ("07.1", events_by_buffer),
        ("07.2", report_by_counting),
        ("07.3", [1, 1, 1, 100] * 4),
        ("07.3", (2, 90, 1, 3, 100, 2, 2, 2, 1, 95, 1, 1, 99, 1, 1, 1)),
        ("07.4", queue_by_steps),
        ("07.5", users_by_counting),
        ("07.6", next_by_ifs),
        ("07.7", replicas_by_steps),
        ("07.8", draft_by_steps),
    ],
)
def test_another_right_solution_is_right(exercise_id, answer):
    assert judge(find_exercise(exercise_id), answer)[0] == "right"


@pytest.mark.parametrize(
    ("exercise_id", "answer", "feedback"),
    [
        ("07.1", lambda chunks: None, "stopped with TypeError"),
        ("07.1", lambda chunks: [], "it should give"),
        ("07.3", [100.0, 1, 1, 1] * 4, "100.0 is not a whole number"),
        ("07.3", "100 1 1 1", "a list of 16 answer lengths"),
        ("07.3", [True] * 16, "True is not a whole number"),
        ("07.4", lambda slots, seconds, limit: None, "did you forget `return`?"),
        ("07.6", lambda *_: True, "what_next(None, 0, 1) gave True"),
        ("07.7", lambda *_: 0, "it should give"),
        ("07.8", lambda *_: 0, "it should give"),
    ],
)
def test_an_unusual_wrong_answer_gets_a_reply(exercise_id, answer, feedback):
    verdict, reply = judge(find_exercise(exercise_id), answer)
    assert verdict == "not yet" and feedback in reply, reply
