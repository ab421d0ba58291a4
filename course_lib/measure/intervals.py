"""Numbers with intervals, as pure functions of measured values.

scipy.stats has some of them, and takes more than a second to import.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

NOISY = 0.25  # an interval wider than this share of its value is called noisy


@dataclass(frozen=True)
class Estimate:
    """A value, and an interval from `low` to `high` that holds the true one with probability `coverage`."""

    value: float
    low: float
    high: float
    coverage: float

    @property
    def noisy(self) -> bool:
        return not math.isfinite(self.high) or self.high - self.low > NOISY * self.value

    def scaled(self, factor: float) -> Estimate:
        """In another unit: all three numbers times a positive factor."""
        return Estimate(self.value * factor, self.low * factor, self.high * factor, self.coverage)

    def inverse(self) -> Estimate:
        """Tokens per second from seconds per token, with the same coverage. 0 and less become infinity."""
        value, low, high = (1 / x if x > 0 else math.inf for x in (self.value, self.high, self.low))
        return Estimate(value, low, high, self.coverage)

    def __str__(self) -> str:
        return f"{three_digits(self.value)} ({three_digits(self.low)}-{three_digits(self.high)})"


def three_digits(number: float) -> str:
    """A number with three significant digits and without an exponent: 0.0123, 1.23, 12,346."""
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"


def median_interval(values: Sequence[float], coverage: float = 0.95) -> tuple[float, float, float]:
    """Low, high and true coverage of the narrowest symmetric pair of order statistics around the median.

    The chance that a pair (k-th smallest, k-th largest) of n values encloses the median is binomial (David
    and Nagaraja, Order Statistics, 2003, section 7.1). The range of fewer than 6 values covers less than 95%;
    it is returned then with its own coverage. Raises ValueError for no values.
    """
    if not values:
        raise ValueError("no values to take a median of")
    ordered, n = sorted(values), len(values)
    outside = 0.5**n  # P(the median is below the k-th smallest value), here for k = 1
    k, best = 1, 1 - 2 * outside
    while k < (n + 1) // 2:
        outside += math.comb(n, k) * 0.5**n
        if 1 - 2 * outside < coverage:
            break
        k, best = k + 1, 1 - 2 * outside
    return ordered[k - 1], ordered[n - k], best


def median_of(values: Sequence[float]) -> Estimate:
    """The median with an interval that holds for every distribution. Raises ValueError for no values."""
    low, high, coverage = median_interval(values)
    return Estimate(statistics.median(values), low, high, coverage)


def paired_ratio(above: Sequence[float], below: Sequence[float]) -> Estimate:
    """Median of the ratios `above[i] / below[i]` of values that were measured next to each other.

    What disturbs both of a pair cancels. A bootstrap of the ratio of medians covers less than it states where
    pairs are few: 93% instead of 95% for 7. Raises ValueError for lists of different lengths, for empty ones,
    and for values that are not above 0.
    """
    if len(above) != len(below) or not all(v > 0 for v in (*above, *below)):
        raise ValueError(f"{len(above)} and {len(below)} values; pairs of numbers above 0 are needed")
    return median_of([a / b for a, b in zip(above, below, strict=True)])


def bootstrap_interval(
    values: Sequence[float], *, coverage: float = 0.95, draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean (Efron 1979), from `draws` resamples with a fixed seed.

    To compare two systems on the same questions, give the differences question by question.
    Raises ValueError for no values.
    """
    if not values:
        raise ValueError("no values to resample")
    import numpy as np

    array, rng = np.asarray(values, dtype=np.float64), np.random.default_rng(seed)
    means = np.sort([array[rng.integers(0, len(array), len(array))].mean() for _ in range(draws)])
    tail = (1 - coverage) / 2
    return float(np.quantile(means, tail)), float(np.quantile(means, 1 - tail))


def proportion_interval(successes: int, trials: int, *, coverage: float = 0.95) -> tuple[float, float]:
    """Interval of a proportion (Wilson 1927, doi:10.1080/01621459.1927.10502953).

    Unlike the bootstrap it knows that 20 of 20 do not prove a proportion of 1. Raises ValueError for
    impossible counts.
    """
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"{successes} of {trials}: at least one trial, and at most as many successes")
    z = statistics.NormalDist().inv_cdf((1 + coverage) / 2)
    share, weight = successes / trials, z * z / trials
    centre, half = share + weight / 2, z * math.sqrt(share * (1 - share) / trials + weight / (4 * trials))
    return max(0.0, (centre - half) / (1 + weight)), min(1.0, (centre + half) / (1 + weight))


def mean_of(scores: Sequence[float], coverage: float = 0.95) -> Estimate:
    """The mean of scores from 0 to 1: with Wilson's interval where all are 0 or 1, else with the bootstrap's.

    Raises ValueError for no scores, and for one outside 0 to 1.
    """
    if not scores or not all(0 <= score <= 1 for score in scores):
        raise ValueError(f"{len(scores)} scores; at least one is needed, and each from 0 to 1")
    if set(scores) <= {0, 1}:
        low, high = proportion_interval(int(sum(scores)), len(scores), coverage=coverage)
    else:
        low, high = bootstrap_interval(scores, coverage=coverage)
    return Estimate(statistics.fmean(scores), low, high, coverage)
