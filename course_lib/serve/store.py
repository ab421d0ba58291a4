"""The models of the server by name and tag, as files with their SHA-256: a manifest for each tag, a blob for each file."""

from __future__ import annotations

import json
import re
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from course_lib import data
from course_lib.atomic import atomic_file, atomic_write_text
from course_lib.errors import CourseError
from course_lib.models import catalog
from course_lib.models.gguf import cached_export
from course_lib.models.gguf import writer as gguf_file
from course_lib.models.planner.memory import stored_weights
from course_lib.models.schema import ModelSpec
from course_lib.serve.completion import IMPLEMENTATION, MAX_RUNNING
from course_lib.serve.errors import ApiError, not_found

NAME = re.compile(r"^[a-z0-9][a-z0-9._-]{0,79}(:[a-z0-9][a-z0-9._-]{0,79})?$")
PIECE = 1 << 20  # bytes copied between two lines of progress
LATEST = "q8_0"  # quantized, as Ollama's own defaults are
EMBEDDER = "all-minilm:latest"  # the name that Ollama's library has for catalog.MINILM

Line = dict[str, Any]


@dataclass(frozen=True)
class Tag:
    """A model under a name. kind: of its weights; digest: SHA-256 of its file; size: in bytes; modified_at: ISO 8601."""

    name: str
    model: str
    kind: str
    digest: str
    size: int
    parameters: int
    modified_at: str

    @property
    def embeds(self) -> bool:
        """Whether it makes vectors; the others write text."""
        return self.model == catalog.MINILM


def parse_name(text: str, field: str = "model") -> str:
    """`name:tag` in small letters; the tag is `latest` where none is given. Raises ApiError for what is no name."""
    name = text.lower()
    if not NAME.match(name) or ".." in name:
        shown = text if len(text) <= 60 else f"{text[:57]}..."
        raise ApiError(
            field,
            f"{shown!r} is no name: letters, digits, '.', '_' and '-', at most 80, then ':' and a tag likewise",
        )
    return name if ":" in name else f"{name}:latest"


def pullable() -> dict[str, tuple[str, str]]:
    """What can be pulled: name and tag -> the shipped model and the kind of its weights."""
    kinds = {"latest": LATEST} | {k: k for k in gguf_file.TYPES}
    return {f"{m}:{tag}": (m, kind) for m in catalog.shipped() for tag, kind in kinds.items()} | {
        EMBEDDER: (catalog.MINILM, "f32")
    }


