"""Shared parts of the drivers for ncnn, dlib and onnxruntime: optional libraries and model files.

A driver is the software that runs a model, such as llama.cpp.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from course_lib.errors import CourseError
from course_lib.models.schema.spec import ModelSpec
from course_lib.shell import pip_install
from course_lib.vision.engine import PictureModel


class PackagedModel(PictureModel):
    """A model run by ncnn or dlib on the CPU. The driver states its sizes, because these libraries do not."""

    def __init__(self, spec: ModelSpec, parameters: int, weight_bytes: int) -> None:
        super().__init__(spec)
        self._parameters, self._weight_bytes = parameters, weight_bytes

    @property
    def parameters(self) -> int:
        return self._parameters

    @property
    def weight_bytes(self) -> int:
        return self._weight_bytes

    @property
    def device(self) -> str:
        return "cpu"


def only_file(folder: Path, pattern: str) -> Path:
    """Return the one file in a folder whose name matches. Raises CourseError for none or several."""
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        have = ", ".join(path.name for path in found) or "none"
        raise CourseError(f"{folder} needs one file {pattern} and has {have}", "name a folder with one model")
    return found[0]


def library(spec: ModelSpec, package: str) -> Any:
    """Import the driver's library, whose name is that of the driver.

    Raises CourseError if its package is not installed.
    """
    try:
        return import_module(spec.driver)
    except ImportError as error:
        raise CourseError(
            f"the driver {spec.driver} is not installed: {error}", pip_install(package)
        ) from error
