"""Judge one answer of a learner, which runs in a process of its own.

The checker, the course's function that tells whether an answer is right, runs in this one. When it calls a
function of the answer, the call goes to the other process, and the result comes back as data. So nothing that
the answer patches, prints or writes can change the verdict.
"""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import course_lib
from course_lib import data
from course_lib.errors import CourseError
from course_lib.grade.peer import Broken, Peer, PeerFailed
from course_lib.grade.protection import readable_paths
from course_lib.grade.values import printable
from course_lib.learn import exercises
from course_lib.learn.exercises.engine import Exercise
from course_lib.learn.exercises.engine import judge as judge_here

Verdict = Literal["right", "not yet", "not answered", "crashed", "timed out"]
FOLDER_BYTES, FOLDER_FILES = 256_000_000, 100  # what an answer may write into its folder


@dataclass(frozen=True)
class Answer:
    """A learner's answer to one exercise.

    cell: the source of the exercise cell. name: the variable that the cell passes to `check`. before: the
    statements of earlier cells that the cell needs.
    """

    exercise: Exercise
    cell: str
    name: str
    before: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """The verdict on an answer, with the message for the learner. seconds: wall time."""

    verdict: Verdict
    message: str
    seconds: float = 0.0


@dataclass(frozen=True)
class Limits:
    """How an answer may run.

    seconds: the limit of its wall time and of its processor time; 0 means the limit of its exercise.
    unprotected: run it even on a system that cannot isolate it from files and network.
    """

    seconds: int = 0
    unprotected: bool = False


class Worker:
    """The running process of one answer. `ended_by` says why it was killed, or is ''."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.folder, self.limits, self.ended_by = folder, limits, ""
        self.deadline = time.monotonic() + limits.seconds
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "course_lib.grade.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env=_environment(folder),
            start_new_session=os.name != "nt",
            bufsize=0,
        )
        assert self.process.stdin and self.process.stdout
        self.peer = Peer(self.process.stdout.fileno(), self.process.stdin.fileno())
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def _watch(self) -> None:
        """Kill the process when it exceeds a limit. Its pipes are then closed, so `peer` stops waiting."""
        while self.process.poll() is None:
            if time.monotonic() > self.deadline:
                self.ended_by = "time"
            elif _too_much_in(self.folder):
                self.ended_by = "files"
            if self.ended_by:
                return self.kill()
            time.sleep(0.05)

    def kill(self) -> None:
        """End the process and, on systems that have process groups, the others in its group."""
        kill_group = getattr(os, "killpg", None)
        try:
            if kill_group:
                kill_group(self.process.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
            else:
                self.process.kill()
        except OSError:  # it has ended by itself
            pass

    def close(self) -> None:
        """End the process and wait for it."""
        self.kill()
        self.process.wait()
        self._watcher.join()
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.stdout.close()


def _environment(folder: Path) -> dict[str, str]:
    """Return the environment variables of an answer: none of the teacher's own, and one computing thread."""
    kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "COURSE_TIER") if name in os.environ}
    # An answer cannot make folders, so PyTorch and matplotlib must put their caches into its own folder.
    folders = ("HOME", "USERPROFILE", "TMPDIR", "TEMP", "TMP", "TORCHINDUCTOR_CACHE_DIR", "MPLCONFIGDIR")
    home = dict.fromkeys(folders, str(folder))
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    paths = os.pathsep.join(str(data.ROOT / name) for name in (".", "datasets", "models"))
    switches = {"HF_HUB_OFFLINE": "1", "MPLBACKEND": "agg", "PYTHONDONTWRITEBYTECODE": "1"}
    return kept | home | one | switches | {"PYTHONPATH": paths, "PYTHONUTF8": "1", "LANG": "C.UTF-8"}


