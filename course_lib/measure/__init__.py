"""Timing and memory with honest statistics: warm-up, repeats, median, interval, and a word when the machine was busy."""

from __future__ import annotations

import math
import os
import platform
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

NOISY = 0.25  # an interval wider than this share of the median is called noisy


@dataclass(frozen=True)
class Measurement:
    """Seconds of repeated runs.

    `low` and `high` bound the true median with probability `coverage`, whatever the distribution of the times.
    """

    seconds: tuple[float, ...]
    median: float
    low: float
    high: float
    coverage: float

    @property
    def noisy(self) -> bool:
        return (self.high - self.low) > NOISY * self.median

    def __str__(self) -> str:
        scale, unit = (1e3, "ms") if self.median < 1 else (1.0, "s")
        note = "; the machine was busy, run it again" if self.noisy else ""
        return (
            f"{self.median * scale:.3g} {unit} (median of {len(self.seconds)}; "
            f"{self.low * scale:.3g}-{self.high * scale:.3g}, {self.coverage:.0%} interval{note})"
        )


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


def measure(run: Callable[[], Any], *, repeats: int = 7, warm_up: int = 1) -> Measurement:
    """Time `run()` `repeats` times after `warm_up` untimed calls.

    The first call pays for caches, lazy loading and memory; it belongs to loading, not to the work.
    Raises ValueError for fewer than one repeat or a negative warm-up.
    """
    if repeats < 1 or warm_up < 0:
        raise ValueError(f"repeats={repeats}, warm_up={warm_up}; at least 1 and 0 are needed")
    for _ in range(warm_up):
        run()
    seconds = []
    for _ in range(repeats):
        begun = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begun)
    low, high, coverage = median_interval(seconds)
    return Measurement(tuple(seconds), statistics.median(seconds), low, high, coverage)


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


@dataclass(frozen=True)
class Memory:
    """Bytes of resident memory: before, at the peak, after."""

    before: int
    peak: int
    after: int


def peak_memory(run: Callable[[], Any], *, every: float = 0.002) -> tuple[Any, Memory]:
    """Call `run()` and watch this process's resident memory, every `every` seconds.

    Returns its result and the memory. A peak shorter than `every` may be missed.
    """
    import psutil

    process, done = psutil.Process(), threading.Event()
    before = peak = process.memory_info().rss

    def watch() -> None:
        nonlocal peak
        while not done.wait(every):
            peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        result = run()
    finally:
        done.set()
        watcher.join()
    after = process.memory_info().rss
    return result, Memory(before, max(peak, after), after)


def machine() -> dict[str, str | int | float]:
    """What a measurement must be read with: processor, cores, memory, Python; no name, no path, no user."""
    import psutil

    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as f:
            return next(line.split(":", 1)[1].strip() for line in f if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
