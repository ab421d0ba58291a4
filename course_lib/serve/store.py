"""The server's models by name and tag: a manifest for each tag, and files named by their SHA-256."""

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
from course_lib.serve.completion import IMPLEMENTATION, MAX_RUNNING
from course_lib.serve.errors import ApiError, not_found

NAME = re.compile(r"^[a-z0-9][a-z0-9._-]{0,79}(:[a-z0-9][a-z0-9._-]{0,79})?$")
CHUNK = 1 << 20  # bytes copied between two lines of progress
LATEST = "q8_0"  # quantized, as Ollama's own defaults are
EMBEDDER = "all-minilm:latest"  # the name that Ollama's library has for catalog.MINILM

Line = dict[str, Any]


@dataclass(frozen=True)
class Tag:
    """A model under a name.

    kind: type of its weights. digest: SHA-256 of its file. size: in bytes. modified_at: in ISO 8601.
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
        """Whether it is an embedding model; the others are chat models."""
        return self.model == catalog.MINILM


def parse_name(text: str, field: str = "model") -> str:
    """`name:tag` in lower case, with `latest` where no tag is given. Raises ApiError for an invalid name."""
    name = text.lower()
    if not NAME.match(name) or ".." in name:
        shown = text if len(text) <= 60 else f"{text[:57]}..."
        rule = "letters, digits, '.', '_' and '-', at most 80, then ':' and a tag likewise"
        raise ApiError(field, f"{shown!r} is no name: {rule}")
    return name if ":" in name else f"{name}:latest"


def pullable() -> dict[str, tuple[str, str]]:
    """What can be pulled: name and tag -> the shipped model and the type of its weights."""
    types = {"latest": LATEST} | {t: t for t in TYPES}
    names = {f"{m}:{tag}": (m, weight_type) for m in catalog.shipped() for tag, weight_type in types.items()}
    return names | {EMBEDDER: (catalog.MINILM, "f32")}


class Store:
    """A folder of manifests and blobs. Each file is complete or not there."""

    def __init__(self, folder: Path) -> None:
        self.manifests, self.blobs = folder / "manifests", folder / "blobs"
        self._changing, self._pulling = threading.Lock(), threading.Lock()
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
        """Pull every shipped model with the tag latest, and the embedding model, where they are missing."""
        for name in pullable():
            if name.endswith(":latest") and not self._manifest(name).is_file():
                for _ in self.pull(name):
                    pass

    def tags(self) -> list[Tag]:
        """All tags, the newest first."""
        tags = [_read(path) for path in self.manifests.glob("*/*.json")]
        return sorted(tags, key=lambda tag: (tag.modified_at, tag.name), reverse=True)

    def find(self, text: str, field: str = "model") -> Tag:
        """The tag of a name. Raises ApiError with status 404 where there is none."""
        path = self._manifest(parse_name(text, field))
        if not path.is_file():
            raise not_found(text, field)
        return _read(path)

    def find_generative(self, text: str, what: str) -> Tag:
        """The tag of a chat model. Raises ApiError, in Ollama's words, for an embedding model."""
        tag = self.find(text)
        if tag.embeds:
            raise ApiError("model", f'"{text}" does not support {what}', f"{catalog.shipped()[-1]} does")
        return tag

    def find_embedding(self, text: str) -> Tag:
        """The tag of an embedding model. Raises ApiError for a chat model."""
        tag = self.find(text)
        if not tag.embeds:
            fix = f"{EMBEDDER.removesuffix(':latest')} does"
            raise ApiError("model", f'"{text}" does not support embeddings', fix)
        return tag

    def file(self, tag: Tag) -> Path:
        """The file of its weights."""
        if tag.embeds:
            return catalog.verify_shipped(tag.model) / "model.safetensors"
        return self.blobs / f"sha256-{tag.digest}.gguf"

    def spec(self, tag: Tag) -> ModelSpec:
        """What the manager loads. Tags of the same file share a loaded model."""
        path = self.file(tag).parent if tag.embeds else self.file(tag)
        driver = {"driver": "custom", "implementation": IMPLEMENTATION, "batch_size": MAX_RUNNING}
        if tag.embeds:
            driver = {"driver": "huggingface", "task": "text-embedding"}
        return ModelSpec.parse({"source": {"type": "local", "path": path}} | driver)

    def pull(self, text: str) -> Iterator[Line]:
        """Write a model of the catalogue into the store, with Ollama's lines of progress.

        Raises ApiError for a name that the catalogue does not have.
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
        with self._pulling, tempfile.TemporaryDirectory(dir=self.blobs, prefix=".pull-") as work:
            file = folder / "model.safetensors"
            if model != catalog.MINILM:
                file = cached_export(folder, weight_type, scratch=Path(work))
            digest, size = data.sha256(file), file.stat().st_size
            tag = Tag(name, model, weight_type, digest, size, stored_weights(folder).weights, _now())
            yield from self._copy_file(file, tag)
        yield {"status": "verifying sha256 digest"}
        if data.sha256(self.file(tag)) != tag.digest:
            raise CourseError(f"{self.file(tag).name} is not what was pulled", "pull it again")
        yield {"status": "writing manifest"}
        self._write(tag)
        yield {"status": "success"}

    def _copy_file(self, source: Path, tag: Tag) -> Iterator[Line]:
        line = {"status": f"pulling {tag.digest[:12]}", "digest": f"sha256:{tag.digest}", "total": tag.size}
        target = self.file(tag)
        if not target.is_file() or data.sha256(target) != tag.digest:
            yield line
            with open(source, "rb") as reader, atomic_file(target) as partial, open(partial, "wb") as writer:
                while chunk := reader.read(CHUNK):
                    writer.write(chunk)
                    yield line | {"completed": writer.tell()}
        yield line | {"completed": tag.size}

    def copy(self, source: str, destination: str) -> None:
        """Give a model a second name. Raises ApiError where there is no such model."""
        tag, name = self.find(source, "source"), parse_name(destination, "destination")
        self._write(replace(tag, name=name, modified_at=_now()))

    def delete(self, text: str) -> Tag | None:
        """Remove a name, and the file if no other name has it. Returns the tag of a removed file, else None.

        Raises ApiError where there is no such model.
        """
        tag = self.find(text)
        with self._changing:
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
        with self._changing:
            if not self.file(tag).is_file():  # deleted in between
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
