"""Find the files of picture models: folders of diffusers, single weight files, ONNX files."""

from __future__ import annotations

from pathlib import Path

from course_lib.errors import CourseError
from course_lib.models.files.headers import PICKLE_SUFFIXES, pickle_error, read_json, read_safetensors_header
from course_lib.models.schema.sources import LocalSource
from course_lib.models.schema.spec import ModelSpec
from course_lib.names import existing_path

INDEX = "model_index.json"


def picture_folder(spec: ModelSpec) -> Path:
    """The checked folder of a diffusers model. Raises CourseError for missing or damaged files."""
    assert isinstance(spec.source, LocalSource)
    folder = existing_path(spec.source.path)
    if not (folder / INDEX).is_file():
        raise CourseError(f"{folder} has no {INDEX}", "name a folder that diffusers saved")
    for name in read_json(folder, INDEX):
        files = sorted((folder / name).glob("*")) if (folder / name).is_dir() else []
        weights = [path for path in files if path.suffix == ".safetensors"]
        pickles = [path for path in files if path.suffix in PICKLE_SUFFIXES]
        if pickles and not weights:
            raise pickle_error(f"{folder.name}/{name}/{pickles[0].name}")
        for path in weights:
            read_safetensors_header(path)
    return folder
