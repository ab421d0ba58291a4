"""What a configuration says about memory: how many weights, in matrices, embeddings and norms, and what a token's cache takes."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from course_lib.errors import CourseError

TUNED = re.compile(r"-(instruct|it|chat)\b", re.IGNORECASE)  # a tuned model has the sizes of its base
OTHER_LAYERS = (
    "attention_bias",
    "mlp_bias",
    "use_sliding_window",
)  # change what is counted here where they are true


class Family(NamedTuple):
    """What the models of one type have in common and their configurations do not say.

    norms: of hidden width, in a layer. head_norms: one for the heads of queries, one for those of keys. query_bias: queries,
    keys and values have one. fused: these three are one matrix, gate and up another. every: each such layer sees all, where
    the others see a window; 0: all see the window. ring: llama.cpp keeps no more than the window of those layers. eager:
    transformers multiplies out the scores of attention. encoder: gives vectors, and keeps no cache.
    """

    norms: int = 2
    head_norms: bool = False
    query_bias: bool = False
    fused: bool = False
    every: int = 0
    ring: bool = False
    eager: bool = False
    encoder: bool = False


FAMILIES = {
    "llama": Family(),
    "mistral": Family(),
    "qwen2": Family(query_bias=True),
    "qwen3": Family(head_norms=True),
    "exaone4": Family(head_norms=True, every=4, ring=True),
    "gemma2": Family(norms=4, every=2, ring=True, eager=True),
    "gemma3_text": Family(norms=4, head_norms=True, every=6, ring=True),
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
        """(rows, columns) of every matrix of one layer, as torch.nn.Linear holds them."""
        wide, narrow = self.heads * self.head_dim, self.kv_heads * self.head_dim
        up, down = (self.feed_forward, self.hidden), (self.hidden, self.feed_forward)
        if self.family.fused:
            return (
                (wide + 2 * narrow, self.hidden),
                (self.hidden, wide),
                (2 * self.feed_forward, self.hidden),
                down,
            )
        attention = (wide, self.hidden), (narrow, self.hidden), (narrow, self.hidden), (self.hidden, wide)
        return (*attention, *(up,) * (1 if self.family.encoder else 2), down)

    @property
    def matrix_parameters(self) -> int:
        """Weights in the matrices of all layers."""
        return self.layers * sum(rows * columns for rows, columns in self.matrices)

    @property
    def embedding_parameters(self) -> int:
        """Weights that turn tokens, and in an encoder places and the two kinds of text, into vectors and vectors into tokens."""
        places = self.context + 2 if self.family.encoder else 0
        return self.hidden * (self.vocabulary * (1 if self.tied else 2) + places)

    @property
    def norm_parameters(self) -> int:
        """Weights of norms and biases."""
        family, norm = self.family, self.hidden * (2 if self.family.encoder else 1)
        a_layer = family.norms * norm + family.head_norms * 2 * self.head_dim
        a_layer += family.query_bias * (self.heads + 2 * self.kv_heads) * self.head_dim
        a_layer += family.encoder * sum(rows for rows, _ in self.matrices)
        return self.layers * a_layer + norm

    @property
    def parameters(self) -> int:
        return self.matrix_parameters + self.embedding_parameters + self.norm_parameters


def from_config(name: str, said: Mapping[str, Any]) -> Architecture:
    """The sizes in the fields of a config.json, all of which must be there.

    Raises CourseError for a type of model that is not known here, for layers that are not, and for a field that is missing.
    """
    kind = said.get("model_type")
    if kind not in FAMILIES:
        raise CourseError(
            f"{name} is of the type {kind!r}; known are {', '.join(FAMILIES)}",
            "name one of these, or load it",
        )
    for field in OTHER_LAYERS:
        if said.get(field):
            raise CourseError(
                f"{name} has {field}={said[field]!r}, which is not counted here", "load it, and measure"
            )
    try:
        heads, layers = int(said["num_attention_heads"]), int(said["num_hidden_layers"])
        window = 0 if kind.startswith("qwen") else int(said.get("sliding_window") or 0)
        return Architecture(
            name,
            kind,
            int(said["hidden_size"]),
            int(said["intermediate_size"]),
            layers,
            heads,
            int(said.get("num_key_value_heads") or heads),
            int(said.get("head_dim") or said["hidden_size"] // heads),
            int(said["vocab_size"]),
            kind == "bert" or bool(said["tie_word_embeddings"]),
            int(said["max_position_embeddings"]),
            window,
            _windowed(said, FAMILIES[kind].every, layers) if window else 0,
        )
    except KeyError as error:
        raise CourseError(f"the configuration of {name} does not say {error}", "complete it") from None


def _windowed(said: Mapping[str, Any], every: int, layers: int) -> int:
    if said.get("layer_types"):
        return sum("sliding" in kind for kind in said["layer_types"])
    return layers - (layers // every if every else 0)


@functools.cache
def _facts() -> dict[str, dict[str, Any]]:
    import yaml

    found: dict[str, dict[str, Any]] = yaml.safe_load(
        (Path(__file__).parent / "architectures.yaml").read_text("utf-8")
    )
    return found


def architectures() -> dict[str, Architecture]:
    """Every architecture of the list, by its name there."""
    return {name: from_config(name, said) for name, said in _facts().items()}


def facts(name: str) -> dict[str, Any]:
    """What the list says of a model, in the words of config.json, and its number of parameters."""
    return dict(_facts()[name])


def architecture(of: str | Path | Architecture) -> Architecture:
    """A model's sizes: of a well-known one or a shipped one by its name, of a folder by its config.json. No weights are read.

    Raises CourseError for an unknown name, with those that are alike, and for a configuration that is not known here.
    """
    if isinstance(of, Architecture):
        return of
    from course_lib.models.catalog import shipped
    from course_lib.models.schema.sources import PATH

    if isinstance(of, Path) or PATH.match(of):
        return _in_folder(Path(of).expanduser())
    names = {name.lower(): name for name in _facts()}
    found = names.get(of.lower()) or names.get(TUNED.sub("", of).lower())
    if found:
        return from_config(found, _facts()[found])
    if of in shipped():
        from course_lib.data import MODELS

        return _in_folder(MODELS / of)
    from difflib import get_close_matches

    alike = [names.get(n, n) for n in get_close_matches(of.lower(), [*names, *shipped()], cutoff=0.5)]
    raise CourseError(
        f"the sizes of {of!r} are not known here", f"name {' or '.join(alike) or 'the folder of the model'}"
    )


def _in_folder(folder: Path) -> Architecture:
    """transformers completes what the file leaves to its defaults."""
    try:
        said = json.loads((folder / "config.json").read_text("utf-8"))
        kind = said.get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise CourseError(
            f"{folder} has no config.json that can be read: {error}", "name a folder in Hugging Face form"
        ) from error
    if kind not in FAMILIES:
        return from_config(folder.name, said)
    from transformers import AutoConfig

    return from_config(folder.name, AutoConfig.for_model(**said).to_dict())
