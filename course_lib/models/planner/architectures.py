"""Compute a model's matrix shapes, parameter counts and KV cache width from its config.json.

In a mixture of experts, a layer has several feed-forward parts, the experts. A small matrix, the router,
chooses a few of them for each token. A sliding window is the number of latest tokens to which a layer
attends. The KV cache holds the keys and values that a model has computed for earlier tokens. An encoder reads
a text and gives vectors or labels, but generates no text.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from course_lib.errors import CourseError

# Settings with which the parameter counts below would be wrong.
UNSUPPORTED = ("attention_bias", "mlp_bias", "use_sliding_window", "mlp_only_layers")
EXPERT_STEPS = ("decoder_sparse_step", "interleave_moe_layer_step")  # every n-th layer has experts: only 1


class Family(NamedTuple):
    """Properties that all models of one `model_type` share and that config.json does not state.

    norms: The number of normalization layers of the hidden width in each transformer layer.
    head_norms: Whether each layer also normalizes the heads of queries and of keys.
    query_bias: Whether the query, key and value projections have biases.
    fused: Whether query, key and value share one matrix, and so do gate and up, the first two matrices of
    the feed-forward part.
    window: The window in llama.cpp where the header of a file states none.
    full_every: Every n-th layer attends to all tokens and the others to a sliding window; 0 if all layers
    have the window.
    rolling_cache: Whether llama.cpp caches only the window in the sliding-window layers.
    eager: Whether transformers computes the full matrix of attention scores.
    encoder: Whether the model produces embeddings and has no KV cache.
    routed: Whether a router chooses experts in each layer.
    shared: Whether each layer has one more expert, which all tokens use.
    """

    norms: int = 2
    head_norms: bool = False
    query_bias: bool = False
    fused: bool = False
    window: int = 0
    full_every: int = 0
    rolling_cache: bool = False
    eager: bool = False
    encoder: bool = False
    routed: bool = False
    shared: bool = False


FAMILIES = {
    "llama": Family(),
    "mistral": Family(),
    "qwen2": Family(query_bias=True),
    "qwen3": Family(head_norms=True),
    "qwen3_moe": Family(head_norms=True, routed=True),
    "llama4_text": Family(window=8192, full_every=4, rolling_cache=True, routed=True, shared=True),
    "mixtral": Family(routed=True),
    "exaone4": Family(head_norms=True, full_every=4, rolling_cache=True),
    "gemma": Family(),
    "gemma2": Family(norms=4, window=4096, full_every=2, rolling_cache=True, eager=True),
    "gemma3_text": Family(norms=4, head_norms=True, full_every=6, rolling_cache=True),
    "phi3": Family(fused=True),
    "bert": Family(encoder=True),
}


ROUTER = "ffn_gate_inp"
MAX_LAYERS = 512  # llama.cpp's limit


class Matrix(NamedTuple):
    """A matrix of a layer, with the shape of torch.nn.Linear.

    name: As in llama.cpp's files. experts: How often it is there; used: how many of these one token uses.
    """

    name: str
    rows: int
    columns: int
    experts: int = 1
    used: int = 1

    @property
    def weights(self) -> int:
        return self.experts * self.rows * self.columns

    @property
    def routed(self) -> bool:
        """Whether it is one of several experts, or the router that chooses among them."""
        return self.experts > 1 or self.name == ROUTER


@dataclass(frozen=True)
class Architecture:
    """The sizes of a model.

    feed_forward: The width of the feed-forward part of a layer, or of one expert of it.
    window: The length in tokens of the sliding attention window, 0 if there is none.
    windowed: The number of layers with that window.
    tied: Whether input and output embeddings are one matrix.
    experts, experts_used: The number of experts of a layer, and of those that the router chooses for a token.
    """

    name: str
    type: str
    hidden: int
    feed_forward: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool
    context: int
    window: int
    windowed: int
    experts: int = 0
    experts_used: int = 0

    def __post_init__(self) -> None:
        """Raise ValueError for sizes that no model has."""
        sizes = (self.hidden, self.feed_forward, self.heads, self.kv_heads, self.head_dim, self.vocabulary)
        if min(*sizes, self.layers, self.context) < 1 or self.layers > MAX_LAYERS:
            text = f"layers={self.layers}, heads={self.heads} and {self.kv_heads} ({self.head_dim} wide)"
            raise ValueError(f"{text}, hidden={self.hidden}, context={self.context}")
        if not 0 <= self.experts_used <= self.experts or self.window < 0:
            text = f"{self.experts_used} of {self.experts} experts are used"
            raise ValueError(f"{text}, the window has {self.window} tokens")

    @property
    def family(self) -> Family:
        return FAMILIES.get(self.type, Family())

    @property
    def matrices(self) -> tuple[Matrix, ...]:
        """All matrices of one layer."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        if self.family.fused:
            attention = [Matrix("attn_qkv", queries + 2 * keys, self.hidden)]
        else:
            rows = {"attn_q": queries, "attn_k": keys, "attn_v": keys}
            attention = [Matrix(name, n, self.hidden) for name, n in rows.items()]
        return (*attention, Matrix("attn_output", self.hidden, queries), *self._feed_forward_matrices())

    def _feed_forward_matrices(self) -> list[Matrix]:
        if not self.experts:
            return self._block("", 1, 1)
        router = Matrix(ROUTER, self.experts, self.hidden)
        shared = self._block("_shexp", 1, 1) if self.family.shared else []
        return [router, *self._block("_exps", self.experts, self.experts_used), *shared]

    def _block(self, suffix: str, experts: int, used: int) -> list[Matrix]:
        """Return the matrices that a feed-forward part consists of."""
        up, wide = [f"ffn_up{suffix}"], self.feed_forward
        if self.family.fused:
            wide *= 2
        elif not self.family.encoder:
            up.insert(0, f"ffn_gate{suffix}")
        down = Matrix(f"ffn_down{suffix}", self.hidden, self.feed_forward, experts, used)
        return [*(Matrix(name, wide, self.hidden, experts, used) for name in up), down]

    @property
    def matrix_parameters(self) -> int:
        """The number of weights in the matrices of all layers."""
        return self.layers * sum(m.weights for m in self.matrices)

    @property
    def embedding_parameters(self) -> int:
        """The number of weights in input and output embeddings (and positions and segments in an encoder)."""
        positions = self.context + 2 if self.family.encoder else 0
        return self.hidden * (self.vocabulary * (1 if self.tied else 2) + positions)

    @property
    def norm_parameters(self) -> int:
        """The number of weights in norms and biases."""
        family, norm = self.family, self.hidden * (2 if self.family.encoder else 1)
        layer = family.norms * norm + family.head_norms * 2 * self.head_dim
        layer += family.query_bias * (self.heads + 2 * self.kv_heads) * self.head_dim
        layer += family.encoder * sum(m.rows for m in self.matrices)
        return self.layers * layer + norm

    @property
    def parameters(self) -> int:
        """The number of weights of the whole model."""
        return self.matrix_parameters + self.embedding_parameters + self.norm_parameters

    @property
    def active_parameters(self) -> int:
        """The number of weights that one token uses: without the experts that the router does not choose."""
        unused = sum((m.experts - m.used) * m.rows * m.columns for m in self.matrices)
        return self.parameters - self.layers * unused


