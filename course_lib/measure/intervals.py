"""Numbers with intervals. Pure functions of values that were measured elsewhere."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

NOISY = 0.25  # an interval wider than this share of its value is called noisy


@dataclass(frozen=True)
class Estimate:
    """A number, and the interval from `low` to `high` that encloses the true one with probability `coverage`."""

    value: float
    low: float
    high: float
    coverage: float

    @property
    def noisy(self) -> bool:
        return not math.isfinite(self.high) or self.high - self.low > NOISY * self.value

    def scaled(self, factor: float) -> Estimate:
        """In another unit: every number times a positive factor."""
        return Estimate(self.value * factor, self.low * factor, self.high * factor, self.coverage)

    def inverse(self) -> Estimate:
        """Of seconds per token the tokens per second, with the same coverage. Nothing and less turns into infinity."""
        value, low, high = (1 / x if x > 0 else math.inf for x in (self.value, self.high, self.low))
        return Estimate(value, low, high, self.coverage)

    def __str__(self) -> str:
        return f"{digits(self.value)} ({digits(self.low)}-{digits(self.high)})"


def digits(number: float) -> str:
    """Three digits that count, without an exponent: 0.0123, 1.23, 12,346."""
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"


def median_interval(values: Sequence[float], coverage: float = 0.95) -> tuple[float, float, float]:
    """Low, high and true coverage of the narrowest symmetric pair of order statistics around the median.

    The chance that a pair (k-th smallest, k-th largest) of n values encloses the median is binomial (David and
    Nagaraja, Order Statistics, 2003, section 7.1). With fewer than 6 values even the range covers less than 95%;
    the range is returned then, with the coverage it has. Raises ValueError for no values.
    """
    if not values:
        raise ValueError("no values to take a median of")
    ordered, n = sorted(values), len(values)
    outside = 0.5**n  # P(the median lies below the k-th smallest), k = 1
    k, best = 1, 1 - 2 * outside
    while k < (n + 1) // 2:
        outside += math.comb(n, k) * 0.5**n
        if 1 - 2 * outside < coverage:
            break
        k, best = k + 1, 1 - 2 * outside
    return ordered[k - 1], ordered[n - k], best


def median_of(values: Sequence[float]) -> Estimate:
    """The median with its interval, which holds whatever the distribution. Raises ValueError for no values."""
    low, high, coverage = median_interval(values)
    return Estimate(statistics.median(values), low, high, coverage)


def paired_ratio(above: Sequence[float], below: Sequence[float]) -> Estimate:
    """Median of the ratios of values that were measured next to each other, `above[i] / below[i]`, with its interval.

    What disturbs both of a pair cancels. A bootstrap of the ratio of medians would cover less than it says where the
    pairs are few: 93% in place of 95% for 7. Raises ValueError for lists of different lengths, none, or a value not above 0.
    """
    if len(above) != len(below) or not all(v > 0 for v in (*above, *below)):
        raise ValueError(f"{len(above)} and {len(below)} values; pairs of numbers above 0 are needed")
    return median_of([a / b for a, b in zip(above, below, strict=True)])


def bootstrap_interval(
    values: Sequence[float], *, coverage: float = 0.95, draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean (Efron 1979), from `draws` resamples with a fixed seed.

    For the difference of two systems on the same questions, give the differences, question by question.
    Raises ValueError for no values.
    """
    if not values:
        raise ValueError("no values to resample")
    import numpy as np

    array, rng = np.asarray(values, dtype=np.float64), np.random.default_rng(seed)
    means = np.sort([array[rng.integers(0, len(array), len(array))].mean() for _ in range(draws)])
    tail = (1 - coverage) / 2
    return float(np.quantile(means, tail)), float(np.quantile(means, 1 - tail))


def proportion_interval(right: int, of: int, *, coverage: float = 0.95) -> tuple[float, float]:
    """Interval of the share that `right` of `of` estimate (Wilson 1927, doi:10.1080/01621459.1927.10502953).

    Unlike the bootstrap it knows that 20 right of 20 do not prove a share of 1. Raises ValueError for counts that cannot be.
    """
    if not 0 <= right <= of or of < 1:
        raise ValueError(f"{right} right of {of}")
    z = statistics.NormalDist().inv_cdf((1 + coverage) / 2)
    share, weight = right / of, z * z / of
    centre, half = share + weight / 2, z * math.sqrt(share * (1 - share) / of + weight / (4 * of))
    return max(0.0, (centre - half) / (1 + weight)), min(1.0, (centre + half) / (1 + weight))


def mean_of(scores: Sequence[float], coverage: float = 0.95) -> Estimate:
    """The mean of scores from 0 to 1: of all 0 or 1 with Wilson's interval, else with the bootstrap's.

    Raises ValueError for no scores and for one outside 0 to 1.
    """
    if not scores or not all(0 <= m <= 1 for m in scores):
        raise ValueError(f"{len(scores)} scores; at least one is needed, and each from 0 to 1")
    if set(scores) <= {0, 1}:
        low, high = proportion_interval(int(sum(scores)), len(scores), coverage=coverage)
    else:
        low, high = bootstrap_interval(scores, coverage=coverage)
    return Estimate(statistics.fmean(scores), low, high, coverage)
