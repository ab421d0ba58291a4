"""Read a model's sizes and the bytes of its weights from its own files, GGUF or safetensors.

The sizes (`Architecture`) are the numbers of layers, heads and so on. A shard is one of the files of a split
model. A driver is the software that runs a model, such as llama.cpp. GGUF is the file format of llama.cpp.
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from course_lib.errors import CourseError
from course_lib.models.files.headers import (
    Tensor,
    check_gguf,
    gguf_models,
    missing_weights_error,
    only_gguf,
    read_safetensors_header,
    shards,
    weight_paths,
)
from course_lib.models.gguf.header import Header, file_type, read_header
from course_lib.models.planner.architectures import FAMILIES, Architecture, Family, from_config
from course_lib.models.planner.buffers import Driver

# llama.cpp's names of the model types that have another name in transformers (src/llama-arch.cpp).
GGUF_TYPES = {"gemma3": "gemma3_text", "qwen3moe": "qwen3_moe", "llama4": "llama4_text"}
ENCODERS = re.compile(r"bert|embedding")
# Fields of models whose cache is not one of keys and values of all heads: Mamba, RWKV, DeepSeek, T5.
OTHER_MEMORY = re.compile(r"\.(ssm|wkv|shortconv)\.|kv_lora_rank|relative_buckets_count")
EMBEDDING = re.compile(r"embed|embd|lm_head|^output\.weight$")
EXPERTS = re.compile(r"_exps\.|\.experts\.")
NAMES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}  # a type in files -> its name in FORMATS
# The fix for a model whose memory cannot be predicted.
MEASURE = "load it with a short context, and measure its memory"


class StoredModel(NamedTuple):
    """A model in files: its sizes, its format, the driver that reads it, and the bytes of its weights.

    experts: The bytes, out of `weights`, of the experts among which a router chooses.
    """

    sizes: Architecture
    weight_format: str
    driver: Driver
    weights: int
    embeddings: int
    norms: int
    experts: int


def stored_model(path: Path) -> StoredModel:
    """Return what the headers of a .gguf file (with its shards) or a safetensors folder state.

    Raises CourseError if a file is missing or damaged, or its memory cannot be computed from its header.
    """
    if path.is_dir() and not (path / "config.json").exists() and gguf_models(os.listdir(path)):
        path /= only_gguf(os.listdir(path), str(path), "give the path of the .gguf file")[0]
    if path.is_dir():
        sizes, tensors = sizes_in_folder(path), _safetensors(path)
        if sizes.tied:
            tensors.pop("lm_head.weight", None)  # transformers uses the input embeddings in its place
        return _stored(sizes, tensors, "huggingface")
    headers = [_gguf_header(path.with_name(name)) for name in shards(path.name)]
    tensors = {name: tensor for header in headers for name, tensor in header.tensors.items()}
    if not tensors:
        raise CourseError(f"{path.name} holds no weights", "name the file of the complete model")
    fields = headers[0].fields
    sizes = _gguf_architecture(path.name, fields, tensors)
    return _stored(sizes, tensors, "llamacpp", fields.get("general.file_type"))


def sizes_in_folder(folder: Path) -> Architecture:
    """Return the sizes from a folder's config.json; transformers' defaults fill in missing fields.

    For a model that also reads images, these are the sizes of its language model.
    """
    try:
        stat = (folder / "config.json").stat()
    except OSError as error:
        message = f"{folder} has no readable config.json: {error}"
        raise CourseError(message, "use a Hugging Face model folder (config.json and safetensors)") from error
    return _sizes(folder, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _sizes(folder: Path, size: int, changed: int) -> Architecture:
    """Read config.json, again only if its size or modification time has changed."""
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        config = config.get("text_config", config)
        kind = config.get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        message = f"{folder} has no readable config.json: {error}"
        raise CourseError(message, "use a Hugging Face model folder (config.json and safetensors)") from error
    if kind in FAMILIES:
        from huggingface_hub.errors import StrictDataclassError
        from transformers import AutoConfig

        try:
            config = AutoConfig.for_model(**config).to_dict()
        except (StrictDataclassError, ValueError, TypeError, ArithmeticError) as error:
            message = f"transformers cannot read the config.json of {folder.name}: {error}"
            raise CourseError(message, "download the model again") from error
    return from_config(folder.name, config)


def _stored(
    sizes: Architecture, tensors: Mapping[str, Tensor], driver: Driver, type_code: Any = None
) -> StoredModel:
    parts, types = Counter[str](), Counter[str]()
    for name, tensor in tensors.items():
        matrix = sum(n > 1 for n in tensor.shape) > 1
        parts["embeddings" if EMBEDDING.search(name) else "weights" if matrix else "norms"] += tensor.bytes
        types[tensor.type] += tensor.bytes * matrix
    kind = file_type(type_code) or types.most_common(1)[0][0]
    return StoredModel(
        sizes=sizes,
        weight_format=NAMES.get(kind, kind),
        driver=driver,
        weights=parts["weights"],
        embeddings=parts["embeddings"],
        norms=parts["norms"],
        experts=sum(tensor.bytes for name, tensor in tensors.items() if EXPERTS.search(name)),
    )


def _safetensors(folder: Path) -> dict[str, Tensor]:
    paths = weight_paths(folder)
    if not paths:
        raise missing_weights_error((path.name for path in folder.iterdir()), folder.name)
    files = map(read_safetensors_header, paths)
    names = ((name, tensor) for tensors in files for name, tensor in tensors.items())
    return {name: tensor for name, tensor in names if "quant_state" not in name}  # shapes, as JSON


def _gguf_header(path: Path) -> Header:
    if not path.is_file():
        raise CourseError(f"{path} does not exist", "name a .gguf file, or a model folder")
    try:
        return read_header(check_gguf(path))
    except (ValueError, OSError) as error:
        message = f"{path.name} is truncated or damaged: {str(error)[:200]}"
        raise CourseError(message, "download it again") from error


def _gguf_architecture(name: str, fields: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Architecture:
    """Return the sizes stated in the header of a GGUF file.

    A model type that is not in FAMILIES is treated as attending to all tokens in every layer, which gives an
    upper bound. Raises CourseError for a missing field, for an adapter, and for a model whose cache is not
    one of keys and values.
    """
    kind = str(fields.get("general.architecture", "none"))
    if fields.get("general.type", "model") != "model":
        message = f"{name} is of type {fields['general.type']!r}, not a model"
        raise CourseError(message, "plan the model that it belongs to, and add the size of this file")
    if other := next(filter(OTHER_MEMORY.search, fields), None):
        raise CourseError(f"{name} keeps more than keys and values ({other}): it is not planned", MEASURE)
    try:
        return _gguf_sizes(name, kind, fields, tensors)
    except KeyError as error:
        message = f"{name} has no {error}, from which its memory follows"
        raise CourseError(message, "download or export it again") from None
    except (TypeError, ValueError, ArithmeticError, IndexError) as error:
        raise CourseError(f"{name} states sizes that cannot be: {error}", "download it again") from error


def _gguf_sizes(
    name: str, kind: str, fields: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> Architecture:
    def size(field: str, default: int | None = None) -> int:
        value = fields[f"{kind}.{field}"] if default is None else fields.get(f"{kind}.{field}", default)
        return max(map(int, value)) if isinstance(value, list) else int(value)  # one number per layer

    heads, hidden, layers = size("attention.head_count"), size("embedding_length"), size("block_count")
    known = "bert" if ENCODERS.search(kind) else GGUF_TYPES.get(kind, kind)
    head = size("attention.key_length", hidden // heads)
    window = size("attention.sliding_window", FAMILIES.get(known, Family()).window)
    experts = size("expert_count", 0)
    wide = size("expert_feed_forward_length", 0) if experts else 0
    sizes = Architecture(
        name=name,
        type=known,
        hidden=hidden,
        feed_forward=wide or size("feed_forward_length"),
        layers=layers,
        heads=heads,
        kv_heads=size("attention.head_count_kv", heads),
        head_dim=head,
        vocabulary=tensors["token_embd.weight"].shape[0],
        tied="output.weight" not in tensors,
        context=size("context_length"),
        window=window,
        windowed=_windowed(fields.get(f"{kind}.attention.sliding_window_pattern"), known, layers)
        if window
        else 0,
        experts=experts,
        experts_used=size("expert_used_count") if experts else 0,
    )
    if size("attention.value_length", head) != head:
        raise ValueError(f"keys are {head} wide, values {size('attention.value_length')}")
    return sizes


def _windowed(pattern: Any, kind: str, layers: int) -> int:
    """Return the number of layers with a sliding window.

    pattern: A truth value for each layer, or n: every n-th layer attends to all tokens.
    """
    if isinstance(pattern, list):
        return sum(map(bool, pattern))
    every = int(pattern or (FAMILIES[kind].full_every if kind in FAMILIES else 0))
    return layers - (layers // every if every else 0)
