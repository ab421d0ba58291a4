"""Local AI, Measured: the library behind the chapters.

The names in `__all__` are the public entry points for use in other projects. Each is imported on first use,
so `import course_lib` stays fast.
"""

import os
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
# By default, threads of torch and llama.cpp that wait for each other keep their cores busy. On a busy machine
# that made them 15 to 25 times slower (measured). OpenMP reads this variable once, when the first library
# that uses it is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
__getattr__, __dir__ = lazy_attributes(__name__, _MODULES)
