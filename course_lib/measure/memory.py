"""Resident memory of this process while something runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Memory:
    """Bytes of resident memory of the whole process: before, at the peak, after.

    exact: the peak is the system's own mark. Else it was sampled, and a short one may have been missed.
    """

    before: int
    peak: int
    after: int
    exact: bool

    @property
    def added(self) -> int:
        return self.peak - self.before


def peak_memory(run: Callable[[], Any], *, every: float = 0.002) -> tuple[Any, Memory]:
    """Call `run()` and watch this process's resident memory, every `every` seconds.

    Where the run holds more than the process ever did, Linux's high-water mark says how much. Below that mark only
    sampling sees: a peak shorter than `every` may be missed. Neither sees a GPU's memory, another process, or what the
    process had taken earlier and uses again. Returns the run's result and the memory.
    """
    import psutil

    process, done = psutil.Process(), threading.Event()
    mark = peak_resident_bytes()
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
    after, top = process.memory_info().rss, peak_resident_bytes()
    exact = mark is not None and top is not None and top > mark
    return result, Memory(before, max(peak, after, top if exact and top else 0), after, exact)


def release_memory() -> None:
    """Return memory that is no longer used to the system: glibc keeps it by the gigabyte after a training. Elsewhere no need."""
    import ctypes
    import gc

    gc.collect()
    with suppress(OSError, AttributeError):  # another system
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def peak_resident_bytes() -> int | None:
    """The most bytes that this process has held since it began, by Linux's own count; None on another system."""
    try:
        with open("/proc/self/status", encoding="utf-8") as f:
            return next(1024 * int(line.split()[1]) for line in f if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return None
