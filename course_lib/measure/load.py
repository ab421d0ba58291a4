"""Send requests to a server and time each of them: a load test.

In an open loop, requests arrive at given times; in a closed loop, each client waits for its answer before it
sends the next request. A closed loop sends less to a slow server, so it hides the queue in which real users
would wait. In an open loop, a request's waiting time begins when it was due, even if the load generator sent
it late (coordinated omission: Tene, "How NOT to Measure Latency", 2013).
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from course_lib.measure.intervals import Estimate, quantile_of
from course_lib.tables import table

Send = Callable[[int], Iterable[object]]  # sends request number i, and yields its answer token by token


@dataclass(frozen=True)
class Request:
    """What happened to one request. All times are in seconds after the start of the load test.

    due: when the request should have been sent. sent: when it was sent. first, ended: when its first token
    arrived, and when its answer ended. error: the exception's type and text, empty if there was none.
    """

    due: float
    sent: float
    first: float | None
    ended: float
    tokens: int
    error: str = ""

    @property
    def latency(self) -> float:
        """Seconds from when it was due to the end of its answer (end-to-end latency)."""
        return self.ended - self.due

    @property
    def ttft(self) -> float | None:
        """Seconds from when it was due to its first token (time to first token), None without a token."""
        return None if self.first is None else self.first - self.due

    @property
    def per_token(self) -> float | None:
        """Seconds per token after the first (time per output token), None for fewer than two tokens."""
        return (
            None if self.first is None or self.tokens < 2 else (self.ended - self.first) / (self.tokens - 1)
        )


@dataclass(frozen=True)
class Load:
    """The requests of one run, in the order in which they were due, without the warm-up.

    Intervals of quantiles treat requests as independent. Requests in one queue are not, so with a long queue
    the true interval is wider: repeat the run with another seed.
    """

    requests: tuple[Request, ...]

    @property
    def answered(self) -> tuple[Request, ...]:
        return tuple(r for r in self.requests if not r.error)

    @property
    def errors(self) -> Counter[str]:
        """How often each error happened."""
        return Counter(r.error for r in self.requests if r.error)

    @property
    def seconds(self) -> float:
        """Seconds from when the first request was due to the end of the last answer."""
        return max(r.ended for r in self.requests) - self.requests[0].due

    @property
    def tokens_per_second(self) -> float:
        return sum(r.tokens for r in self.answered) / self.seconds

    @property
    def requests_per_second(self) -> float:
        return len(self.answered) / self.seconds

    @property
    def late(self) -> float:
        """The longest time by which the load generator itself was late, in seconds."""
        return max(r.sent - r.due for r in self.requests)

    def quantile(self, what: str, q: float) -> Estimate:
        """The quantile of `what`, in seconds, over the answered requests, with its confidence interval.

        what: "latency", "ttft" or "per_token". Raises ValueError if no answered request has such a time.
        """
        times = [value for r in self.answered if (value := getattr(r, what)) is not None]
        return quantile_of(times, q)

    def goodput(self, *, ttft: float, per_token: float) -> float:
        """Requests per second that were answered within both limits (Zhong et al. 2024, arXiv:2401.09670).

        ttft, per_token: the limits in seconds.
        """
        good = sum(
            r.ttft is not None and r.ttft <= ttft and (r.per_token or 0.0) <= per_token for r in self.answered
        )
        return good / self.seconds

    def __str__(self) -> str:
        rows = [
            [name, *(str(self.quantile(what, q).scaled(1000)) for q in (0.5, 0.95, 0.99))]
            for name, what in (
                ("first token", "ttft"),
                ("per token", "per_token"),
                ("whole answer", "latency"),
            )
            if any(getattr(r, what) is not None for r in self.answered)
        ]
        errors = "".join(f"\n{count} x {error}" for error, count in self.errors.most_common())
        return (
            f"{len(self.answered)} of {len(self.requests)} answered, {self.requests_per_second:.3g} "
            f"requests/s, {self.tokens_per_second:,.0f} tokens/s; "
            f"sent {self.late * 1000:.0f} ms late at most{errors}\n{table(['ms', 'p50', 'p95', 'p99'], rows)}"
        )


def poisson_arrivals(rate: float, count: int, seed: int = 0) -> list[float]:
    """Return random times in seconds at which `count` requests of independent users arrive.

    rate: the mean number of requests per second.

    Raises ValueError if the rate is not above 0.
    """
    if not rate > 0:
        raise ValueError(f"rate={rate}; it must be above 0")
    draw, now, times = random.Random(seed), 0.0, []
    for _ in range(count):
        now += draw.expovariate(rate)
        times.append(now)
    return times


def open_loop(send: Send, arrivals: Sequence[float], *, warm_up: int = 0) -> Load:
    """Send request i at `arrivals[i]` seconds, whether or not earlier ones have been answered.

    warm_up: the number of first requests that are sent, but not counted. Raises ValueError if none is left.
    """
    _check_count(len(arrivals), warm_up)
    with ThreadPoolExecutor(len(arrivals)) as pool:
        begun, futures = time.perf_counter(), []
        for i, due in enumerate(arrivals):
            time.sleep(max(0.0, begun + due - time.perf_counter()))
            futures.append(pool.submit(_timed, send, i, begun, due))
        return Load(tuple(future.result() for future in futures[warm_up:]))


def closed_loop(send: Send, clients: int, count: int, *, warm_up: int = 0) -> Load:
    """Let several clients send `count` requests in all, each its next as soon as its last was answered.

    Raises ValueError for no clients, or if no request is left after `warm_up`.
    """
    _check_count(count, warm_up)
    if clients < 1:
        raise ValueError(f"clients={clients}; the minimum is 1")
    with ThreadPoolExecutor(clients) as pool:
        begun = time.perf_counter()
        done = list(pool.map(lambda i: _timed(send, i, begun), range(count)))
    return Load(tuple(done[warm_up:]))


def _check_count(count: int, warm_up: int) -> None:
    if not 0 <= warm_up < count:
        raise ValueError(f"{count} requests and warm_up={warm_up}: no request would be counted")


def _timed(send: Send, i: int, begun: float, due: float | None = None) -> Request:
    """Send request `i` and time it. begun: the start of the load test. due: None means now."""
    sent = time.perf_counter() - begun
    request = Request(sent if due is None else due, sent, None, sent, 0)
    try:
        for _ in send(i):
            now = time.perf_counter() - begun
            request = replace(request, first=request.first or now, tokens=request.tokens + 1)
    except Exception as error:
        request = replace(request, error=f"{type(error).__name__}: {error}"[:200])
    return replace(request, ended=time.perf_counter() - begun)
