"""The budget of a chapter: the time, memory and disk space that it needs, as its metadata declare them.

`show_budget` prints it at the beginning of a chapter; `course budget` compares it with a real run. A budget
holds for one tier, a set of models that COURSE_TIER chooses. For tiers with slow models, `sample` and `fewer`
reduce the number of questions that a chapter asks.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from course_lib.chapters import Execution, all_chapters, chapter_path, execute, read_notebook
from course_lib.data import CHAPTERS
from course_lib.errors import CourseError
from course_lib.models.catalog import role, roles, roles_by_hand, tier
from course_lib.models.files import require
from course_lib.tables import table

SHARE = {"real": 0.1}  # tier -> the share of its questions that a chapter asks; in other tiers it asks all
T = TypeVar("T")
FURTHER = "## Further"  # begins the heading of a chapter's optional part, the last one
MAX_TIME_FACTOR = 3.0  # times the declared minutes
MAX_SLOWDOWN = 4.0  # the allowed time grows with a machine's slowness up to this factor


class Budget(BaseModel):
    """A chapter's budget in one tier.

    minutes: the time of the chapter without its optional part. further_minutes: the time of that part.
    speed: of the machine where both were measured, in rounds of work per second (see `calibrate`).
    """

    model_config = ConfigDict(extra="forbid")

    minutes: float = Field(gt=0)
    further_minutes: float = Field(0, ge=0)
    memory_gib: float = Field(gt=0)
    disk_gb: float = Field(ge=0)
    download_mb: float = Field(ge=0)
    speed: float = Field(gt=0)

    def minutes_at(self, speed: float, *, further: bool = False) -> float:
        """Return the expected minutes, or those of the optional part, on a machine of this speed."""
        return (self.further_minutes if further else self.minutes) * self.speed / speed


def declared_budget(notebook: Any, name: str) -> Budget:
    """Return a notebook's budget for the current tier. Raises CourseError if it declares none."""
    if tier() not in _budgets(notebook):
        raise CourseError(f"{name} declares no budget for tier {tier()}", "export COURSE_TIER=tiny")
    return Budget.model_validate(_budgets(notebook)[tier()])


def first_further_cell(notebook: Any) -> str:
    """Return the id of the first code cell of the optional part, or '' if the chapter has no such part."""
    begun = False
    for cell in notebook.cells:
        if begun and cell.cell_type == "code":
            return str(cell.id)
        begun = begun or (cell.cell_type == "markdown" and f"\n{FURTHER}" in f"\n{cell.source}")
    return ""


def _budgets(notebook: Any) -> dict[str, Any]:
    budgets: dict[str, Any] = notebook.metadata.get("course", {}).get("budget", {})
    return budgets


