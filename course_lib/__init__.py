"""Local AI, Measured: the library behind the chapters.

Rooms, lowest first: `errors`, `lazy`, `data`, `tables`, `plots`, `measure`, `models`, `tuning`, `retrieval`, `serve`, `rag`,
`learn`, `cli`.
Nothing heavy is imported until it is used. Two names are within reach at once: `load`, a model by its name, and `ollama`, a
server that speaks Ollama's protocol.
"""

from typing import TYPE_CHECKING

from course_lib.lazy import lazy_attributes

if TYPE_CHECKING:
    from course_lib.models import load
    from course_lib.serve import ollama

__version__ = "0.1.0"
__all__ = ["load", "ollama"]
_MODULES = {"load": "models", "ollama": "serve"}
__getattr__, __dir__ = lazy_attributes(__name__, _MODULES)
