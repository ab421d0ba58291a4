"""What a model specification is: its sources, its fields, the options of generation. Nothing here reads a model."""

from typing import TYPE_CHECKING

from course_lib.lazy import lazy_attributes

if TYPE_CHECKING:
    from course_lib.models.schema.generation import Generation, SpecError
    from course_lib.models.schema.spec import ModelSpec

__all__ = ["Generation", "ModelSpec", "SpecError"]
_MODULES = {"Generation": "generation", "ModelSpec": "spec", "SpecError": "generation"}
__getattr__, __dir__ = lazy_attributes(__name__, _MODULES)
