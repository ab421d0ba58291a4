"""Default settings for models, from environment variables or a `.env` file.

A specification (ModelSpec) says which model to load, and how. A role is what the chapters use a model for,
such as chat or embed.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from course_lib.data import ROOT
from course_lib.errors import CourseError

FILES = (ROOT / ".env", Path(".env"))  # values from the second file (current folder) override the first


class Settings(BaseSettings):
    """The default models, the folder of local models, and the device and dtype where a ModelSpec sets none.

    Environment variables override `.env`.
    """

    model_config = SettingsConfigDict(
        env_file=FILES,
        env_file_encoding="utf-8",
        extra="ignore",
        env_ignore_empty=True,
        hide_input_in_errors=True,
    )

    local_models_dir: Path | None = None
    default_chat_model: str = "chat"  # a role of catalog.yaml, or any name that `load` takes
    default_embedding_model: str = "embed"
    model_device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    model_dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"


def settings() -> Settings:
    """Return the current settings. Raises CourseError with the invalid variable and its allowed values."""
    names = {name.upper() for name in Settings.model_fields}
    variables = tuple((name, os.environ[name]) for name in os.environ if name.upper() in names)
    try:
        return _read(variables, tuple(map(_fingerprint, FILES)))
    except ValidationError as error:
        errors = "; ".join(f"{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors(include_url=False))
        raise CourseError(errors, "change it in .env or in the environment") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CourseError(f".env cannot be read: {error}", "save it as UTF-8 text, or remove it") from error


@functools.lru_cache(maxsize=4)
def _read(variables: tuple[tuple[str, str], ...], files: tuple[Any, ...]) -> Settings:
    """Read the settings. The arguments are the cache key: a changed variable or file causes a new read."""
    return Settings()


def _fingerprint(path: Path) -> tuple[int, ...] | None:
    """Return device, inode, size and modification time of a file; None if it does not exist."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns
