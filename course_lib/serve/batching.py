"""Simulate how a server schedules requests: with static, dynamic or continuous batching, or one at a time.

A decoding step generates one token for each sequence of the batch, and takes only a little longer for many
sequences than for one (Yu 2022, "Orca", OSDI: continuous batching). The functions return the time, in
seconds, at which each answer is complete. As a simplification, prompts are prefilled (read by the model) one
after another, and a prefill generates no token.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from course_lib.errors import CourseError


@dataclass(frozen=True)
class Server:
    """The speed and the batch size of a simulated server.

    step_seconds: A function from a number of sequences to the seconds of one decoding step for all of them.
    read_seconds: The seconds to prefill one prompt; no tokens are generated meanwhile.
    slots: The largest number of sequences in one batch, at least 1; with 1, requests are answered one at a
    time. Raises CourseError for fewer.
    """

    step_seconds: Callable[[int], float]
    read_seconds: float
    slots: int

    def __post_init__(self) -> None:
        if self.slots < 1:
            raise CourseError(f"slots={self.slots}; a server needs at least 1", "Server(..., slots=1)")


def in_batches(
    server: Server, arrivals: Sequence[float], tokens: Sequence[int], *, wait: float = math.inf
) -> list[float]:
    """Answer whole batches: a batch takes as long as its longest answer, and all its answers come at its end.

    A batch starts once the server is free, and either the batch is full, or its first request has waited
    `wait` seconds, or the last request has arrived. wait: math.inf for static batching, less for dynamic.
    arrivals: Seconds, in ascending order. tokens: The number of tokens in each answer, at least 1.
    Raises CourseError for other arrivals or tokens.
    """
    _check_requests(arrivals, tokens)
    ends: list[float] = []
    free = 0.0
    while (begin := len(ends)) < len(arrivals):
        next_ones = arrivals[begin : begin + server.slots]
        start = max(free, min(next_ones[-1], arrivals[begin] + wait))
        size = sum(arrival <= start for arrival in next_ones)
        longest = max(tokens[begin : begin + size])
        free = start + server.read_seconds * size + server.step_seconds(size) * longest
        ends += [free] * size
    return ends


def continuously(server: Server, arrivals: Sequence[float], tokens: Sequence[int]) -> list[float]:
    """Let a request join the batch at the next step if a slot is free, and leave it after its last token.

    arrivals: Seconds, in ascending order. tokens: The number of tokens in each answer, at least 1.
    Raises CourseError for other arrivals or tokens.
    """
    _check_requests(arrivals, tokens)
    ends = [0.0] * len(arrivals)
    left: dict[int, int] = {}  # request -> tokens that are still to be generated
    now, coming = 0.0, 0
    while left or coming < len(arrivals):
        if not left:
            now = max(now, arrivals[coming])
        while coming < len(arrivals) and arrivals[coming] <= now and len(left) < server.slots:
            left[coming] = tokens[coming]
            now += server.read_seconds
            coming += 1
        now += server.step_seconds(len(left))
        left = {i: n - 1 for i, n in left.items()}
        for i in [i for i, n in left.items() if n == 0]:
            ends[i] = now
            del left[i]
    return ends


def _check_requests(arrivals: Sequence[float], tokens: Sequence[int]) -> None:
    """Raise CourseError unless each request has an arrival, in ascending order, and at least 1 token."""
    if len(arrivals) != len(tokens) or list(arrivals) != sorted(arrivals) or min(tokens, default=1) < 1:
        what = f"{len(arrivals)} arrivals, {len(tokens)} answers of at least {min(tokens, default=0)} tokens"
        raise CourseError(what, "give sorted arrivals, and for each of them an answer of at least 1 token")
