"""Describe the machine on which a measurement runs: processor, cores and memory."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def usable_cores() -> int:
    """Return how many CPU cores this process may use; Linux can restrict a process to a subset or a share."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text("ascii").split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):  # no Linux control group limits this process, or its quota is "max"
        return cores


def computing_threads() -> int:
    """Return the threads to compute with: as OMP_NUM_THREADS says, else one per usable physical core."""
    import psutil

    if threads := os.environ.get("OMP_NUM_THREADS"):
        return int(threads.partition(",")[0])  # "4,2" sets 4 threads, and 2 for nested ones
    logical = psutil.cpu_count() or 1
    return max(1, usable_cores() * (psutil.cpu_count(logical=False) or logical) // logical)


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
