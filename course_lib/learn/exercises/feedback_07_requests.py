"""Checkers of chapter 07's exercises on streams, load tests, queues, and failed requests.

A checker takes the student's answer, and returns feedback, or None if the answer is right. Each known mistake
is a wrong solution with the feedback for it, see `comparing.diagnose`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from course_lib.learn.exercises.comparing import diagnose

Events = Callable[[Iterable[bytes]], Iterable[Any]]  # chunks of a stream -> its events


def _stream(*values: object, done: bool = False) -> bytes:
    """Return server-sent events with these values. done: end with [DONE]."""
    lines = [f"data: {json.dumps(value, ensure_ascii=False)}\n\n" for value in values]
    return ("".join(lines) + "data: [DONE]\n\n" * done).encode()


def _events(chunks: Iterable[bytes]) -> Iterator[Any]:
    """The right solution of 07.1."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.startswith(b"data: ") and line != b"data: [DONE]":
                yield json.loads(line[6:])


def _each_chunk(chunks: Iterable[bytes]) -> Iterator[Any]:
    """A mistake: each chunk is split into lines by itself."""
    for chunk in chunks:
        for line in chunk.split(b"\n"):
            if line.startswith(b"data: ") and line != b"data: [DONE]":
                yield json.loads(line[6:])


def _as_text(chunks: Iterable[bytes]) -> Iterator[Any]:
    """A mistake: each chunk is decoded by itself."""
    return _events(chunk.decode().encode() for chunk in chunks)


def _replaced(chunks: Iterable[bytes]) -> Iterator[Any]:
    """A mistake: each chunk is decoded, with half characters replaced."""
    return _events(chunk.decode(errors="replace").encode() for chunk in chunks)


def _ignored(chunks: Iterable[bytes]) -> Iterator[Any]:
    """A mistake: each chunk is decoded, with half characters dropped."""
    return _events(chunk.decode(errors="ignore").encode() for chunk in chunks)


def _with_done(chunks: Iterable[bytes]) -> Iterator[Any]:
    """A mistake: [DONE] is parsed as JSON."""
    for line in b"".join(chunks).split(b"\n"):
        if line.startswith(b"data: "):
            yield json.loads(line[6:])


def _all_lines(chunks: Iterable[bytes]) -> Iterator[Any]:
    """A mistake: comment lines are parsed too."""
    for line in b"".join(chunks).split(b"\n"):
        if line and line != b"data: [DONE]":
            yield json.loads(line.removeprefix(b"data: "))


def check_events(events: Events) -> str | None:
    """Check 07.1: `events(chunks)`, the JSON values in server-sent events whose chunks end anywhere."""

    def listed(function: Events) -> Callable[[list[bytes]], list[Any]]:
        return lambda chunks: list(function(iter(chunks)))

    hangul, words = _stream("하늘 은행"), _stream("a", "b", "c")
    cases: list[tuple[list[bytes]]] = [
        ([_stream("a", "b")],),
        ([words[:9], words[9:14], words[14:]],),
        ([hangul[:8], hangul[8:]],),
        ([_stream("a", done=True)],),
        ([b": keep-alive\n\n", _stream("a")],),
        ([b"x" * 0, words[:-1], words[-1:]],),
    ]
    mistakes = (
        (
            _each_chunk,
            "a chunk may end within a line: keep its unfinished end, and put the next chunk behind it",
        ),
        (_as_text, "a chunk may end within a character, so it cannot be decoded alone: split the bytes"),
        (_replaced, "a character that was cut in two became question marks: split the bytes, decode later"),
        (_ignored, "a character that was cut in two is lost: split the bytes, decode later"),
        (_with_done, "data: [DONE] is the end of the stream, not JSON"),
        (
            _all_lines,
            "a line that begins with a colon is a comment, which keeps the connection open: skip it",
        ),
    )
    known = [(listed(function), why) for function, why in mistakes]
    if feedback := diagnose(listed(events), listed(_events), cases, known, name="list(events"):
        return feedback.replace("list(events(", "list(events(iter(", 1)
    read: list[int] = []
    chunks = (read.append(i) or part for i, part in enumerate([_stream("a"), _stream("b"), _stream("c")]))  # type: ignore[func-returns-value]
    next(iter(events(chunks)))
    if len(read) > 1:
        return "the first event came only after later chunks: yield an event as soon as its line is complete"
    return None


