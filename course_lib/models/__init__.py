"""Load and run language models: `load` returns a running model, `ModelSpec` declares it, `pull` downloads it.

The packages below, each of which imports only those before it:

catalog    the models that the course knows: sizes, licences and roles
schema     ModelSpec, the declaration of a model (its "specification"), and its validation
files      from a specification's source to checked files on this machine
gguf       conversion to GGUF, the file format of llama.cpp
downloads  pulling models from the hub and from packages of the Python package index
planner    estimates of the memory that a model needs
drivers    the software that runs a model, such as transformers or llama.cpp; a loaded model is an "engine"
manager    ModelManager, which keeps models in memory and unloads them
"""

from typing import TYPE_CHECKING

from course_lib.lazy import lazy_attributes

if TYPE_CHECKING:
    from course_lib.models.downloads import pull
    from course_lib.models.drivers import load
    from course_lib.models.manager import ModelManager
    from course_lib.models.schema import Generation, ModelSpec

__all__ = ["Generation", "ModelManager", "ModelSpec", "load", "pull"]
_MODULES = {
    "load": "drivers",
    "pull": "downloads",
    "ModelManager": "manager",
    "Generation": "schema",
    "ModelSpec": "schema",
}
__getattr__, __dir__ = lazy_attributes(__name__, _MODULES)
