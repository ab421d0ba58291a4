"""The time, memory and disk space that a chapter needs: declared in its metadata, tested and printed.

Budgets are declared for a tier, the set of models chosen by COURSE_TIER.
"""

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
MAX_SLOWDOWN = 4.0  # the allowed time grows with a machine's slowness up to this factor


class Budget(BaseModel):
    """A chapter's budget in one tier. `speed`: `calibrate()` on the machine where `minutes` was measured."""

    model_config = ConfigDict(extra="forbid")

    minutes: float = Field(gt=0)
    memory_gib: float = Field(gt=0)
    disk_gb: float = Field(ge=0)
    download_mb: float = Field(ge=0)
    speed: float = Field(gt=0)

    def minutes_at(self, speed: float) -> float:
        """Return the expected minutes on a machine of this speed."""
        return self.minutes * self.speed / speed


def declared_budget(notebook: Any, name: str) -> Budget:
    """Return a notebook's budget for the current tier. Raises CourseError if it declares none."""
    if tier() not in _budgets(notebook):
        raise CourseError(f"{name} declares no budget for tier {tier()}", "export COURSE_TIER=tiny")
    return Budget.model_validate(_budgets(notebook)[tier()])


def _budgets(notebook: Any) -> dict[str, Any]:
    budgets: dict[str, Any] = notebook.metadata.get("course", {}).get("budget", {})
    return budgets


def calibrate(seconds: float = 1.0, slices: int = 5) -> float:
    """Measure the speed of one core, in rounds of a fixed mixture of NumPy and Python work per second.

    Returns the maximum over `slices` time slices, and uses no multi-threaded operation, so that other running
    programs have little influence.
    """
    import numpy as np

    a = np.random.default_rng(0).standard_normal(40_000, dtype=np.float32)
    best = 0.0
    for _ in range(slices):
        start, rounds = time.perf_counter(), 0
        while (elapsed := time.perf_counter() - start) < seconds / slices:
            for _ in range(10):
                np.tanh(a, out=a)
            sum(i * i for i in range(2000))
            rounds += 1
        best = max(best, rounds / elapsed)
    return best


def show_budget(number: str) -> float:
    """Print what a chapter needs on this machine, and return the memory it needs in GiB.

    If the current tier has no budget, print that of tier tiny and say that more is needed.
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
            f"Nothing was measured in tier {tier()}: its models are larger, must be downloaded, "
            "and need more of everything."
        )
    return budget.memory_gib


def budget_violations(budget: Budget, seconds: float, peak: int, speed: float) -> list[str]:
    """Return the violations of a budget: too much memory, or over MAX_TIME_FACTOR times the time.

    peak: bytes. speed: of this machine, from `calibrate()`.
    """
    problems = []
    if peak > budget.memory_gib * 2**30:
        problems.append(f"peak {peak / 2**30:.2f} GiB, declared {budget.memory_gib:g} GiB")
    allowed = MAX_TIME_FACTOR * min(MAX_SLOWDOWN * budget.minutes, budget.minutes_at(speed))
    if seconds / 60 > allowed:
        problems.append(
            f"{seconds / 60:.1f} min, allowed {allowed:.1f} "
            f"({MAX_TIME_FACTOR:g} times the declared time, adjusted to this machine)"
        )
    return problems


def report(number: str | None = None) -> int:
    """Run one chapter or all, and print declared and measured values. Returns 1 if a budget is exceeded."""
    paths: list[Path] = [chapter_path(number)] if number else all_chapters()
    speed, rows, violations = calibrate(), [], []
    for path in paths:
        notebook = read_notebook(path)
        budget = declared_budget(notebook, path.name)
        run = execute(notebook, CHAPTERS)
        problems = budget_violations(budget, run.seconds, run.peak_bytes, speed) + (
            [run.error] if run.error else []
        )
        violations += [f"{path.name}: {problem}" for problem in problems]
        minutes = (f"{budget.minutes_at(speed):.1f}", f"{run.seconds / 60:.1f}")
        rows.append((path.stem, *minutes, f"{budget.memory_gib:g}", f"{run.peak_bytes / 2**30:.2f}"))
    print(f"speed of this machine: {speed:.0f}")
    print(table(["chapter", "minutes declared", "measured", "GiB declared", "measured"], rows))
    print("\n".join(violations))
    return 1 if violations else 0
