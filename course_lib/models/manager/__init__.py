"""ModelManager: load models by name, keep them in memory, and offer them as LangChain objects."""

from typing import TYPE_CHECKING

from course_lib.lazy import lazy_attributes

if TYPE_CHECKING:
    from course_lib.models.manager.manager import ModelManager
    from course_lib.models.manager.registry import ModelInfo

__all__ = ["ModelInfo", "ModelManager"]
_MODULES = {"ModelManager": "manager", "ModelInfo": "registry"}
__getattr__, __dir__ = lazy_attributes(__name__, _MODULES)
