"""Simulate how a server puts requests together: one at a time, static, dynamic and continuous batching.

A step of decoding writes one token for each sequence of the batch, and takes little longer for many than for
one (Yu 2022, "Orca", OSDI: continuous batching). The functions return when each request is answered.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Server:
    """What a simulated server can do.

    step_seconds: for a number of sequences, the seconds of one decoding step that writes a token for each.
    read_seconds: the seconds that reading one prompt (prefill) takes, during which nothing is written.
    slots: the most sequences in one batch.
    """

    step_seconds: Callable[[int], float]
    read_seconds: float
    slots: int


def in_batches(
    server: Server, arrivals: Sequence[float], tokens: Sequence[int], *, wait: float = math.inf
) -> list[float]:
    """Answer whole batches: a batch takes as long as its longest answer, and all its answers come at its end.

    A batch starts when the server is free and the batch is full, or its first request has waited `wait`
    seconds: static batching waits for ever (but not for requests that never come), dynamic for some time.
    arrivals: seconds, in ascending order. tokens: of each answer.
    """
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
    """Let a request join the batch at the next step if a slot is free, and leave it with its last token.

    arrivals: seconds, in ascending order. tokens: of each answer.
    """
    ends = [0.0] * len(arrivals)
    left: dict[int, int] = {}  # request -> tokens that are still to be written
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
