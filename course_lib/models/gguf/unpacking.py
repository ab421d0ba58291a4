"""Turn a GGUF file into a Hugging Face folder in bfloat16, which transformers can run and train.

The weights stay rounded: from a 4-bit file, each has 16 bits but only 4 bits of precision. GGUF is the file
format of llama.cpp.
"""

from __future__ import annotations

import dataclasses
import json
import math
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from course_lib.atomic import atomic_folder, check_free_disk, check_new_folder
from course_lib.errors import CourseError
from course_lib.models.files.headers import INDEX, SINGLE_FILE, Tensor, check_gguf
from course_lib.models.gguf.architecture import (
    CLASSES,
    LAYERS_OF_27B,
    LAYERS_PER_FULL_ATTENTION,
    Architecture,
    check_supported,
    rope_divisors,
)
from course_lib.models.gguf.header import Header, read_header
from course_lib.models.gguf.tokenizer import KEY, different_ids_error
from course_lib.models.gguf.unpack_tokenizer import composes_letters, unpack_tokenizer
from course_lib.models.gguf.vocabulary import USE_FOLDER, first_difference
from course_lib.models.gguf.writer import CHOOSE_ANOTHER_FOLDER

if TYPE_CHECKING:
    import torch

SHARD_BYTES = 2 * 10**9  # the size of one file; this many bytes are in memory at a time
WEIGHTS_AT_A_TIME = 4_000_000  # that are in memory in 32 bits
ROPE_FREQUENCIES = "rope_freqs.weight"  # the divisors of rotary positions (RoPE), in files of Llama 3
LLAMA_3_ROPE = {  # all published models have these; the factor differs
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def unpack(file: Path, folder: Path) -> None:
    """Write the GGUF file `file` to `folder` as config, bfloat16 safetensors, tokenizer and chat template.

    folder: A new or empty one. It appears complete, or not at all. The token ids are checked against
    llama.cpp's. Raises CourseError for a damaged file, an architecture or tokenizer that is not supported,
    tensors that the architecture does not have, and if the disk has too little space.
    """
    check_new_folder(folder)  # before a minute of work
    try:
        header = read_header(check_gguf(file), decode_arrays=True)
        architecture = _architecture(header, file.name)
        tokenizer = unpack_tokenizer(header.fields, file.name)
    except CourseError:
        raise
    except Exception as error:  # the library tokenizers has no class of its own for errors
        what = f"{file.name} cannot be read: {type(error).__name__}: {error}"
        raise CourseError(what, "download it again") from error
    if ROPE_FREQUENCIES in header.tensors:
        architecture = _with_llama_3_rope(file, header.tensors[ROPE_FREQUENCIES], architecture)
    check_supported(architecture)
    tensors = _tensors(header, architecture)
    needed = 2 * sum(_count(tensor) for tensor in tensors.values())
    check_free_disk(folder, needed, "the unpacked model", CHOOSE_ANOTHER_FOLDER)
    fields = {key: value for key, value in header.fields.items() if key.startswith("tokenizer.")}
    if found := first_difference(fields, tokenizer, composed=composes_letters(fields)):
        raise different_ids_error(file.name, found)
    try:
        with atomic_folder(folder) as partial:
            _write_config(partial, architecture, header.fields)
            tokenizer.model_max_length = architecture.config["max_position_embeddings"]
            tokenizer.save_pretrained(partial)
            _write_weights(partial, file, tensors, architecture)
    except NotImplementedError as error:
        what = f"{file.name} has weights of a type that the package gguf cannot read: {error}"
        raise CourseError(what, USE_FOLDER) from error
    except OSError as error:
        raise CourseError(f"{folder} cannot be written: {error}", CHOOSE_ANOTHER_FOLDER) from error


# -- configuration ----------------------------------------------------------------------------------------


def _architecture(header: Header, label: str) -> Architecture:
    """Return the architecture, with a configuration of transformers made from the fields of a GGUF file."""
    from transformers import AutoConfig

    fields, tensors = header
    name = fields["general.architecture"]
    classes = {architecture: class_ for class_, architecture in reversed(CLASSES.items())}
    if name not in classes:
        what = f"{label} has the architecture {name}; supported are {', '.join(classes)}"
        raise CourseError(what, USE_FOLDER)
    sizes = {key.removeprefix(f"{name}."): _as_written(value) for key, value in fields.items()}
    width = sizes.get("attention.key_length", sizes["embedding_length"] // sizes["attention.head_count"])
    if sizes.get("rope.dimension_count", width) != width or isinstance(width, list):
        raise CourseError(f"{label} has heads of {width}, partly without positions", USE_FOLDER)
    config = {
        "model_type": "gemma3_text" if name == "gemma3" else name,
        "architectures": [classes[name]],
        "vocab_size": tensors["token_embd.weight"].shape[0],
        "hidden_size": sizes["embedding_length"],
        "intermediate_size": sizes["feed_forward_length"],
        "num_hidden_layers": sizes["block_count"],
        "num_attention_heads": sizes["attention.head_count"],
        "num_key_value_heads": sizes.get("attention.head_count_kv", sizes["attention.head_count"]),
        "head_dim": width,
        "max_position_embeddings": sizes["context_length"],
        "rms_norm_eps": sizes["attention.layer_norm_rms_epsilon"],
        "rope_parameters": _rope(sizes, name, label),
        "tie_word_embeddings": "output.weight" not in tensors,
        "dtype": "bfloat16",
        **_special_ids(fields),
    }
    if name == "llama":
        config["attention_bias"] = "blk.0.attn_q.bias" in tensors
        config["mlp_bias"] = "blk.0.ffn_up.bias" in tensors
    if name in LAYERS_OF_27B:
        config |= _gemma(sizes, name, width)
    complete = AutoConfig.for_model(**config).to_dict()
    return Architecture(name, complete, label)


def _as_written(value: Any) -> Any:
    """Return a 32-bit number with the digits that were written: 1e-05 for 9.999999747378752e-06."""
    import numpy as np

    return float(str(np.float32(value))) if isinstance(value, float) else value


def _rope(sizes: dict[str, Any], name: str, label: str) -> dict[str, Any]:
    """Return the settings of rotary positions, except for Llama 3's own scaling."""
    kind = sizes.get("rope.scaling.type", "none")
    if kind not in ("none", "linear"):
        raise CourseError(f"{label} stretches its positions by {kind}", USE_FOLDER)
    rope = {"rope_type": "default", "rope_theta": sizes.get("rope.freq_base", 10000.0)}
    if kind == "linear":
        rope |= {"rope_type": "linear", "factor": sizes["rope.scaling.factor"]}
    if name != "gemma3":
        return rope
    sliding = {"rope_type": "default", "rope_theta": sizes.get("rope.freq_base_swa", 10000.0)}
    return {"full_attention": rope, "sliding_attention": sliding}


def _with_llama_3_rope(file: Path, tensor: Tensor, architecture: Architecture) -> Architecture:
    """Return the architecture with Llama 3's scaling of positions, which the file only has as divisors."""
    import numpy as np

    divisors = np.fromfile(file, np.float32, math.prod(tensor.shape), offset=tensor.offset)
    rope = architecture.rope | LLAMA_3_ROPE | {"rope_type": "llama3", "factor": float(divisors.max())}
    config = architecture.config | {"rope_parameters": rope}
    if not np.allclose(rope_divisors(config), divisors, rtol=1e-4):
        what = f"{architecture.label} has {ROPE_FREQUENCIES} that are not those of Llama 3.1"
        raise CourseError(what, USE_FOLDER)
    return dataclasses.replace(architecture, config=config)


def _gemma(sizes: dict[str, Any], name: str, width: int) -> dict[str, Any]:
    """Return the settings that only Gemma has. width: of an attention head."""
    is_27b = sizes["block_count"] == LAYERS_OF_27B[name]
    scalar = sizes["embedding_length"] // sizes["attention.head_count"] if is_27b else width
    caps = {"gemma2": (50.0, 30.0), "gemma3": (None, None)}[name]  # llama.cpp's defaults: softcapping limits
    return {
        "query_pre_attn_scalar": scalar,
        "sliding_window": sizes["attention.sliding_window"],
        "attn_logit_softcapping": sizes.get("attn_logit_softcapping", caps[0]),
        "final_logit_softcapping": sizes.get("final_logit_softcapping", caps[1]),
        "hidden_activation": "gelu_pytorch_tanh",
        "layer_types": [
            "sliding_attention" if layer % LAYERS_PER_FULL_ATTENTION[name] else "full_attention"
            for layer in range(1, sizes["block_count"] + 1)
        ],
    }


def _special_ids(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the ids of the tokens for beginning (BOS), padding and end, as transformers names them."""
    keys = [f"{KEY}{name}_token_id" for name in ("eos", "eot", "eom")]
    ends = list(dict.fromkeys(fields[key] for key in keys if key in fields))
    return {
        "bos_token_id": fields.get(f"{KEY}bos_token_id"),
        "eos_token_id": ends[0] if len(ends) == 1 else ends,
        "pad_token_id": fields.get(f"{KEY}padding_token_id"),
    }


def _write_config(folder: Path, architecture: Architecture, fields: dict[str, Any]) -> None:
    from transformers import AutoConfig, GenerationConfig

    AutoConfig.for_model(**architecture.config).save_pretrained(folder)
    GenerationConfig(**_special_ids(fields)).save_pretrained(folder)


# -- weights ----------------------------------------------------------------------------------------------


def _tensors(header: Header, architecture: Architecture) -> dict[str, Tensor]:
    """Return transformers' tensor name -> tensor in the file.

    Raises CourseError unless both have the same tensors in the same shapes.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**architecture.config))
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    names = {name: architecture.gguf_name(name) for name in shapes}
    unknown = sorted(header.tensors.keys() - set(names.values()) - {ROPE_FREQUENCIES})
    missing = sorted(set(names.values()) - header.tensors.keys())
    if unknown or missing:
        what = f"{architecture.label} lacks tensors of {architecture.name} or has others: "
        what += f"{len(unknown)} unknown "
        what += f"and {len(missing)} missing, such as {(unknown + missing)[0]}"
        raise CourseError(what, USE_FOLDER)
    for name, shape in shapes.items():
        if header.tensors[names[name]].shape != shape:
            what = f"{architecture.label}: {names[name]} has the shape {header.tensors[names[name]].shape}"
            raise CourseError(f"{what}, by its fields it is {shape}", "download it again")
    return {name: header.tensors[names[name]] for name in shapes}


def _count(tensor: Tensor) -> int:
    return math.prod(tensor.shape)


def _write_weights(folder: Path, file: Path, tensors: dict[str, Tensor], architecture: Architecture) -> None:
    """Write the weights as bfloat16, in several files if they are large, and show the progress."""
    from safetensors.torch import save_file
    from tqdm import tqdm

    shards = list(_split(tensors))
    total = sum(_count(tensor) for tensor in tensors.values())
    with (
        open(file, "rb") as raw,
        mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ) as data,
        tqdm(desc=folder.name, total=2 * total, unit="B", unit_scale=True) as bar,
    ):
        weight_map: dict[str, str] = {}
        for number, names in enumerate(shards, 1):
            shard = f"model-{number:05}-of-{len(shards):05}.safetensors" if len(shards) > 1 else SINGLE_FILE
            weights = {}
            for name in names:
                weights[name] = _weight(data, name, tensors[name], architecture)
                bar.update(weights[name].nbytes)
            save_file(weights, folder / shard, metadata={"format": "pt"})
            (folder / shard).chmod(0o644)  # safetensors lets only the owner read, and a class may share it
            weight_map |= dict.fromkeys(names, shard)
    if len(shards) > 1:
        index = {"metadata": {"total_size": 2 * total}, "weight_map": weight_map}
        (folder / INDEX).write_text(json.dumps(index, indent=1), "utf-8")


