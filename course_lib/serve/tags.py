"""Model names as in Ollama, and the tag: the server's record of a model, one for each of its names."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from course_lib.errors import CourseError
from course_lib.models.gguf.header import Header, file_type, read_header
from course_lib.models.planner.memory import stored_weights
from course_lib.serve.errors import ApiError

PART = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,79}"
NAME = re.compile(
    rf"(?:(?:registry\.ollama\.ai/)?(?P<user>{PART})/)?(?P<model>{PART})(?::(?P<tag>{PART}))?",
    re.IGNORECASE | re.ASCII,  # else the pattern would accept the long s and the Kelvin sign
)
RULE = (
    "1 to 80 English letters, digits, '.', '_' or '-', optionally after a user and '/', and before ':' and "
    "a tag of the same form"
)


def parse_name(text: str, field: str = "model") -> str:
    """Return `name:tag` or `user/name:tag`; the default tag is `latest`, the user `library` is left out.

    Raises ApiError for an invalid name.
    """
    match = NAME.fullmatch(text)
    if match is None or ".." in text:
        shown = text if len(text) <= 60 else f"{text[:57]}..."
        raise ApiError(field, f"{shown!r} is no valid model name: {RULE}")
    user = "" if (match["user"] or "library").lower() == "library" else f"{match['user']}/"
    return f"{user}{match['model']}:{match['tag'] or 'latest'}"


@dataclass(frozen=True)
class Tag:
    """A model in the store under one of its names.

    name: The name with tag, such as "haneul-1m:latest". digest: The SHA-256 of the weight file. kind: The
    weight type, such as "Q8_0". size: The file size in bytes. parameters: The parameter count. modified_at:
    ISO 8601. folder: The catalogue's name of a model whose files are used where they are; "" for a file in
    the store. family: The architecture. context: The trained context length, in tokens. chat: Whether there
    is a chat template. embeds: Whether it is an embedding model; all others generate text. parent, system,
    options, adapter: What /api/create sets: the base model, the system message, options in place of the
    protocol's defaults, and the digest of a LoRA adapter's file.
    """

    name: str
    digest: str
    kind: str
    size: int
    parameters: int
    modified_at: str
    family: str
    context: int
    folder: str = ""
    chat: bool = False
    embeds: bool = False
    licence: str = ""
    parent: str = ""
    system: str = ""
    options: dict[str, Any] = field(default_factory=dict, hash=False)
    adapter: str = ""

    @property
    def is_gguf(self) -> bool:
        """Whether it is a GGUF file, for llama.cpp, and not a folder for transformers."""
        return not (self.folder and self.embeds)

    @property
    def key(self) -> str:
        """A text that is equal for all tags that can share a loaded model."""
        return f"{self.digest}+{self.adapter}"


def tag_of_file(name: str, file: Path, digest: str, licence: str = "") -> Tag:
    """Describe a GGUF model file. Raises CourseError if it is damaged, or holds no model."""
    fields, tensors = header_of(file)
    family = str(fields.get("general.architecture", ""))
    context = fields.get(f"{family}.context_length")
    if not isinstance(context, int) or not tensors:
        what = f"a file of type {fields.get('general.type', family)!r} holds no model"
        raise CourseError(what, "choose the GGUF file of a whole model")
    return Tag(
        name=name,
        digest=digest,
        kind=file_type(fields.get("general.file_type")).upper() or "unknown",
        size=file.stat().st_size,
        parameters=sum(math.prod(tensor.shape) for tensor in tensors.values()),
        modified_at=now(),
        family=family,
        context=context,
        chat="tokenizer.chat_template" in fields,
        embeds=f"{family}.pooling_type" in fields,
        licence=licence or str(fields.get("general.license", "")),
    )


def tag_of_folder(name: str, folder: Path, digest: str) -> Tag:
    """Describe the folder of an embedding model of sentence-transformers."""
    file = folder / "model.safetensors"
    config, training = (
        json.loads((folder / file_name).read_text("utf-8"))
        for file_name in ("config.json", "sentence_bert_config.json")
    )
    return Tag(
        name=name,
        digest=digest,
        kind="F32" if config.get("dtype", config.get("torch_dtype", "float32")) == "float32" else "F16",
        size=file.stat().st_size,
        parameters=stored_weights(folder).weights,
        modified_at=now(),
        family=config["model_type"],
        context=training["max_seq_length"],
        embeds=True,
    )


def header_of(file: Path, *, decode_arrays: bool = False) -> Header:
    """Return the header of a GGUF file.

    Raises CourseError if it is damaged or missing; clients see that error, so it contains no path.
    """
    try:
        return read_header(file, decode_arrays=decode_arrays)
    except (ValueError, OSError) as error:
        what = f"the file {file.name} is damaged or no GGUF file: {type(error).__name__}"
        raise CourseError(what, "delete the model and pull it again") from error


def now() -> str:
    """Return the time in ISO 8601."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")
