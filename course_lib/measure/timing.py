"""Time repeated calls of a function: the median in seconds, with a confidence interval."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from course_lib.measure.intervals import Estimate, median_of


@dataclass(frozen=True)
class Measurement(Estimate):
    """The seconds of each repeated run, with their median as the value and its confidence interval.

    The interval holds for any distribution of the times.
    """

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return self.value

    def __str__(self) -> str:
        scale, unit = (1e3, "ms") if self.median < 1 else (1.0, "s")
        note = "; the machine was busy, run it again" if self.noisy else ""
        return (
            f"{self.median * scale:.3g} {unit} (median of {len(self.seconds)}; "
            f"{self.low * scale:.3g}-{self.high * scale:.3g}, {self.coverage:.0%} interval{note})"
        )


def measure(run: Callable[[], Any], *, repeats: int = 7, warm_up: int = 1) -> Measurement:
    """Time `run()` `repeats` times after `warm_up` untimed calls.

    A first call is slower, because it fills caches, loads modules and allocates memory.
    Raises ValueError for fewer than one repeat or a negative warm-up.
    """
    if repeats < 1 or warm_up < 0:
        raise ValueError(f"repeats={repeats}, warm_up={warm_up}; the minimum is 1 and 0")
    for _ in range(warm_up):
        run()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return Measurement(**vars(median_of(seconds)), seconds=tuple(seconds))
