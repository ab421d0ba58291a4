"""Defaults from the environment or from a file `.env`, in the course's folder or the present one."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from course_lib.data import ROOT
from course_lib.errors import CourseError


class Settings(BaseSettings):
    """What a specification leaves open. The environment wins over `.env`, the present folder's over the course's."""

    model_config = SettingsConfigDict(
        env_file=(ROOT / ".env", ".env"),
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
    """The settings as they are now. Raises CourseError that names a wrong variable and the allowed values."""
    try:
        return Settings()
    except ValidationError as error:
        wrong = "; ".join(f"{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors(include_url=False))
        raise CourseError(wrong, "fix it in .env or in the environment") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CourseError(f".env cannot be read: {error}", "save it as UTF-8 text, or remove it") from error
