"""`course test`: everything that must hold, step by step, each with its time."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from course_lib.chapters import all_chapters
from course_lib.data import ROOT
from course_lib.lab import own_environment

PYTHON = (sys.executable, "-m")
WORKERS = str(min(4, os.cpu_count() or 1))


def steps() -> dict[str, list[tuple[str, ...]]]:
    """Step -> commands. Notebooks are found by glob; each runs whole in one worker."""
    notebooks = (
        "--nbval",
        "--nbval-current-env",
        "--nbval-cell-timeout=300",
        "--nbval-sanitize-with=tests/sanitize.cfg",
    )
    return {
        "lint": [(*PYTHON, "ruff", "check", "."), (*PYTHON, "ruff", "format", "--check", ".")],
        "types": [(*PYTHON, "mypy")],
        "tests": [(*PYTHON, "pytest", "-q", "-n", WORKERS, "--dist", "loadfile", "tests")],
        "notebooks": [
            (
                *PYTHON,
                "pytest",
                "-q",
                *notebooks,
                "-n",
                WORKERS,
                "--dist",
                "loadfile",
                *(str(p) for p in all_chapters()),
            )
        ],
    }


def run_all(only: str | None = None) -> int:
    """Run all steps, or one; go on after a failure, so that one run shows all. Returns 1 if any failed."""
    print(
        "Checking lint, types, library, faults and every cell of every chapter: about half an hour on two cores.",
        flush=True,
    )
    environment = own_environment() | {
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": _threads(),
    }
    failed = []
    for name, commands in steps().items():
        if only not in (None, name):
            continue
        begun = time.monotonic()
        print(f"\n== {name}", flush=True)
        if any([subprocess.run(c, cwd=ROOT, env=environment).returncode for c in commands]):
            failed.append(name)
        print(
            f"== {name}: {'FAILED' if name in failed else 'passed'} in {time.monotonic() - begun:.0f} s",
            flush=True,
        )
    print(f"\nFailed: {', '.join(failed)}" if failed else "\nEverything holds.")
    return 1 if failed else 0


def _threads() -> str:
    """One thread a worker, so that parallel notebooks do not fight for cores."""
    return str(max(1, (os.cpu_count() or 1) // int(WORKERS)))