def from_config(name: str, config: Mapping[str, Any]) -> Architecture:
    """Return the sizes stated in the contents of a config.json.

    Raises CourseError for an unknown model type, an unsupported setting or a missing field.
    """
    kind = config.get("model_type")
    if kind not in FAMILIES:
        message = f"{name} has the model type {kind!r}; the planner knows {', '.join(FAMILIES)}"
        raise CourseError(message, "choose a model of a known type, or load this one and measure its memory")
    for field in UNSUPPORTED:
        if config.get(field):
            message = f"{name} has {field}={config[field]!r}, which the planner does not support"
            raise CourseError(message, "load the model and measure its memory")
    family = FAMILIES[kind]
    for field in EXPERT_STEPS:
        if family.routed and config.get(field, 1) != 1:
            message = f"{name} has {field}={config[field]}: not every layer has experts"
            raise CourseError(message, "load the model and measure its memory")
    try:
        heads, layers = int(config["num_attention_heads"]), int(config["num_hidden_layers"])
        experts = int(config.get("num_experts") or config["num_local_experts"]) if family.routed else 0
        window = 0 if kind.startswith("qwen") else config.get("sliding_window")
        window = int(window or config.get("attention_chunk_size") or 0)
        return Architecture(
            name=name,
            type=kind,
            hidden=int(config["hidden_size"]),
            feed_forward=int(config.get("moe_intermediate_size") or config["intermediate_size"]),
            layers=layers,
            heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head_dim=int(config.get("head_dim") or config["hidden_size"] // heads),
            vocabulary=int(config["vocab_size"]),
            tied=kind == "bert" or bool(config["tie_word_embeddings"]),
            context=int(config["max_position_embeddings"]),
            window=window,
            windowed=_windowed(config, family.full_every, layers) if window else 0,
            experts=experts,
            experts_used=int(config["num_experts_per_tok"]) if experts else 0,
        )
    except KeyError as error:
        raise CourseError(
            f"the configuration of {name} has no field {error}", f"add {error} to its config.json"
        ) from None
    except (ValueError, TypeError, ArithmeticError) as error:
        message = f"the configuration of {name} states sizes that cannot be: {error}"
        raise CourseError(message, "download the model again") from error


def _windowed(config: Mapping[str, Any], full_every: int, layers: int) -> int:
    """Return the number of layers with a sliding window."""
    if config.get("layer_types"):
        return sum(kind != "full_attention" for kind in config["layer_types"])
    return layers - (layers // full_every if full_every else 0)


@functools.cache
def known_configs() -> dict[str, dict[str, Any]]:
    """Return, by name of a well-known model, the needed fields of its config.json and its parameter count."""
    import yaml

    text = (Path(__file__).parent / "architectures.yaml").read_text("utf-8")
    configs: dict[str, dict[str, Any]] = yaml.safe_load(text)
    return configs


def architectures() -> dict[str, Architecture]:
    """Return the architectures of the well-known models by name."""
    return {name: from_config(name, config) for name, config in known_configs().items()}
