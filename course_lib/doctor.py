"""`course doctor`: one line for each thing the course needs, and under each failure the command that mends it."""

from __future__ import annotations

import errno
import http.client
import importlib.metadata
import json
import os
import platform
import shlex
import shutil
import socket
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from course_lib import data
from course_lib.chapters import all_chapters
from course_lib.errors import CourseError
from course_lib.lab import next_free, port_is_free
from course_lib.measure import machine
from course_lib.models import catalog
from course_lib.models.files import on_this_machine

OLLAMA = "http://127.0.0.1:11434"
HUB = ("huggingface.co", 443)
MEMORY_GIB, DISK_GB = 4, 1
# pip installs what is missing and what has moved; `make lab` would see a finished set-up and skip it
PYTHON = shlex.quote(sys.executable)
INSTALL = f"{PYTHON} -m pip install --editable {shlex.quote(str(data.ROOT))}"


@dataclass(frozen=True)
class Finding:
    """One line: ok, warn or fail; `fix` is the one command that helps, empty where nothing is needed."""

    status: Literal["ok", "warn", "fail"]
    check: str
    what: str
    fix: str = ""


def _python() -> Finding:
    version = platform.python_version()
    old = sys.version_info < (3, 11)
    return Finding(
        "fail" if old else "ok",
        "python",
        f"Python {version}{', 3.11 is needed' if old else ''}",
        "make PYTHON=python3.11 lab" if old else "",
    )


