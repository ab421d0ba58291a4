"""Write a Llama model folder as GGUF, the one file that llama.cpp and Ollama read (github.com/ggml-org/ggml, docs/gguf.md)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from course_lib.data import whole
from course_lib.errors import CourseError

if TYPE_CHECKING:
    import numpy as np

TYPES = ("f32", "f16", "bf16", "q8_0", "q4_0")  # bits per weight: 32, 16, 16, 8.5, 4.5
BLOCK = 32  # weights that share a scale in q8_0 and q4_0


def interleave(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of a query or key projection in llama.cpp's order: it rotates neighbours (0, 1), transformers halves (0, d/2).

    weight: (heads * head_dim, hidden).
    """
    rows, hidden = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, hidden).swapaxes(1, 2).reshape(rows, hidden)


def _metadata(writer: Any, folder: Path, config: dict[str, Any], kind: str) -> None:
    import gguf

    head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    writer.add_name(folder.name)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    name = "ALL_F32" if kind == "f32" else f"MOSTLY_{kind.upper()}"
    writer.add_file_type(gguf.LlamaFileType[name])


def _tokenizer(writer: Any, folder: Path, config: dict[str, Any]) -> None:
    """Byte-level BPE with its merges. Digits and punctuation, which we split one by one, need no rule: no merge joins them."""
    import gguf

    said = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    vocabulary, added = said["model"]["vocab"], {t["content"] for t in said["added_tokens"]}
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([control if t in added else normal for t in tokens])
    writer.add_token_merges([" ".join(pair) for pair in said["model"]["merges"]])
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_pad_token_id(config["pad_token_id"])
    writer.add_add_bos_token(False)  # the chat template writes it
    writer.add_chat_template((folder / "chat_template.jinja").read_text("utf-8"))


def _in_order(module: str, weight: np.ndarray, config: dict[str, Any]) -> np.ndarray:
    """A weight whose rows are the outputs of `module`, with the rows of query and key projections as llama.cpp wants them."""
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}.get(module.split(".")[-1])
    return interleave(weight, heads) if heads else weight


def _tensors(writer: Any, folder: Path, config: dict[str, Any], kind: str) -> None:
    import gguf
    from safetensors.torch import load_file

    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    for name, tensor in load_file(folder / "model.safetensors").items():
        weight = _in_order(name.removesuffix(".weight"), tensor.float().numpy(), config)
        wanted = gguf.GGMLQuantizationType[kind.upper() if weight.ndim == 2 else "F32"]  # norms stay whole
        packed = gguf.quants.quantize(weight, wanted)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), packed, raw_dtype=wanted)


def export(folder: Path, target: Path, kind: str = "f32") -> Path:
    """Write the model in `folder` (config, tokenizer, safetensors) to `target` with weights of `kind`, one of TYPES.

    Raises ValueError for an unknown kind; CourseError for another architecture, for dimensions that blocks of 32 do not
    divide, and where `target` cannot be written. No half-written file stays.
    """
    import gguf

    if kind not in TYPES:
        raise ValueError(f"kind={kind!r}; one of {', '.join(TYPES)}")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    if config.get("architectures") != ["LlamaForCausalLM"]:
        raise CourseError(
            f"{folder.name} is {config.get('architectures')}; only LlamaForCausalLM can be exported", "course models"
        )
    if kind.startswith("q") and (config["hidden_size"] % BLOCK or config["intermediate_size"] % BLOCK):
        sizes = f"hidden {config['hidden_size']}, intermediate {config['intermediate_size']}"
        raise CourseError(
            f"{kind} packs weights by {BLOCK}, which does not divide {sizes}",
            f"course export {folder.name} --type f16 --out {target}",
        )
    try:
        with whole(target) as partial:
            writer = gguf.GGUFWriter(partial, "llama")
            _metadata(writer, folder, config, kind)
            _tokenizer(writer, folder, config)
            _tensors(writer, folder, config, kind)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
            writer.close()
    except OSError as error:
        raise CourseError(
            f"{target} cannot be written: {error}", "choose a folder that you can write and that has room"
        ) from error
    return target


def context(path: Path) -> int:
    """Tokens that a model was made to read: from the config of a folder, or from a .gguf file.

    Raises CourseError for a file that cannot be read or does not say it.
    """
    import gguf

    try:
        if path.is_dir():
            return int(json.loads((path / "config.json").read_text("utf-8"))["max_position_embeddings"])
        reader = gguf.GGUFReader(path)
        architecture = reader.get_field("general.architecture")
        length = reader.get_field(f"{architecture.contents()}.context_length") if architecture else None
        if length is None:
            raise KeyError("context_length")
        return int(length.contents())
    except (ValueError, OSError, KeyError, IndexError, OverflowError, MemoryError, TypeError) as error:
        raise CourseError(f"{path.name} does not say how long a text it reads: {error}", "download or export it again") from error


def export_adapter(folder: Path, base: Path, target: Path) -> Path:
    """Write a LoRA adapter in PEFT form, of the model in `base`, as GGUF, for llama.cpp.

    Its scale is alpha / rank, or alpha / sqrt(rank) for rsLoRA.

    Raises CourseError for a folder that is no LoRA adapter of a Llama model, or has parts that GGUF cannot hold.
    """
    import gguf
    from safetensors.torch import load_file

    try:
        said = json.loads((folder / "adapter_config.json").read_text("utf-8"))
        weights = load_file(folder / "adapter_model.safetensors")
        config = json.loads((base / "config.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise CourseError(f"{folder} is no LoRA adapter: {error}", "name the folder that save_pretrained wrote") from error
    rank, names = int(said["r"]), gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 1000)
    with whole(target) as partial:
        writer = gguf.GGUFWriter(partial, "llama")
        writer.add_type("adapter")
        writer.add_string("adapter.type", "lora")
        writer.add_float32("adapter.lora.alpha", said["lora_alpha"] * (rank**0.5 if said.get("use_rslora") else 1))
        for name, tensor in weights.items():
            module, _, half = name.removeprefix("base_model.model.").removesuffix(".weight").rpartition(".")
            place = names.get_name(module)
            if place is None or half not in ("lora_A", "lora_B"):
                raise CourseError(f"{folder.name}: llama.cpp has no place for {name}", "use driver: huggingface")
            weight = tensor.float().numpy()
            weight = _in_order(module, weight, config) if half == "lora_B" else weight
            writer.add_tensor(f"{place}.weight.{half.lower()}", weight)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return target
