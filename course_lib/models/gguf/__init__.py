"""Write and cache model folders as GGUF (the file format of llama.cpp and Ollama), and unpack GGUF files."""

from typing import TYPE_CHECKING

from course_lib.lazy import lazy_attributes

if TYPE_CHECKING:
    from course_lib.models.gguf.adapter import export_adapter
    from course_lib.models.gguf.cache import cached_export, cached_file
    from course_lib.models.gguf.inputs import input_format
    from course_lib.models.gguf.unpacking import unpack
    from course_lib.models.gguf.writer import export

__all__ = ["cached_export", "cached_file", "export", "export_adapter", "input_format", "unpack"]
_MODULES = {"cached_export": "cache", "cached_file": "cache", "export": "writer", "export_adapter": "adapter"}
_MODULES |= {"input_format": "inputs", "unpack": "unpacking"}
__getattr__, __dir__ = lazy_attributes(__name__, _MODULES)
