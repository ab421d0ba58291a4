"""The specification of a model: its source, the driver that runs it, its task and its settings."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, model_validator

from course_lib import data
from course_lib.models import catalog
from course_lib.models.schema.generation import Generation
from course_lib.models.schema.sources import (
    SERVER_DRIVERS,
    HuggingFaceSource,
    LocalSource,
    ServerSource,
    Source,
    is_path,
    source_from_text,
)
from course_lib.models.schema.validation import FieldError, Frozen, SpecError, validate

Driver = Literal["huggingface", "llamacpp", "ollama", "openai", "custom", "unsloth", "vllm"]
Task = Literal["text-generation", "chat-completion", "text-classification", "text-embedding", "rerank"]
Precision = Literal["auto", "float32", "float16", "bfloat16"]
Quantization = Literal["none", "int8", "nf4", "fp4", "q8_0", "q4_0"]
CombinationType = Literal["cat", "svd", "linear"]
QUANTIZATIONS = {  # driver -> the quantizations that it has
    "huggingface": ("int8", "nf4", "fp4"),
    "llamacpp": ("q8_0", "q4_0"),
}


class Adapter(Frozen):
    """A LoRA adapter in PEFT form and its weight. A text is its source: a path, a shipped name, a hub id."""

    source: LocalSource | HuggingFaceSource = Field(discriminator="type")
    name: str | None = Field(None, min_length=1, max_length=100, description="for messages")
    weight: float = Field(1.0, ge=-10, le=10)

    @model_validator(mode="before")
    @classmethod
    def _source_from_text(cls, value: Any) -> Any:
        fields = {"source": value} if isinstance(value, str | Path) else value
        if not isinstance(fields, dict) or not isinstance(fields.get("source"), str | Path):
            return fields
        text = fields["source"]
        shipped = isinstance(text, str) and catalog.is_adapter(text)
        return fields | {"source": source_from_text(data.MODELS / text if shipped else text)}

    @property
    def label(self) -> str:
        """Its name, or that of its folder or repository."""
        source = self.source
        return self.name or (source.path.name if isinstance(source, LocalSource) else source.repository)


class ModelSpec(Frozen):
    """What `load` and `ModelManager` take. `docs/model-fields.md` says which driver acts on which field."""

    source: Source
    driver: Driver = Field("huggingface", description="what runs it; of a .gguf file: llamacpp")
    implementation: str | None = Field(None, description="name of a registered class, for the driver custom")
    task: Task = Field("chat-completion", description="what it is for; of a model of the catalogue: its own")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="auto: a GPU if there is one")
    device_mode: Literal["single", "auto"] = Field("single", description="auto: over all GPUs (accelerate)")
    precision: Precision = Field(
        "auto", description="of weights that are not quantized; auto: 32 bits on a CPU, else as stored"
    )
    quantization: Quantization = Field("none", description="of the weights; none if they are stored so")
    compute_dtype: Precision = Field("auto", description="of products with nf4, fp4; auto: as precision")
    double_quantization: bool = Field(False, description="pack the scales of nf4 and fp4, too")
    context_length: int | None = Field(None, ge=8, le=10_000_000, description="tokens: prompt and answer")
    batch_size: int | None = Field(None, ge=1, le=1024, description="prompts computed at once")
    low_cpu_mem_usage: bool | None = Field(None, description="true: map the file; false: read a copy")
    adapters: tuple[Adapter, ...] = Field((), max_length=16, description="LoRA: sources, names, weights")
    combination_type: CombinationType = Field(
        "cat", description="of adapters: cat is their exact sum; svd and linear are peft's, and are not"
    )
    keep_alive: float = Field(300, ge=-1, description="seconds without use until it is unloaded; -1: never")
    generation: Generation = Field(default_factory=Generation)

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, value: Any) -> Any:
        """Resolve a text by the catalogue or by its form; a .gguf file is run by llama.cpp."""
        if not isinstance(value, dict):
            return value
        if isinstance(value.get("source"), str):
            value = _resolve_text(value["source"], value)
        if "driver" not in value and _is_gguf(value.get("source")):
            value = value | {"driver": "llamacpp"}
        return value

    @model_validator(mode="after")
    def _check_combination(self) -> ModelSpec:
        served, from_server = self.driver in SERVER_DRIVERS, isinstance(self.source, ServerSource)
        if served != from_server and self.driver != "custom":
            kind, other = (
                ("a server source", "huggingface")
                if served
                else ("a source of type huggingface or local", "ollama")
            )
            what = f"driver: {self.driver} takes {kind}, not {self.source.type}"
            raise FieldError(what, f'load(..., driver="{other}")')
        if (self.driver == "custom") != (self.implementation is not None):
            what = (
                f"implementation: {self.implementation!r}; driver custom names one, and no other driver does"
            )
            raise FieldError(what, 'load(..., driver="custom", implementation="NAME")')
        if self.quantization not in ("none", *QUANTIZATIONS.get(self.driver, get_args(Quantization))):
            able = next(driver for driver, kinds in QUANTIZATIONS.items() if self.quantization in kinds)
            raise FieldError(
                f"quantization: {self.quantization!r} is of the driver {able}; the driver {self.driver} has "
                f"{', '.join(QUANTIZATIONS[self.driver])}",
                f'load(..., driver="{able}", quantization="{self.quantization}")',
            )
        return self

    @classmethod
    def parse(cls, value: ModelSpec | str | Path | dict[str, Any], **changes: Any) -> ModelSpec:
        """A specification from a name, a path, a hub id or a dict, with fields changed.

        Raises SpecError that names every wrong field, its value and the allowed ones.
        """
        if isinstance(value, ModelSpec):
            value = {name: getattr(value, name) for name in value.model_fields_set}
        elif isinstance(value, str):
            value = {"source": value}
        elif isinstance(value, Path):
            value = {"source": {"type": "local", "path": value}}
        elif not isinstance(value, dict):
            what = f"a specification is a text or a mapping, not {type(value).__name__}"
            raise SpecError(what, 'load("haneul-4m")')
        return validate(cls, value | changes, "load")

    @property
    def name(self) -> str:
        """A short name for messages: repository, file, folder or name at the server, then adapters."""
        source = self.source
        if isinstance(source, LocalSource):
            base = catalog.model_name(source.path)
        else:
            base = source.repository if isinstance(source, HuggingFaceSource) else source.model
        return "+".join([base, *(adapter.label for adapter in self.adapters)])

    def key(self) -> str:
        """A text that two specifications share exactly if they load the same weights in the same way."""
        fields = self.model_dump(mode="json", exclude={"generation", "keep_alive"})
        for adapter in fields["adapters"]:
            del adapter["name"]
        for source in (fields["source"], *(adapter["source"] for adapter in fields["adapters"])):
            if "path" in source:
                source["path"] = os.path.realpath(os.path.expanduser(source["path"]))
        return json.dumps(fields, sort_keys=True)


def _resolve_text(text: str, fields: dict[str, Any]) -> dict[str, Any]:
    """The fields with a source in place of a text.

    A name of the catalogue brings its task and, for an adapter of the course, the base model; a hub id that
    the catalogue knows brings its task. Fields that are given win.
    """
    driver = fields.get("driver")
    if driver in SERVER_DRIVERS:
        return fields | {"source": {"type": "server", "model": text}}
    entry = None if is_path(text) else catalog.find(text)
    known = entry.spec if entry else {}
    if text != (entry and entry.model) or (driver and known["driver"] in SERVER_DRIVERS):
        source = source_from_text(catalog.shipped_folder(text) or text)
        known = {"source": source} | {k: v for k, v in known.items() if k == "task"}
    given = fields.get("adapters", ())
    if "adapters" in known and isinstance(given, list | tuple):
        fields = fields | {"adapters": [*known["adapters"], *given]}
    known = {k: v for k, v in known.items() if v != ModelSpec.model_fields[k].default}
    return known | fields | {"source": known["source"]}


def _is_gguf(source: object) -> bool:
    """Whether a source, checked or not, names a .gguf file."""
    fields = source if isinstance(source, dict) else getattr(source, "__dict__", {})
    return any(str(fields.get(key)).endswith(".gguf") for key in ("path", "filename"))
