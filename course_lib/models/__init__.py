"""Models: a specification, its source, the driver that runs it, and the manager that keeps it.

Rooms, lowest first: `catalog`, `schema`, `files`, `gguf`, `planner`, `drivers`, `manager`. What a notebook needs lies here.
"""

from typing import TYPE_CHECKING

from course_lib.lazy import lazy_attributes

if TYPE_CHECKING:
    from course_lib.models.drivers import load
    from course_lib.models.manager import ModelManager
    from course_lib.models.schema import Generation, ModelSpec

__all__ = ["Generation", "ModelManager", "ModelSpec", "load"]
_MODULES = {"load": "drivers", "ModelManager": "manager", "Generation": "schema", "ModelSpec": "schema"}
__getattr__, __dir__ = lazy_attributes(__name__, _MODULES)
