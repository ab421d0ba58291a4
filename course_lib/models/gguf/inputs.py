"""What a model reads: the length of its context, and whether it has a chat template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from course_lib.errors import CourseError
from course_lib.models.gguf.header import read_header
from course_lib.models.gguf.tokenizer import chat_template

AGAIN = "download or export it again"


class InputFormat(NamedTuple):
    """The longest text that a model reads, in tokens, and whether it has a chat template."""

    context: int
    chat: bool


def input_format(path: Path) -> InputFormat:
    """What the model in a folder or a .gguf file reads, from its configuration or its header alone.

    Raises CourseError for a file that is cut short, that holds no model, or one that llama.cpp does not know.
    """
    try:
        if path.is_dir():
            config = json.loads((path / "config.json").read_text("utf-8"))
            return InputFormat(int(config["max_position_embeddings"]), bool(chat_template(path)))
        fields = _model_fields(path)
        length = fields[f"{fields['general.architecture']}.context_length"]
        return InputFormat(int(length), "tokenizer.chat_template" in fields)
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise CourseError(f"{path.name} does not state its context length: {error}", AGAIN) from error


def _model_fields(path: Path) -> dict[str, Any]:
    """The fields of a GGUF file that holds a model. Raises CourseError as `input_format`."""
    import gguf

    try:
        fields, tensors = read_header(path)
    except (ValueError, OSError) as error:
        size, reason = path.stat().st_size, str(error)[:200]
        what = f"{path.name} is cut short or damaged: it has {size:,} bytes"
        what += f", and reading it fails with {reason!r}"
        raise CourseError(what, AGAIN) from error
    architecture = fields.get("general.architecture", "none")
    if architecture not in gguf.MODEL_ARCH_NAMES.values():
        what = f"{path.name} is a model of the architecture {architecture!r}, which llama.cpp does not know"
        raise CourseError(what, "choose a model of another architecture, such as llama")
    if not tensors and not fields.get("split.count"):  # the first of several files may have no tensors
        what = f"{path.name} holds a tokenizer ({architecture}) and no weights"
        raise CourseError(what, "choose the file of the complete model")
    return fields
