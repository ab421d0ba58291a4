"""Find a server with Ollama's API: a running Ollama or, if there is none, the course's own."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from course_lib.models.drivers.http_client import ollama_address
from course_lib.serve.managed import ManagedServer
from course_lib.serve.process import ServerProcess

TIMEOUT = 1.0  # seconds to wait for a response
START_TIMEOUT = 120.0  # seconds to wait until the course's own server has started
_lock = threading.Lock()
_own: Server | None = None  # the course's own server, if this process started it


@dataclass
class Server:
    """A server at `url`. `close` stops it only if this process started it."""

    url: str
    description: str
    process: ServerProcess | None = None

    def __repr__(self) -> str:
        return self.description

    def close(self) -> None:
        """Stop the server if this process started it. A second call does nothing."""
        if self.process is not None:
            self.process.close()

    @property
    def running(self) -> bool:
        """Whether this process started the server, and it still runs; False for any other server."""
        return self.process is not None and self.process.running


def ollama(having: str | None = None) -> Server:
    """Return the Ollama server at OLLAMA_HOST or, if none runs there, the course's own server.

    having: a model that Ollama must have; otherwise it is not used. The first call that needs the course's
    server starts it, and later calls share it.
    """
    global _own
    url = ollama_address(os.environ.get("OLLAMA_HOST", ""))
    description = identify(url)
    if description is not None and (having is None or has_model(url, having)):
        return Server(url, description)
    with _lock:
        if _own is None or not _own.running:
            why = f"{description} does not hold {having}" if description else "no Ollama answers here"
            _own = start(why=why)
        assert _own.process is not None
        _own.process.wait_until_ready(START_TIMEOUT)  # after a crash it restarts by itself
        return _own


def has_model(url: str, model: str) -> bool:
    """Whether the server at `url` has this model; a name without a tag means the tag `latest`."""
    name = model if ":" in model else f"{model}:latest"
    try:
        return name in {m["name"] for m in _get(f"{url}/api/tags")["models"]}
    except (KeyError, TypeError):
        return False


def identify(url: str) -> str | None:
    """Return a description of the server at `url`, or None if no server with Ollama's API responds there."""
    answer = _get(f"{url}/api/version")
    if not isinstance(answer, dict) or not isinstance(answer.get("version"), str):
        return None
    return (
        f"the course's own server at {url}" if "server" in answer else f"Ollama {answer['version']} at {url}"
    )


def _get(url: str) -> Any:
    """Return the JSON response to a GET request; None on an error, a timeout, or invalid JSON."""
    import httpx

    try:
        return httpx.get(url, timeout=TIMEOUT, trust_env=False).raise_for_status().json()
    except (httpx.HTTPError, ValueError):
        return None


def start(port: int = 0, store: Path | None = None, why: str = "no Ollama answers here") -> Server:
    """Start the course's own server as a process, which ends with this one.

    port: 0 chooses a free one. store: the folder for its models, by default that of OLLAMA_MODELS, or a
    temporary one. why: why it is started, for its description. Raises CourseError if the server does not
    start.
    """
    arguments = ["--store", str(store.absolute())] if store else []
    folder = {"OLLAMA_MODELS": os.environ.get("OLLAMA_MODELS") or "{folder}"}
    process = ManagedServer(
        "course", port=port, arguments=arguments, environment=folder, ready_timeout=START_TIMEOUT
    )
    return Server(process.url, f"the course's own server, started at {process.url}: {why}", process)
