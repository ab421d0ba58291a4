"""Write a Llama model folder as GGUF, the file format of llama.cpp and Ollama.

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
from course_lib.models.files.headers import weight_files
from course_lib.models.gguf.header import read_header
from course_lib.models.gguf.tokenizer import CONVERT, write_tokenizer

if TYPE_CHECKING:
    import numpy as np

TYPES = ("f32", "f16", "bf16", "q8_0", "q4_0")  # bits per weight: 32, 16, 16, 8.5, 4.5
ROPE_TYPES = ("default", "linear", "llama3")  # kinds of rotary positions, by transformers' names
BLOCK = 32  # weights that share a scale in q8_0 and q4_0
NO_ROOM = "choose a folder that you can write and that has room"


def export(folder: Path, target: Path, weight_type: str = "f32") -> Path:
    """Write the model in `folder` (config, tokenizer, safetensors) to `target` with weights of one of TYPES.

    Raises ValueError for an unknown type; CourseError for another architecture or tokenizer, for rows that
    blocks of 32 do not divide, and where `target` cannot be written. No half-written file stays.
    """
    try:
        write(folder, target, weight_type)
    except OSError as error:
        raise CourseError(f"{target} cannot be written: {error}", NO_ROOM) from error
    return target


def write(folder: Path, target: Path, weight_type: str) -> None:
    """As `export`, but raises OSError where `target` cannot be written."""
    if weight_type not in TYPES:
        raise ValueError(f"weight_type={weight_type!r}; one of {', '.join(TYPES)}")
    config = llama_config(folder)
    try:
        with gguf_writer(target) as writer:
            _write_metadata(writer, folder.name, config, weight_type)
            write_tokenizer(writer, folder, config)
            _write_tensors(writer, folder, config, weight_type)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        what = f"{folder.name} is not complete: {type(error).__name__}: {error}"
        raise CourseError(what, "download or save it again") from error


@contextmanager
def gguf_writer(target: Path) -> Iterator[Any]:
    """A writer of a GGUF file of a Llama, which appears at the end of the block. Raises OSError."""
    import gguf

    with atomic_file(target) as partial:
        writer = gguf.GGUFWriter(partial, "llama")
        yield writer
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        try:
            read_header(partial)  # numpy writes it, which does not report a full disk (seen)
        except ValueError as error:
            raise OSError(f"it was cut short, as where no space is left: {error}") from error


def llama_config(folder: Path) -> dict[str, Any]:
    """The configuration of a Llama model, with transformers' defaults for what it leaves out.

    Raises CourseError for an incomplete folder, another architecture, and quantized weights.
    """
    from course_lib.models.files.resolution import check_folder  # lazily: the command line reads TYPES alone

    config = json.loads((check_folder(folder) / "config.json").read_text("utf-8"))
    if config.get("architectures") != ["LlamaForCausalLM"]:
        what = f"{folder.name} is {config.get('architectures')}; only LlamaForCausalLM is exported"
        raise CourseError(what, CONVERT)
    if config.get("quantization_config"):
        what = f"{folder.name} holds quantized weights, which would be rounded a second time"
        raise CourseError(what, "export the unquantized model")
    from transformers import LlamaConfig

    complete: dict[str, Any] = LlamaConfig.from_dict(config).to_dict()
    rope, activation = complete["rope_parameters"], complete["hidden_act"]
    partial = rope.get("partial_rotary_factor", 1) != 1
    if rope["rope_type"] not in ROPE_TYPES or partial or activation != "silu":
        what = f"{folder.name} has positions of type {rope['rope_type']!r} and activation {activation!r}"
        known = f"written here are {', '.join(ROPE_TYPES)}, over whole heads, and silu"
        raise CourseError(f"{what}; {known}", CONVERT)
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
    for file in weight_files(path.name for path in folder.iterdir()):
        for name, tensor in load_file(folder / file).items():
            module, _, suffix = name.rpartition(".")
            if suffix == "inv_freq":  # in old files; it follows from the configuration
                continue
            target = names.get_name(module)
            if target is None:
                raise CourseError(
                    f"{folder.name}: llama.cpp has no place for {name} in a Llama model", CONVERT
                )
            weight = reorder_rows(module, tensor.float().numpy(), config)
            is_matrix = weight.ndim == 2
            if is_matrix and weight_type.startswith("q") and weight.shape[1] % BLOCK:
                what = (
                    f"{weight_type} quantizes blocks of {BLOCK}, which does not divide the {weight.shape[1]}"
                )
                raise CourseError(f"{what} of a row of {name} in {folder.name}", "export it with --type f16")
            kind = gguf.GGMLQuantizationType[weight_type.upper() if is_matrix else "F32"]  # norms stay exact
            writer.add_tensor(f"{target}.{suffix}", gguf.quants.quantize(weight, kind), raw_dtype=kind)
    if config["rope_parameters"]["rope_type"] != "default":
        writer.add_tensor("rope_freqs.weight", _rope_divisors(config))


def reorder_rows(module: str, weight: np.ndarray, config: dict[str, Any]) -> np.ndarray:
    """The weight of a module with the rows of query and key projections in llama.cpp's order."""
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    projection = module.split(".")[-1]
    return interleave(weight, heads[projection]) if projection in heads else weight


def interleave(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of a projection in llama.cpp's order: it rotates neighbours (0, 1), transformers halves (0, d/2).

    weight: (heads * head_dim, hidden), or a bias of (heads * head_dim,).
    """
    rows, *rest = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, *rest).swapaxes(1, 2).reshape(weight.shape)


def _rope_divisors(config: dict[str, Any]) -> np.ndarray:
    """What each frequency of the positions is divided by to extend the context; (head_dim / 2,)."""
    import numpy as np
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    rope, width = config["rope_parameters"], config["head_dim"]
    frequencies, _ = ROPE_INIT_FUNCTIONS[rope["rope_type"]](LlamaConfig.from_dict(config), device="cpu")
    original = rope["rope_theta"] ** -(np.arange(0, width, 2) / width)
    return (original / frequencies.double().numpy()).astype(np.float32)
