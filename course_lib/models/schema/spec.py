"""ModelSpec, the declaration (specification) of a model: source, task, settings and driver.

A LoRA adapter has two small matrices for each of some matrices of a model; their product is added to it.
The catalogue is the list of models that the course knows (catalog.yaml).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, model_validator

from course_lib import data
from course_lib.models import catalog
from course_lib.models.schema.generation import Generation
from course_lib.models.schema.pictures import ARCHITECTURES, Params, default_driver
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
from course_lib.names import existing_path

Driver = Literal[
    "huggingface",
    "llamacpp",
    "ollama",
    "openai",
    "tgi",
    "diffusers",
    "spandrel",
    "onnxruntime",
    "ncnn",
    "dlib",
    "custom",
    "unsloth",
    "vllm",
]
Task = Literal[
    "text-generation",
    "chat-completion",
    "text-classification",
    "text-embedding",
    "rerank",
    "image-to-text",
    "image-generation",
    "image-upscale",
    "face-embedding",
]
Precision = Literal["auto", "float32", "float16", "bfloat16"]
Quantization = Literal["none", "int8", "nf4", "fp4", "q8_0", "q4_0"]
CombinationType = Literal["cat", "svd", "linear"]
QUANTIZATIONS = {  # driver (the software that runs a model) -> the quantizations that it supports
    "huggingface": ("int8", "nf4", "fp4"),
    "llamacpp": ("q8_0", "q4_0"),
}


class Adapter(Frozen):
    """A LoRA adapter saved by the library peft, and the factor by which it is multiplied, its weight.

    A string in place of the fields is the source: a path, the name of a shipped adapter, or a hub id.
    """

    source: LocalSource | HuggingFaceSource = Field(discriminator="type")
    name: str | None = Field(None, min_length=1, max_length=100, description="name shown in messages")
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
        """The adapter's name, or else the name of its folder or repository."""
        source = self.source
        return self.name or (source.path.name if isinstance(source, LocalSource) else source.repository)


