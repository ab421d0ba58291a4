"""Find and check the files of picture models: folders of transformers and diffusers, and single weight files.

diffusers saves a pipeline as a folder with model_index.json, and a folder for each of its parts. A driver is
the software that runs a model, such as llama.cpp.
"""

from __future__ import annotations

import math
from pathlib import Path

from course_lib.errors import CourseError
from course_lib.models import catalog
from course_lib.models.files.headers import (
    PICKLE_SUFFIXES,
    PIPELINE_FILE,
    check_not_pointer,
    read_json,
    read_safetensors_header,
    weight_paths,
)
from course_lib.models.files.resolution import check_folder, from_hub, missing_path_error
from course_lib.models.schema.sources import HuggingFaceSource, LocalSource, ServerSource
from course_lib.models.schema.spec import ModelSpec
from course_lib.names import existing_path

SINGLE_FILES = (".safetensors", ".onnx")  # suffixes of models in one file
PACKAGED = ("ncnn", "dlib")  # drivers with formats of their own, whose models come in packages
STEM = "diffusion_pytorch_model"  # the name of weight files in diffusers' models


def resolve_pictures(source: HuggingFaceSource | LocalSource | ServerSource) -> Path:
    """Return the folder or the file of a picture model, complete and checked.

    For a folder with one .safetensors file and no config.json, the file is returned; several are refused.
    Raises CourseError if files are missing or damaged, and for pickles.
    """
    if isinstance(source, ServerSource):
        raise CourseError(
            f"{source.model} is on a server; a picture model runs here", 'load("./FOLDER", ...)'
        )
    if isinstance(source, HuggingFaceSource):
        return check_pictures(from_hub(source))
    path = existing_path(source.path)
    if shipped := catalog.verified_folder(path):
        return shipped
    if pulled := catalog.pulled_entry(path):
        catalog.verify_pulled(pulled)
    if not path.exists():
        raise missing_path_error(path)
    return check_pictures(path)


def packaged_folder(spec: ModelSpec) -> Path:
    """Return the folder of a model for ncnn or dlib; the files of a pulled one are checked by their SHA-256.

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


def check_pictures(path: Path) -> Path:
    """Return `path`, checked as `resolve_pictures` describes."""
    if path.is_file():
        return _check_file(path)
    names = sorted(p.name for p in path.iterdir())
    if PIPELINE_FILE in names:
        for part in pipeline_parts(path):
            _check_part(path / part)
        return path
    singles = [name for name in names if name.endswith(SINGLE_FILES)]
    if "config.json" in names and not all(name.endswith(".onnx") for name in singles):
        return check_folder(path)
    for name in singles:
        _check_file(path / name)
    tensors = [name for name in singles if name.endswith(".safetensors")]
    if len(tensors) > 1:
        what = f"{path} has {len(tensors)} .safetensors files: {', '.join(tensors):.200}"
        raise CourseError(what, f'load("{path / tensors[0]}", ...)')
    if singles:
        return path / tensors[0] if tensors else path
    if pickles := [name for name in names if Path(name).suffix in PICKLE_SUFFIXES]:
        raise picture_pickle_error(path / pickles[0])
    what = f"{path} has no {', '.join(SINGLE_FILES)} and no {PIPELINE_FILE}"
    raise CourseError(what, "name the folder of a picture model")


def pipeline_parts(folder: Path) -> list[str]:
    """The parts of a pipeline, as model_index.json lists them, without those that are null in it."""
    index = read_json(folder, PIPELINE_FILE)
    parts = {name: value for name, value in index.items() if isinstance(value, list)}
    return [name for name, value in parts.items() if value[:1] != [None]]


def part_weights(folder: Path) -> list[Path]:
    """The weight files of a model of transformers or diffusers in its folder; none for a tokenizer."""
    index = read_json(folder, f"{STEM}.safetensors.index.json").get("weight_map")
    if isinstance(index, dict):
        if any(Path(str(name)).name != name for name in index.values()):  # such as "../x": outside the folder
            what = f"{STEM}.safetensors.index.json of {folder.name} does not list files"
            raise CourseError(what, "download it again")
        return [folder / name for name in sorted(set(index.values()))]
    single = folder / f"{STEM}.safetensors"
    return [single] if single.is_file() else weight_paths(folder)


def picture_weights(path: Path) -> int:
    """The number of weights in the files of a picture model that has been checked; 4 bytes each in ONNX."""
    parts = [path / part for part in pipeline_parts(path)] if (path / PIPELINE_FILE).is_file() else [path]
    files = [path] if path.is_file() else [file for part in parts for file in part_weights(part)]
    if path.is_dir() and not files:
        files = sorted(path.glob("*.onnx"))
    shapes = [t.shape for f in files if f.suffix != ".onnx" for t in read_safetensors_header(f).values()]
    return sum(map(math.prod, shapes)) + sum(f.stat().st_size // 4 for f in files if f.suffix == ".onnx")


def stored_type(path: Path) -> str:
    """The type of the first tensor of a pipeline's network, or of a file of weights; such as bf16."""
    network = next((path / part for part in ("unet", "transformer") if (path / part).is_dir()), path)
    files = [path] if path.is_file() else part_weights(network)
    return next((t.type for f in files for t in read_safetensors_header(f).values()), "f32")


def picture_pickle_error(path: Path) -> CourseError:
    """The error for weights in a pickle, which can run code. Its fix reads only the tensors."""
    what = f"{path.name} is a pickle: loading it can run any code that its author put in"
    return CourseError(what, f'course_lib.vision.to_safetensors("{path}")  # reads tensors, runs no code')


def _check_file(path: Path) -> Path:
    """Return a single weight file. Raises CourseError for a damaged one, a pickle, and any other kind."""
    if path.suffix in PICKLE_SUFFIXES:
        raise picture_pickle_error(path)
    if path.suffix == ".safetensors":
        read_safetensors_header(path)
    elif path.suffix == ".onnx":
        with open(path, "rb") as f:
            check_not_pointer(path, f.read(4096))
    else:
        what = f"{path.name} is no picture model; its file would end in {' or '.join(SINGLE_FILES)}"
        raise CourseError(what, "name the file or folder of a picture model")
    return path


def _check_part(folder: Path) -> None:
    """Check the files of a pipeline's part. Raises CourseError for missing and damaged ones, and pickles."""
    if not folder.is_dir():
        what = f"{folder.parent.name} has no folder {folder.name}, which its {PIPELINE_FILE} lists"
        raise CourseError(what, "download it again")
    pickles = [path for path in sorted(folder.iterdir()) if path.suffix in PICKLE_SUFFIXES]
    weights = part_weights(folder)
    if pickles and not weights:
        raise picture_pickle_error(pickles[0])
    for path in weights:
        read_safetensors_header(path)
