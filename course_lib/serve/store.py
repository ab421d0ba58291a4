"""The server's model store: a JSON manifest per model name and tag, and weight files named by SHA-256."""

from __future__ import annotations

import json
import re
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from course_lib import data
from course_lib.atomic import atomic_file, atomic_write_text
from course_lib.errors import CourseError
from course_lib.models import catalog
from course_lib.models.gguf import cached_export
from course_lib.models.gguf.writer import TYPES
from course_lib.models.planner.memory import stored_weights
from course_lib.models.schema import ModelSpec
from course_lib.serve.completion import IMPLEMENTATION
from course_lib.serve.errors import ApiError, not_found
from course_lib.serve.limits import MAX_RUNNING

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,79}(:[a-z0-9][a-z0-9._-]{0,79})?")
CHUNK_BYTES = 1 << 20  # bytes copied between two progress lines
LATEST = "q8_0"  # weight type of the tag `latest`; quantized, like Ollama's own defaults
EMBEDDER = "all-minilm:latest"  # the name of catalog.MINILM in Ollama's library

Line = dict[str, Any]  # one JSON line of a streamed response


@dataclass(frozen=True)
class Tag:
    """A model in the store under one of its names.

    name: The name with tag, such as "haneul-1m:latest". model: The shipped model behind it.
    kind: The weight type, such as "q8_0". digest: The SHA-256 of the weight file.
    size: The file size in bytes. parameters: The parameter count. modified_at: ISO 8601.
    """

    name: str
    model: str
    kind: str
    digest: str
    size: int
    parameters: int
    modified_at: str

    @property
    def embeds(self) -> bool:
        """Whether this is an embedding model; all others are chat models."""
        return self.model == catalog.MINILM


def parse_name(text: str, field: str = "model") -> str:
    """Return `name:tag` in lower case; the default tag is `latest`. Raises ApiError for an invalid name."""
    name = text.lower()
    if not NAME.fullmatch(name) or ".." in name:
        shown = text if len(text) <= 60 else f"{text[:57]}..."
        rule = "1 to 80 letters, digits, '.', '_' or '-', optionally ':' and a tag of the same form"
        raise ApiError(field, f"{shown!r} is not a valid name: {rule}")
    return name if ":" in name else f"{name}:latest"


def pullable() -> dict[str, tuple[str, str]]:
    """Return all models that can be pulled: `name:tag` -> (shipped model, weight type)."""
    types = {"latest": LATEST} | {t: t for t in TYPES}
    names = {f"{m}:{tag}": (m, weight_type) for m in catalog.shipped() for tag, weight_type in types.items()}
    return names | {EMBEDDER: (catalog.MINILM, "f32")}


