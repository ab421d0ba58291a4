"""Resident memory of this process while something runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Memory:
    """Bytes of resident memory of the process: before, at the peak, after.

    exact: the peak is the system's own record. Else it was sampled, and a short peak may have been missed.
    """

    before: int
    peak: int
    after: int
    exact: bool

    @property
    def added(self) -> int:
        return self.peak - self.before


def peak_memory(run: Callable[[], Any], *, every: float = 0.002) -> tuple[Any, Memory]:
    """Call `run()` and watch the resident memory of this process, every `every` seconds.

    A peak above all that the process held before is exact, by Linux's own record. Below, only samples show
    it, and a peak shorter than `every` may be missed. Neither counts a GPU's memory, another process, or
    memory that the process had taken before and uses again. Returns the result of `run` and the memory.
    """
    import psutil

    process, done = psutil.Process(), threading.Event()
    record = peak_resident_bytes()
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
    after, new_record = process.memory_info().rss, peak_resident_bytes()
    exact = record is not None and new_record is not None and new_record > record
    return result, Memory(before, max(peak, after, (new_record or 0) if exact else 0), after, exact)


def release_memory() -> None:
    """Return freed memory to the system, where glibc keeps it: gigabytes after a training."""
    import ctypes
    import gc

    gc.collect()
    with suppress(OSError, AttributeError):  # another system
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def peak_resident_bytes() -> int | None:
    """The most bytes that this process has held since it began, by Linux's record; None on other systems."""
    try:
        with open("/proc/self/status", encoding="utf-8") as f:
            return next(1024 * int(line.split()[1]) for line in f if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return None
