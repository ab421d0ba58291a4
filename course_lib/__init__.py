"""Local AI, Measured: the library behind the chapters.

Rooms, lowest first: `errors`, `data`, `tables`, `plots`, `measure`, `models`, `tuning`, `retrieval`, `serve`, `rag`,
`learn`, `cli`.
Nothing heavy is imported until it is used. Two names are within reach at once: `load`, a model by its name, and `ollama`, a
server that speaks Ollama's protocol.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from course_lib.models import load
    from course_lib.serve import ollama

__version__ = "0.1.0"
__all__ = ["load", "ollama"]
PLACES = {"load": "models", "ollama": "serve"}


def __getattr__(name: str) -> Any:
    if name not in PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{PLACES[name]}"), name)
