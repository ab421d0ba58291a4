"""Models kept in memory by name, and as LangChain's chat models and embeddings."""

from typing import TYPE_CHECKING

from course_lib.lazy import lazy_attributes

if TYPE_CHECKING:
    from course_lib.models.manager.manager import ModelManager
    from course_lib.models.manager.registry import ModelInfo

__all__ = ["ModelInfo", "ModelManager"]
_MODULES = {"ModelManager": "manager", "ModelInfo": "registry"}
__getattr__, __dir__ = lazy_attributes(__name__, _MODULES)