class ModelSpec(Frozen):
    """The declaration of a model, for `load` and `ModelManager`.

    `docs/model-fields.md` lists the fields that each driver supports.
    """

    source: Source
    driver: Driver = Field(
        "huggingface",
        description="software that runs the model; for a .gguf file: llamacpp; for pictures: that of the "
        "architecture",
    )
    implementation: str | None = Field(None, description="registered class, for the driver custom")
    task: Task = Field(
        "chat-completion", description="use of the model; from the catalogue if it is listed there"
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="auto: a GPU if there is one")
    device_mode: Literal["single", "auto"] = Field(
        "single", description="auto: spread over all GPUs (accelerate)"
    )
    precision: Precision = Field(
        "auto", description="of unquantized weights; auto: float32 on a CPU, otherwise as stored"
    )
    quantization: Quantization = Field(
        "none", description="applied while loading; none for weights stored quantized"
    )
    compute_dtype: Precision = Field(
        "auto", description="of matrix products with nf4 and fp4; auto: as precision"
    )
    double_quantization: bool = Field(False, description="also quantize the scales of nf4 and fp4")
    context_length: int | None = Field(None, ge=8, le=10_000_000, description="tokens: prompt and answer")
    batch_size: int | None = Field(None, ge=1, le=1024, description="prompts per batch")
    low_cpu_mem_usage: bool | None = Field(
        None, description="true: memory-map the file; false: read it into memory"
    )
    adapters: tuple[Adapter, ...] = Field(
        (), max_length=16, description="LoRA adapters: sources, names, weights"
    )
    combination_type: CombinationType = Field(
        "cat", description="how adapters are combined: cat is the exact sum; svd and linear are inexact"
    )
    query_prefix: str | None = Field(
        None, max_length=1000, description="text put before each query; none: as the model's files say"
    )
    passage_prefix: str | None = Field(
        None, max_length=1000, description="text put before each passage; none: as the model's files say"
    )
    architecture: str | None = Field(
        None, max_length=100, description="that the picture model must have; none: as its files say"
    )
    image: Path | None = Field(None, description="picture that is read if a call names none")
    prompt: str | None = Field(
        None, min_length=1, max_length=10_000, description="text that is drawn if a call names none"
    )
    params: Params = Field(default_factory=Params)
    keep_alive: float = Field(300, ge=-1, description="idle seconds before it is unloaded; -1: never")
    generation: Generation = Field(default_factory=Generation)

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, value: Any) -> Any:
        """Replace a string source by its fields, and choose the driver of a .gguf file or a picture model."""
        if not isinstance(value, dict):
            return value
        if isinstance(value.get("source"), str):
            value = _resolve_text(value["source"], value)
        if "driver" not in value and _is_gguf(value.get("source")):
            value = value | {"driver": "llamacpp"}
        suffix = Path(str(_field(value.get("source"), "path") or "")).suffix
        driver = default_driver(value.get("task"), value.get("architecture"), suffix)
        return value | {"driver": driver} if driver and "driver" not in value else value

    @model_validator(mode="after")
    def _check_architecture(self) -> ModelSpec:
        known = ARCHITECTURES.get(self.task)
        if self.architecture is None or known is None or self.driver in known.get(self.architecture, ()):
            return self  # the drivers refuse it with a task of text
        task = next((task for task, names in ARCHITECTURES.items() if self.architecture in names), None)
        if task is None:
            what = (
                f"architecture: {self.architecture!r}; those of the task {self.task} are {', '.join(known)}"
            )
            raise FieldError(what, "leave architecture out")
        driver = ARCHITECTURES[task][self.architecture][0]
        what = f"architecture: {self.architecture!r} is for the task {task} and the driver {driver}, "
        what += f"not for {self.task} and {self.driver}"
        raise FieldError(
            what, f'load(..., task="{task}", driver="{driver}", architecture="{self.architecture}")'
        )

    @model_validator(mode="after")
    def _check_combination(self) -> ModelSpec:
        needs_server = self.driver in SERVER_DRIVERS
        if needs_server != isinstance(self.source, ServerSource) and self.driver != "custom":
            kind, other = (
                ("a server source", "huggingface")
                if needs_server
                else ("a source of type huggingface or local", "ollama")
            )
            what = f"driver: {self.driver} needs {kind}, not {self.source.type}"
            raise FieldError(what, f'load(..., driver="{other}")')
        if (self.driver == "custom") != (self.implementation is not None):
            what = (
                f"implementation: {self.implementation!r}; required by the driver custom, refused by others"
            )
            raise FieldError(what, 'load(..., driver="custom", implementation="NAME")')
        if self.task != "text-embedding" and (self.query_prefix or self.passage_prefix):
            what = f"query_prefix, passage_prefix: the task {self.task} embeds no queries and passages"
            raise FieldError(what, 'load(..., task="text-embedding")')
        if self.quantization not in ("none", *QUANTIZATIONS.get(self.driver, get_args(Quantization))):
            capable = next(driver for driver, kinds in QUANTIZATIONS.items() if self.quantization in kinds)
            raise FieldError(
                f"quantization: {self.quantization!r} needs the driver {capable}; the driver {self.driver} "
                f"supports {', '.join(QUANTIZATIONS[self.driver])}",
                f'load(..., driver="{capable}", quantization="{self.quantization}")',
            )
        return self

    @classmethod
    def parse(cls, value: ModelSpec | str | Path | dict[str, Any], **changes: Any) -> ModelSpec:
        """Return a validated specification from a name, a path, a hub id or a dict, with `changes` applied.

        Raises SpecError, which names every wrong field with its value and the allowed values.
        """
        if isinstance(value, ModelSpec):
            value = {name: getattr(value, name) for name in value.model_fields_set}
        elif isinstance(value, str):
            value = {"source": value}
        elif isinstance(value, Path):
            value = {"source": {"type": "local", "path": value}}
        elif not isinstance(value, dict):
            what = f"a specification is a str, a Path or a dict, not {type(value).__name__}"
            raise SpecError(what, 'load("haneul-4m")')
        return validate(cls, value | changes, "load")

    @property
    def name(self) -> str:
        """A short name for messages: repository, file, folder or name on the server, plus the adapters."""
        source = self.source
        if isinstance(source, LocalSource):
            base = catalog.model_name(source.path)
        else:
            base = source.repository if isinstance(source, HuggingFaceSource) else source.model
        return "+".join([base, *(adapter.label for adapter in self.adapters)])

    def key(self) -> str:
        """Return a string that is equal for two specifications that load the same weights the same way."""
        fields = self.model_dump(mode="json", exclude={"generation", "keep_alive"})
        for adapter in fields["adapters"]:
            del adapter["name"]
        for source in (fields["source"], *(adapter["source"] for adapter in fields["adapters"])):
            if "path" in source:
                source["path"] = os.path.realpath(existing_path(source["path"]))
        return json.dumps(fields, sort_keys=True)


def _resolve_text(text: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Return `fields` with the source that `text` names.

    The catalogue adds the task of a model that it lists and, for a shipped adapter, the base model. Values
    already in `fields` take precedence.
    """
    driver = fields.get("driver")
    if driver in SERVER_DRIVERS:
        return fields | {"source": {"type": "server", "model": text}}
    entry = None if is_path(text) else catalog.find(text)
    known = entry.spec if entry else {}
    # The catalogue's source is taken for its names only, not for a path or hub id, nor with another driver
    # for a model that it has on a server.
    if text != (entry and entry.model) or (driver and known["driver"] in SERVER_DRIVERS):
        source = source_from_text(catalog.shipped_folder(text) or text)
        fitting = ("task", "query_prefix", "passage_prefix")
        known = {"source": source} | {k: v for k, v in known.items() if k in fitting}
    # The catalogue's prefixes hold only for its own task.
    if fields.get("task", known.get("task")) != known.get("task"):
        known = {k: v for k, v in known.items() if k not in ("query_prefix", "passage_prefix")}
    given = fields.get("adapters", ())
    if "adapters" in known and isinstance(given, list | tuple):
        fields = fields | {"adapters": [*known["adapters"], *given]}
    known = {k: v for k, v in known.items() if v != ModelSpec.model_fields[k].default}
    return known | fields | {"source": known["source"]}


def _is_gguf(source: object) -> bool:
    """Whether a source, as a dict or validated, is a .gguf file."""
    return any(str(_field(source, key)).endswith(".gguf") for key in ("path", "filename"))


def _field(source: object, key: str) -> Any:
    """A field of a source, which is a dict or validated; None without it."""
    return source.get(key) if isinstance(source, dict) else getattr(source, key, None)
