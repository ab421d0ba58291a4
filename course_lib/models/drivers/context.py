"""The context of a model, in tokens: how long it is, and an error for prompts that do not fit into it."""

from __future__ import annotations

from course_lib.errors import CourseError
from course_lib.models.schema.spec import ModelSpec


def context_length(spec: ModelSpec, maximum: int) -> int:
    """The context length in tokens: the specification's, or `maximum`, the model's own, where it has none.

    Raises CourseError if the specification asks for more than `maximum`.
    """
    if spec.context_length is not None and spec.context_length > maximum:
        what = f"context_length={spec.context_length}, but {spec.name} reads {maximum}"
        raise CourseError(what, f"load(..., context_length={maximum})")
    return spec.context_length or maximum


def check_fits(name: str, tokens: int, context: int) -> None:
    """Raise CourseError if a prompt and its answer, `tokens` in total, do not fit into the context."""
    if tokens > context:
        raise CourseError(
            f"{tokens} tokens with the answer, but {name} reads {context}",
            "give fewer or shorter passages, or a smaller max_output_length",
        )
