"""The sizes of a model from its configuration: weights, matrices, and the width of the KV cache."""

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

TUNED = re.compile(r"-(instruct|it|chat)\b", re.IGNORECASE)  # a tuned model has the sizes of its base
UNSUPPORTED = ("attention_bias", "mlp_bias", "use_sliding_window")  # true, they change what is counted here


class Family(NamedTuple):
    """What the models of one type have in common and their configurations do not contain.

    norms: of hidden width, in a layer. head_norms: one for the heads of queries, one for those of keys.
    query_bias: of queries, keys and values. fused: these three are one matrix, gate and up another.
    full_every: each such layer sees all tokens and the others a window; 0: all see the window. rolling_cache:
    llama.cpp keeps only the window of those layers. eager: transformers computes all scores of attention.
    encoder: it gives vectors and has no KV cache.
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
    """The sizes of a model. window: tokens that `windowed` of its layers see, 0 where all see all."""

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
        """(rows, columns) of every matrix of one layer, as torch.nn.Linear has them."""
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
        """Weights in the matrices of all layers."""
        return self.layers * sum(rows * columns for rows, columns in self.matrices)

    @property
    def embedding_parameters(self) -> int:
        """Weights of embeddings (in an encoder of positions and segments too) and of the output."""
        positions = self.context + 2 if self.family.encoder else 0
        return self.hidden * (self.vocabulary * (1 if self.tied else 2) + positions)

    @property
    def norm_parameters(self) -> int:
        """Weights of norms and biases."""
        family, norm = self.family, self.hidden * (2 if self.family.encoder else 1)
        layer = family.norms * norm + family.head_norms * 2 * self.head_dim
        layer += family.query_bias * (self.heads + 2 * self.kv_heads) * self.head_dim
        layer += family.encoder * sum(rows for rows, _ in self.matrices)
        return self.layers * layer + norm

    @property
    def parameters(self) -> int:
        return self.matrix_parameters + self.embedding_parameters + self.norm_parameters


def from_config(name: str, config: Mapping[str, Any]) -> Architecture:
    """The sizes in a complete config.json.

    Raises CourseError for an unknown type of model or of layer, and for a missing field.
    """
    kind = config.get("model_type")
    if kind not in FAMILIES:
        what = f"{name} is of the type {kind!r}; known are {', '.join(FAMILIES)}"
        raise CourseError(what, "choose a model of these types, or load it and measure")
    for field in UNSUPPORTED:
        if config.get(field):
            what = f"{name} has {field}={config[field]!r}, which is not counted here"
            raise CourseError(what, "load it, and measure")
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
        raise CourseError(f"the configuration of {name} has no field {error}", "add it") from None


def _windowed(config: Mapping[str, Any], full_every: int, layers: int) -> int:
    """How many layers see a window."""
    if config.get("layer_types"):
        return sum("sliding" in kind for kind in config["layer_types"])
    return layers - (layers // full_every if full_every else 0)


@functools.cache
def known_configs() -> dict[str, dict[str, Any]]:
    """Name of a well-known model -> its config.json, where it matters here, and its number of parameters."""
    import yaml

    text = (Path(__file__).parent / "architectures.yaml").read_text("utf-8")
    configs: dict[str, dict[str, Any]] = yaml.safe_load(text)
    return configs


def architectures() -> dict[str, Architecture]:
    """The architectures of the well-known models by name."""
    return {name: from_config(name, config) for name, config in known_configs().items()}


def architecture(of: str | Path | Architecture) -> Architecture:
    """The sizes of a well-known or shipped model by its name, or of a folder by its config.json.

    Raises CourseError for an unknown name, with similar names, and for an unknown configuration.
    """
    if isinstance(of, Architecture):
        return of
    if isinstance(of, Path) or PATH_START.match(of):
        return _in_folder(Path(of).expanduser())
    names = {name.lower(): name for name in known_configs()}
    name = names.get(of.lower()) or names.get(TUNED.sub("", of).lower())
    if name:
        return from_config(name, known_configs()[name])
    if of in shipped():
        return _in_folder(MODELS / of)
    similar = [names.get(n, n) for n in get_close_matches(of.lower(), [*names, *shipped()], cutoff=0.5)]
    fix = f"name {' or '.join(similar) or 'the folder of the model'}"
    raise CourseError(f"the sizes of {of!r} are not known here", fix)


def _in_folder(folder: Path) -> Architecture:
    """The sizes in a folder's config.json, with transformers' defaults for what it leaves out."""
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        kind = config.get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        what = f"{folder} has no config.json that can be read: {error}"
        raise CourseError(what, "name a folder in Hugging Face form") from error
    if kind in FAMILIES:
        from transformers import AutoConfig

        config = AutoConfig.for_model(**config).to_dict()
    return from_config(folder.name, config)
