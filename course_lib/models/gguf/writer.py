"""Convert a Hugging Face model folder of a Llama model to GGUF, the file format of llama.cpp and Ollama.

The format: github.com/ggml-org/ggml, docs/gguf.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from course_lib.atomic import atomic_file
from course_lib.errors import CourseError
from course_lib.models.files.headers import weight_paths
from course_lib.models.gguf.header import read_header
from course_lib.models.gguf.tokenizer import CONVERT, write_tokenizer

if TYPE_CHECKING:
    import numpy as np

TYPES = ("f32", "f16", "bf16", "q8_0", "q4_0")  # bits per weight: 32, 16, 16, 8.5, 4.5
ROPE_TYPES = (
    "default",
    "linear",
    "llama3",
)  # supported variants of rotary position embeddings, by transformers' names
BLOCK = 32  # weights that share a scale in q8_0 and q4_0
CHOOSE_ANOTHER_FOLDER = "choose a writable folder with enough free space"


def export(folder: Path, target: Path, weight_type: str = "f32") -> Path:
    """Write the model in `folder` (config, tokenizer, safetensors) to the file `target` and return it.

    weight_type: One of TYPES. Raises ValueError for another one, and CourseError for an unsupported
    architecture or tokenizer, for matrix rows not divisible into blocks of 32 weights (quantized types), and
    if `target` cannot be written. No partial file is left behind.
    """
    try:
        write(folder, target, weight_type)
    except OSError as error:
        raise CourseError(f"{target} cannot be written: {error}", CHOOSE_ANOTHER_FOLDER) from error
    return target


def write(folder: Path, target: Path, weight_type: str) -> None:
    """Do the same as `export`, but raise OSError if `target` cannot be written."""
    if weight_type not in TYPES:
        raise ValueError(f"weight_type={weight_type!r} must be one of {', '.join(TYPES)}")
    config = llama_config(folder)
    try:
        with gguf_writer(target) as writer:
            _write_metadata(writer, folder.name, config, weight_type)
            write_tokenizer(writer, folder, config)
            _write_tensors(writer, folder, config, weight_type)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        message = f"{folder.name} is not complete: {type(error).__name__}: {error}"
        raise CourseError(message, "download or save it again") from error


@contextmanager
def gguf_writer(target: Path) -> Iterator[Any]:
    """Yield a writer of a GGUF file for a Llama model; the file appears when the block ends."""
    import gguf

    with atomic_file(target) as partial:
        writer = gguf.GGUFWriter(partial, "llama")
        yield writer
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        try:
            read_header(partial)  # numpy writes the tensors without reporting a full disk
        except ValueError as error:
            raise OSError(f"the file is truncated, perhaps because the disk is full: {error}") from error


def llama_config(folder: Path) -> dict[str, Any]:
    """Return the configuration of a Llama model, with transformers' defaults for missing fields.

    Raises CourseError for an incomplete folder, another architecture, or quantized weights.
    """
    from course_lib.models.files.resolution import (
        check_folder,
    )  # lazy, because the command line imports this module only for TYPES

    config = json.loads((check_folder(folder) / "config.json").read_text("utf-8"))
    if config.get("architectures") != ["LlamaForCausalLM"]:
        architectures = config.get("architectures")
        message = f"{folder.name} has the architecture {architectures}; only LlamaForCausalLM is supported"
        raise CourseError(message, CONVERT)
    if config.get("quantization_config"):
        message = f"{folder.name} holds quantized weights, which would be rounded a second time"
        raise CourseError(message, "export the unquantized model")
    from transformers import LlamaConfig

    complete: dict[str, Any] = LlamaConfig.from_dict(config).to_dict()
    rope, activation = complete["rope_parameters"], complete["hidden_act"]
    partial = rope.get("partial_rotary_factor", 1) != 1
    if rope["rope_type"] not in ROPE_TYPES or partial or activation != "silu":
        message = f"{folder.name} has rope_type {rope['rope_type']!r} and activation {activation!r}"
        known = f"supported are {', '.join(ROPE_TYPES)} over whole heads, and silu"
        raise CourseError(f"{message}; {known}", CONVERT)
    return complete


def _write_metadata(writer: Any, name: str, config: dict[str, Any], weight_type: str) -> None:
    import gguf

    writer.add_name(name)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    file_type = "ALL_F32" if weight_type == "f32" else f"MOSTLY_{weight_type.upper()}"
    writer.add_file_type(gguf.LlamaFileType[file_type])


def _write_tensors(writer: Any, folder: Path, config: dict[str, Any], weight_type: str) -> None:
    import gguf
    from safetensors.torch import load_file

    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    for path in weight_paths(folder):
        for name, tensor in load_file(path).items():
            module, _, suffix = name.rpartition(".")
            if suffix == "inv_freq":  # old files store it; it follows from the configuration
                continue
            target = names.get_name(module)
            if target is None:
                raise CourseError(
                    f"{folder.name}: llama.cpp has no tensor for {name} in a Llama model", CONVERT
                )
            weight = reorder_rows(module, tensor.float().numpy(), config)
            is_matrix = weight.ndim == 2
            if is_matrix and weight_type.startswith("q") and weight.shape[1] % BLOCK:
                message = (
                    f"{weight_type} quantizes blocks of {BLOCK}, which does not divide the {weight.shape[1]}"
                )
                raise CourseError(
                    f"{message} of a row of {name} in {folder.name}", "export it with --type f16"
                )
            kind = gguf.GGMLQuantizationType[weight_type.upper() if is_matrix else "F32"]  # norms stay exact
            writer.add_tensor(f"{target}.{suffix}", gguf.quants.quantize(weight, kind), raw_dtype=kind)
    if config["rope_parameters"]["rope_type"] != "default":
        writer.add_tensor("rope_freqs.weight", _rope_divisors(config))


def reorder_rows(module: str, weight: np.ndarray, config: dict[str, Any]) -> np.ndarray:
    """Return a module's weight, with the rows of query and key projections in llama.cpp's order."""
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    projection = module.split(".")[-1]
    return interleave(weight, heads[projection]) if projection in heads else weight


def interleave(weight: np.ndarray, heads: int) -> np.ndarray:
    """Reorder the rows of a projection from transformers' rotary layout to llama.cpp's.

    llama.cpp rotates neighbouring rows (0 with 1), transformers rows of the two halves (0 with head_dim / 2).
    weight: Shape (heads * head_dim, hidden), or (heads * head_dim,) for a bias.
    """
    rows, *rest = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, *rest).swapaxes(1, 2).reshape(weight.shape)


def _rope_divisors(config: dict[str, Any]) -> np.ndarray:
    """Return the divisors of the rotary frequencies that extend the context, shape (head_dim / 2,)."""
    import numpy as np
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    rope, width = config["rope_parameters"], config["head_dim"]
    frequencies, _ = ROPE_INIT_FUNCTIONS[rope["rope_type"]](LlamaConfig.from_dict(config), device="cpu")
    original = rope["rope_theta"] ** -(np.arange(0, width, 2) / width)
    return (original / frequencies.double().numpy()).astype(np.float32)
