"""Find the files of picture models in the formats of ncnn and dlib, pulled from a package or in a folder."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from course_lib.errors import CourseError
from course_lib.models import catalog
from course_lib.models.schema.sources import LocalSource
from course_lib.models.schema.spec import ModelSpec
from course_lib.names import existing_path


def packaged_folder(spec: ModelSpec) -> Path:
    """Return the folder of a model; the files of one that was pulled are checked by their SHA-256.

    Raises CourseError if there is no folder, or a pulled model is missing or altered.
    """
    if not isinstance(spec.source, LocalSource):
        raise CourseError(f"the driver {spec.driver} reads a folder on this machine", 'load("./FOLDER", ...)')
    path = existing_path(spec.source.path)
    if pulled := catalog.pulled_entry(path):
        return catalog.verify_pulled(pulled)
    if not path.is_dir():
        raise CourseError(f"{path} is not a folder", "name the folder with the model's files")
    return path


def only_file(folder: Path, pattern: str) -> Path:
    """Return the one file in a folder whose name matches. Raises CourseError for none or several."""
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        have = ", ".join(path.name for path in found) or "none"
        raise CourseError(f"{folder} needs one file {pattern} and has {have}", "name a folder with one model")
    return found[0]


def library(spec: ModelSpec, package: str) -> Any:
    """Import the library that has the driver's name. Raises CourseError if its package is not installed."""
    try:
        return import_module(spec.driver)
    except ImportError as error:
        raise CourseError(
            f"the driver {spec.driver} is not installed: {error}", f"pip install {package}"
        ) from error
