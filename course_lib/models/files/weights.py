"""Compare the names and shapes of a folder's weights with its config.json, without reading a weight.

A LoRA adapter has two small matrices for each of some matrices of a model; their product is added to it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from course_lib.errors import CourseError
from course_lib.models.files.headers import Tensor, read_json, read_safetensors_header, weight_paths
from course_lib.quiet import quiet

# The most layers of a config.json, and the fields that state numbers of layers or parts of them.
MAX_LAYERS, DEPTH = 1_000, re.compile(r"(layers?|layers_per_block|depths?|experts)$")
INTEGERS = ("i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64", "bool")
OLD_BUFFERS = ("position_ids", "attn.bias", "attn.masked_bias")  # older versions stored these constants


def check_weights(folder: Path, auto_class: Any, *, replaced: Iterable[str] = (), **config: Any) -> None:
    """Check that the folder has each tensor of its model, in the model's shape, and no unknown one.

    transformers compares them, by its own rules for renamed and tied (shared) tensors, on torch's device
    "meta", which has shapes only. Quantized weights have other shapes and are not checked.

    auto_class: A class such as AutoModelForCausalLM, or the class of a part of a diffusers pipeline.
    For the latter and for AutoModel, the file may contain a head (last layer) that the model lacks. replaced:
    Names of tensors that may be missing, because an adapter replaces them. config: Changes to config.json,
    such as num_labels. Raises CourseError for a difference, and the errors of transformers for a config.json
    that it cannot read.
    """
    import torch
    from transformers import AutoConfig, PreTrainedModel

    check_layer_count(folder)
    settings = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **config)
    if getattr(settings, "quantization_config", None):
        return
    headers = [read_safetensors_header(path) for path in weight_paths(folder)]
    shapes = {name: tensor.shape for header in headers for name, tensor in header.items()}
    is_part = isinstance(auto_class, type) and issubclass(auto_class, PreTrainedModel)
    with quiet():
        model_class = auto_class if is_part else _model_class(auto_class, settings)
        model, found = model_class.from_pretrained(
            None,
            config=settings,
            state_dict={name: torch.empty(shape, device="meta") for name, shape in shapes.items()},
            device_map="meta",
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    headless = is_part or auto_class.__name__ == "AutoModel"
    unknown = [
        name
        for name in found["unexpected_keys"]
        if not (headless and _is_head(name, model)) and not name.endswith(OLD_BUFFERS)
    ]
    raise_on_difference(folder.name, sorted(set(found["missing_keys"]) - set(replaced)), sorted(unknown))
    for name, actual, expected in sorted(found["mismatched_keys"]):
        what = f"{folder.name}: {name} has the shape {tuple(actual)}; by config.json it is {tuple(expected)}"
        raise CourseError(what, "use the config.json that was saved with these weights")
    refuse_integers(folder.name, headers, model.state_dict())


def _model_class(auto_class: Any, settings: Any) -> Any:
    """The class of the model that `auto_class` would build. Raises transformers' error if it knows none."""
    from transformers.models.auto.auto_factory import _get_model_class

    mapping = auto_class._model_mapping
    if type(settings) not in mapping:
        auto_class.from_config(settings, trust_remote_code=False)
    return _get_model_class(settings, mapping)


def check_layer_count(folder: Path) -> None:
    """Raise CourseError for a config.json with so many layers that building them would take hours."""

    def deepest(values: Any, named: bool) -> int:
        """The largest number in a field whose name matches DEPTH. named: whether `values` is such a field."""
        if isinstance(values, dict):
            return max((deepest(v, bool(DEPTH.search(key))) for key, v in values.items()), default=0)
        if isinstance(values, list):
            return max((deepest(value, named) for value in values), default=0)
        return values if named and isinstance(values, int) else 0

    if (layers := deepest(read_json(folder, "config.json"), False)) > MAX_LAYERS:
        what = f"config.json of {folder.name} asks for {layers:,} layers, more than {MAX_LAYERS:,}"
        raise CourseError(what, "use the config.json that was saved with these weights")


def refuse_quantized(name: str, config: Mapping[str, Any]) -> None:
    """Raise CourseError if a picture model's config.json says that its weights are quantized."""
    if config.get("quantization_config"):
        what = f"{name} has quantized weights, and picture models run with unquantized ones"
        raise CourseError(what, "choose the model's unquantized files")


def refuse_integers(name: str, headers: Iterable[dict[str, Tensor]], expected: Mapping[str, Any]) -> None:
    """Raise CourseError for a tensor of whole numbers where the model `name` computes with fractions.

    Such weights are quantized, and the numbers by which they would be multiplied are not in the file.

    expected: name -> the model's tensor.
    """
    for tensors in headers:
        for key, tensor in tensors.items():
            if tensor.type in INTEGERS and key in expected and expected[key].is_floating_point():
                what = f"{name}: {key} holds whole numbers ({tensor.type}), where the model has fractions"
                raise CourseError(what, "choose the model's unquantized files")


def _is_head(name: str, model: Any) -> bool:
    """Whether a tensor belongs to a head that `model` lacks because it is a base model, such as BertModel."""
    module = name.removeprefix(f"{model.base_model_prefix}.").partition(".")[0]
    return model.base_model is model and not hasattr(model, module)


def raise_on_difference(name: str, missing: list[str], unknown: list[str]) -> None:
    """Raise CourseError if tensors are missing in the folder `name`, or unknown to its config.json."""
    if missing:
        what = f"{name} lacks {len(missing)} of the model's tensors, such as {missing[0]}: they would be "
        what += "random, and so would the answers"
        raise CourseError(what, "choose a model made for the task, or download it again")
    if unknown:
        what = f"{name} has {len(unknown)} tensors that its config.json does not describe, such as "
        what += f"{unknown[0]}: they would be ignored"
        raise CourseError(what, "use the config.json that was saved with these weights")
