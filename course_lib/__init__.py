"""Local AI, Measured: the library behind the chapters.

The names in `__all__` are the public entry points for use in other projects. Each is imported on first use,
so `import course_lib` stays fast.
"""

from typing import TYPE_CHECKING

from course_lib.lazy import lazy_attributes

if TYPE_CHECKING:
    from course_lib.models import ModelManager, ModelSpec, load, pull
    from course_lib.retrieval import HybridRetriever
    from course_lib.serve import ollama
    from course_lib.tuning import train

__version__ = "0.1.0"
__all__ = ["HybridRetriever", "ModelManager", "ModelSpec", "load", "ollama", "pull", "train"]
_MODULES = {
    "HybridRetriever": "retrieval",
    "ModelManager": "models",
    "ModelSpec": "models",
    "load": "models",
    "ollama": "serve",
    "pull": "models",
    "train": "tuning",
}
__getattr__, __dir__ = lazy_attributes(__name__, _MODULES)
