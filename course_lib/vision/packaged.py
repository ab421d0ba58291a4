"""Find the library and the files of picture models in the formats of ncnn and dlib."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from course_lib.errors import CourseError
from course_lib.models.schema.spec import ModelSpec


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