class Store:
    """A folder of manifests and blobs. What is written is whole or not there."""

    def __init__(self, folder: Path) -> None:
        self.manifests, self.blobs = folder / "manifests", folder / "blobs"
        self._changing, self._pulling = threading.Lock(), threading.Lock()
        try:
            self.manifests.mkdir(parents=True, exist_ok=True)
            self.blobs.mkdir(exist_ok=True)
        except OSError as error:
            raise CourseError(
                f"{folder} cannot hold models: {error}", "name a folder that you can write: --store DIR"
            ) from error

    def fill(self) -> None:
        """Bring every shipped model with the tag latest, and the embedder, where they are not here."""
        for name in pullable():
            if name.endswith(":latest") and not self._manifest(name).is_file():
                for _ in self.pull(name):
                    pass

    def tags(self) -> list[Tag]:
        """All tags, the newest first."""
        return sorted(
            (_read(p) for p in self.manifests.glob("*/*.json")),
            key=lambda t: (t.modified_at, t.name),
            reverse=True,
        )

    def find(self, text: str, field: str = "model") -> Tag:
        """The tag that a name stands for. Raises ApiError with status 404 where there is none."""
        path = self._manifest(parse_name(text, field))
        if not path.is_file():
            raise not_found(text, field)
        return _read(path)

    def find_generative(self, text: str, what: str) -> Tag:
        """The tag of a model that writes. Raises ApiError, in Ollama's words, for one that does not."""
        tag = self.find(text)
        if tag.embeds:
            raise ApiError("model", f'"{text}" does not support {what}', f"{catalog.shipped()[-1]} does")
        return tag

    def find_embedding(self, text: str) -> Tag:
        """The tag of a model that embeds. Raises ApiError for one that does not."""
        tag = self.find(text)
        if not tag.embeds:
            raise ApiError(
                "model", f'"{text}" does not support embeddings', f"{EMBEDDER.removesuffix(':latest')} does"
            )
        return tag

    def file(self, tag: Tag) -> Path:
        """The file of its weights."""
        return (
            catalog.folder_of(tag.model) / "model.safetensors"
            if tag.embeds
            else self.blobs / f"sha256-{tag.digest}.gguf"
        )

    def spec(self, tag: Tag) -> ModelSpec:
        """What the manager loads. Tags of the same file share a loaded model."""
        source = {"type": "local", "path": self.file(tag).parent if tag.embeds else self.file(tag)}
        if tag.embeds:
            return ModelSpec.parse({"source": source, "driver": "huggingface", "task": "text-embedding"})
        return ModelSpec.parse(
            {
                "source": source,
                "driver": "custom",
                "implementation": IMPLEMENTATION,
                "batch_size": MAX_RUNNING,
            }
        )

    def pull(self, text: str) -> Iterator[Line]:
        """Bring a model from the catalogue, telling Ollama's lines of progress. Raises ApiError for one that is not there."""
        name = parse_name(text)
        yield {"status": "pulling manifest"}
        if name not in pullable():
            raise ApiError(
                "model",
                f"pull model manifest: file does not exist: no {name!r} in the catalogue",
                f"it has {', '.join(catalog.shipped())}, tagged latest, {', '.join(gguf_file.TYPES)}, and {EMBEDDER}",
                status=404,
            )
        model, kind = pullable()[name]
        with self._pulling, tempfile.TemporaryDirectory(dir=self.blobs, prefix=".pull-") as work:
            if model == catalog.MINILM:
                made = catalog.folder_of(model) / "model.safetensors"
            else:
                made = cached_export(catalog.folder_of(model), kind, scratch=Path(work))
            tag = Tag(
                name,
                model,
                kind,
                data.sha256(made),
                made.stat().st_size,
                stored_weights(catalog.folder_of(model)).weights,
                _now(),
            )
            yield from self._brought(made, tag)
        yield {"status": "verifying sha256 digest"}
        if data.sha256(self.file(tag)) != tag.digest:
            raise CourseError(f"{self.file(tag).name} is not what was pulled", "pull it again")
        yield {"status": "writing manifest"}
        self._write(tag)
        yield {"status": "success"}

    def _brought(self, made: Path, tag: Tag) -> Iterator[Line]:
        line = {"status": f"pulling {tag.digest[:12]}", "digest": f"sha256:{tag.digest}", "total": tag.size}
        target = self.file(tag)
        if not target.is_file() or data.sha256(target) != tag.digest:
            yield line
            with open(made, "rb") as source, atomic_file(target) as partial, open(partial, "wb") as out:
                while piece := source.read(PIECE):
                    out.write(piece)
                    yield line | {"completed": out.tell()}
        yield line | {"completed": tag.size}

    def copy(self, source: str, destination: str) -> None:
        """Give a model a second name. Raises ApiError where there is no such model."""
        tag, name = self.find(source, "source"), parse_name(destination, "destination")
        self._write(Tag(**(asdict(tag) | {"name": name, "modified_at": _now()})))

    def delete(self, text: str) -> Tag | None:
        """Remove a name, and the file if no other name has it; the tag then, else None. Raises ApiError where there is none."""
        tag = self.find(text)
        with self._changing:
            self._manifest(tag.name).unlink(missing_ok=True)
            if any(t.digest == tag.digest for t in self.tags()):
                return None
            if not tag.embeds:
                self.file(tag).unlink(missing_ok=True)
        return tag

    def _manifest(self, name: str) -> Path:
        model, _, tag = name.partition(":")
        return self.manifests / model / f"{tag}.json"

    def _write(self, tag: Tag) -> None:
        with self._changing:
            if not self.file(tag).is_file():  # deleted in between
                raise not_found(tag.name)
            atomic_write_text(self._manifest(tag.name), json.dumps(asdict(tag), indent=1))


def _read(path: Path) -> Tag:
    try:
        return Tag(**json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise CourseError(
            f"the manifest {path.parent.name}/{path.name} is damaged: {error}",
            "delete it, and pull the model again",
        ) from error


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")
