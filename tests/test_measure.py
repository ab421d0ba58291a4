"""Statistics against oracles, and memory that really was taken."""

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from course_lib.measure import bootstrap_interval, machine, measure, median_interval, peak_memory


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=60))
def test_the_interval_encloses_the_median_with_the_coverage_of_the_binomial(values):
    low, high, coverage = median_interval(values)
    assert low <= statistics.median(values) <= high
    ordered, n = sorted(values), len(values)
    k = ordered.index(low) + 1
    # Ties leave several ranks with the same value: one of them has the stated coverage.
    ranks = [r for r in range(k, n // 2 + 2) if ordered[r - 1] == low]
    assert any(math.isclose(coverage, 1 - 2 * stats.binom.cdf(r - 1, n, 0.5), abs_tol=1e-12) for r in ranks)
    assert coverage >= 0.95 or n < 6


def test_the_interval_is_the_narrowest_that_covers():
    for n in range(6, 40):
        low, _, coverage = median_interval(list(range(n)))
        narrower = 1 - 2 * stats.binom.cdf(low + 1, n, 0.5)
        assert coverage >= 0.95 > narrower


def test_the_bootstrap_agrees_with_scipy():
    values = np.random.default_rng(1).normal(3, 1, 80)
    ours = bootstrap_interval(list(values), draws=5000)
    theirs = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=5000, rng=2).confidence_interval
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.02)


@pytest.mark.parametrize("function", [median_interval, bootstrap_interval])
def test_no_values_are_refused(function):
    with pytest.raises(ValueError, match="no values"):
        function([])


def test_measure_warms_up_and_repeats():
    calls = []
    result = measure(lambda: calls.append(1), repeats=5, warm_up=2)
    assert len(calls) == 7 and len(result.seconds) == 5
    assert result.low <= result.median <= result.high
    with pytest.raises(ValueError, match="repeats=0"):
        measure(lambda: None, repeats=0)


def test_peak_memory_sees_an_array_that_is_gone_afterwards():
    result, memory = peak_memory(lambda: float(np.ones(16_000_000).sum()))
    assert result == 16_000_000
    assert memory.peak - memory.before > 100e6


def test_the_machine_names_no_path_and_no_user():
    assert set(machine()) == {"processor", "cores", "memory_gib", "system", "python"}
    assert "/" not in str(machine()["processor"])
