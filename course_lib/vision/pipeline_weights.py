"""Compare the weights of a pipeline's parts with their configurations, without reading the weights.

A pipeline of diffusers is a folder of models and other parts that draw together. The check is needed because
diffusers fills missing weights with random numbers and only warns.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from course_lib.errors import CourseError
from course_lib.models.files.headers import PIPELINE_FILE, read_json, read_safetensors_header
from course_lib.models.files.pictures import part_weights, pipeline_parts
from course_lib.models.files.weights import (
    check_layer_count,
    check_weights,
    raise_on_difference,
    refuse_integers,
    refuse_quantized,
)

LIBRARIES = ("diffusers", "transformers")
LEFT_OUT = ("deepfloyd_if", "IFSafetyChecker")  # a part that diffusers 0.42 cannot load with transformers 5


def check_pipeline(folder: Path) -> dict[str, None]:
    """Check that each model of a pipeline has all its tensors, in the right shapes, and no unknown ones.

    Returns options for diffusers: a part that it cannot load -> None, which leaves it out. Raises CourseError
    for a difference, and for parts with their own code.
    """
    index = read_json(folder, PIPELINE_FILE)
    left_out: dict[str, None] = {}
    for part in pipeline_parts(folder):
        library, name = index[part][:2]
        if (library, name) == LEFT_OUT:
            left_out[part] = None
            continue
        refuse_quantized(f"{folder.name}/{part}", read_json(folder / part, "config.json"))
        if part == "scheduler" and "_class_name" not in read_json(folder / part, "scheduler_config.json"):
            what = f"{folder.name}/scheduler has no settings: diffusers would draw with its own defaults"
            raise CourseError(what, "download it again")
        kind = _class(library, name)
        if kind is None:
            what = f"{folder.name}: the part {part} is a {name} of {library}, not of {' or '.join(LIBRARIES)}"
            raise CourseError(what, "choose another model")
        if hasattr(kind, "_from_config"):  # a model of transformers
            check_weights(folder / part, kind)
        elif library != "transformers" and hasattr(kind, "named_parameters"):
            _check_part(folder / part, kind)
    return left_out


def _class(library: str, name: str) -> Any:
    """Return the class of a part, or None if it is defined outside of diffusers and transformers.

    A library such as stable_diffusion is a module of diffusers.pipelines with a safety checker, a classifier
    of forbidden pictures.
    """
    if library in LIBRARIES:
        return getattr(importlib.import_module(library), name)
    module = f"diffusers.pipelines.{library}"
    if not str(library).isidentifier() or not importlib.util.find_spec(module):
        return None
    kind = getattr(importlib.import_module(module), name, None)
    return kind if hasattr(kind, "named_parameters") else None


def _check_part(folder: Path, kind: Any) -> None:
    """Check the tensors of a model of diffusers. kind: its class."""
    import torch

    weights = part_weights(folder)
    if not weights:
        raise CourseError(f"{folder.parent.name}/{folder.name} has no .safetensors file", "download it again")
    check_layer_count(folder)
    with torch.device("meta"):  # tensors with shapes but without memory
        model = kind.from_config(kind.load_config(folder, local_files_only=True))
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    headers = [read_safetensors_header(path) for path in weights]
    actual = {name: tensor.shape for header in headers for name, tensor in header.items()}
    model._fix_state_dict_keys_on_load(actual)  # older files have other names for some tensors
    where = f"{folder.parent.name}/{folder.name}"
    raise_on_difference(where, sorted(expected.keys() - actual), sorted(actual.keys() - expected.keys()))
    for name, shape in actual.items():
        if shape != expected[name]:
            what = f"{where}: {name} has the shape {shape}; by config.json it is {expected[name]}"
            raise CourseError(what, "use the config.json that was saved with these weights")
    refuse_integers(where, headers, model.state_dict())
