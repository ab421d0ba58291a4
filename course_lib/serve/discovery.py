"""A server with Ollama's protocol for a notebook: the real one where it answers, else the course's own, started beside it."""

from __future__ import annotations

import atexit
import os
import re
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from course_lib import data
from course_lib.errors import CourseError
from course_lib.models.drivers.http_client import ollama_address

TIMEOUT = 1.0  # seconds for a server to answer
START = 120.0  # seconds for the course's own to begin
_lock = threading.Lock()
_own: Server | None = None


@dataclass
class Server:
    """Where requests go, and what answers there. `close` ends the course's own server and leaves another alone."""

    url: str
    what: str
    _process: subprocess.Popen[str] | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        return self.what

    def close(self) -> None:
        """End the server, if it was started here. Calling it again does nothing."""
        if self._process is not None:
            self._process.stdin.close()  # type: ignore[union-attr]
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    @property
    def running(self) -> bool:
        """Whether the process that was started here is alive."""
        return self._process is not None and self._process.poll() is None


def ollama(having: str | None = None) -> Server:
    """See course_lib.serve.ollama. One server is started for a process, however often it is called."""
    global _own
    url = ollama_address(os.environ.get("OLLAMA_HOST", ""))
    what = identify(url)
    if what is not None and (having is None or has_model(url, having)):
        return Server(url, what)
    with _lock:
        if _own is None or not _own.running:
            _own = start(why="no Ollama answers here" if what is None else f"{what} does not hold {having}")
        return _own


def has_model(url: str, model: str) -> bool:
    """Whether the server at `url` has a model of this name; the tag is `latest` where none is given."""
    import httpx

    try:
        said = httpx.get(f"{url}/api/tags", timeout=TIMEOUT, trust_env=False).raise_for_status().json()
        return (model if ":" in model else f"{model}:latest") in {m["name"] for m in said["models"]}
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return False


def identify(url: str) -> str | None:
    """What answers at `url`, in words; None where nothing with Ollama's protocol does within a second."""
    import httpx

    try:
        said = httpx.get(f"{url}/api/version", timeout=TIMEOUT, trust_env=False).raise_for_status().json()
        if not isinstance(said, dict) or not isinstance(said.get("version"), str):
            return None
    except (httpx.HTTPError, ValueError):
        return None
    return f"the course's own server at {url}" if "server" in said else f"Ollama {said['version']} at {url}"


def start(port: int = 0, store: Path | None = None, why: str = "no Ollama answers here") -> Server:
    """Start the course's own server, on a free port where none is named. It ends with this process.

    store: folder of its models; a temporary one where none is given. why: it was started, for its `what`.
    Raises CourseError where it does not begin.
    """
    command = [sys.executable, "-m", "course_lib.serve", "--port", str(port), "--until-closed"]
    command += ["--store", str(store)] if store else []
    with tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
        process = subprocess.Popen(
            command, cwd=data.ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        )
        late = threading.Timer(START, process.kill)
        late.start()
        line = _first_line(process.stdout)
        late.cancel()
        found = re.search(r"http://\S+", line)
        if found is None:
            process.kill()
            process.wait()
            errors.seek(0)
            raise CourseError(
                f"the course's own server did not begin: {errors.read()[-500:].strip() or 'no word'}",
                "course doctor",
            )
    server = Server(found[0], f"the course's own server, started at {found[0]}: {why}", process)
    atexit.register(server.close)
    return server


def _first_line(stream: IO[str] | None) -> str:
    assert stream is not None
    with stream:
        return stream.readline()
