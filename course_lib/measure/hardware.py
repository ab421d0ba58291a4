"""Describe the machine on which a measurement runs."""

from __future__ import annotations

import os
import platform


def usable_cores() -> int:
    """Return how many CPU cores this process may use; Linux can restrict a process to a subset of them."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def machine() -> dict[str, str | int | float]:
    """Return processor, cores, memory (GiB), operating system and Python version, and nothing personal."""
    import psutil

    return {
        "processor": _processor(),
        "cores": usable_cores(),
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
