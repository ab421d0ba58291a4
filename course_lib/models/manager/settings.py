"""Defaults for models from the environment or from `.env`, in the course's folder or the current one."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from course_lib.data import ROOT
from course_lib.errors import CourseError

FILES = (ROOT / ".env", Path(".env"))  # the later one wins


class Settings(BaseSettings):
    """What a specification leaves open. The environment wins over `.env`."""

    model_config = SettingsConfigDict(
        env_file=FILES,
        env_file_encoding="utf-8",
        extra="ignore",
        env_ignore_empty=True,
        hide_input_in_errors=True,
    )

    local_models_dir: Path | None = None
    default_chat_model: str = "chat"
    default_embedding_model: str = "embed"
    model_device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    model_dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"


def settings() -> Settings:
    """The current settings. Raises CourseError that names a wrong variable and the allowed values."""
    names = {name.upper() for name in Settings.model_fields}
    variables = tuple((name, os.environ[name]) for name in os.environ if name.upper() in names)
    try:
        return _read(variables, tuple(map(_state, FILES)))
    except ValidationError as error:
        wrong = "; ".join(f"{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors(include_url=False))
        raise CourseError(wrong, "change it in .env or in the environment") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CourseError(f".env cannot be read: {error}", "save it as UTF-8 text, or remove it") from error


@functools.lru_cache(maxsize=4)
def _read(variables: tuple[tuple[str, str], ...], files: tuple[Any, ...]) -> Settings:
    """Read the settings again only where the environment or a file differs from the last time."""
    return Settings()


def _state(path: Path) -> tuple[int, ...] | None:
    """Identity, size and time of change of a file; None where there is none."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns
