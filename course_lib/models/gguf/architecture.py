"""Describe a model for llama.cpp: its architecture and sizes, and the names and layout of its tensors.

The names come from the tables of the package gguf. A model that llama.cpp would compute differently is
refused. Rotary positions (RoPE): attention rotates pairs of numbers by angles that grow with a token's
position. A projection (q_proj, k_proj, v_proj) is a matrix that makes the queries, keys and values of
attention. A head is one of the parts into which attention is divided.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from course_lib.errors import CourseError
from course_lib.models.files.headers import read_json

if TYPE_CHECKING:
    import numpy as np

Array = Any  # a numpy array or a tensor of torch
CONVERT = "convert it with convert_hf_to_gguf.py from the llama.cpp repository"
USE_TRANSFORMERS = 'load(..., driver="huggingface")'
CLASSES = {  # class of transformers -> architecture of llama.cpp
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "llama",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
    "Gemma2ForCausalLM": "gemma2",
    "Gemma3ForCausalLM": "gemma3",
}
# llama.cpp: every n-th layer of Gemma attends to the whole text, the others to the latest tokens (the window)
LAYERS_PER_FULL_ATTENTION = {"gemma2": 2, "gemma3": 6}
LAYERS_OF_27B = {"gemma2": 46, "gemma3": 62}  # llama.cpp scales the attention of the 27B models differently


@dataclass(frozen=True)
class Architecture:
    """A model for llama.cpp.

    name: the architecture in llama.cpp. config: transformers' configuration, with defaults filled in. label:
    the model's name in messages.
    """

    name: str
    config: dict[str, Any]
    label: str

    @property
    def is_gemma(self) -> bool:
        return self.name.startswith("gemma")

    @property
    def head_width(self) -> int:
        return int(self.config.get("head_dim") or self.config["hidden_size"] // self.heads("q_proj"))

    def heads(self, projection: str) -> int:
        """Return the number of heads of q_proj, or of k_proj and v_proj."""
        return int(self.config["num_attention_heads" if projection == "q_proj" else "num_key_value_heads"])

    @property
    def rope(self) -> dict[str, Any]:
        """The settings of rotary positions in the layers that attend to the whole text."""
        rope: dict[str, Any] = self.config["rope_parameters"]
        return rope.get("full_attention", rope)

    @property
    def sliding_rope(self) -> dict[str, Any] | None:
        """The settings of rotary positions in layers with a sliding window, if they differ."""
        sliding: dict[str, Any] | None = self.config["rope_parameters"].get("sliding_attention")
        return sliding

    # -- tensors ------------------------------------------------------------------------------------------

    @functools.cached_property
    def _names(self) -> Any:
        import gguf

        arch = next(a for a, name in gguf.MODEL_ARCH_NAMES.items() if name == self.name)
        return gguf.get_tensor_name_map(arch, self.config["num_hidden_layers"])

    def gguf_name(self, name: str) -> str:
        """Return llama.cpp's name of a tensor, or of a module. Raises CourseError if it has none."""
        target = self._names.get_name(name, try_suffixes=(".weight", ".bias"))
        # llama.cpp reads biases of these architectures only; of others, a file with biases cannot be loaded
        if target is None or (name.endswith(".bias") and self.name not in ("llama", "qwen2")):
            raise CourseError(
                f"{self.label}: llama.cpp has no tensor for {name} in {self.name}", USE_TRANSFORMERS
            )
        return str(target)

    def to_gguf(self, name: str, weight: Array) -> Array:
        """Return a tensor of transformers in llama.cpp's layout. name: transformers' name of it."""
        return self._convert(name, weight, inverse=False)

    def from_gguf(self, name: str, weight: Array) -> Array:
        """Return a tensor of llama.cpp in transformers' layout. name: transformers' name of it."""
        return self._convert(name, weight, inverse=True)

    def _convert(self, name: str, weight: Array, inverse: bool) -> Array:
        if self.is_gemma and name.endswith("norm.weight"):
            return weight - 1 if inverse else weight + 1  # transformers multiplies by 1 + weight
        projection = next((p for p in ("q_proj", "k_proj") if f".{p}." in f"{name}."), None)
        if self.name != "llama" or projection is None:
            return weight
        return interleave(weight, self.heads(projection), inverse)


def interleave(weight: Array, heads: int, inverse: bool = False) -> Array:
    """Reorder the rows of a projection from transformers' rotary layout to the layout of llama.cpp's Llama.

    llama.cpp rotates neighbouring rows (0 with 1), transformers rows of the two halves (0 with head_dim / 2).
    weight: Shape (heads * head_dim, hidden), or (heads * head_dim,) for a bias. inverse: Reorder them back.
    """
    rows, *rest = weight.shape
    halves = (rows // heads // 2, 2) if inverse else (2, rows // heads // 2)
    return weight.reshape(heads, *halves, *rest).swapaxes(1, 2).reshape(weight.shape)


# -- configuration ----------------------------------------------------------------------------------------


def read_architecture(folder: Path) -> Architecture:
    """Return the architecture of a model folder.

    Raises CourseError for an incomplete folder, quantized weights, another architecture, and for settings
    that llama.cpp does not know.
    """
    from transformers import AutoConfig

    from course_lib.models.files.resolution import check_folder  # lazy: the command line imports TYPES only

    config = read_json(check_folder(folder), "config.json")
    classes = config.get("architectures") or []
    if len(classes) != 1 or classes[0] not in CLASSES:
        what = f"{folder.name} has the architecture {', '.join(classes) or 'none'}; supported are "
        raise CourseError(what + ", ".join(CLASSES), CONVERT)
    if config.get("quantization_config"):
        what = f"{folder.name} holds quantized weights, which would be rounded a second time"
        raise CourseError(what, "export the unquantized model")
    complete = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False).to_dict()
    architecture = Architecture(CLASSES[classes[0]], complete, folder.name)
    check_supported(architecture)
    return architecture


def check_supported(architecture: Architecture) -> None:
    """Raise CourseError for settings that llama.cpp does not know."""
    if unsupported := list(_unsupported(architecture)):
        what = f"{architecture.label} has {' and '.join(unsupported)}: llama.cpp computes "
        raise CourseError(f"{what}{architecture.name} otherwise", USE_TRANSFORMERS)


def _unsupported(architecture: Architecture) -> Iterator[str]:
    """Describe each setting that llama.cpp lacks for the architecture, or fixes to another value."""
    config, name, rope = architecture.config, architecture.name, architecture.rope
    activation = config["hidden_activation" if architecture.is_gemma else "hidden_act"]
    if activation != ("gelu_pytorch_tanh" if architecture.is_gemma else "silu"):
        yield f"the activation {activation!r}"
    if rope["rope_type"] not in ("default", "linear", *(["llama3"] if name == "llama" else [])):
        yield f"rope_type {rope['rope_type']!r}"
    if rope.get("partial_rotary_factor", 1) != 1:
        yield f"partial_rotary_factor {rope['partial_rotary_factor']}"
    if (architecture.sliding_rope or {"rope_type": "default"})["rope_type"] != "default":
        yield "stretched positions in layers with a sliding window"
    period = LAYERS_PER_FULL_ATTENTION.get(name, 1)
    layers = range(1, config["num_hidden_layers"] + 1)
    types = ["sliding_attention" if layer % period else "full_attention" for layer in layers]
    if config.get("layer_types", types) != types:
        yield "other layer_types"
    window = config.get("sliding_window")
    if not architecture.is_gemma and window and window < config["max_position_embeddings"]:
        yield f"a sliding window of {window}"
    if architecture.is_gemma:
        yield from _unsupported_gemma(architecture)


def _unsupported_gemma(architecture: Architecture) -> Iterator[str]:
    config, name = architecture.config, architecture.name
    is_27b = LAYERS_OF_27B[name] == config["num_hidden_layers"]
    scalar = config["hidden_size"] / architecture.heads("q_proj") if is_27b else architecture.head_width
    if config["query_pre_attn_scalar"] != scalar:
        yield f"query_pre_attn_scalar {config['query_pre_attn_scalar']} instead of {scalar:g}"
    if config.get("use_bidirectional_attention"):
        yield "use_bidirectional_attention"
    attention, final = config["attn_logit_softcapping"], config["final_logit_softcapping"]
    if name == "gemma3" and attention:
        yield f"attn_logit_softcapping {attention}"
    if name == "gemma2" and not (attention and final):
        yield "no attn_logit_softcapping or final_logit_softcapping"


def write_metadata(writer: Any, architecture: Architecture) -> None:
    """Write the sizes and settings of a model. writer: a gguf.GGUFWriter of this architecture."""
    import gguf

    config, rope = architecture.config, architecture.rope
    writer.add_name(architecture.label)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(architecture.heads("q_proj"))
    writer.add_head_count_kv(architecture.heads("k_proj"))
    writer.add_key_length(architecture.head_width)
    writer.add_value_length(architecture.head_width)
    writer.add_rope_dimension_count(architecture.head_width)
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    if rope["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    if architecture.sliding_rope:
        writer.add_rope_freq_base_swa(architecture.sliding_rope["rope_theta"])
    if architecture.is_gemma:
        writer.add_sliding_window(config["sliding_window"])
        if config["attn_logit_softcapping"]:
            writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
        if config["final_logit_softcapping"]:
            writer.add_final_logit_softcapping(config["final_logit_softcapping"])


def rope_divisors(config: dict[str, Any]) -> np.ndarray:
    """Return the divisors by which Llama 3 stretches its rotary frequencies, shape (head_dim / 2,)."""
    import numpy as np
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    rope, width = config["rope_parameters"], config["head_dim"]
    frequencies, _ = ROPE_INIT_FUNCTIONS["llama3"](LlamaConfig.from_dict(config), device="cpu")
    original = rope["rope_theta"] ** -(np.arange(0, width, 2) / width)
    return (original / frequencies.double().numpy()).astype(np.float32)
