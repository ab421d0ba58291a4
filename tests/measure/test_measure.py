"""Statistics against oracles and by simulation, and memory that really was taken."""

import math
import mmap
import statistics
import sys
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from course_lib.measure import (
    Estimate,
    bootstrap_interval,
    machine,
    mean_of,
    measure,
    median_interval,
    median_of,
    paired_ratio,
    peak_memory,
    proportion_interval,
)
from course_lib.measure.intervals import quantile_of
from course_lib.measure.memory import peak_resident_bytes

positive = st.floats(1e-6, 1e6)


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


@pytest.mark.parametrize("n", [7, 20])
def test_of_skewed_times_the_interval_covers_as_often_as_it_says(n):
    """Log-normal times, as of a disturbed machine; of 3,000 repetitions two standard errors are below 1%."""
    times = 1 + np.random.default_rng(3).lognormal(-2, 1, (3000, n))
    true = 1 + math.exp(-2)
    intervals = [median_of(list(row)) for row in times]
    assert np.mean([e.low <= true <= e.high for e in intervals]) == pytest.approx(
        intervals[0].coverage, abs=0.01
    )
    speeds = [e.inverse() for e in intervals]
    assert np.mean([e.low <= 1 / true <= e.high for e in speeds]) == pytest.approx(
        speeds[0].coverage, abs=0.01
    )


def test_of_seven_times_the_bootstrap_covers_less_than_it_says():
    """The percentile bootstrap of 7 times states 95% and covers below 91%; hence order statistics."""
    times = 1 + np.random.default_rng(3).lognormal(-2, 1, (1500, 7))
    found = stats.bootstrap(
        (times,), np.median, axis=1, method="percentile", n_resamples=999, rng=4
    ).confidence_interval
    assert np.mean((found.low <= 1 + math.exp(-2)) & (1 + math.exp(-2) <= found.high)) < 0.91


@given(st.lists(positive, min_size=1, max_size=30))
def test_tokens_per_second_are_ordered_as_an_interval_is(seconds):
    speed = median_of(seconds).inverse()
    assert speed.low <= speed.value <= speed.high
    assert speed.coverage == median_of(seconds).coverage
    assert speed.scaled(1000).high == speed.high * 1000


def test_a_time_of_nothing_is_no_speed():
    speed = Estimate(0.1, -0.2, 0.4, 0.98).inverse()
    assert (speed.value, speed.low, speed.high) == (10, 2.5, math.inf) and speed.noisy
    assert str(speed) == "10 (2.5-inf)"
    assert Estimate(-1, -2, 4, 0.98).inverse().value == math.inf


def test_a_wide_interval_is_noisy():
    assert Estimate(10, 9, 11.6, 0.95).noisy and not Estimate(10, 9, 11.4, 0.95).noisy
    assert Estimate(-10, -11.6, -9, 0.95).noisy and not Estimate(-10, -11.4, -9, 0.95).noisy


def test_an_estimate_shows_three_digits():
    assert str(Estimate(12345.6, 999.9, 20000, 0.95)) == "12,346 (1,000-20,000)"
    assert str(Estimate(0.012345, 0.01, 0.5, 0.95)) == "0.0123 (0.01-0.5)"


@given(st.lists(st.tuples(positive, positive), min_size=1, max_size=30))
def test_a_ratio_lies_in_its_interval_and_turned_round_is_its_inverse(pairs):
    above, below = zip(*pairs, strict=True)
    there, back = paired_ratio(above, below), paired_ratio(below, above)
    assert there.low <= there.value <= there.high
    assert (there.low, there.high) == pytest.approx((1 / back.high, 1 / back.low))


def test_a_ratio_agrees_with_the_bootstrap_of_many_pairs():
    rng = np.random.default_rng(5)
    above, below = 3 * (1 + rng.lognormal(-2, 1, 400)), 1 + rng.lognormal(-2, 1, 400)
    ours = paired_ratio(list(above), list(below))
    theirs = stats.bootstrap(
        (above, below),
        lambda a, b, axis=-1: np.median(a, axis) / np.median(b, axis),
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=2000,
        rng=6,
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=0.02)


def test_what_disturbs_both_of_a_pair_cancels():
    rng = np.random.default_rng(7)
    disturbed = rng.lognormal(0, 1, 9)
    above, below = 3 * disturbed * rng.normal(1, 0.01, 9), disturbed
    assert paired_ratio(list(above), list(below)).value == pytest.approx(3, rel=0.02)
    assert not paired_ratio(list(above), list(below)).noisy and median_of(list(above)).noisy


@pytest.mark.parametrize(
    ("above", "below"), [([1], []), ([], []), ([0.0], [1.0]), ([1.0], [-1.0]), ([math.nan], [1.0])]
)
def test_what_is_no_pair_of_times_is_refused(above, below):
    with pytest.raises(ValueError, match=r"values; pairs of numbers above 0|no values"):
        paired_ratio(above, below)


