"""The sources of a model: a repository on the Hugging Face hub, a local path, or a model server.

A driver is the software that runs a model, such as llama.cpp.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from course_lib.errors import CourseError
from course_lib.models import catalog
from course_lib.models.schema.validation import FieldError, Frozen
from course_lib.names import existing_path

SERVER_DRIVERS = ("ollama", "openai", "tgi")  # drivers whose weights are on a server
PATH_START = re.compile(r"/|~([/\\]|\Z)|\.{1,2}([/\\]|\Z)|[A-Za-z]:[\\/]")  # / ~ . .. C:\
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?", re.ASCII)
TOKEN_REFERENCE = re.compile(r"\$\{env\.[A-Za-z_][A-Za-z0-9_]*\}")
SHA256 = re.compile(r"[0-9a-f]{64}")


def _check_token(value: str | None) -> str | None:
    if value is not None and not TOKEN_REFERENCE.fullmatch(value):
        what = "do not write the token itself; name the variable that holds it, as ${env.HF_TOKEN}"
        raise FieldError(what, '"token": "${env.HF_TOKEN}"')
    return value


def token_variable_name(token: str) -> str:
    """Return NAME from `${env.NAME}`, the way a source names the environment variable of its token."""
    return token.removeprefix("${env.").removesuffix("}")


def read_token(token: str | None) -> str | None:
    """Return the value of the environment variable in `${env.NAME}`. Raises CourseError if it is not set."""
    if token is None:
        return None
    name = token_variable_name(token)
    if not os.environ.get(name):
        raise CourseError(
            f"the token is read from the variable {name}, which is not set", f"export {name}=..."
        )
    return os.environ[name]


class HuggingFaceSource(Frozen):
    """A model repository on the Hugging Face hub, or one file of weights in it."""

    type: Literal["huggingface"] = "huggingface"
    repository: str
    revision: str | None = Field(
        None,
        max_length=200,  # {1,200} in the pattern would take 20 MB: a table of all letters per repetition
        pattern=r"^[\w./-]+$",
        description="branch, tag or commit; only a commit is fixed",
    )
    filename: str | None = Field(
        None, description="one file of the repository: .gguf; for pictures .safetensors or .onnx"
    )
    cache_dir: Path | None = None
    local_files_only: bool = False
    token: str | None = None
    sha256: dict[str, str] = Field(default_factory=dict, description="file name -> expected SHA-256")

    _token = field_validator("token")(_check_token)

    @field_validator("repository")
    @classmethod
    def _check_repository(cls, value: str) -> str:
        if not HUB_ID.fullmatch(value) or ".." in value or "--" in value:
            shipped = catalog.shipped()
            names = [*catalog.similar_names(value), *shipped, "haneul-4m"]
            raise FieldError(
                f"the course ships {', '.join(shipped) or 'no model'}; a hub id is 'owner/name' of "
                "letters, digits, '-', '_' and '.'; a path begins with /, ./, ../ or ~/",
                f'load("{names[0]}")',
            )
        return value

    @field_validator("filename")
    @classmethod
    def _check_filename(cls, value: str | None) -> str | None:
        if value is not None and (
            not value.endswith((".gguf", ".safetensors", ".onnx"))
            or ".." in Path(value).parts
            or PATH_START.match(value)
        ):
            raise ValueError("only a .gguf, .safetensors or .onnx file inside the repository can be named")
        return value

    @field_validator("sha256")
    @classmethod
    def _check_digests(cls, value: dict[str, str]) -> dict[str, str]:
        if not all(SHA256.fullmatch(digest) for digest in value.values()):
            raise ValueError("a SHA-256 is 64 hex digits")
        return value


class LocalSource(Frozen):
    """A local model folder (config.json or model_index.json, and safetensors), or a local file of weights."""

    type: Literal["local"] = "local"
    path: Path
    format: Literal["auto", "safetensors", "gguf"] = "auto"

    @field_validator("path")
    @classmethod
    def _check_path(cls, value: Path) -> Path:
        try:
            if b"\0" not in os.fsencode(value):
                return value
        except UnicodeEncodeError:
            pass
        raise ValueError("a path cannot contain this character")


class ServerSource(Frozen):
    """A model on a server such as Ollama, by its name there."""

    type: Literal["server"] = "server"
    model: str = Field(min_length=1, max_length=300)
    url: str | None = Field(None, pattern=r"^https?://[^\s]+$")
    token: str | None = None

    _token = field_validator("token")(_check_token)


Source = Annotated[HuggingFaceSource | LocalSource | ServerSource, Field(discriminator="type")]


def is_path(text: str) -> bool:
    """Whether `text` is a local path: it begins like one, or names a .gguf file that is not on the hub.

    >>> is_path("./model"), is_path("m.gguf"), is_path("owner/name")
    (True, True, False)
    """
    return bool(PATH_START.match(text)) or (
        text.endswith(".gguf") and ("/" not in text or existing_path(text).is_file())
    )


def source_from_text(text: str | Path) -> dict[str, Any]:
    """Return the fields of the source that a path or a hub id names."""
    if isinstance(text, Path) or is_path(text):
        return {"type": "local", "path": text}
    return {"type": "huggingface", "repository": text}
