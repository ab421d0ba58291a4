"""The command `course doctor`: check that this machine has what the course needs, and print what to do."""

from __future__ import annotations

import errno
import http.client
import importlib.metadata
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from course_lib import data
from course_lib.chapters import all_chapters
from course_lib.errors import CourseError
from course_lib.lab import next_free_port, port_is_free
from course_lib.measure import machine
from course_lib.models import catalog
from course_lib.shell import command_line, made_by_uv, pasteable, pip_install

OLLAMA = "http://127.0.0.1:11434"  # address of the model server Ollama, if it runs
HUB = ("huggingface.co", 443)  # host and port of the site from which models are downloaded
LAB_PORT = 8888  # JupyterLab's default
MIN_MEMORY_GIB, MIN_DISK_GB = 4, 1  # what the chapters need with the models that come with the course
# pip rather than `course.py set-up`, which skips an installation that it has recorded as finished.
INSTALL = "uv sync" if made_by_uv() else pip_install("--editable", data.ROOT)


@dataclass(frozen=True)
class Finding:
    """One line of the report. `fix` is the command that solves the problem, or '' if there is none."""

    status: Literal["ok", "warn", "fail"]
    check: str
    what: str
    fix: str = ""


def ok(what: str) -> Finding:
    """Return a finding without a problem; `run_check` fills in the name of the check."""
    return Finding("ok", "", what)


def warn(what: str, fix: str) -> Finding:
    """Return a finding that does not stop the course from working."""
    return Finding("warn", "", what, fix)


def fail(what: str, fix: str) -> Finding:
    """Return a finding because of which the course, or a part of it, does not work."""
    return Finding("fail", "", what, fix)


def _python() -> Finding:
    version = f"Python {platform.python_version()}"
    if not (3, 11) <= sys.version_info[:2] <= (3, 14):
        return fail(f"{version}; 3.11 to 3.14 are needed", "python3.13 course.py lab")
    return ok(version)


def _packages() -> Finding:
    """Compare the installed packages with pyproject.toml, which may be newer than the installation.

    A course that was installed from a wheel has no pyproject.toml; the wheel's metadata list the same.
    """
    from packaging.requirements import Requirement

    file = data.ROOT / "pyproject.toml"
    lines = (
        tomllib.loads(file.read_text("utf-8"))["project"]["dependencies"]
        if file.is_file()
        else importlib.metadata.requires("local-ai-measured") or []
    )
    named, problems = [Requirement(line) for line in lines], []
    # Without the requirements of other systems and of optional extras.
    requirements = [each for each in named if each.marker is None or each.marker.evaluate({"extra": ""})]
    for requirement in requirements:
        try:
            version = importlib.metadata.version(requirement.name).partition("+")[0]
        except importlib.metadata.PackageNotFoundError:
            problems.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            problems.append(f"{requirement.name} {version}, pinned {requirement.specifier}")
    return fail("; ".join(problems), INSTALL) if problems else ok(f"{len(requirements)} packages as pinned")


def _kernel() -> Finding:
    """Check that the notebooks' kernel exists and runs this Python."""
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    fix = command_line(sys.executable, "-m", "ipykernel", "install", "--sys-prefix")
    try:
        program = Path(KernelSpecManager().get_kernel_spec("python3").argv[0])
    except NoSuchKernel:  # happens only if ipykernel cannot be imported
        return fail("Jupyter has no kernel named python3", INSTALL)
    except (ValueError, IndexError, KeyError) as error:
        return fail(f"the description of the kernel python3 cannot be read: {error}", fix)
    # A relative `python` means Jupyter's own interpreter.
    if program.is_absolute() and program.parent != Path(sys.executable).parent:
        return fail(f"the kernel python3 runs another Python: {program}", fix)
    return ok("python3")


def _memory() -> Finding:
    gib = float(machine()["memory_gib"])
    if gib < MIN_MEMORY_GIB:
        return fail(
            f"{gib} GiB of memory; the chapters need {MIN_MEMORY_GIB}", "use a machine with more memory"
        )
    return ok(f"{gib} GiB of memory")


def _disk() -> Finding:
    """Check free space and write permission where student copies are kept."""
    folder = next(f for f in (data.WORKSPACE, *data.WORKSPACE.parents) if f.is_dir())
    free = shutil.disk_usage(folder).free / 1e9
    more_room = f"free {MIN_DISK_GB} GB on this disk"
    probe = folder / f".doctor-{os.getpid()}"
    try:
        probe.write_bytes(b"x" * 4096)
    except OSError as error:
        what = f"nothing can be written to {folder}: {error.strerror}"
        other = "set COURSE_WORKSPACE to a folder that you can write to"
        return fail(what, more_room if error.errno == errno.ENOSPC else other)
    finally:
        if probe.is_file():
            probe.unlink()
    return (
        fail(f"{free:.1f} GB free", more_room) if free < MIN_DISK_GB else ok(f"{free:.0f} GB free, writable")
    )


