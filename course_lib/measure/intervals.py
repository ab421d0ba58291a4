"""Confidence intervals for medians, means, ratios and proportions.

An order statistic is the k-th smallest of some values. A bootstrap draws values again and again from the
measured ones, with replacement, and looks how much the result varies; each such draw is a resample.
scipy.stats has some of these, but takes more than a second to import.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

NOISY = 0.25  # an interval wider than this fraction of its value is called noisy


@dataclass(frozen=True)
class Estimate:
    """A value with a confidence interval from `low` to `high` with confidence level `coverage`."""

    value: float
    low: float
    high: float
    coverage: float

    @property
    def noisy(self) -> bool:
        """Whether the interval is infinite, or wider than NOISY times the value's size."""
        return not math.isfinite(self.high) or self.high - self.low > NOISY * abs(self.value)

    def scaled(self, factor: float) -> Estimate:
        """Return the estimate in another unit: value and bounds times a positive factor."""
        return Estimate(self.value * factor, self.low * factor, self.high * factor, self.coverage)

    def inverse(self) -> Estimate:
        """Return 1 / estimate, such as tokens/s from s/token. Values <= 0 become infinity."""
        value, low, high = (1 / x if x > 0 else math.inf for x in (self.value, self.high, self.low))
        return Estimate(value, low, high, self.coverage)

    def __str__(self) -> str:
        return f"{three_digits(self.value)} ({three_digits(self.low)}-{three_digits(self.high)})"


def three_digits(number: float) -> str:
    """Format a number with at least three significant digits and no exponent: 0.0123, 1.23, 12,346."""
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"


def median_interval(values: Sequence[float], coverage: float = 0.95) -> tuple[float, float, float]:
    """Return low, high and actual coverage of the narrowest symmetric order-statistic interval of the median.

    The probability that (k-th smallest, k-th largest) of n values encloses the median is binomial (David and
    Nagaraja, Order Statistics, 2003, section 7.1). Even the full range of fewer than 6 values covers less
    than 95%; it is then returned with its actual coverage. Raises ValueError if there are no values, or a
    NaN, which has no place in an order.
    """
    ordered = _in_order(values)
    n = len(ordered)
    outside = 0.5**n  # P(the median is below the k-th smallest value), here for k = 1
    k, best = 1, 1 - 2 * outside
    while k < (n + 1) // 2:
        outside += math.comb(n, k) * 0.5**n
        if 1 - 2 * outside < coverage:
            break
        k, best = k + 1, 1 - 2 * outside
    return ordered[k - 1], ordered[n - k], best


def median_of(values: Sequence[float]) -> Estimate:
    """Return the median, with an interval for any distribution. Raises ValueError for no values."""
    low, high, coverage = median_interval(values)
    return Estimate(statistics.median(values), low, high, coverage)


def quantile_of(values: Sequence[float], q: float, coverage: float = 0.95) -> Estimate:
    """Return a quantile (0 < q < 1), with an interval of order statistics, right for any distribution.

    The number of n values below the true quantile is binomial (David and Nagaraja 2003, section 7.1). Where
    too few values lie beyond a quantile, that bound is infinite. Raises ValueError for no values, for a NaN,
    and for a q or a coverage that is not between 0 and 1.
    """
    ordered = _in_order(values)
    if not 0 < q < 1 or not 0 < coverage < 1:
        raise ValueError(f"q={q}, coverage={coverage}; both must be above 0 and below 1")
    n, tail = len(ordered), (1 - coverage) / 2
    # The probability that exactly k values lie below the quantile.
    chance = [
        math.exp(
            math.lgamma(n + 1)
            - math.lgamma(k + 1)
            - math.lgamma(n - k + 1)
            + k * math.log(q)
            + (n - k) * math.log(1 - q)
        )
        for k in range(n + 1)
    ]
    below = list(itertools.accumulate(chance))
    # The interval begins at the low-th smallest value.
    low = next(k for k in range(n + 1) if below[k] > tail)
    high = next(k for k in range(n + 1) if below[k] >= 1 - tail)
    value = ordered[min(n - 1, math.ceil(q * n) - 1)]
    return Estimate(
        value, ordered[low - 1] if low else -math.inf, ordered[high] if high < n else math.inf, coverage
    )