def _packages() -> Finding:
    """Every dependency of the course against its pin."""
    from packaging.requirements import Requirement

    # pyproject.toml as it is now: what pip wrote down when it installed is older after an update
    project = tomllib.loads((data.ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted, wrong = [Requirement(r) for r in project["dependencies"]], []
    for r in wanted:
        try:
            found = importlib.metadata.version(r.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{r.name} is missing")
            continue
        if not r.specifier.contains(found.partition("+")[0], prereleases=True):
            wrong.append(f"{r.name} {found}, pinned {r.specifier}")
    # pip installs what is missing and what has moved; a stamp from a finished set-up would make `make lab` skip it
    fix = f"{Path(sys.executable)} -m pip install --editable {data.ROOT}"
    return (
        Finding("fail", "packages", "; ".join(wrong), fix)
        if wrong
        else Finding("ok", "packages", f"{len(wanted)} packages as pinned")
    )


def _kernel() -> Finding:
    """The kernel that notebooks ask for exists, and is this Python."""
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    fix = f"{PYTHON} -m ipykernel install --sys-prefix"
    try:
        said = KernelSpecManager().get_kernel_spec("python3").argv[0]
    except NoSuchKernel:  # only where ipykernel itself cannot be imported
        return Finding("fail", "kernel", "Jupyter knows no kernel named python3", INSTALL)
    except (ValueError, IndexError, KeyError) as error:
        return Finding(
            "fail", "kernel", f"the description of the kernel python3 cannot be read: {error}", fix
        )
    # Jupyter runs a bare `python` as its own interpreter.
    ours = not Path(said).is_absolute() or Path(said).parent == Path(sys.executable).parent
    return (
        Finding("ok", "kernel", "python3")
        if ours
        else Finding("fail", "kernel", f"the kernel python3 is another Python: {said}", fix)
    )


def _memory() -> Finding:
    m = machine()
    small = float(m["memory_gib"]) < MEMORY_GIB
    what = f"{m['memory_gib']} GiB of memory" + (f"; the chapters need {MEMORY_GIB}" if small else "")
    return (
        Finding("fail", "memory", what, "use a machine with more memory")
        if small
        else Finding("ok", "memory", what)
    )


def _disk() -> Finding:
    """Room, and the right to write: workspaces and results lie in the course's folder."""
    free = shutil.disk_usage(data.ROOT).free / 1e9
    probe = data.ROOT / f".doctor-{os.getpid()}"
    try:
        probe.write_bytes(b"x" * 4096)
    except OSError as error:
        fix = f"cp -r {shlex.quote(str(data.ROOT))} ~/local-ai-measured"
        fix = f"free {DISK_GB} GB on this disk" if error.errno == errno.ENOSPC else fix
        return Finding(
            "fail", "disk", f"nothing can be written to the course's folder: {error.strerror}", fix
        )
    finally:
        if probe.is_file():
            probe.unlink()
    short = free < DISK_GB
    return Finding(
        "fail" if short else "ok",
        "disk",
        f"{free:.0f} GB free, writable",
        f"free {DISK_GB} GB on this disk" if short else "",
    )


def _processor() -> Finding:
    m = machine()
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        flags = set()
    known = [f for f in ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd") if f in flags]
    return Finding(
        "ok", "processor", f"{m['cores']} cores, {m['processor']}; {', '.join(known) or 'features unknown'}"
    )


def _gpu() -> Finding:
    tool = shutil.which("nvidia-smi")
    said = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=20) if tool else None
    found = said.stdout.strip().splitlines() if said and said.returncode == 0 else []
    return Finding(
        "ok", "gpu", found[0].split(" (UUID")[0] if found else "none that answers, and none is needed"
    )


def _models() -> Finding:
    entries = [catalog.role(r) for r in catalog.roles()]
    for entry in entries:
        if entry.tier == "tiny":
            catalog.folder_of(entry.model)
        elif on_this_machine(entry) is False:
            return Finding(
                "fail",
                "models",
                f"{entry.model} of the tier {catalog.tier()} is not here",
                entry.download_command or INSTALL,
            )
    return Finding("ok", "models", f"tier {catalog.tier()}: {len(entries)} models, files verified")


def _data() -> Finding:
    data.verify(data.HANEUL, "git checkout -- datasets/haneul")
    return Finding("ok", "data", "Haneul Bank, files verified")


def _port() -> Finding:
    if port_is_free(8888):
        return Finding("ok", "port", "8888 is free for make lab")
    else:
        return Finding(
            "warn", "port", "8888 is taken; another one is free", f"make lab PORT={next_free(8888)}"
        )


def _ollama() -> Finding:
    try:
        with urllib.request.urlopen(f"{OLLAMA}/api/version", timeout=1) as reply:
            return Finding("ok", "ollama", f"version {json.load(reply)['version']} answers")
    except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException):
        return Finding("ok", "ollama", "does not answer on port 11434, and is not needed")


def _hub() -> Finding:
    if os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0"):
        return Finding("ok", "hub", "not asked (HF_HUB_OFFLINE=0 asks it); the tier tiny needs no hub")
    try:
        socket.create_connection(HUB, timeout=2).close()
        return Finding("ok", "hub", f"{HUB[0]} can be reached")
    except OSError:
        return Finding("ok", "hub", "cannot be reached; the tier tiny needs none")


def _workspace() -> Finding:
    """Looks, and moves nothing: `course progress` sets a damaged file aside."""
    from course_lib.learn import state

    file = state.path() or state.default_path()
    if not all_chapters(data.WORKSPACE):
        return Finding("warn", "workspace", "not made yet", "course start")
    elif not file.exists():
        return Finding("ok", "workspace", "no progress yet")
    elif said := state.problem(file):
        return Finding("fail", "workspace", said, "git pull" if "newer course" in said else "course progress")
    else:
        return Finding(
            "ok",
            "workspace",
            f"{sum(e.passed for e in state.load(file).exercises.values())} exercises passed",
        )


CHECKS: tuple[Callable[[], Finding], ...] = (
    _python,
    _packages,
    _kernel,
    _memory,
    _disk,
    _processor,
    _gpu,
    _models,
    _data,
    _port,
    _ollama,
    _hub,
    _workspace,
)


def examine(check: Callable[[], Finding]) -> Finding:
    """The finding of one check. One that cannot run, or raises a CourseError, is a failure with its cure."""
    name = check.__name__.removeprefix("_")
    try:
        return check()
    except ModuleNotFoundError as error:
        return Finding("fail", name, f"the package {error.name} is missing", INSTALL)
    except CourseError as error:
        return Finding("fail", name, error.what, error.fix)
    except Exception as error:  # whatever is wrong with this machine, the other lines are wanted
        return Finding("fail", name, f"could not be checked: {type(error).__name__}: {error}", INSTALL)


def report(as_json: bool = False, checks: tuple[Callable[[], Finding], ...] = CHECKS) -> int:
    """Print every finding; return 1 when one failed."""
    found = [examine(check) for check in checks]
    if as_json:
        print(json.dumps([asdict(f) for f in found], indent=1))
    else:
        for f in found:
            print(f"{f.status:5} {f.check:10} {f.what}" + (f"\n      {f.fix}" if f.fix else ""))
    return int(any(f.status == "fail" for f in found))
