"""A server as a child process, which is restarted after a crash and ends with this process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from course_lib.errors import CourseError
from course_lib.serve.server import bind

PROGRAM = Path(__file__).with_name("supervisor.py")
SHOWN_LINES = 8  # of the log in an error message
READY_CHECK_SECONDS = 2.0  # timeout of one request that checks whether the server is ready


def free_port(port: int = 0) -> int:
    """Return a free port; for a given port, that one. Raises CourseError if it is taken."""
    with bind(port) as free:
        return int(free.getsockname()[1])


class ServerProcess:
    """A server process at `url`. It is restarted after a crash, and ends with this object or this process.

    log: the file with the server's output. pids: the process ids of all starts, the latest last.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        port: int,
        ready: str,
        install: str,
        environment: Mapping[str, str],
        log: Path | None,
        ready_timeout: float,
        restarts: int,
    ) -> None:
        """Start the command and wait until it is ready.

        ready: the path that answers once the server is ready. install: the command that installs the program.
        environment: variables; {folder} in a value is a temporary folder of this process. ready_timeout:
        seconds. restarts: how often it is restarted after a crash, with pauses of 0.5, 1, 2 ... seconds.
        Raises CourseError if the program is missing, or not ready in time.
        """
        self.name, self.url, self._ready = name, f"http://127.0.0.1:{port}", ready
        # Where pip puts programs; PATH lacks it if no environment is active.
        here = sysconfig.get_path("scripts")
        program = shutil.which(command[0], path=os.pathsep.join((here, os.environ.get("PATH", ""))))
        if program is None:
            raise CourseError(f"{name} is not installed: no program {command[0]}", install)
        # The supervisor process removes it if this process is killed.
        folder = tempfile.mkdtemp(prefix="course-server-")
        self.log, self.pids = log or Path(folder, "server.log"), list[int]()
        variables = {key: value.replace("{folder}", folder) for key, value in environment.items()}
        instructions = {  # what supervisor.py reads
            "folder": folder,
            "command": [program, *command[1:]],
            "environment": os.environ | variables,
            "log": str(self.log),
            "restarts": restarts,
            "pause": 0.5,  # seconds before the first restart
        }
        self._watcher = subprocess.Popen(
            [sys.executable, "-P", str(PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C interrupts the caller, which then ends the server
        )
        self._end = weakref.finalize(self, _end, self._watcher, folder)
        assert self._watcher.stdin is not None
        self._watcher.stdin.write(json.dumps(instructions) + "\n")
        self._watcher.stdin.flush()
        threading.Thread(target=_collect, args=(self._watcher.stdout, self.pids), daemon=True).start()
        try:
            self.wait_until_ready(ready_timeout)
        except BaseException:
            self.close()
            raise

    @property
    def running(self) -> bool:
        """Whether the server runs, or is about to be restarted."""
        return self._watcher.poll() is None

    def ready(self) -> bool:
        """Whether the server answers now."""
        import httpx

        try:
            return httpx.get(self.url + self._ready, timeout=READY_CHECK_SECONDS, trust_env=False).is_success
        except httpx.HTTPError:
            return False

    def wait_until_ready(self, timeout: float) -> None:
        """Wait until the server answers, at most `timeout` seconds.

        Raises CourseError with the end of the log.
        """
        until = time.monotonic() + timeout
        while not self.ready():
            if not self.running:
                what = f"{self.name} ended {len(self.pids)} times while it started:\n{self.last_lines()}"
                raise CourseError(what, "course doctor")
            if time.monotonic() > until:
                what = f"{self.name} was not ready after {timeout:g} s; its log ends:\n{self.last_lines()}"
                raise CourseError(what, f"{type(self).__name__}(..., ready_timeout={timeout * 2:g})")
            time.sleep(0.05)

    def last_lines(self) -> str:
        """Return the end of the log, for error messages."""
        lines = (
            self.log.read_text(encoding="utf-8", errors="replace").splitlines() if self.log.exists() else []
        )
        return "\n".join(line[:200] for line in lines[-SHOWN_LINES:]) or "(it wrote nothing)"

    def close(self) -> None:
        """End the server: ask it to stop, and kill it after five seconds. A second call does nothing."""
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{self.name} at {self.url}: {'running' if self.running else 'ended'}>"


def _collect(lines: Any, pids: list[int]) -> None:
    """Append the process ids that the supervisor prints, one a line."""
    with lines:
        pids += (int(line) for line in lines)


def _end(watcher: subprocess.Popen[str], folder: str) -> None:
    """End the supervisor, which ends the server when its standard input is closed."""
    assert watcher.stdin is not None
    watcher.stdin.close()
    watcher.wait()
    shutil.rmtree(folder, ignore_errors=True)
