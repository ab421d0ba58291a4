"""A model, declared: where its weights come from, what runs them, for what, and how. Every field acts or is refused."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from course_lib.errors import CourseError
from course_lib.models.schema.generation import TABLE, Generation, SpecError, validated

Driver = Literal["huggingface", "llamacpp", "ollama", "openai", "custom", "unsloth", "vllm"]
Task = Literal["text-generation", "chat-completion", "text-classification", "text-embedding", "rerank"]
Precision = Literal["auto", "float32", "float16", "bfloat16"]
Quantization = Literal["none", "int8", "nf4", "fp4", "q8_0", "q4_0"]
CombinationType = Literal["cat", "svd", "linear"]
PACKS = {
    "huggingface": ("int8", "nf4", "fp4"),
    "llamacpp": ("q8_0", "q4_0"),
}  # driver -> the quantizations that it has
SERVED = ("ollama", "openai")  # drivers that talk to a server, which holds the weights
LOCAL = re.compile(r"/|~([/\\]|\Z)|\.{1,2}([/\\]|\Z)|[A-Za-z]:[\\/]")  # how a path begins
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?", re.ASCII)
ENVIRONMENT = re.compile(r"\$\{env\.[A-Za-z_][A-Za-z0-9_]*\}")
SHA256 = re.compile(r"[0-9a-f]{64}")
LONGEST = 65_536  # characters of a YAML text


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)


def _token(value: str | None) -> str | None:
    if value is not None and not ENVIRONMENT.fullmatch(value):
        raise ValueError("a token is never written down; name the variable that holds it, as ${env.HF_TOKEN}")
    return value


def secret(token: str | None) -> str | None:
    """The value that `${env.NAME}` names. Raises CourseError where the variable is not set."""
    if token is None:
        return None
    name = token.removeprefix("${env.").removesuffix("}")
    if not os.environ.get(name):
        raise CourseError(
            f"the token is to come from the variable {name}, which is not set", f"export {name}=..."
        )
    return os.environ[name]


class HuggingFaceSource(_Part):
    """A repository of the Hugging Face hub, or one file of it."""

    type: Literal["huggingface"] = "huggingface"
    repository: str
    revision: str | None = Field(
        None, pattern=r"^[\w./-]{1,200}$", description="branch, tag or commit; a commit never moves"
    )
    filename: str | None = Field(None, description="one .gguf file of the repository")
    cache_dir: Path | None = None
    local_files_only: bool = False
    token: str | None = None
    sha256: dict[str, str] = Field(default_factory=dict, description="file name -> SHA-256 that it must have")

    _check_token = field_validator("token")(_token)

    @field_validator("repository")
    @classmethod
    def _id(cls, value: str) -> str:
        if not HUB_ID.fullmatch(value) or ".." in value or "--" in value:
            from course_lib.models.catalog import shipped

            carried = ", ".join(shipped()) or "no model"
            raise ValueError(
                f"the course carries {carried}; a hub id is 'owner/name' of letters, digits, '-', '_' and '.'; "
                "a path begins with /, ./, ../ or ~/"
            )
        return value

    @field_validator("filename")
    @classmethod
    def _file(cls, value: str | None) -> str | None:
        if value is not None and (
            not value.endswith(".gguf") or ".." in Path(value).parts or LOCAL.match(value)
        ):
            raise ValueError("only a .gguf file inside the repository can be named")
        return value

    @field_validator("sha256")
    @classmethod
    def _digests(cls, value: dict[str, str]) -> dict[str, str]:
        if not all(SHA256.fullmatch(v) for v in value.values()):
            raise ValueError("a SHA-256 is 64 hex digits")
        return value


class LocalSource(_Part):
    """A folder in Hugging Face form, or a .gguf file, on this machine."""

    type: Literal["local"] = "local"
    path: Path
    format: Literal["auto", "safetensors", "gguf"] = "auto"

    @field_validator("path")
    @classmethod
    def _possible(cls, value: Path) -> Path:
        try:
            if b"\0" not in os.fsencode(value):
                return value
        except UnicodeEncodeError:
            pass
        raise ValueError("no file system holds such a path")


class ServerSource(_Part):
    """A model that a server holds, by the name it has there."""

    type: Literal["server"] = "server"
    model: str = Field(min_length=1, max_length=300)
    url: str | None = Field(None, pattern=r"^https?://[^\s]+$")
    token: str | None = None

    _check_token = field_validator("token")(_token)


Source = Annotated[HuggingFaceSource | LocalSource | ServerSource, Field(discriminator="type")]


class Adapter(_Part):
    """A LoRA adapter in PEFT form, and how much of it is added. A text is its source: a path, a shipped one, a hub id."""

    source: LocalSource | HuggingFaceSource = Field(discriminator="type")
    name: str | None = Field(
        None, min_length=1, max_length=100, description="for messages; that of its folder if none"
    )
    weight: float = Field(1.0, ge=-10, le=10)

    @model_validator(mode="before")
    @classmethod
    def _source_from_text(cls, value: Any) -> Any:
        said = {"source": value} if isinstance(value, str | Path) else value
        if not isinstance(said, dict) or not isinstance(said.get("source"), str | Path):
            return said
        return said | {"source": _adapter_source(said["source"])}

    @property
    def called(self) -> str:
        """Its name, or that of its folder or repository."""
        return self.name or (
            self.source.path.name if isinstance(self.source, LocalSource) else self.source.repository
        )


class ModelSpec(_Part):
    """What `load` and `ModelManager` take. `docs/model-fields.md` says which driver acts on which field."""

    source: Source
    driver: Driver = Field("huggingface", description="what runs it")
    implementation: str | None = Field(None, description="name of a registered class, for the driver custom")
    task: Task = Field("chat-completion", description="what it is for")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", description="auto: a GPU where there is one"
    )
    device_mode: Literal["single", "auto"] = Field(
        "single", description="auto: spread over all devices, by accelerate"
    )
    precision: Precision = Field(
        "auto",
        description="of the weights, beside int8, nf4 and fp4 of those not packed; auto: 32 bits on a CPU, as stored on a GPU "
        "and in a GGUF file",
    )
    quantization: Quantization = Field(
        "none", description="how weights are packed; of a model that is packed already: none"
    )
    compute_dtype: Precision = Field(
        "auto", description="in which nf4 and fp4 weights are multiplied; auto: as precision"
    )
    double_quantization: bool = Field(False, description="pack the scales of nf4 and fp4, too")
    context_length: int | None = Field(
        None, ge=8, le=10_000_000, description="tokens of prompt and answer, at most"
    )
    batch_size: int | None = Field(
        None, ge=1, le=1024, description="prompts in work at once; the driver's own number if none"
    )
    low_cpu_mem_usage: bool | None = Field(
        None, description="read weights where they lie, without a second copy in memory"
    )
    adapters: tuple[Adapter, ...] = Field(
        (), max_length=16, description="LoRA: source, name and weight of each"
    )
    combination_type: CombinationType = Field(
        "cat", description="of adapters: cat is their exact sum; svd and linear are peft's, and are not"
    )
    keep_alive: float = Field(300, ge=-1, description="seconds without use until it is unloaded; -1: never")
    generation: Generation = Field(default_factory=Generation)

    @model_validator(mode="before")
    @classmethod
    def _source_from_text(cls, value: Any) -> Any:
        if not isinstance(value, dict) or not isinstance(value.get("source"), str):
            return value
        from course_lib.models import catalog

        if said := {} if value.get("driver") in SERVED else catalog.adapted(value["source"]):
            return (
                said
                | value
                | {"source": said["source"], "adapters": [*said["adapters"], *value.get("adapters", ())]}
            )
        return value | {"source": _source(value["source"], value.get("driver"))}

    @model_validator(mode="after")
    def _belong_together(self) -> ModelSpec:
        served, held = self.driver in SERVED, isinstance(self.source, ServerSource)
        if served != held and self.driver != "custom":
            kind = "a server source" if served else "a source of type huggingface or local"
            raise ValueError(f"driver: {self.driver} takes {kind}, not {self.source.type}")
        if (self.driver == "custom") != (self.implementation is not None):
            raise ValueError(
                f"implementation: {self.implementation!r}; driver custom names one, and no other driver does"
            )
        if self.quantization not in ("none", *PACKS.get(self.driver, get_args(Quantization))):
            able = next(driver for driver, kinds in PACKS.items() if self.quantization in kinds)
            raise ValueError(
                f"quantization: {self.quantization!r} is of the driver {able}; the driver {self.driver} has "
                f"{', '.join(PACKS[self.driver])}"
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
            return validated(
                cls, {"source": value} | changes, 'name one that is there, such as load("haneul-4m")'
            )
        elif isinstance(value, Path):
            value = {"source": {"type": "local", "path": value}}
        elif not isinstance(value, dict):
            raise SpecError(
                f"a specification is a text or a mapping, not {type(value).__name__}",
                "ModelSpec.parse('haneul-4m')",
            )
        return validated(cls, value | changes)

    @classmethod
    def from_yaml(cls, text: str, **changes: Any) -> ModelSpec:
        """A specification from YAML. Raises SpecError for text that is no YAML, too long, or uses aliases."""
        import yaml

        if len(text) > LONGEST:
            raise SpecError(f"{len(text)} characters of YAML; at most {LONGEST} are read", TABLE)
        try:
            if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text, Loader=yaml.SafeLoader)):
                raise SpecError(
                    "YAML aliases (*name) are not read: they can hide a huge value", "write the value out"
                )
            value = yaml.safe_load(text)
        except (
            yaml.YAMLError,
            ValueError,
            RecursionError,
            TypeError,
            AttributeError,
            KeyError,
            IndexError,
        ) as error:
            if isinstance(error, SpecError):
                raise
            raise SpecError(f"this is no YAML: {' '.join(str(error).split())[:300]}", TABLE) from None
        return cls.parse(value, **changes)

    @property
    def name(self) -> str:
        """A short name for messages: the repository, the file or folder, or the name at the server; then its adapters."""
        return "+".join([self._base_name, *(adapter.called for adapter in self.adapters)])

    @property
    def _base_name(self) -> str:
        from course_lib.models import catalog

        if isinstance(self.source, LocalSource):
            return catalog.name_of(self.source.path)
        return self.source.repository if isinstance(self.source, HuggingFaceSource) else self.source.model

    def key(self) -> str:
        """Equal for two specifications that give the same weights in the same place, and for no others."""
        said = self.model_dump(mode="json", exclude={"generation", "keep_alive"})
        if isinstance(self.source, LocalSource):
            said["source"]["path"] = os.path.realpath(os.path.expanduser(self.source.path))
        for adapter in said["adapters"]:
            del adapter["name"]
            if "path" in adapter["source"]:
                adapter["source"]["path"] = os.path.realpath(os.path.expanduser(adapter["source"]["path"]))
        return json.dumps(said, sort_keys=True)


def _source(text: str, driver: object) -> dict[str, Any]:
    """The rules of recognition: a path by how it begins, a shipped model by its name, a server's model, else a hub id."""
    from course_lib.models import catalog

    if driver in SERVED:
        return {"type": "server", "model": text}
    if LOCAL.match(text):
        return {"type": "local", "path": text}
    return catalog.source_of(text) or {"type": "huggingface", "repository": text}


def _adapter_source(text: str | Path) -> dict[str, Any]:
    """The same rules for an adapter: a path, one that the course carries, else a hub id."""
    from course_lib import data
    from course_lib.models import catalog

    if isinstance(text, Path) or LOCAL.match(text):
        return {"type": "local", "path": text}
    if catalog.adapted(text):
        return {"type": "local", "path": data.MODELS / text}
    return {"type": "huggingface", "repository": text}


DRIVERS: tuple[str, ...] = get_args(Driver)
