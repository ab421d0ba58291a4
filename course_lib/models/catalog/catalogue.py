"""Look up a model in `catalog.yaml`: its size, licence, languages, and where to download it.

A LoRA adapter has two small matrices for each of some matrices of a model; their product is added to it.
"""

from __future__ import annotations

import functools
import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from course_lib import data
from course_lib.errors import CourseError
from course_lib.models.catalog.names import similar
from course_lib.models.catalog.packages import Package, pulled_models
from course_lib.models.catalog.shipped_models import shipped, shipped_folder, verify


@dataclass(frozen=True)
class Licence:
    """A model's licence: whether it allows commercial use, its conditions in plain words, where it is."""

    name: str
    commercial: Literal["yes", "conditions", "no"]
    note: str
    url: str = ""


@dataclass(frozen=True)
class Entry:
    """A model of the catalogue. Comments in `catalog.yaml` give the sources of the numbers.

    tier: the smallest tier that it belongs to (tiny, real, laptop or gpu);
    context: the longest input in tokens, 0 if it reads no text; languages: ISO 639 codes;
    good_at: strengths that its makers claim;
    hub: id on the Hugging Face hub; revision: commit on the hub; ollama: tag in Ollama;
    ollama_gb: GB (1e9 bytes) that Ollama lists for the tag;
    sha256: checksum of model.safetensors; package: the wheels that contain it;
    gated: whether its makers ask for an agreement to their terms, and the hub for an account too;
    download_bits: bits per weight of the files that are downloaded;
    adapter_of: for a LoRA adapter, the name of its base model (`parameters` counts both);
    path: the file or folder of a model outside the catalogue, whose parameters, licence, context and
    languages are unknown (0 or empty);
    query_prefix, passage_prefix: texts that an embedding model expects before a question and a passage;
    role: the role by which `catalog.role` returned it, otherwise "";
    published: the month of its makers' announcement, as YYYY-MM, or "" if unknown.
    """

    model: str
    tier: str
    parameters: int
    licence: str
    context: int
    languages: tuple[str, ...]
    task: Literal[
        "chat-completion",
        "text-generation",
        "text-embedding",
        "text-classification",
        "rerank",
        "image-to-text",
        "image-generation",
        "image-upscale",
        "face-embedding",
    ] = "chat-completion"
    good_at: tuple[Literal["code", "reasoning"], ...] = ()
    hub: str | None = None
    revision: str | None = None
    sha256: str | None = None
    ollama: str | None = None
    ollama_gb: float | None = None
    package: Package | None = None
    driver: Literal["huggingface", "llamacpp", "ollama", "diffusers", "ncnn", "dlib"] = "huggingface"
    gated: bool = False
    download_bits: float = 16
    adapter_of: str = ""
    query_prefix: str = ""
    passage_prefix: str = ""
    note: str = ""
    path: str = ""
    role: str = ""
    published: str = ""

    @property
    def terms(self) -> Licence:
        """The licence that `licence` names."""
        return _catalogue().licences[self.licence]

    @property
    def korean(self) -> bool:
        """Whether its makers list Korean among its languages."""
        return "ko" in self.languages

    @property
    def purposes(self) -> tuple[str, ...]:
        """The members of PURPOSES that the model is suitable for; none for a base model or pictures."""
        if self.task == "chat-completion" and not self.adapter_of:
            return ("chat", *("korean",) * self.korean, *self.good_at)
        if self.task == "text-embedding" and not self.adapter_of:
            return ("embed",)
        return ("rerank",) if self.task in ("text-embedding", "rerank") else ()

    def weight_bytes(self, bits: float) -> int:
        """Return the size of the weights in bytes; a running model needs more memory, for its context."""
        return round(self.parameters * bits / 8)

    @property
    def download_bytes(self) -> int:
        """The size of the wheels, or of the weights by their number and bits; 0 for a shipped model."""
        if self.package:
            return self.package.download_bytes
        if self.driver == "ollama" and self.ollama_gb:
            return round(self.ollama_gb * 1e9)
        return 0 if self.tier == "tiny" else self.weight_bytes(self.download_bits)

    @property
    def download_command(self) -> str | None:
        """The shell command that downloads the model; None for a shipped model."""
        if self.package:
            return f"course models pull {self.model}" + " --accept-licence" * self.gated
        if self.driver == "ollama":
            return f"ollama pull {self.ollama}"
        return pull_command(self.hub, revision=self.revision) if self.hub else None

    @property
    def spec(self) -> dict[str, Any]:
        """The model's specification (see `ModelSpec`) as a dict, for `load` and `ModelSpec.parse`."""
        adapters = {"adapters": [{"source": str(data.MODELS / self.model)}]} if self.adapter_of else {}
        prefixes = {"query_prefix": self.query_prefix, "passage_prefix": self.passage_prefix}
        fields = {"source": self._source(), "driver": self.driver, "task": self.task}
        return fields | adapters | {name: prefix for name, prefix in prefixes.items() if prefix}

    @property
    def pulled_path(self) -> Path:
        """The file or folder of a packaged model, whether or not it has been pulled."""
        assert self.package, f"{self.model} is not in a package"
        folder = pulled_models() / self.model
        return folder if self.package.is_folder else folder / self.package.file

    def _source(self) -> dict[str, Any]:
        if self.path:
            return {"type": "local", "path": self.path}
        if self.package:
            return {"type": "local", "path": str(self.pulled_path)}
        if self.driver == "ollama":
            return {"type": "server", "model": self.ollama}
        if self.hub is None:
            base = self.adapter_of or self.model
            return {"type": "local", "path": str(shipped_folder(base) or data.MODELS / base)}
        sha256 = {"model.safetensors": self.sha256} if self.sha256 else None
        pins = {"revision": self.revision, "sha256": sha256}
        return {"type": "huggingface", "repository": self.hub} | {k: v for k, v in pins.items() if v}