def _processor() -> Finding:
    m = machine()
    try:
        flags = set(Path("/proc/cpuinfo").read_text("utf-8").split())
    except OSError:  # not Linux
        flags = set()
    # Instructions that compute several numbers at a time, some of them with numbers of 16 bits.
    known = [f for f in ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd") if f in flags]
    return ok(f"{m['cores']} cores, {m['processor']}; {', '.join(known) or 'features unknown'}")


def _gpu() -> Finding:
    """Name the NVIDIA GPU, and say whether the installed PyTorch is built for the CPU alone ("+cpu")."""
    tool = shutil.which("nvidia-smi")
    result = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=20) if tool else None
    if result is None or result.returncode or not result.stdout.strip():
        return ok("no NVIDIA GPU found; none is needed")
    name = result.stdout.strip().splitlines()[0].split(" (UUID")[0]
    unused = importlib.metadata.version("torch").endswith("+cpu")
    return ok(f"{name}{'; torch cannot use it unless installed with COURSE_TORCH=cuda' if unused else ''}")


def _models() -> Finding:
    """Check the files of the current tier, a set with one model for each role (purpose) in the chapters."""
    from course_lib.models.files import check_entry, require

    entries = [catalog.role(r) for r in catalog.roles()]
    for entry in entries:
        check_entry(entry)
    require(entries)
    by_hand = [f"{e.role} by hand: {e.path or e.model}" for e in entries if e.role in catalog.roles_by_hand()]
    return ok("; ".join([f"tier {catalog.tier()}: {len(entries)} models, files verified", *by_hand]))


def _data() -> Finding:
    for folder in (data.HANEUL, data.HANEUL / "pictures", data.FACES):
        data.verify(folder, data.restore("datasets/haneul"))
    return ok("Haneul Bank, files verified")


def _port() -> Finding:
    if port_is_free(LAB_PORT):
        return ok(f"{LAB_PORT} is free for JupyterLab")
    return warn(f"{LAB_PORT} is taken; another one is free", f"course lab --port {next_free_port(LAB_PORT)}")


def _ollama() -> Finding:
    try:
        with urllib.request.urlopen(f"{OLLAMA}/api/version", timeout=1) as reply:
            return ok(f"version {json.load(reply)['version']} answers")
    except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException):
        return ok("does not answer on port 11434, and is not needed")


def _hub() -> Finding:
    from course_lib.models.files.hub import is_offline

    if is_offline():
        why = "HF_HUB_OFFLINE" if os.environ.get("HF_HUB_OFFLINE") else "TRANSFORMERS_OFFLINE"
        return ok(f"not contacted, because {why} is set; tier tiny needs no downloads")
    try:
        socket.create_connection(HUB, timeout=2).close()
    except OSError:
        return ok("cannot be reached; tier tiny needs no downloads")
    return ok(f"{HUB[0]} can be reached")


def _workspace() -> Finding:
    """Check the student's progress file. Read-only: `course progress` is what renames a damaged file."""
    from course_lib.learn import state

    file = state.path() or state.default_path()
    if not all_chapters(data.WORKSPACE):
        return warn("the student copies are not made yet", "course start")
    if not file.exists():
        return ok("no progress yet")
    if problem := state.file_problem(file):
        return fail(problem, "git pull" if "newer course" in problem else "course progress")
    return ok(f"{sum(e.passed for e in state.load(file).exercises.values())} exercises passed")


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


def run_check(check: Callable[[], Finding]) -> Finding:
    """Run one check. An exception in a check becomes a failed finding with a fix."""
    try:
        finding = check()
    except ModuleNotFoundError as error:
        finding = fail(f"the package {error.name} is missing", INSTALL)
    except CourseError as error:
        finding = fail(error.what, error.fix)
    except Exception as error:  # an unforeseen error in one check must not hide the other findings
        finding = fail(f"could not be checked: {type(error).__name__}: {error}", INSTALL)
    return replace(finding, check=check.__name__.removeprefix("_"), fix=pasteable(finding.fix))


def report(as_json: bool = False, checks: tuple[Callable[[], Finding], ...] = CHECKS) -> int:
    """Run the checks and print their findings. Returns 1 if one failed, else 0."""
    findings = [run_check(check) for check in checks]
    if as_json:
        print(json.dumps([asdict(f) for f in findings], indent=1))
    else:
        for f in findings:
            print(f"{f.status:5} {f.check:10} {f.what}" + (f"\n      {f.fix}" if f.fix else ""))
    return int(any(f.status == "fail" for f in findings))