class Store:
    """A folder of manifests and blobs (weight files). Files are written atomically."""

    def __init__(self, folder: Path) -> None:
        self.manifests, self.blobs = folder / "manifests", folder / "blobs"
        self._manifest_lock, self._pull_lock = threading.Lock(), threading.Lock()
        try:
            self.manifests.mkdir(parents=True, exist_ok=True)
            self.blobs.mkdir(exist_ok=True)
        except OSError as error:
            raise CourseError(
                f"{folder} cannot hold models: {error}", "course serve --store models"
            ) from error

    def __repr__(self) -> str:
        return f"Store({str(self.manifests.parent)!r}, {len(self.tags())} models)"

    def fill(self) -> None:
        """Pull the tag `latest` of every shipped model, and the embedding model, unless already present."""
        for name in pullable():
            if name.endswith(":latest") and not self._manifest(name).is_file():
                for _ in self.pull(name):
                    pass

    def tags(self) -> list[Tag]:
        """Return all tags, the newest first."""
        tags = [_read(path) for path in self.manifests.glob("*/*.json")]
        return sorted(tags, key=lambda tag: (tag.modified_at, tag.name), reverse=True)

    def find(self, text: str, field: str = "model") -> Tag:
        """Return the tag with this name. Raises ApiError with status 404 if there is none."""
        path = self._manifest(parse_name(text, field))
        if not path.is_file():
            raise not_found(text, field)
        return _read(path)

    def find_generative(self, text: str, operation: str) -> Tag:
        """Return the tag of a chat model. Raises ApiError, with Ollama's wording, for an embedding model."""
        tag = self.find(text)
        if tag.embeds:
            raise ApiError("model", f'"{text}" does not support {operation}', f"{catalog.shipped()[-1]} does")
        return tag

    def find_embedding(self, text: str) -> Tag:
        """Return the tag of an embedding model. Raises ApiError for a chat model."""
        tag = self.find(text)
        if not tag.embeds:
            fix = f"{EMBEDDER.removesuffix(':latest')} does"
            raise ApiError("model", f'"{text}" does not support embeddings', fix)
        return tag

    def file(self, tag: Tag) -> Path:
        """Return the path of the weight file."""
        if tag.embeds:
            return catalog.verify_shipped(tag.model) / "model.safetensors"
        return self.blobs / f"sha256-{tag.digest}.gguf"

    def holds(self, tag: Tag) -> bool:
        """Whether this name still stands for this file."""
        try:
            return self.find(tag.name).digest == tag.digest and self.file(tag).is_file()
        except CourseError:
            return False

    def spec(self, tag: Tag) -> ModelSpec:
        """Return the specification that the ModelManager loads. Tags of one file share a loaded model."""
        path = self.file(tag).parent if tag.embeds else self.file(tag)
        driver = {"driver": "custom", "implementation": IMPLEMENTATION, "batch_size": MAX_RUNNING}
        if tag.embeds:
            driver = {"driver": "huggingface", "task": "text-embedding"}
        return ModelSpec.parse({"source": {"type": "local", "path": path}} | driver)

    def pull(self, text: str) -> Iterator[Line]:
        """Add a shipped model to the store, yielding Ollama's progress lines.

        Raises ApiError for a name that is not in the catalogue.
        """
        name = parse_name(text)
        yield {"status": "pulling manifest"}
        if name not in pullable():
            what = f"pull model manifest: file does not exist: no {name!r} in the catalogue"
            known = (
                f"it has {', '.join(catalog.shipped())}, tagged latest, {', '.join(TYPES)}, and {EMBEDDER}"
            )
            raise ApiError("model", what, known, status=404)
        model, weight_type = pullable()[name]
        folder = catalog.verify_shipped(model)
        with self._pull_lock, tempfile.TemporaryDirectory(dir=self.blobs, prefix=".pull-") as work:
            file = folder / "model.safetensors"
            if model != catalog.MINILM:
                file = cached_export(folder, weight_type, scratch=Path(work))
            digest, size = data.sha256(file), file.stat().st_size
            tag = Tag(name, model, weight_type, digest, size, stored_weights(folder).weights, _now())
            yield from self._copy_file(file, tag)
        yield {"status": "verifying sha256 digest"}
        if data.sha256(self.file(tag)) != tag.digest:
            raise CourseError(f"{self.file(tag).name} differs from the pulled file", "pull it again")
        yield {"status": "writing manifest"}
        self._write(tag)
        yield {"status": "success"}

    def _copy_file(self, source: Path, tag: Tag) -> Iterator[Line]:
        line = {"status": f"pulling {tag.digest[:12]}", "digest": f"sha256:{tag.digest}", "total": tag.size}
        target = self.file(tag)
        if not target.is_file() or data.sha256(target) != tag.digest:
            yield line
            with open(source, "rb") as reader, atomic_file(target) as partial, open(partial, "wb") as writer:
                while chunk := reader.read(CHUNK_BYTES):
                    writer.write(chunk)
                    yield line | {"completed": writer.tell()}
        yield line | {"completed": tag.size}

    def copy(self, source: str, destination: str) -> None:
        """Give a model a second name. Raises ApiError if the model does not exist."""
        tag, name = self.find(source, "source"), parse_name(destination, "destination")
        self._write(replace(tag, name=name, modified_at=_now()))

    def delete(self, text: str) -> Tag | None:
        """Remove a name, and the file if no other name uses it.

        Returns the tag if the model is gone, None if other names remain.
        Raises ApiError if the model does not exist.
        """
        tag = self.find(text)
        with self._manifest_lock:
            self._manifest(tag.name).unlink(missing_ok=True)
            if any(other.digest == tag.digest for other in self.tags()):
                return None
            if not tag.embeds:
                self.file(tag).unlink(missing_ok=True)
        return tag

    def _manifest(self, name: str) -> Path:
        model, _, tag = name.partition(":")
        return self.manifests / model / f"{tag}.json"

    def _write(self, tag: Tag) -> None:
        with self._manifest_lock:
            if not self.file(tag).is_file():  # deleted in the meantime
                raise not_found(tag.name)
            atomic_write_text(self._manifest(tag.name), json.dumps(asdict(tag), indent=1))


def _read(path: Path) -> Tag:
    try:
        return Tag(**json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        what = f"the manifest {path.parent.name}/{path.name} is damaged: {error}"
        raise CourseError(what, "delete it, and pull the model again") from error


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")
