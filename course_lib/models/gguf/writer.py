"""Write a Llama model folder as GGUF, the one file that llama.cpp and Ollama read (github.com/ggml-org/ggml, docs/gguf.md)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from course_lib.atomic import atomic_file
from course_lib.errors import CourseError
from course_lib.models.gguf import tokenizer as gguf_tokenizer
from course_lib.models.gguf.header import read_header
from course_lib.models.gguf.tokenizer import CONVERT

if TYPE_CHECKING:
    import numpy as np

TYPES = ("f32", "f16", "bf16", "q8_0", "q4_0")  # bits per weight: 32, 16, 16, 8.5, 4.5
ROPES = ("default", "linear", "llama3")  # kinds of rotary positions, by transformers' names
ROOM, HERE = "choose a folder that you can write and that has room", "use driver: huggingface"
BLOCK = 32  # weights that share a scale in q8_0 and q4_0


def interleave(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of a query or key projection in llama.cpp's order: it rotates neighbours (0, 1), transformers halves (0, d/2).

    weight: (heads * head_dim, hidden), or a bias of (heads * head_dim,).
    """
    rows, *rest = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, *rest).swapaxes(1, 2).reshape(weight.shape)


def _config(folder: Path) -> dict[str, Any]:
    """The configuration of a Llama model, completed by transformers' defaults.

    Raises CourseError for a folder that is not whole, another architecture, and weights that are packed.
    """
    from course_lib.models.files.resolution import check_folder  # lazily: the command line reads TYPES alone

    said = json.loads((check_folder(folder) / "config.json").read_text("utf-8"))
    if said.get("architectures") != ["LlamaForCausalLM"]:
        raise CourseError(
            f"{folder.name} is {said.get('architectures')}; only LlamaForCausalLM is exported", CONVERT
        )
    if said.get("quantization_config"):
        raise CourseError(
            f"{folder.name} holds packed weights, which would be rounded a second time",
            "export the whole weights",
        )
    from transformers import LlamaConfig

    found: dict[str, Any] = LlamaConfig.from_dict(said).to_dict()
    rope = found["rope_parameters"]
    if (
        rope["rope_type"] not in ROPES
        or rope.get("partial_rotary_factor", 1) != 1
        or found["hidden_act"] != "silu"
    ):
        raise CourseError(
            f"{folder.name} has positions of type {rope['rope_type']!r} and activation {found['hidden_act']!r}; "
            f"written here are {', '.join(ROPES)}, over whole heads, and silu",
            CONVERT,
        )
    return found


def _metadata(writer: Any, folder: Path, config: dict[str, Any], kind: str) -> None:
    import gguf

    writer.add_name(folder.name)
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
    name = "ALL_F32" if kind == "f32" else f"MOSTLY_{kind.upper()}"
    writer.add_file_type(gguf.LlamaFileType[name])


def _in_order(module: str, weight: np.ndarray, config: dict[str, Any]) -> np.ndarray:
    """A weight whose rows are the outputs of `module`, with the rows of query and key projections as llama.cpp wants them."""
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}.get(
        module.split(".")[-1]
    )
    return interleave(weight, heads) if heads else weight


def _tensors(writer: Any, folder: Path, config: dict[str, Any], kind: str) -> None:
    import gguf
    from safetensors.torch import load_file

    from course_lib.models.files.headers import weight_files

    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    for file in weight_files(p.name for p in folder.iterdir()):
        for name, tensor in load_file(folder / file).items():
            module, _, part = name.rpartition(".")
            place = names.get_name(module)
            if part == "inv_freq":  # of old files: follows from the configuration
                continue
            if place is None:
                raise CourseError(
                    f"{folder.name}: llama.cpp has no place for {name} in a Llama model", CONVERT
                )
            weight = _in_order(module, tensor.float().numpy(), config)
            if kind.startswith("q") and weight.ndim == 2 and weight.shape[1] % BLOCK:
                raise CourseError(
                    f"{kind} packs weights by {BLOCK}, which does not divide the {weight.shape[1]} of a row of "
                    f"{name} in {folder.name}",
                    "export it with --type f16",
                )
            wanted = gguf.GGMLQuantizationType[
                kind.upper() if weight.ndim == 2 else "F32"
            ]  # norms stay whole
            writer.add_tensor(f"{place}.{part}", gguf.quants.quantize(weight, wanted), raw_dtype=wanted)
    if config["rope_parameters"]["rope_type"] != "default":
        writer.add_tensor("rope_freqs.weight", _stretched(config))


def _stretched(config: dict[str, Any]) -> np.ndarray:
    """By how much each frequency of the positions is divided, for a context longer than the first one; (head_dim / 2,)."""
    import numpy as np
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    rope, width = config["rope_parameters"], config["head_dim"]
    frequencies, _ = ROPE_INIT_FUNCTIONS[rope["rope_type"]](LlamaConfig.from_dict(config), device="cpu")
    plain = rope["rope_theta"] ** -(np.arange(0, width, 2) / width)
    return (plain / frequencies.double().numpy()).astype(np.float32)