# A request: due, sent and ended (seconds), and whether it was answered.
Sent = tuple[float, float, float, bool]


def _report(
    requests: Sequence[Sent], warm_up: int, begin: int = 0, *, failed: str = "never answered", off: int = -1
) -> tuple[float, float]:
    """The right solution of 07.2, or a mistake if an option is given.

    begin: 0 measures from `due`, 1 from `sent`. failed: how failed requests count: "never answered" (infinite
    time), "as answered" or "left out". off: shifts the index of the 95% quantile, p95.
    """
    counted = requests[warm_up:]
    times = sorted(
        r[2] - r[begin] if r[3] or failed == "as answered" else math.inf
        for r in counted
        if r[3] or failed != "left out"
    )
    index = min(len(times) - 1, math.ceil(0.95 * len(times)) + off)
    return times[index], sum(not r[3] for r in counted) / len(counted)


def _load(count: int, pause: int, failed: Sequence[int]) -> list[Sent]:
    """Return ten requests per second.

    From number `pause` on some are sent late; those in `failed` fail at once.
    """
    requests = []
    for i in range(count):
        late = max(0.0, 1 - 0.1 * (i - pause)) if i >= pause else 0.0
        due = 0.1 * i
        took = 3.0 - 0.5 * i if i < 4 else 0.2 + 0.001 * i
        ok = i not in failed
        requests.append((due, due + late, due + late + (took if ok else 0.01), ok))
    return requests


def check_report(report: Callable[[list[Sent], int], tuple[float, float]]) -> str | None:
    """Check 07.2: `report(requests, warm_up)`, the time that 95% do not exceed, and the share that fails.

    The first `warm_up` requests do not count.
    """
    cases = [
        (_load(48, 20, range(24, 48, 2)), 4),
        (_load(104, 50, []), 4),
        (_load(44, 10, [40]), 0),
        (_load(64, 20, [41, 52]), 4),
    ]

    def share_of_all(requests: Sequence[Sent], warm_up: int) -> tuple[float, float]:
        return _report(requests, warm_up)[0], sum(not r[3] for r in requests) / len(requests)

    def per_cent(requests: Sequence[Sent], warm_up: int) -> tuple[float, float]:
        p95, failed = _report(requests, warm_up)
        return p95, 100 * failed

    mistakes = (
        (lambda r, w: _report(r, w, 1), "the time runs from `sent`: it hides that the request was late"),
        (
            lambda r, w: _report(r, w, failed="as answered"),
            "failed requests, which end at once, count among the fast answers",
        ),
        (
            lambda r, w: _report(r, w, failed="left out"),
            "failed requests are left out: their users had no answer within any time, so 95 of a hundred "
            "users need more",
        ),
        (lambda r, w: _report(r, 0), "the warm-up requests count, and they are slower than the others"),
        (
            lambda r, w: _report(r, 0, 1, failed="as answered"),
            "this is the colleague's p95, with all three faults",
        ),
        (
            lambda r, w: _report(r, w, off=0),
            "that is one place too far: of 40 times, take the 38th, index 37",
        ),
        (
            lambda r, w: _report(r, w, 1, failed="as answered"),
            "two faults are left: when the time begins, and failures",
        ),
        (
            lambda r, w: _report(r, w, 1, failed="left out"),
            "two faults are left: the time runs from `sent`, and the users without an answer are left out",
        ),
        (share_of_all, "the share of failures counts the warm-up"),
        (per_cent, "the share of failures is in per cent; return it from 0 to 1"),
    )
    return diagnose(report, _report, cases, mistakes, name="report")


