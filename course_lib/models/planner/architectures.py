"""Compute a model's matrix shapes, parameter counts and KV cache width from its config.json."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from course_lib.data import MODELS
from course_lib.errors import CourseError
from course_lib.models.catalog import shipped
from course_lib.models.schema.sources import PATH_START

# The suffix of fine-tuned models, which have the sizes of their base model.
TUNED = re.compile(r"-(instruct|it|chat)\b", re.IGNORECASE)
# Settings for which the parameter counts below would be wrong.
UNSUPPORTED = ("attention_bias", "mlp_bias", "use_sliding_window")


class Family(NamedTuple):
    """Properties that all models of one `model_type` share and that config.json does not state.

    norms: The number of normalization layers of the hidden width in each transformer layer.
    head_norms: Whether each layer also normalizes the heads of queries and of keys.
    query_bias: Whether the query, key and value projections have biases.
    fused: Whether query, key and value share one matrix, and gate and up another.
    full_every: Every n-th layer attends to all tokens and the others to a sliding window; 0 if all layers
    have the window.
    rolling_cache: Whether llama.cpp caches only the window in the sliding-window layers.
    eager: Whether transformers computes the full matrix of attention scores.
    encoder: Whether the model produces embeddings and has no KV cache.
    """

    norms: int = 2
    head_norms: bool = False
    query_bias: bool = False
    fused: bool = False
    full_every: int = 0
    rolling_cache: bool = False
    eager: bool = False
    encoder: bool = False


FAMILIES = {
    "llama": Family(),
    "mistral": Family(),
    "qwen2": Family(query_bias=True),
    "qwen3": Family(head_norms=True),
    "exaone4": Family(head_norms=True, full_every=4, rolling_cache=True),
    "gemma2": Family(norms=4, full_every=2, rolling_cache=True, eager=True),
    "gemma3_text": Family(norms=4, head_norms=True, full_every=6, rolling_cache=True),
    "phi3": Family(fused=True),
    "bert": Family(encoder=True),
}


@dataclass(frozen=True)
class Architecture:
    """The sizes of a model.

    window: The length in tokens of the sliding attention window, 0 if there is none.
    windowed: The number of layers with that window.
    tied: Whether input and output embeddings are one matrix.
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

    @property
    def family(self) -> Family:
        return FAMILIES[self.type]

    @property
    def matrices(self) -> tuple[tuple[int, int], ...]:
        """The shape (rows, columns) of every matrix of one layer, as in torch.nn.Linear."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        down = (self.hidden, self.feed_forward)
        if self.family.fused:
            attention = [(queries + 2 * keys, self.hidden)]
            up = [(2 * self.feed_forward, self.hidden)]
        else:
            attention = [(queries, self.hidden), (keys, self.hidden), (keys, self.hidden)]
            up = [(self.feed_forward, self.hidden)] * (1 if self.family.encoder else 2)
        return (*attention, (self.hidden, queries), *up, down)

    @property
    def matrix_parameters(self) -> int:
        """The number of weights in the matrices of all layers."""
        return self.layers * sum(rows * columns for rows, columns in self.matrices)

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
        layer += family.encoder * sum(rows for rows, _ in self.matrices)
        return self.layers * layer + norm

    @property
    def parameters(self) -> int:
        """The number of weights of the whole model."""
        return self.matrix_parameters + self.embedding_parameters + self.norm_parameters


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
    try:
        heads, layers = int(config["num_attention_heads"]), int(config["num_hidden_layers"])
        window = 0 if kind.startswith("qwen") else int(config.get("sliding_window") or 0)
        return Architecture(
            name=name,
            type=kind,
            hidden=int(config["hidden_size"]),
            feed_forward=int(config["intermediate_size"]),
            layers=layers,
            heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head_dim=int(config.get("head_dim") or config["hidden_size"] // heads),
            vocabulary=int(config["vocab_size"]),
            tied=kind == "bert" or bool(config["tie_word_embeddings"]),
            context=int(config["max_position_embeddings"]),
            window=window,
            windowed=_windowed(config, FAMILIES[kind].full_every, layers) if window else 0,
        )
    except KeyError as error:
        raise CourseError(
            f"the configuration of {name} has no field {error}", f"add {error} to its config.json"
        ) from None


def _windowed(config: Mapping[str, Any], full_every: int, layers: int) -> int:
    """Return the number of layers with a sliding window."""
    if config.get("layer_types"):
        return sum("sliding" in kind for kind in config["layer_types"])
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


def architecture(model: str | Path | Architecture) -> Architecture:
    """Return the sizes of a model: a well-known or shipped one by name, or a folder with a config.json.

    Raises CourseError for an unknown name (suggesting similar ones) and for an unsupported configuration.
    """
    if isinstance(model, Architecture):
        return model
    if isinstance(model, Path) or PATH_START.match(model):
        return _in_folder(Path(model).expanduser())
    names = {name.lower(): name for name in known_configs()}
    name = names.get(model.lower()) or names.get(TUNED.sub("", model).lower())
    if name:
        return from_config(name, known_configs()[name])
    if model in shipped():
        return _in_folder(MODELS / model)
    similar = [names.get(n, n) for n in get_close_matches(model.lower(), [*names, *shipped()], cutoff=0.5)]
    fix = f"use {' or '.join(similar) or 'the path of the model folder'}"
    raise CourseError(f"the planner does not know a model {model!r}", fix)


def _in_folder(folder: Path) -> Architecture:
    """Return the sizes from a folder's config.json; transformers' defaults fill in missing fields."""
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        kind = config.get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        message = f"{folder} has no readable config.json: {error}"
        raise CourseError(message, "use a Hugging Face model folder (config.json and safetensors)") from error
    if kind in FAMILIES:
        from transformers import AutoConfig

        config = AutoConfig.for_model(**config).to_dict()
    return from_config(folder.name, config)
