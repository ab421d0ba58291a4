"""`course doctor`: one line for each thing the course needs; under each failure the command that mends it."""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Callable

from course_lib import data
from course_lib.errors import CourseError
from course_lib.lab import next_free, port_is_free
from course_lib.measure import machine
from course_lib.models import catalog


def _python() -> str:
    return f"Python {machine()['python']}"


def _packages() -> str:
    try:
        found = {name: importlib.metadata.version(name) for name in ("torch", "transformers", "jupyterlab")}
    except importlib.metadata.PackageNotFoundError as error:
        raise CourseError(f"the package {error.name} is not installed", "make lab") from error
    return ", ".join(f"{name} {version}" for name, version in found.items())


def _memory() -> str:
    m = machine()
    if float(m["memory_gib"]) < 4:
        raise CourseError(
            f"{m['memory_gib']} GiB of memory; the chapters need 4", "close other programs, or use a larger machine"
        )
    return f"{m['cores']} cores, {m['memory_gib']} GiB of memory, {m['processor']}"


def _disk() -> str:
    free = shutil.disk_usage(data.ROOT).free / 1e9
    if free < 1:
        raise CourseError(f"{free:.1f} GB of disk free; 1 GB is needed", "free some space")
    return f"{free:.0f} GB of disk free"


def _models() -> str:
    entries = [catalog.role(r) for r in catalog.roles()]
    for entry in entries:
        catalog.folder_of(entry.model)
    return f"tier {catalog.tier()}: {len(entries)} models, files verified"


def _data() -> str:
    return f"Haneul Bank: {len(data.load_passages())} passages, files verified"


def _port() -> str:
    if not port_is_free(8888):
        return f"port 8888 is taken; another one is free: make lab PORT={next_free(8888)}"
    return "port 8888 is free for make lab"


CHECKS: tuple[Callable[[], str], ...] = (_python, _packages, _memory, _disk, _models, _data, _port)


def report(checks: tuple[Callable[[], str], ...] = CHECKS) -> int:
    """Print every check; return 1 when one failed."""
    failures = 0
    for check in checks:
        try:
            print(f"ok    {check()}")
        except CourseError as error:
            failures += 1
            print(f"FAIL  {error.what}\n      {error.mend}")
    return 1 if failures else 0
