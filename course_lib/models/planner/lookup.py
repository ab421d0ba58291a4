"""Find the sizes of a model (numbers of layers, heads and so on) by its name, its folder, or .gguf file."""

from __future__ import annotations

import functools
from pathlib import Path

from course_lib.data import MODELS
from course_lib.errors import CourseError
from course_lib.models.catalog import find, is_shipped, shipped
from course_lib.models.catalog.names import TUNED, similar
from course_lib.models.files.headers import shards
from course_lib.models.planner.architectures import Architecture, from_config, known_configs
from course_lib.models.planner.files import StoredModel, sizes_in_folder, stored_model
from course_lib.models.planner.picture_models import picture_model
from course_lib.models.schema.pictures import ARCHITECTURES as PICTURE_TASKS
from course_lib.models.schema.sources import is_path
from course_lib.names import existing_path

Model = str | Path | Architecture  # a model by its name, by its folder or .gguf file, or its sizes


def files_of(model: Model) -> Path | None:
    """Return the path of a model that is given by its path, is shipped or was pulled, else None."""
    if isinstance(model, Architecture):
        return None
    if isinstance(model, Path) or is_path(model):
        return existing_path(model)
    if is_shipped(model):
        return MODELS / model
    entry = find(model)
    return entry.pulled_path if entry and entry.package and entry.pulled_path.exists() else None


def stored(model: Model) -> StoredModel | None:
    """Return what a model's own files say; None for a model that is given by its name or sizes only."""
    path = files_of(model)
    if path is None or not path.is_file() or len(shards(path.name)) > 1:
        return stored_model(path) if path else None
    stat = path.stat()
    return _read(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _read(path: Path, size: int, changed: int) -> StoredModel:
    """Read a .gguf file's header, again only if its size or modification time has changed."""
    return stored_model(path)


def architecture(model: Model) -> Architecture:
    """Return the sizes of a model.

    Raises CourseError for an unknown name, for an unsupported configuration, and for a file without sizes.
    """
    if isinstance(model, Architecture):
        return model
    known_entry = find(model) if isinstance(model, str) else None
    if known_entry and known_entry.task in PICTURE_TASKS:
        what = f"{model} is for {known_entry.task}, and the planner knows models of texts and three that draw"
        raise CourseError(what, f'load("{model}").weight_bytes')
    if path := files_of(model):
        if path.is_dir() and (path / "config.json").exists():
            return sizes_in_folder(path)  # its weights need not be there
        files = stored(model)
        assert files
        return files.sizes
    name = str(model).rpartition("/")[2]  # without the owner, as in OWNER/NAME
    names = {known.lower(): known for known in known_configs()}
    # TUNED is the ending of a fine-tuned model's name, such as -instruct: it has the sizes of the base model.
    known = names.get(name.lower()) or names.get(TUNED.sub("", name).lower())
    if known:
        return from_config(known, known_configs()[known])
    if pictures := picture_model(model):
        raise CourseError(f"{pictures.name} draws pictures", f'plan_pictures("{pictures.name}")')
    meant = similar(name, [*known_configs(), *shipped()])
    fix = f"use {' or '.join(meant)}" if meant else "give the path of its folder or .gguf file"
    raise CourseError(f"the planner does not know a model {str(model)[:100]!r}", fix)