class _Catalogue(NamedTuple):
    licences: dict[str, Licence]
    roles: dict[str, dict[str, str]]  # tier -> role -> model
    models: dict[str, Entry]
    parts: dict[str, Entry]


@functools.cache
def _catalogue() -> _Catalogue:
    import yaml

    document = yaml.safe_load((Path(__file__).parent / "catalog.yaml").read_text("utf-8"))
    models: dict[str, Entry] = {}
    parts: dict[str, Entry] = {}
    for tier, listed in [*document["models"].items(), ("", document["parts"])]:
        for name, fields in listed.items():
            lists = {key: tuple(fields.get(key, ())) for key in ("languages", "good_at")}
            package = {"package": Package.parse(fields["package"])} if "package" in fields else {}
            (models if tier else parts)[name] = Entry(name, tier or "tiny", **(fields | lists | package))
    licences = {name: Licence(name, **fields) for name, fields in document["licences"].items()}
    return _Catalogue(licences, document["roles"], models, parts)


def roles_by_tier() -> dict[str, dict[str, str]]:
    """Return the mapping from tier to role to the name of the model for that role."""
    return _catalogue().roles


def entries() -> list[Entry]:
    """Return every model of every tier, with or without a role, in the order of `catalog.yaml`."""
    return list(_catalogue().models.values())


def find(name: str) -> Entry | None:
    """Return the model with this name or hub id, or None."""
    models = _catalogue().models
    return models.get(name) or next((e for e in models.values() if e.hub == name), None)


def parts() -> dict[str, Entry]:
    """Return name -> entry of the course's small classifiers that `load` does not load; no role has them."""
    return _catalogue().parts


def entry(name: str) -> Entry:
    """Return the model with this name, hub id or tag in Ollama. Raises CourseError with similar names."""
    if known := find(name) or next((e for e in entries() if e.ollama == name), None):
        return known
    suggestions = similar_names(name) or list(_catalogue().models)
    raise CourseError(f"no model {name!r} in the catalogue", f"choose {' or '.join(suggestions)}")


def similar_names(name: str) -> list[str]:
    """Return up to three names of the catalogue that `name` may have meant, the most similar first.

    Of several equally likely ones, those that the course ships or pip downloads come first.
    """
    models = _catalogue().models
    found = similar(name, models)
    beginning = [model for model in found if model.lower().startswith(name.lower())]
    return sorted(found, key=lambda m: (beginning != [m], models[m].tier not in ("tiny", "real")))


def related(entry: Entry) -> list[Entry]:
    """Return the other forms of a model: the entries whose names begin with its name, or the other way."""
    name = entry.model.lower()
    others = [(e, e.model.lower()) for e in entries() if e is not entry]
    return [e for e, other in others if other.startswith(name) or name.startswith(other)]


def is_adapter(name: str) -> bool:
    """Whether `name` is a LoRA adapter that ships with the course."""
    return bool((known := find(name)) and known.adapter_of)


def verify_shipped(model: str) -> Path:
    """Check the files of a shipped model or adapter by their SHA-256, and return its folder.

    Raises CourseError when the model is unknown or not shipped, or a file is missing or altered.
    """
    if shipped_folder(model) or is_adapter(model):
        return verify(model)
    known = find(model)
    if known and known.download_command:
        size = f"{known.download_bytes / 1e6:,.0f} MB to download"
        raise CourseError(f"{model} is not shipped with the course: {size}", known.download_command)
    fix = f'load("{shipped()[-1]}")' if shipped() else data.restore("models")
    raise CourseError(f"no model {model!r} in models/; there are {', '.join(shipped()) or 'none'}", fix)


def pulled_entry(path: Path) -> Entry | None:
    """Return the packaged model whose file or folder is at `path`, pulled or not; None for any other path."""
    return next((e for e in entries() if e.package and e.pulled_path == path), None)


def verify_pulled(entry: Entry) -> Path:
    """Check the files of a packaged model by their SHA-256, and return its file or folder.

    Files are hashed again in the same process only if their size or modification time changed. Raises
    CourseError if the model has not been pulled, or a file is missing or altered.
    """
    package, fix, folder = entry.package, str(entry.download_command), pulled_models() / entry.model
    assert package, f"{entry.model} is not in a package"
    if not folder.is_dir():
        size = f"{package.download_bytes / 1e6:,.0f} MB to download"
        raise CourseError(f"{entry.model} is not on this machine: {size}", fix)
    stats = [(str(path), path.stat()) for path in sorted(folder.rglob("*"))]
    stamps = tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)
    if _verified_source(folder, fix, stamps) != package.sha256:
        raise CourseError(f"{folder} is not from {package.parts[0].requirement}", fix)
    return entry.pulled_path


@functools.lru_cache(maxsize=16)
def _verified_source(folder: Path, fix: str, stamps: tuple[tuple[str, int, int], ...]) -> str | None:
    """Check the files in the folder's manifest, and return the SHA-256 of the packaged file that it names."""
    data.verify(folder, fix)
    source: str | None = json.loads((folder / "manifest.json").read_text("utf-8")).get("source")
    return source


def pull_command(
    repository: str,
    *,
    revision: str | None = None,
    filename: str | None = None,
    cache_dir: Path | None = None,
    token: str | None = None,
) -> str:
    """Return the command that downloads a repository. token: name of the token's environment variable."""
    options = {"--revision": revision, "--file": filename, "--cache-dir": cache_dir}
    words = [word for option, value in options.items() if value for word in (option, str(value))]
    prefix = f'HF_TOKEN="${token}" ' if token else ""
    return prefix + shlex.join(["course", "models", "pull", repository, *words])
