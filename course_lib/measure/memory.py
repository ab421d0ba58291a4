"""Measure the resident memory (RAM in use) of a process while a function runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Memory:
    """Bytes of resident memory of the process before a call, at its peak and after it.

    exact: Whether the peak comes from the operating system's own record. Otherwise it was sampled, and a
    short peak may have been missed.
    """

    before: int
    peak: int
    after: int
    exact: bool

    @property
    def added(self) -> int:
        """Bytes by which the peak exceeds the memory before."""
        return self.peak - self.before


def peak_memory(
    run: Callable[[], Any], process_id: int | None = None, *, interval_seconds: float = 0.002
) -> tuple[Any, Memory]:
    """Call `run()`, sample the resident memory of a process meanwhile, and return (result, memory).

    process_id: the process to measure, such as a server's; None for this process.

    On Linux, a peak above everything the process ever held before is exact: the system records it. A lower
    peak is only sampled, and one shorter than `interval_seconds` may be missed. GPU memory, other processes,
    and freed memory that the process reuses are not counted.
    """
    import psutil

    process, done = psutil.Process(process_id), threading.Event()
    record = peak_resident_bytes(process_id)
    before = peak = process.memory_info().rss

    def watch() -> None:
        nonlocal peak
        while not done.wait(interval_seconds):
            peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        result = run()
    finally:
        done.set()
        watcher.join()
    after, new_record = process.memory_info().rss, peak_resident_bytes(process_id)
    exact = record is not None and new_record is not None and new_record > record
    return result, Memory(before, max(peak, after, (new_record or 0) if exact else 0), after, exact)


def release_memory() -> None:
    """Collect garbage and return freed memory to the system."""
    import gc

    gc.collect()
    return_freed_memory()


def return_freed_memory() -> None:
    """Return freed memory to the system; glibc may else keep gigabytes of it after training or loading."""
    import ctypes

    with suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def peak_resident_bytes(process_id: int | None = None) -> int | None:
    """Return the peak resident bytes of a process since its start; None on systems other than Linux."""
    try:
        with open(f"/proc/{process_id or 'self'}/status", encoding="utf-8") as f:
            return next(1024 * int(line.split()[1]) for line in f if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return None
