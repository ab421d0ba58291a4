"""Find the context length and the chat template of a .gguf file, without loading the model.

A chat template writes the turns of a conversation as a model reads them. GGUF is the file format of
llama.cpp.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from course_lib.errors import CourseError
from course_lib.models.gguf.header import gguf_constants, read_header
from course_lib.models.gguf.tokenizer import NORMALIZER

DOWNLOAD_AGAIN = "download or export it again"


# llama.cpp's names for the tokenizers of Qwen 2 and later, which compose letters (Unicode NFC)
COMPOSING = ("qwen2", "qwen35")


class InputFormat(NamedTuple):
    """What a model reads.

    context: The longest text in tokens. template: The chat template; None for a base model, which has none.
    composes: Whether the model's tokenizer composes letters to Unicode NFC, which llama.cpp does not.
    """

    context: int
    template: str | None
    composes: bool


def input_format(path: Path) -> InputFormat:
    """Return the input format of a .gguf file, from its header.

    Raises CourseError if the file is truncated, holds no model, or has an architecture unknown to llama.cpp.
    """
    try:
        fields = _model_fields(path)
        length = fields[f"{fields['general.architecture']}.context_length"]
        composes = fields.get(NORMALIZER) == "NFC"
        composes |= fields.get("tokenizer.ggml.pre") in COMPOSING
        return InputFormat(int(length), fields.get("tokenizer.chat_template"), composes)
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise CourseError(
            f"{path.name} does not state its context length: {error}", DOWNLOAD_AGAIN
        ) from error


def _model_fields(path: Path) -> dict[str, Any]:
    """Return the header fields of a GGUF model file. Raises the errors of `input_format`."""
    try:
        fields, tensors = read_header(path)
    except (ValueError, OSError) as error:
        size, reason = path.stat().st_size, str(error)[:200]
        message = f"{path.name} is truncated or damaged: it has {size:,} bytes"
        message += f", and reading it fails with {reason!r}"
        raise CourseError(message, DOWNLOAD_AGAIN) from error
    architecture = fields.get("general.architecture", "none")
    if architecture not in gguf_constants().MODEL_ARCH_NAMES.values():
        message = f"{path.name} has the architecture {architecture!r}, which llama.cpp does not support"
        raise CourseError(message, "choose a model of another architecture, such as llama")
    if not tensors and not fields.get("split.count"):  # the first of several files may have no tensors
        message = f"{path.name} holds only a tokenizer ({architecture}), no weights"
        raise CourseError(message, "use the file of the complete model")
    return fields
