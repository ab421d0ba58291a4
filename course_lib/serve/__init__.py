"""A local server that speaks Ollama's protocol and OpenAI's over llama.cpp, for rooms without Ollama."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from course_lib.serve.discovery import Server

__all__ = ["ollama"]


def ollama(having: str | None = None) -> Server:
    """A server with Ollama's protocol: the real Ollama where one answers, else the course's own.

    Its repr says which one it is. having: a model that it must have; a server without it is passed over.
    Raises CourseError where no server answers and none can be started.
    """
    from course_lib.serve import discovery

    return discovery.ollama(having)
