"""Load and its measures, against servers of known service time, and quantiles against scipy's binomial."""

import itertools
import math
import threading
import time

import numpy as np
import pytest
from scipy import stats

from course_lib.measure.intervals import median_interval, quantile_of
from course_lib.measure.load import Load, Request, closed_loop, open_loop, poisson_arrivals

SERVICE = 0.01  # seconds


class OneAtATime:
    """A server that answers two tokens after SERVICE seconds, one request at a time, in order of arrival."""

    def __init__(self):
        self.free_at, self.lock = 0.0, threading.Lock()

    def __call__(self, i):
        with self.lock:
            self.free_at = max(self.free_at, time.perf_counter()) + SERVICE
            ends = self.free_at
        time.sleep(max(0.0, ends - time.perf_counter()))
        yield "a"
        yield "b"


def test_the_queue_of_an_open_loop_is_the_one_that_its_arrivals_make():
    """Lindley's recursion gives each request's wait exactly; the machine may only add to it."""
    arrivals = poisson_arrivals(0.7 / SERVICE, 200, seed=1)
    wait, waits = 0.0, [0.0]
    for before, now in itertools.pairwise(arrivals):
        wait = max(0.0, wait + SERVICE - (now - before))
        waits.append(wait)
    load = open_loop(OneAtATime(), arrivals)
    found = np.array([r.latency for r in load.requests]) - SERVICE
    assert (found >= np.array(waits) - 1e-4).all()
    assert np.quantile(found - waits, 0.25) < 0.005


def test_a_closed_loop_hides_the_queue():
    """Two clients at a server of one request at a time: each waits for the other, never for more."""
    load = closed_loop(OneAtATime(), 2, 30, warm_up=2)
    assert len(load.requests) == 28
    assert load.quantile("latency", 0.5).value == pytest.approx(2 * SERVICE, rel=0.5)
    assert load.requests_per_second <= 1.05 / SERVICE
    overload = open_loop(OneAtATime(), [i * SERVICE / 2 for i in range(60)])  # twice what it can do
    assert overload.quantile("latency", 0.99).value > 20 * SERVICE


def test_failures_are_counted_by_kind_and_not_answered():
    def send(i):
        yield "token"
        if i % 3 == 0:
            raise OSError(f"no answer to {i % 2}")

    load = closed_loop(send, 2, 12)
    assert load.errors == {"OSError: no answer to 0": 2, "OSError: no answer to 1": 2}
    assert len(load.answered) == 8
    assert "8 of 12 answered" in str(load)
    assert "2 x OSError: no answer to 0" in str(load)


def test_the_measures_of_known_requests():
    load = Load(
        (Request(0, 0, 1, 3, 5), Request(1, 1.5, 2, 2, 1), Request(2, 2, None, 4, 0, "ValueError: x"))
    )
    assert (load.requests[0].ttft, load.requests[0].per_token, load.requests[0].latency) == (1, 0.5, 3)
    assert load.requests[1].per_token is None
    assert (load.seconds, load.requests_per_second, load.tokens_per_second, load.late) == (4, 0.5, 1.5, 0.5)
    assert load.goodput(ttft=1, per_token=0.5) == 0.5
    assert load.goodput(ttft=1, per_token=0.4) == 0.25
    assert load.goodput(ttft=0.9, per_token=1) == 0


def test_arrivals_are_poisson_and_seeded():
    gaps = np.diff([0.0, *poisson_arrivals(50, 5000, seed=2)])
    assert stats.kstest(gaps, "expon", args=(0, 1 / 50)).pvalue > 0.01
    assert poisson_arrivals(5, 9, seed=1) == poisson_arrivals(5, 9, seed=1) != poisson_arrivals(5, 9, seed=2)


@pytest.mark.parametrize(
    "call",
    [
        lambda: poisson_arrivals(0, 3),
        lambda: poisson_arrivals(math.nan, 3),
        lambda: open_loop(lambda i: [], []),
        lambda: closed_loop(lambda i: [], 0, 3),
        lambda: closed_loop(lambda i: [], 1, 3, warm_up=3),
        lambda: quantile_of([], 0.5),
        lambda: quantile_of([1.0], 1.0),
    ],
)
def test_impossible_loads_are_refused(call):
    with pytest.raises(ValueError, match=r"minimum|above 0|counted|needed"):
        call()


@pytest.mark.parametrize(("n", "q"), [(40, 0.5), (200, 0.95), (2000, 0.99), (50, 0.95)])
def test_a_quantiles_interval_covers_it_as_the_binomial_says(n, q):
    found = quantile_of([float(i) for i in range(1, n + 1)], q)  # the k-th smallest value is k
    assert stats.binom.cdf(found.low - 1, n, q) <= 0.025 < stats.binom.cdf(found.low, n, q)
    if math.isfinite(found.high):
        assert stats.binom.sf(found.high - 1, n, q) <= 0.025 < stats.binom.sf(found.high - 2, n, q)
    else:
        assert stats.binom.sf(n - 1, n, q) > 0.025
    if q == 0.5:
        assert (found.low, found.high) == median_interval(range(1, n + 1))[:2]