def check_queue(longest_queue: Callable[[int, float, float], int]) -> str | None:
    """Check 07.4: `longest_queue(slots, seconds, limit)`.

    It is how many requests may wait, if each must begin within `limit` seconds, each answer takes `seconds`,
    and the server writes `slots` answers at a time.
    """
    cases = [(4, 2.0, 10.0), (4, 2.0, 11.0), (1, 0.5, 2.0), (8, 3.0, 2.0), (2, 4.0, 4.0)]
    mistakes = (
        (lambda s, t, limit: int(limit // t), "you served one request at a time; `slots` begin together"),
        (
            lambda s, t, limit: int(s * limit / t),
            "between two rounds nobody begins: count whole rounds, then multiply by the slots",
        ),
        (
            lambda s, t, limit: s * math.ceil(limit / t),
            "the last round begins after the limit: round down, not up",
        ),
        (
            lambda s, t, limit: s * (int(limit // t) + 1),
            "the slots are all taken at the start: the first round begins after `seconds`, not at once",
        ),
        (
            lambda s, t, limit: s * max(0, int(limit // t) - 1),
            "the limit is for the beginning of an answer, not for its end",
        ),
        (lambda s, t, limit: int(limit // t) // s, "more slots empty the queue faster: multiply by them"),
    )

    def reference(slots: int, seconds: float, limit: float) -> int:
        return slots * int(limit // seconds)

    return diagnose(longest_queue, reference, cases, mistakes, name="longest_queue")


def check_next(what_next: Callable[[int | None, int, int], str]) -> str | None:
    """Check 07.6: `what_next(status, tokens, tries)`, what a client should do when a request has ended.

    "again" means to send it again at once, "wait" to do so later, "error" to give up. status: of HTTP, None
    if the connection was lost. tokens: seen by the user. tries: so far, of at most 3.
    """
    cases = [(None, 0, 1), (None, 7, 1), (200, 30, 1), (503, 0, 1), (400, 0, 1), (404, 0, 2), (429, 0, 2)]
    cases += [(502, 0, 1), (504, 0, 1), (500, 0, 1), (None, 0, 3), (503, 0, 3), (200, 30, 3)]

    def reference(status: int | None, tokens: int, tries: int) -> str:
        if status == 200:
            return "done"
        if tokens or tries >= 3:
            return "error"
        return "again" if status is None else "wait" if status in (429, 502, 503, 504) else "error"

    def kind(status: int | None, tokens: int, tries: int) -> str:
        """Return a name for the way in which a request ended."""
        # full: the queue; away: a balancer in front of several servers got no answer from any.
        names = {429: "full", 503: "full", 502: "away", 504: "away", 500: "failed", 200: "good"}
        name = ("late" if tokens else "early") if status is None else names.get(status, "bad")
        return name + "_last" * (tries >= 3)

    def changed(**answers: str) -> Callable[[int | None, int, int], str]:
        """Return a mistake: other answers for some kinds of ends.

        They also hold for the last try, unless a kind with _last is among them.
        """

        def other(status: int | None, tokens: int, tries: int) -> str:
            name = kind(status, tokens, tries)
            given = answers.get(name) or answers.get(name.removesuffix("_last") if "last" in answers else "")
            return given or reference(status, tokens, tries)

        return other

    twice = "the user has seen seven tokens: another try would begin a second answer behind them"
    storm = "a server with a full queue is asked again at once: wait first, or the crowd grows"
    bad = "status 400 says that the request is wrong: it is wrong at every server"
    endless = "the third try is the last one: a client that never gives up is a part of the overload"
    mistakes = (
        (changed(late="again"), twice),
        (changed(full="again"), storm),
        (changed(bad="again"), bad),
        (changed(bad="wait"), bad + ", and later, too"),
        (changed(early="error"), "nobody has seen a token: another replica can answer, and nobody notices"),
        (changed(early="wait"), "the connection broke before a token: another replica can answer at once"),
        (
            changed(full="error"),
            "429 and 503 are no failures for good: the queue is full now, and empty later",
        ),
        (changed(away="again"), "the balancer has just tried: after 502 and 504 wait, before you ask again"),
        (changed(away="error"), "502 and 504 say that no replica answers now; one may be back in a moment"),
        (changed(away="error", failed="wait"), "500 and 502 are mixed up: which of them may be over soon?"),
        (changed(failed="wait"), "after a 500 the server may fail at this request each time: tell the user"),
        (
            changed(failed="again"),
            "after a 500 the server may fail at this request at once again: tell the user",
        ),
        (
            changed(away="again", failed="again"),
            "the statuses from 500 on differ: after 502 and 504 a pause helps, after 500 nothing may",
        ),
        (changed(early_last="again", full_last="wait", away_last="wait"), endless),
        (
            changed(late="again", full="again", bad="again", away="again", failed="again"),
            "whatever fails is sent again: wrong requests, full servers, and answers that were half seen",
        ),
        (
            changed(early="error", full="error", away="error"),
            "nothing is ever tried again: three kinds of these could be answered",
        ),
    )
    return diagnose(what_next, reference, cases, mistakes, name="what_next")
