"""Models: a specification, its source, the driver that runs it, and the manager that keeps it.

What a notebook needs lies here: `load`, `ModelSpec`, `Generation`, `ModelManager`. Nothing is imported until it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from course_lib.models.drivers import load
    from course_lib.models.manager import ModelManager
    from course_lib.models.options import Generation
    from course_lib.models.spec import ModelSpec

__all__ = ["Generation", "ModelManager", "ModelSpec", "load"]
PLACES = {"Generation": "options", "ModelManager": "manager", "ModelSpec": "spec", "load": "drivers"}


def __getattr__(name: str) -> Any:
    if name not in PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{PLACES[name]}"), name)