def _too_much_in(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            sizes = [entry.stat(follow_symlinks=False).st_size for entry in entries]
    except OSError:  # a file vanished meanwhile
        return False
    return len(sizes) > FOLDER_FILES or sum(sizes) > FOLDER_BYTES


# Paths of the system that an answer may read.
SYSTEM = """
    /usr /lib /lib64 /bin /etc/fonts /etc/ld.so.cache /etc/localtime /etc/mime.types /sys/devices /dev/urandom
    /dev/random /proc/cpuinfo /proc/meminfo /proc/stat /proc/filesystems /proc/sys/kernel /proc/sys/vm
    """


@functools.cache
def _readable() -> list[tuple[str, bool]]:
    """Return what an answer may read: Python, the system, and the course without solutions and checkers."""
    library, python = Path(course_lib.__file__).parent, {sys.prefix, sys.base_prefix, sys.exec_prefix}
    hidden = [p.resolve() for p in (data.CHAPTERS, data.WORKSPACE, Path(exercises.__file__).parent)]
    return readable_paths(
        [library, data.HANEUL.parent, data.MODELS, *map(Path, [*SYSTEM.split(), *sorted(python)])], hidden
    )


@contextmanager
def _worker(limits: Limits) -> Iterator[Worker]:
    with tempfile.TemporaryDirectory(prefix="answer-", ignore_cleanup_errors=True) as folder:
        worker = Worker(Path(folder), limits)
        try:
            yield worker
        finally:
            worker.close()


def judge(answer: Answer, limits: Limits) -> Result:
    """Return the verdict on an answer, which is stopped when it exceeds a limit.

    Raises CourseError if this system cannot isolate the answer, unless `limits` allow that.
    """
    start = time.monotonic()
    with _worker(replace(limits, seconds=limits.seconds or answer.exercise.seconds)) as worker:
        try:
            verdict, message = _judge(answer, worker)
        except PeerFailed as error:
            verdict, message = _why_it_ended(worker, error)
        except CourseError:
            raise
        except (
            Exception
        ) as error:  # the other process sent something invalid; errors of the checker are caught elsewhere
            verdict, message = "crashed", f"the answer gave what cannot be read: {type(error).__name__}"
    if "NameError: name" in message:
        message += ". Only exercise cells are graded: what an answer needs must stand in its cell"
    return Result(verdict, printable(message), round(time.monotonic() - start, 2))


def _judge(answer: Answer, worker: Worker) -> tuple[Verdict, str]:
    peer = worker.peer
    task = {"before": answer.before, "cell": answer.cell, "answer": answer.name}
    peer.send(
        {
            "readable": _readable(),
            "writable": str(worker.folder),
            "seconds": worker.limits.seconds,
            "unprotected": worker.limits.unprotected,
            **task,
        }
    )
    gaps = peer.receive()["gaps"]
    if gaps and not worker.limits.unprotected:
        raise CourseError(
            f"here an answer cannot be kept from {'; '.join(gaps)}",
            "grade on Linux 6.2 or newer, or in a virtual machine that you throw away (docs/classroom.md)",
        )
    first = peer.receive()
    if "stopped" in first:
        return _describe_stop(first, answer.name)
    return judge_here(answer.exercise, peer.unpack(first["value"]))


def _describe_stop(message: dict[str, Any], name: str) -> tuple[Verdict, str]:
    """Return the verdict on a cell that gave no answer. message: why, as the worker sent it."""
    if message["stopped"] == "answer":
        return "not answered", f"the cell defines no `{name}`, which is what it is asked for"
    what = f"{message['error']}: {message['text']}"
    if message["stopped"] == "chapter":
        return "crashed", f"what the chapter defines before could not be run here: {what}"
    if message["error"] == "NotImplementedError":
        return "not answered", "nothing is in the place of the answer"
    line = f" in line {message['line']}" if message.get("line") else ""
    return "crashed", f"the cell stopped{line} with {what}"


def _why_it_ended(worker: Worker, error: PeerFailed) -> tuple[Verdict, str]:
    if isinstance(error, Broken):
        return "crashed", f"the answer gave what cannot be read: {error}"
    status = worker.process.wait()
    if worker.ended_by == "files":
        return "crashed", f"it wrote more than {FOLDER_BYTES // 1_000_000} MB or {FOLDER_FILES} files"
    if worker.ended_by == "time" or -status == getattr(signal, "SIGXCPU", None):
        return "timed out", f"it did not end within {worker.limits.seconds} seconds"
    if status < 0:
        return "crashed", f"its process was ended by {signal.Signals(-status).name}"
    return "crashed", f"its process ended by itself, with status {status}"
