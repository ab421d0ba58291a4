"""Time and memory that a chapter takes: declared in its metadata, checked by its tests, shown to readers."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from course_lib.chapters import all_chapters, chapter_path, execute, read_notebook
from course_lib.data import CHAPTERS
from course_lib.errors import CourseError
from course_lib.models.catalog import tier
from course_lib.tables import table

MAX_TIME_FACTOR = 3.0  # times the declared minutes
MAX_SLOWDOWN = 4.0  # a machine slower than this, relative to where a budget was declared, gets no more time


class Budget(BaseModel):
    """One tier's budget. `speed` is what `calibrate()` gave on the machine where `minutes` were measured."""

    model_config = ConfigDict(extra="forbid")

    minutes: float = Field(gt=0)
    memory_gib: float = Field(gt=0)
    disk_gb: float = Field(ge=0)
    download_mb: float = Field(ge=0)
    speed: float = Field(gt=0)

    def minutes_at(self, speed: float) -> float:
        """Minutes on a machine of this speed."""
        return self.minutes * self.speed / speed


def declared_budget(notebook: Any, name: str) -> Budget:
    """The budget of the present tier in a notebook's metadata. Raises CourseError where it declares none."""
    if tier() not in _budgets(notebook):
        raise CourseError(f"{name} declares no budget for tier {tier()}", "export COURSE_TIER=tiny")
    return Budget.model_validate(_budgets(notebook)[tier()])


def _budgets(notebook: Any) -> dict[str, Any]:
    budgets: dict[str, Any] = notebook.metadata.get("course", {}).get("budget", {})
    return budgets


def calibrate(seconds: float = 1.0, slices: int = 5) -> float:
    """Measure the speed of one core: rounds of a fixed mixture of numpy and Python per second.

    The best of several slices counts, and no BLAS starts threads, so another busy program changes little.
    """
    import numpy as np

    a = np.random.default_rng(0).standard_normal(40_000, dtype=np.float32)
    best = 0.0
    for _ in range(slices):
        begun, rounds = time.perf_counter(), 0
        while (passed := time.perf_counter() - begun) < seconds / slices:
            for _ in range(10):
                np.tanh(a, out=a)
            sum(i * i for i in range(2000))
            rounds += 1
        best = max(best, rounds / passed)
    return best


def show_budget(number: str) -> float:
    """Print what a chapter takes on this machine; return the memory it needs, in GiB.

    In a tier for which nothing was measured, what it takes in tier tiny, and that it takes more.
    """
    budgets = _budgets(read_notebook(chapter_path(number)))
    measured = tier() if tier() in budgets else "tiny"
    budget = Budget.model_validate(budgets[measured])
    minutes = budget.minutes_at(calibrate())
    print(
        f"about {max(1, round(minutes))} min to run, {budget.memory_gib:g} GiB of memory, "
        f"{budget.disk_gb:g} GB of disk, {budget.download_mb:g} MB to download (tier {measured})"
    )
    if measured != tier():
        print(
            f"In tier {tier()} nothing was measured: its models are larger, are downloaded, "
            "and take more of everything."
        )
    return budget.memory_gib


def budget_violations(budget: Budget, seconds: float, peak: int, speed: float) -> list[str]:
    """What a run broke of its budget, in words: more memory than declared, or over three times the time."""
    problems = []
    if peak > budget.memory_gib * 2**30:
        problems.append(f"peak {peak / 2**30:.2f} GiB, declared {budget.memory_gib:g} GiB")
    allowed = MAX_TIME_FACTOR * min(MAX_SLOWDOWN * budget.minutes, budget.minutes_at(speed))
    if seconds / 60 > allowed:
        problems.append(
            f"{seconds / 60:.1f} min, allowed {allowed:.1f} (three times the declared, on this machine)"
        )
    return problems


def report(number: str | None = None) -> int:
    """Run one chapter or all, and print declared beside measured. Returns 1 when a budget is broken."""
    paths: list[Path] = [chapter_path(number)] if number else all_chapters()
    speed, rows, broken = calibrate(), [], []
    for path in paths:
        notebook = read_notebook(path)
        budget = declared_budget(notebook, path.name)
        run = execute(notebook, CHAPTERS)
        problems = budget_violations(budget, run.seconds, run.peak_bytes, speed) + (
            [run.error] if run.error else []
        )
        broken += [f"{path.name}: {problem}" for problem in problems]
        minutes = (f"{budget.minutes_at(speed):.1f}", f"{run.seconds / 60:.1f}")
        rows.append((path.stem, *minutes, f"{budget.memory_gib:g}", f"{run.peak_bytes / 2**30:.2f}"))
    print(f"speed of this machine: {speed:.0f}")
    print(table(["chapter", "minutes declared", "measured", "GiB declared", "measured"], rows))
    print("\n".join(broken))
    return 1 if broken else 0