@pytest.mark.parametrize("n", [1, 7, 700])
def test_means_of_many_resamples_at_once_are_those_of_one_after_another(n):
    values = np.random.default_rng(n).normal(size=n)
    assert bootstrap_interval(values) == bootstrap_interval(values, statistic=np.mean)


def test_the_bootstrap_agrees_with_scipy():
    values = np.random.default_rng(1).normal(3, 1, 80)
    ours = bootstrap_interval(list(values), draws=5000)
    theirs = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=5000, rng=2
    ).confidence_interval
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.02)


@given(
    st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
    st.sampled_from([0.9, 0.95, 0.99]),
)
def test_the_interval_of_a_share_is_wilsons(counts, coverage):
    right, of = counts
    theirs = stats.binomtest(right, of).proportion_ci(coverage, method="wilson")
    assert proportion_interval(right, of, coverage=coverage) == pytest.approx(
        (theirs.low, theirs.high), abs=1e-9
    )


def test_of_few_answers_wilson_covers_where_the_bootstrap_does_not():
    """True proportion 0.9 of 20, summed over the binomial, which the bootstrap of the mean is, too."""
    chances = stats.binom.pmf(range(21), 20, 0.9)
    wilson = [proportion_interval(k, 20) for k in range(21)]
    boot = [stats.binom.ppf([0.025, 0.975], 20, k / 20) / 20 for k in range(21)]
    covered = [
        sum(p for p, (low, high) in zip(chances, each, strict=True) if low <= 0.9 <= high)
        for each in (wilson, boot)
    ]
    assert covered[0] > 0.94 and covered[1] < 0.9


def test_marks_have_a_mean_with_an_interval():
    assert mean_of([1.0] * 20).low == pytest.approx(0.839, abs=0.001) and mean_of([1] * 20).high == 1
    parts = [0.0, 0.5, 1.0, 0.25] * 5
    assert mean_of(parts) == Estimate(0.4375, *bootstrap_interval(parts), 0.95)
    for wrong in ([], [1.5], [-0.1], [math.nan]):
        with pytest.raises(ValueError, match="scores"):
            mean_of(wrong)
    for right, of in ((1, 0), (3, 2), (-1, 2)):
        with pytest.raises(ValueError, match="trials >= 1 are needed"):
            proportion_interval(right, of)


@pytest.mark.parametrize("function", [median_interval, bootstrap_interval])
def test_no_values_are_refused(function):
    with pytest.raises(ValueError, match="no values"):
        function([])


def test_measure_warms_up_and_repeats():
    calls = []
    result = measure(lambda: calls.append(1), repeats=5, warm_up=2)
    assert len(calls) == 7 and len(result.seconds) == 5
    assert result.low <= result.median == statistics.median(result.seconds) <= result.high
    with pytest.raises(ValueError, match="repeats=0"):
        measure(lambda: None, repeats=0)


def test_a_measurement_says_what_it_is():
    assert "ms (median of 3; " in str(measure(lambda: None, repeats=3)) and "75% interval" in str(
        measure(lambda: None, repeats=3)
    )


def test_peak_memory_sees_an_array_that_is_gone_afterwards():
    def run():
        array = np.frombuffer(
            mmap.mmap(-1, 128_000_000)
        )  # of the system: what the process has freed is not used again
        array[:] = 1
        time.sleep(
            1
        )  # below the process's high-water mark only samples see it, and a busy machine is slow to take them
        return float(array.sum())

    result, memory = peak_memory(run)
    assert result == 16_000_000
    assert memory.added > 100e6


@pytest.mark.skipif(sys.platform != "linux", reason="the high-water mark is Linux's")
def test_the_systems_mark_sees_a_peak_between_two_samples():
    bytes_needed = peak_resident_bytes() + 100_000_000
    _, memory = peak_memory(lambda: np.ones(bytes_needed, dtype=np.uint8).nbytes, interval_seconds=60)
    assert memory.exact and memory.peak == peak_resident_bytes() > memory.after + 100_000_000
    _, again = peak_memory(lambda: np.ones(bytes_needed // 2, dtype=np.uint8).nbytes, interval_seconds=60)
    assert not again.exact and again.added < bytes_needed // 2  # below the mark only samples see


def test_the_machine_names_no_path_and_no_user():
    assert set(machine()) == {"processor", "cores", "memory_gib", "system", "python"}
    assert "/" not in str(machine()["processor"])


def test_a_median_of_what_has_no_order_is_refused_and_arrays_are_taken():
    for values in ([3, math.nan, 1, 2], np.array([1.0, np.nan])):
        for call in (median_of, lambda v: quantile_of(v, 0.5)):
            with pytest.raises(ValueError, match=f"1 of {len(values)} values are NaN"):
                call(values)
    with pytest.raises(ValueError, match="coverage=95"):
        quantile_of([1, 2, 3], 0.5, 95)
    assert median_of(np.arange(9.0)) == median_of(list(range(9)))
    assert mean_of(np.array([0.0, 1.0, 1.0])) == mean_of([0, 1, 1])
