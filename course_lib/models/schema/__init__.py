"""What a model specification is: sources, fields, options of generation. Nothing here reads a model."""

from typing import TYPE_CHECKING

from course_lib.lazy import lazy_attributes

if TYPE_CHECKING:
    from course_lib.models.schema.generation import Generation
    from course_lib.models.schema.sources import HuggingFaceSource, LocalSource, ServerSource
    from course_lib.models.schema.spec import Adapter, ModelSpec
    from course_lib.models.schema.validation import SpecError

__all__ = [
    "Adapter",
    "Generation",
    "HuggingFaceSource",
    "LocalSource",
    "ModelSpec",
    "ServerSource",
    "SpecError",
]
_MODULES = {
    "Generation": "generation",
    "HuggingFaceSource": "sources",
    "LocalSource": "sources",
    "ServerSource": "sources",
    "Adapter": "spec",
    "ModelSpec": "spec",
    "SpecError": "validation",
}
__getattr__, __dir__ = lazy_attributes(__name__, _MODULES)
