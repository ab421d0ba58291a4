"""A local model server with the Ollama and OpenAI HTTP APIs, for machines on which Ollama is not installed.

It runs the models that ship with the course, by llama.cpp. Chapters get a server by `ollama()`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from course_lib.serve.discovery import Server

__all__ = ["ollama"]


def ollama(having: str | None = None) -> Server:
    """Return a server with Ollama's API: the real Ollama if one is running, else the course's own server.

    The repr of the result says which one it is.
    having: The name of a model that the server must have; an Ollama without this model is not used.
    Raises CourseError if no server is running and none can be started.
    """
    from course_lib.serve import discovery

    return discovery.ollama(having)