def calibrate(seconds: float = 0.4, slices: int = 5) -> float:
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

    If the current tier has no budget, print that of tier tiny and say that more is needed. In tiers other
    than tiny, and where a model was chosen by hand, print the model of each role. Raises CourseError, with
    one command that downloads all of them, if models are missing.
    """
    budgets = _budgets(read_notebook(chapter_path(number)))
    measured = tier() if tier() in budgets else "tiny"
    budget = Budget.model_validate(budgets[measured])
    speed = calibrate()
    optional = budget.minutes_at(speed, further=True)
    further = f" (and {optional:.1f} for the optional part)" if optional else ""
    print(
        f"about {max(1, round(budget.minutes_at(speed)))} min to run{further}, "
        f"{budget.memory_gib:g} GiB of memory, {budget.disk_gb:g} GB of disk, "
        f"{budget.download_mb:g} MB to download (tier {measured})"
    )
    if measured != tier():
        print(
            f"Nothing was measured in tier {tier()}: its models are larger, must be downloaded, "
            "and need more of everything."
        )
    entries = [role(name) for name in roles()]
    if tier() != "tiny" or roles_by_hand():
        print(table(["role", "model"], [(e.role, e.path or e.model) for e in entries]))
    require(entries)
    return budget.memory_gib


def fewer(count: int, least: int = 4) -> int:
    """Return `count`, or for a tier in SHARE, whose models are slow, that share of it, at least `least`.

    The environment variable COURSE_SHARE sets another share for any tier, above 0 and up to 1. Raises
    CourseError for another value.
    """
    given = os.environ.get("COURSE_SHARE") or SHARE.get(tier(), 1)
    try:
        share = float(given)
    except ValueError:
        share = -1
    if not 0 < share <= 1:
        raise CourseError(f"COURSE_SHARE={given!r} is no share above 0, up to 1", "export COURSE_SHARE=0.5")
    return max(min(count, least), round(share * count))


def sample(items: Sequence[T], count: int) -> list[T]:
    """Return the first `fewer(count)` items; if that is not all `count`, print how many they are."""
    some, all_of_them = list(items[: fewer(count)]), len(items[:count])
    if len(some) < all_of_them:
        print(f"tier {tier()}: {len(some)} of {all_of_them} (COURSE_SHARE=1 takes all, and longer)")
    return some


def budget_violations(
    budget: Budget, seconds: float, peak: int, speed: float, further_seconds: float = 0.0
) -> list[str]:
    """Return the violations of a budget: too much memory, or over MAX_TIME_FACTOR times the time.

    peak: peak memory in bytes. speed: of this machine, from `calibrate()`. further_seconds: the time of the
    optional part.
    """
    problems = []
    if peak > budget.memory_gib * 2**30:
        problems.append(f"peak {peak / 2**30:.2f} GiB, declared {budget.memory_gib:g} GiB")
    for part, taken in (("", seconds), ("optional part: ", further_seconds)):
        expected = budget.minutes_at(speed, further=bool(part))
        declared = budget.minutes_at(budget.speed, further=bool(part))
        allowed = MAX_TIME_FACTOR * min(MAX_SLOWDOWN * declared, expected)
        if taken / 60 > allowed:
            problems.append(
                f"{part}{taken / 60:.1f} min, allowed {allowed:.1f} "
                f"({MAX_TIME_FACTOR:g} times the declared time, adjusted to this machine)"
            )
    return problems


def _execute_in_parts(notebook: Any) -> tuple[Execution, float]:
    """Execute a chapter; return the result, and how many of its seconds the optional part took."""
    first, begun = first_further_cell(notebook), math.inf
    ids = [cell.id for cell in notebook.cells]
    before = ids[ids.index(first) - 1] if first else ""

    def on_cell(_: Any, cell: Any) -> None:
        nonlocal begun
        begun = time.monotonic() if cell.id == before else begun

    run = execute(notebook, CHAPTERS, on_cell)
    return run, max(0.0, time.monotonic() - begun)


def report(number: str | None = None) -> int:
    """Run one chapter or all, and print declared and measured values. Returns 1 if a budget is exceeded."""
    paths: list[Path] = [chapter_path(number)] if number else all_chapters()
    speed, rows, violations = calibrate(), [], []
    for path in paths:
        notebook = read_notebook(path)
        budget = declared_budget(notebook, path.name)
        run, further = _execute_in_parts(notebook)
        problems = budget_violations(budget, run.seconds - further, run.peak_bytes, speed, further) + (
            [run.error] if run.error else []
        )
        violations += [f"{path.name}: {problem}" for problem in problems]
        whole = budget.minutes_at(speed) + budget.minutes_at(speed, further=True)
        minutes = (f"{whole:.1f}", f"{run.seconds / 60:.1f}")
        rows.append((path.stem, *minutes, f"{budget.memory_gib:g}", f"{run.peak_bytes / 2**30:.2f}"))
    print(f"speed of this machine: {speed:.0f}")
    print(table(["chapter", "minutes declared", "measured", "GiB declared", "measured"], rows))
    print("\n".join(violations))
    return 1 if violations else 0
