"""GGUF, the one file that llama.cpp and Ollama read: written from a folder, kept in a cache, and its header read."""

from typing import TYPE_CHECKING

from course_lib.lazy import lazy_attributes

if TYPE_CHECKING:
    from course_lib.models.gguf.cache import cached_export
    from course_lib.models.gguf.writer import export, export_adapter

__all__ = ["cached_export", "export", "export_adapter"]
_MODULES = {"cached_export": "cache", "export": "writer", "export_adapter": "writer"}
__getattr__, __dir__ = lazy_attributes(__name__, _MODULES)
