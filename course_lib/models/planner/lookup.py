"""Find the sizes of a model by its name, its folder, or its .gguf file."""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path

from course_lib.data import MODELS
from course_lib.errors import CourseError
from course_lib.models.catalog import shipped
from course_lib.models.planner.architectures import Architecture, from_config, known_configs
from course_lib.models.planner.files import StoredModel, sizes_in_folder, stored_model
from course_lib.models.schema.sources import is_path

Model = (
    str | Path | Architecture
)  # a well-known or shipped model by name, a folder, a .gguf file, or its sizes
# The suffix of fine-tuned models, which have the sizes of their base model.
TUNED = re.compile(r"-(instruct|it|chat)\b", re.IGNORECASE)
SIZE = re.compile(r"[-:]?\d+(\.\d+)?[bm]\b.*", re.IGNORECASE)  # the end of a name, from its size on


def files_of(model: Model) -> Path | None:
    """Return the path of a model that is given by its path or comes with the course, else None."""
    if isinstance(model, Architecture):
        return None
    if isinstance(model, Path) or is_path(model):
        return Path(model).expanduser()
    return MODELS / model if model in shipped() else None


def stored(model: Model) -> StoredModel | None:
    """Return what a model's own files say; None for a model that is given by its name or sizes only."""
    path = files_of(model)
    return stored_model(path) if path else None


def architecture(model: Model) -> Architecture:
    """Return the sizes of a model.

    Raises CourseError for an unknown name, for an unsupported configuration, and for a file without sizes.
    """
    if isinstance(model, Architecture):
        return model
    if path := files_of(model):
        return stored_model(path).sizes if path.suffix == ".gguf" else sizes_in_folder(path)
    name = str(model).rpartition("/")[2]  # without the owner on the hub
    names = {known.lower(): known for known in known_configs()}
    known = names.get(name.lower()) or names.get(TUNED.sub("", name).lower())
    if known:
        return from_config(known, known_configs()[known])
    similar = _similar(name.lower(), [*names, *shipped()])
    fix = f"use {' or '.join(names.get(n, n) for n in similar)}" if similar else "give the path of its files"
    raise CourseError(f"the planner does not know a model {model!r}", fix)


def _similar(name: str, known: list[str]) -> list[str]:
    """Return the other sizes of the same series, or else the one name that looks like a typing error."""
    series = SIZE.sub("", name)
    if same := [other for other in known if series and SIZE.sub("", other) == series]:
        return get_close_matches(name, same, n=3, cutoff=0)
    numbers = re.findall(r"\d+", name)
    alike = [other for other in known if re.findall(r"\d+", other) == numbers]
    return get_close_matches(name, alike, n=1, cutoff=0.8)
