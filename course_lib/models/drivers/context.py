"""The context of a model, in tokens: how long it is, and an error for prompts that do not fit into it.

A specification (ModelSpec) says which model to load, and how.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from course_lib.errors import CourseError
from course_lib.models.planner.context import MOST_TOKENS, choose_context
from course_lib.models.planner.lookup import architecture
from course_lib.models.schema.spec import ModelSpec


def context_length(spec: ModelSpec, maximum: int, default: int | None = None) -> int:
    """The context length in tokens: the specification's, or else `default`, but at most `maximum`.

    maximum: The length that the model was trained with. Raises CourseError if the specification asks for
    more.
    """
    if spec.context_length is not None and spec.context_length > maximum:
        what = f"context_length={spec.context_length}, but {spec.name} reads {maximum}"
        raise CourseError(what, f"load(..., context_length={maximum})")
    return spec.context_length or min(maximum, default or maximum)


def trained_length(name: str, config: Any) -> int:
    """The number of tokens that a model of transformers was trained to read. config: its configuration.

    Raises CourseError without it: BLOOM and Mamba have no such limit, which the checks of lengths need.
    """
    if length := getattr(config.get_text_config(), "max_position_embeddings", None):
        return int(length)
    what = f"the config.json of {name} names no context length (max_position_embeddings)"
    raise CourseError(what, 'load("haneul-4m")')


def default_context(spec: ModelSpec, path: Path) -> int:
    """The context length of a specification; without one, the trained one or a half, a quarter ... of it.

    The longest of these that fits into memory is taken, and MOST_TOKENS where that is longer or the planner
    (models/planner) cannot estimate the memory. path: The model's folder or .gguf file. Raises CourseError if
    the memory is too small.
    """
    if spec.context_length is not None:
        return spec.context_length
    try:
        architecture(path)
    except CourseError:
        return MOST_TOKENS
    return choose_context(path, slots=spec.batch_size or 1).tokens


def check_fits(name: str, tokens: int, context: int, maximum: int = 0) -> None:
    """Raise CourseError if a prompt and its answer, `tokens` in total, do not fit into the context.

    maximum: the longest context that the model can have, if `context` is a shorter default.
    """
    if context < tokens <= maximum:
        what = f"{tokens} tokens with the answer, but {name} was loaded to read {context} of its {maximum}"
        raise CourseError(what, f"load(..., context_length={tokens})")
    if tokens > context:
        most = f", at most {maximum} with context_length={maximum}" if maximum > context else ""
        raise CourseError(
            f"{tokens} tokens with the answer, but {name} reads {context}{most}",
            "give fewer or shorter passages, or a smaller max_output_length",
        )
