"""The widget of chapter 07: how latency depends on arrivals, replicas, batch size and answer length.

A replica is a copy of the model on a server of its own; its slots are the answers that it can write at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import NamedTuple

from course_lib.learn.widgets.explorer import Control, Explorer, Output, Range
from course_lib.measure.intervals import quantile_of
from course_lib.measure.load import poisson_arrivals
from course_lib.plots import Picture, curves
from course_lib.serve.batching import Server, continuously

PATTERN = (1, 1, 1, 1, 4)  # lengths of successive answers, relative to a short answer
REQUESTS = 200  # requests in a simulation
SHARES = (0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.2)  # arrival rates of the curve, as shares of the capacity


def answer_lengths(short: int, count: int) -> list[int]:
    """Return the numbers of tokens of `count` answers: every fifth is four times as long as the others.

    >>> answer_lengths(10, 6)
    [10, 10, 10, 10, 40, 10]
    """
    return [short * PATTERN[i % len(PATTERN)] for i in range(count)]


def capacity(server: Server, short: int, replicas: int = 1) -> float:
    """Return the requests per second of `answer_lengths` that the replicas can answer with full batches."""
    each = server.read_seconds + short * fmean(PATTERN) * server.step_seconds(server.slots) / server.slots
    return replicas / each


class Simulated(NamedTuple):
    """The latencies of a simulated load in seconds, and its tokens per second."""

    mean: float
    p95: float
    tokens_per_second: float


def simulate(server: Server, rate: float, short: int, replicas: int = 1, seed: int = 0) -> Simulated:
    """Simulate requests at random (Poisson) times, which go to the replicas in turn and take free slots.

    rate: the requests per second. short: the tokens of a short answer, as in `answer_lengths`.
    """
    arrivals, tokens = poisson_arrivals(rate, REQUESTS, seed), answer_lengths(short, REQUESTS)
    latencies: list[float] = []
    last = 0.0
    for turn in range(replicas):
        arrived = arrivals[turn::replicas]
        ends = continuously(server, arrived, tokens[turn::replicas])
        latencies += [end - arrival for end, arrival in zip(ends, arrived, strict=True)]
        last = max(last, *ends)
    return Simulated(fmean(latencies), quantile_of(latencies, 0.95).value, sum(tokens) / (last - arrivals[0]))


def describe(found: Simulated, rate: float, most: float) -> str:
    """Describe a simulated load. most: the capacity in requests per second."""
    lines = [
        f"Latency: mean {1000 * found.mean:,.0f} ms, 95 of a hundred within {1000 * found.p95:,.0f} ms.",
        f"Throughput: {found.tokens_per_second:,.0f} tokens/s.",
        f"Load: {rate:g} of at most {most:.3g} requests/s, {rate / most:.0%}.",
    ]
    if rate >= most:
        lines.append("That is more than can be answered: the queue grows for as long as requests come.")
    return "\n".join(lines)


def serving_explorer(
    server: Server, measured: Mapping[float, float], short: int, rates: Sequence[float] = (1, 100)
) -> Explorer:
    """Return the widget.

    server: with measured times; `step_seconds` must be known for any batch size. measured: rate -> mean
    latency in seconds of one such server with answers of `answer_lengths(short, ...)`. rates: the lowest and
    the highest arrival rate that the widget offers, in requests per second.
    """
    half_load = min(max(rates[0], round(capacity(server, short) / 2, 1)), rates[1])

    def show(rate: float, replicas: float, slots: float, length: float) -> Output:
        chosen = replace(server, slots=int(slots))
        most = capacity(chosen, int(length), int(replicas))
        result = simulate(chosen, rate, int(length), int(replicas))
        text = describe(result, rate, most)
        same = (int(replicas), int(slots), int(length)) == (1, server.slots, short)
        if same:
            points = [f"{1000 * latency:,.0f} ms at {at:.3g}/s" for at, latency in measured.items()]
            text += f"\nMeasured means on this machine: {', '.join(points)}."
        return Output(
            text, _curve(chosen, int(length), int(replicas), measured if same else {}, rate, result)
        )

    controls: dict[str, Control] = {
        "rate": Range("arrivals", rates[0], rates[1], half_load, 0.5, "per second"),
        "replicas": Range("replicas", 1, 8, 1),
        "slots": Range("largest batch", 1, 16, server.slots, 1, "answers"),
        "length": Range("length of a short answer", 1, 128, short, 1, "tokens"),
    }
    return Explorer("serving", "How long do they wait?", show, controls)


def _curve(
    server: Server, short: int, replicas: int, measured: Mapping[float, float], rate: float, found: Simulated
) -> Picture:
    """Draw the mean latency against the arrival rate, and the chosen point."""
    most = capacity(server, short, replicas)
    line = {most * share: 1000 * simulate(server, most * share, short, replicas).mean for share in SHARES}
    lines = {"simulated": line}
    if measured:
        lines["measured"] = {at: 1000 * latency for at, latency in measured.items()}
    chosen = {"your choice": (rate, 1000 * found.mean)}
    title = f"Latency against load, {replicas} x {server.slots} slots"
    return curves(lines, x="requests per second", y="mean latency, ms", title=title, notes=chosen)
