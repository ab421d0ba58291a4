"""The commands `course test` and `course check`: lint and type checks in parallel with pytest."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from course_lib import chapters
from course_lib.data import CHAPTERS, ROOT, need_repository
from course_lib.errors import CourseError
from course_lib.lab import kernel_environment

PYTHON = (sys.executable, "-m")
WORKERS = min(4, os.cpu_count() or 1)  # processes of pytest
PYTEST = (*PYTHON, "pytest", "-q", "-n", str(WORKERS), "--dist", "loadfile", "--no-loadscope-reorder")
STATIC: dict[str, list[tuple[str, ...]]] = {  # step -> commands of static analysis
    "lint": [
        (*PYTHON, "ruff", "check", "--output-format=concise", "."),
        (*PYTHON, "ruff", "format", "--check", "."),
    ],
    "types": [(*PYTHON, "mypy")],
}
PATHS = {"tests": ["tests"], "notebooks": [str(CHAPTERS)]}  # step -> paths for pytest
NO_TESTS_COLLECTED = 5  # pytest's exit status


def run_all(only: str | None = None) -> int:
    """Run all steps, or only `only`: lint, types, tests or notebooks. Returns 1 if any failed, else 0.

    A failure does not stop the other steps.
    """
    static = [name for name in STATIC if only in (None, name)]
    paths = [path for name, folders in PATHS.items() if only in (None, name) for path in folders]
    return _run(static, (*PYTEST, *paths) if paths else None)


def run_chapter(number: str) -> int:
    """Run one chapter and the tests of its text and exercises. Returns 1 if any failed, else 0.

    Raises CourseError if there is no such chapter.
    """
    path = chapters.chapter_path(number)
    select = f"{path.stem} or chapter_{path.stem[:2]}"
    return _run([], (*PYTEST, str(path), "tests/notebooks", "tests/learn", "-k", select))


def run_tier(tier: str, number: str | None = None) -> int:
    """Run one chapter or all, one after another, with the models of a tier (a set of models).

    Outputs are not compared, since the saved ones are those of tier tiny; claims and exercises are checked.
    Returns 1 if any failed, else 0.
    """
    path = chapters.chapter_path(number) if number else CHAPTERS
    command = (*PYTEST, "-n", "0", "--nbval-cell-timeout=900", str(path))
    return _run([], command, COURSE_TIER=tier, OMP_NUM_THREADS=str(os.cpu_count() or 1))


def run_changed() -> int:
    """Run lint, types and the tests affected by changes since the last commit. Returns 1 if any failed.

    conftest.py adds the option --changed to pytest.
    """
    return _run(list(STATIC), (*PYTEST, "--changed"))


def _run(static: list[str], pytest_command: tuple[str, ...] | None, **variables: str) -> int:
    """Run the static steps in the background and pytest in the foreground; print what failed.

    variables: environment variables.
    """
    need_repository("the tests are")
    if not (ROOT / "tests").is_dir():
        fix = "clone the repository and run there: python3 course.py test"
        raise CourseError("this copy of the course is a handout, which holds no tests", fix)
    environment = (
        kernel_environment()
        | {
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "OMP_NUM_THREADS": str(
                max(1, (os.cpu_count() or 1) // WORKERS)
            ),  # so the workers share the cores
        }
        | variables
    )
    start, failed = time.monotonic(), []
    with ThreadPoolExecutor() as background:
        checks = {name: background.submit(_check, name, environment) for name in static}
        if pytest_command:
            status = subprocess.run(pytest_command, cwd=ROOT, env=environment).returncode
            failed += [] if status in (0, NO_TESTS_COLLECTED) else ["pytest"]
        for name, check in checks.items():
            passed, text = check.result()
            print(f"== {name}: {'passed' if passed else 'FAILED'}\n{text}", end="", flush=True)
            failed += [] if passed else [name]
    minutes = f"{(time.monotonic() - start) / 60:.1f} min"
    print(f"Failed after {minutes}: {', '.join(failed)}" if failed else f"Everything holds, after {minutes}.")
    return 1 if failed else 0


def _check(name: str, environment: dict[str, str]) -> tuple[bool, str]:
    """Run the commands of a static step. Returns whether all passed, and their output."""
    nice = ["nice"] if shutil.which("nice") else []  # lower priority: pytest measures times meanwhile
    results = [
        subprocess.run(
            [*nice, *command],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for command in STATIC[name]
    ]
    return not any(r.returncode for r in results), "".join(r.stdout for r in results)
