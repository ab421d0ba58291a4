"""Find a server with Ollama's protocol: the real Ollama, else the course's own, started here."""

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
from typing import Any

from course_lib import data
from course_lib.errors import CourseError
from course_lib.models.drivers.http_client import ollama_address

TIMEOUT = 1.0  # seconds for a server to answer
START_TIMEOUT = 120.0  # seconds for the course's own server to start
_lock = threading.Lock()
_own: Server | None = None


@dataclass
class Server:
    """A server at `url`. `close` ends it if it was started here, and leaves another alone."""

    url: str
    description: str
    _process: subprocess.Popen[str] | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        return self.description

    def close(self) -> None:
        """End the server if it was started here. A second call does nothing."""
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
    """See course_lib.serve.ollama. At most one server is started in a process, however often it is called."""
    global _own
    url = ollama_address(os.environ.get("OLLAMA_HOST", ""))
    description = identify(url)
    if description is not None and (having is None or has_model(url, having)):
        return Server(url, description)
    with _lock:
        if _own is None or not _own.running:
            why = f"{description} does not hold {having}" if description else "no Ollama answers here"
            _own = start(why=why)
        return _own


def has_model(url: str, model: str) -> bool:
    """Whether the server at `url` has a model of this name, with the tag `latest` where none is given."""
    name = model if ":" in model else f"{model}:latest"
    try:
        return name in {m["name"] for m in _get(f"{url}/api/tags")["models"]}
    except (KeyError, TypeError):
        return False


def identify(url: str) -> str | None:
    """A description of the server at `url`; None where nothing answers there with Ollama's protocol."""
    answer = _get(f"{url}/api/version")
    if not isinstance(answer, dict) or not isinstance(answer.get("version"), str):
        return None
    return (
        f"the course's own server at {url}" if "server" in answer else f"Ollama {answer['version']} at {url}"
    )


def _get(url: str) -> Any:
    """The JSON answer of a server; None where it does not answer in time, or not with JSON."""
    import httpx

    try:
        return httpx.get(url, timeout=TIMEOUT, trust_env=False).raise_for_status().json()
    except (httpx.HTTPError, ValueError):
        return None


def start(port: int = 0, store: Path | None = None, why: str = "no Ollama answers here") -> Server:
    """Start the course's own server, by default on a free port. It ends with this process.

    store: folder of its models, by default a temporary one. why: the reason, for its description.
    Raises CourseError where it does not start.
    """
    command = [sys.executable, "-m", "course_lib.serve", "--port", str(port), "--until-closed"]
    command += ["--store", str(store)] if store else []
    with tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
        process = subprocess.Popen(
            command, cwd=data.ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        )
        assert process.stdout is not None
        timer = threading.Timer(START_TIMEOUT, process.kill)
        timer.start()
        with process.stdout as output:
            address = re.search(r"http://\S+", output.readline())
        timer.cancel()
        if address is None:
            process.kill()
            process.wait()
            errors.seek(0)
            reason = errors.read()[-500:].strip() or "it printed nothing"
            raise CourseError(f"the course's own server did not start: {reason}", "course doctor")
    server = Server(address[0], f"the course's own server, started at {address[0]}: {why}", process)
    atexit.register(server.close)
    return server