def _split(tensors: dict[str, Tensor]) -> Iterator[list[str]]:
    """Yield the names of the tensors for each file."""
    names: list[str] = []
    size = 0
    for name, tensor in tensors.items():
        if names and size + 2 * _count(tensor) > SHARD_BYTES:
            yield names
            names, size = [], 0
        names.append(name)
        size += 2 * _count(tensor)
    yield names


def _weight(data: mmap.mmap, name: str, tensor: Tensor, architecture: Architecture) -> torch.Tensor:
    """Return a tensor in transformers' layout, from the file's bytes."""
    import gguf
    import numpy as np
    import torch

    kind = gguf.GGMLQuantizationType[tensor.type.upper()]
    rows = math.prod(tensor.shape[:-1])
    raw = np.frombuffer(data, np.uint8, tensor.bytes, tensor.offset).reshape(rows, -1)
    if len(tensor.shape) == 1:
        weight = architecture.from_gguf(name, gguf.quants.dequantize(raw, kind).reshape(tensor.shape))
        return torch.from_numpy(weight.copy()).to(torch.bfloat16)
    converted = torch.empty(tensor.shape, dtype=torch.bfloat16)
    step = max(1, WEIGHTS_AT_A_TIME // tensor.shape[-1])
    for row in range(0, rows, step):
        weight = gguf.quants.dequantize(raw[row : row + step], kind)
        converted[row : row + step] = torch.from_numpy(weight.copy())
    return architecture.from_gguf(name, converted).contiguous()
