"""The declaration of a model (its specification): source, settings and generation options, validated.

Nothing here reads a model file.
"""

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