def _in_order(values: Sequence[float]) -> list[float]:
    """Return the values in ascending order. Raises ValueError if there are none, or a NaN."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values; the minimum is 1")
    if nans := sum(value != value for value in ordered):
        raise ValueError(f"{nans} of {len(ordered)} values are NaN, which has no place in an order")
    return ordered


def paired_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Estimate:
    """Return the median of the ratios `numerators[i] / denominators[i]` of values measured in pairs.

    Noise that affects both members of a pair cancels. A bootstrap of the ratio of medians would cover less
    than stated when there are few pairs: 93% instead of 95% for 7. Raises ValueError if the lists differ in
    length or are empty, or if a value is not above 0.
    """
    if len(numerators) != len(denominators) or not all(v > 0 for v in (*numerators, *denominators)):
        counts = f"{len(numerators)} and {len(denominators)} values"
        raise ValueError(f"{counts}; pairs of numbers above 0 are needed")
    return median_of([a / b for a, b in zip(numerators, denominators, strict=True)])


def bootstrap_interval(
    values: Sequence[float] | NDArray[Any],
    *,
    coverage: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
    statistic: Callable[[NDArray[Any]], float] | None = None,
) -> tuple[float, float]:
    """Return a bootstrap interval, which holds the middle results of `draws` resamples (Efron 1979).

    statistic: a function of the values, or of the rows of an array; by default the mean. To compare two
    systems on the same questions, pass the difference of their scores for each question. Raises ValueError
    for no values.
    """
    if not len(values):
        raise ValueError("no values to resample")
    import numpy as np

    array, rng = np.asarray(values), np.random.default_rng(seed)

    def resamples(count: int) -> NDArray[Any]:
        return array[rng.integers(0, len(array), (count, len(array)))]

    results: Any
    if statistic or array.ndim > 1:
        results = [(statistic or np.mean)(resamples(1)[0]) for _ in range(draws)]
    else:  # the same numbers in a fifth of the time
        together = max(1, 2**18 // len(array))  # 2 MB of values
        parts = [min(together, draws - start) for start in range(0, draws, together)]
        results = np.concatenate([resamples(part).mean(axis=1) for part in parts])
    tail = (1 - coverage) / 2
    return float(np.quantile(results, tail)), float(np.quantile(results, 1 - tail))


def proportion_interval(successes: int, trials: int, *, coverage: float = 0.95) -> tuple[float, float]:
    """Return the Wilson interval of the proportion successes / trials (doi:10.1080/01621459.1927.10502953).

    Unlike a bootstrap interval, it does not shrink to a single point at 20 of 20. Raises ValueError for
    impossible counts.
    """
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(
            f"{successes} successes in {trials} trials; 0 <= successes <= trials and trials >= 1 are needed"
        )
    z = statistics.NormalDist().inv_cdf((1 + coverage) / 2)
    proportion, weight = successes / trials, z * z / trials
    centre, half = (
        proportion + weight / 2,
        z * math.sqrt(proportion * (1 - proportion) / trials + weight / (4 * trials)),
    )
    return max(0.0, (centre - half) / (1 + weight)), min(1.0, (centre + half) / (1 + weight))


def mean_of(scores: Sequence[float], coverage: float = 0.95) -> Estimate:
    """Return the mean of scores from 0 to 1, with a Wilson interval if all are 0 or 1, else a bootstrap one.

    Raises ValueError if there are no scores, or if one is outside 0 to 1.
    """
    if not len(scores) or not all(0 <= score <= 1 for score in scores):
        raise ValueError(f"{len(scores)} scores; at least one is needed, and each from 0 to 1")
    if set(scores) <= {0, 1}:
        low, high = proportion_interval(int(sum(scores)), len(scores), coverage=coverage)
    else:
        low, high = bootstrap_interval(scores, coverage=coverage)
    return Estimate(statistics.fmean(scores), low, high, coverage)
