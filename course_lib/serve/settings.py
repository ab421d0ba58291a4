"""The server's settings, from Ollama's environment variables."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from course_lib.errors import CourseError
from course_lib.models.drivers.http_client import ollama_address
from course_lib.serve.schemas import parse_duration

MAXIMUM = {"OLLAMA_NUM_PARALLEL": 64, "OLLAMA_CONTEXT_LENGTH": 10_000_000}


@dataclass(frozen=True)
class Settings:
    """The settings; None leaves the choice to the server.

    num_parallel: OLLAMA_NUM_PARALLEL, the number of texts that a model processes at the same time (slots).
    context_length: OLLAMA_CONTEXT_LENGTH, in tokens of a prompt with its answer. keep_alive:
    OLLAMA_KEEP_ALIVE, the seconds until an idle model is unloaded; -1 for never.
    """

    num_parallel: int | None = None
    context_length: int | None = None
    keep_alive: float | None = None

    @classmethod
    def from_environment(cls) -> Settings:
        """Read the environment. Raises CourseError for a value that is not valid."""
        keep_alive = os.environ.get("OLLAMA_KEEP_ALIVE", "").strip()
        try:
            seconds = parse_duration(float(keep_alive) if _is_number(keep_alive) else keep_alive or None)
        except ValueError as error:
            raise CourseError(
                f"OLLAMA_KEEP_ALIVE={keep_alive!r}: {error}", "export OLLAMA_KEEP_ALIVE=5m"
            ) from error
        return cls(_count("OLLAMA_NUM_PARALLEL"), _count("OLLAMA_CONTEXT_LENGTH"), seconds)


def _is_number(text: str) -> bool:
    return text.removeprefix("-").isdecimal()


def _count(name: str) -> int | None:
    """The number in an environment variable; None if it is unset or 0."""
    text = os.environ.get(name, "").strip()
    if text and not text.isdecimal():
        raise CourseError(f"{name}={text!r} is not a whole number of 0 or more", f"unset {name}")
    if (count := int(text or 0)) > MAXIMUM[name]:
        raise CourseError(f"{name}={text} is above {MAXIMUM[name]:,}", f"unset {name}")
    return count or None


def listen_address() -> tuple[str, int]:
    """Return the host and port of OLLAMA_HOST, by default 127.0.0.1 and 11434. Raises CourseError."""
    text = os.environ.get("OLLAMA_HOST", "")
    url = urlsplit(ollama_address(text))
    if "0.0.0.0" in text or "[::]" in text:
        raise CourseError(
            f"OLLAMA_HOST={text}: this server only listens on this machine", "export OLLAMA_HOST=127.0.0.1"
        )
    return url.hostname or "", url.port or 0


def models_folder() -> Path | None:
    """Return the course's folder within OLLAMA_MODELS; None if the variable is unset.

    It is a subfolder, because Ollama removes files that it does not know.
    """
    folder = os.environ.get("OLLAMA_MODELS")
    return Path(folder).expanduser() / "course" if folder else None