def export(folder: Path, target: Path, weight_type: str = "f32") -> Path:
    """Write the model in `folder` (config, tokenizer, safetensors) to `target` with weights of `weight_type`, one of TYPES.

    Raises ValueError for an unknown type; CourseError for another architecture or tokenizer, for rows that blocks of 32 do
    not divide, and where `target` cannot be written. No half-written file stays.
    """
    try:
        write(folder, target, weight_type)
    except OSError as error:
        raise CourseError(f"{target} cannot be written: {error}", ROOM) from error
    return target


def write(folder: Path, target: Path, weight_type: str) -> None:
    """As `export`, but raises OSError where `target` cannot be written."""
    if weight_type not in TYPES:
        raise ValueError(f"weight_type={weight_type!r}; one of {', '.join(TYPES)}")
    config = _config(folder)
    try:
        with atomic_file(target) as partial, _writing(partial) as writer:
            _metadata(writer, folder, config, weight_type)
            gguf_tokenizer.write(writer, folder, config)
            _tensors(writer, folder, config, weight_type)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise CourseError(
            f"{folder.name} is not whole: {type(error).__name__}: {error}", "download or save it again"
        ) from error


@contextmanager
def _writing(target: Path) -> Iterator[Any]:
    """A writer of a GGUF file of the architecture llama, which writes it at the end. Raises OSError where it cannot."""
    import gguf

    writer = gguf.GGUFWriter(target, "llama")
    yield writer
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    try:
        read_header(target)  # numpy writes it, which does not report a full disk (seen)
    except ValueError as error:
        raise OSError(f"it was cut short, as where no space is left: {error}") from error


class Reads(NamedTuple):
    """The longest text that a model reads, in tokens, and whether it has a chat template."""

    context: int
    chat: bool


def reads(path: Path) -> Reads:
    """Context length and chat template of the model in a folder or a .gguf file, from its configuration or its header alone.

    Raises CourseError for a file that is cut short, that holds no model, or one that llama.cpp does not know.
    """
    try:
        if path.is_dir():
            length = json.loads((path / "config.json").read_text("utf-8"))["max_position_embeddings"]
            return Reads(int(length), bool(gguf_tokenizer.template(path)))
        fields = _model_fields(path)
        length = fields[f"{fields['general.architecture']}.context_length"]
        return Reads(int(length), "tokenizer.chat_template" in fields)
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise CourseError(
            f"{path.name} does not state its context length: {error}", "download or export it again"
        ) from error


def _model_fields(path: Path) -> dict[str, Any]:
    """The fields of a GGUF file that holds a model. Raises CourseError as `reads`."""
    import gguf

    try:
        fields, tensors = read_header(path)
    except (ValueError, OSError) as error:
        raise CourseError(
            f"{path.name} is cut short or damaged: it has {path.stat().st_size:,} bytes, and reading it fails with "
            f"{str(error)[:200]!r}",
            "download or export it again",
        ) from error
    architecture = fields.get("general.architecture", "none")
    if architecture not in gguf.MODEL_ARCH_NAMES.values():
        raise CourseError(
            f"{path.name} is a model of the architecture {architecture!r}, which llama.cpp does not know",
            "choose a model of another architecture, such as llama",
        )
    if not tensors and not fields.get("split.count"):  # the first part of several may be without
        raise CourseError(
            f"{path.name} holds a tokenizer ({architecture}) and no weights",
            "choose the file of the whole model",
        )
    return fields


def export_adapter(folder: Path, base: Path, target: Path) -> Path:
    """Write a LoRA adapter in PEFT form, of the model in `base`, as GGUF, for llama.cpp.

    Its scale is alpha / rank, or alpha / sqrt(rank) for rsLoRA.

    Raises CourseError for a folder that is no LoRA adapter of a Llama model, or has parts that GGUF cannot hold, and where
    `target` cannot be written.
    """
    import gguf
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        said = json.loads((folder / "adapter_config.json").read_text("utf-8"))
        weights = load_file(folder / "adapter_model.safetensors")
        config, alpha = (
            _config(base),
            said["lora_alpha"] * (int(said["r"]) ** 0.5 if said.get("use_rslora") else 1),
        )
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise CourseError(
            f"{folder} is no LoRA adapter: {error}", "name the folder that save_pretrained wrote"
        ) from error
    if said.get("alpha_pattern") or (said.get("use_rslora") and said.get("rank_pattern")):
        raise CourseError(
            f"{folder.name} has an alpha of its own for some layers, and GGUF has one for all", HERE
        )
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 1000)
    try:
        with atomic_file(target) as partial, _writing(partial) as writer:
            writer.add_type("adapter")
            writer.add_string("adapter.type", "lora")
            writer.add_float32("adapter.lora.alpha", alpha)
            for name, tensor in weights.items():
                module, _, half = (
                    name.removeprefix("base_model.model.").removesuffix(".weight").rpartition(".")
                )
                place = names.get_name(module)
                if place is None or half not in ("lora_A", "lora_B"):
                    raise CourseError(f"{folder.name}: llama.cpp has no place for {name}", HERE)
                weight = tensor.float().numpy()
                weight = _in_order(module, weight, config) if half == "lora_B" else weight
                writer.add_tensor(f"{place}.weight.{half.lower()}", weight)
    except OSError as error:
        raise CourseError(f"{target} cannot be written: {error}", ROOM) from error
    return target
