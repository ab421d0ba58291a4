"""The Hugging Face cache: which files of a repository it contains, and whether they are intact.

The layout is huggingface_hub's (huggingface.co/docs/huggingface_hub, "Understand caching"), plus
the course's own records in `course/`:

models--OWNER--NAME/blobs/HASH                file contents; HASH.incomplete while downloading
models--OWNER--NAME/snapshots/COMMIT/FILE     symbolic links to the blobs
models--OWNER--NAME/refs/BRANCH               last known commit of a branch or tag
models--OWNER--NAME/course/COMMIT.json        the hub's list of the commit's files
models--OWNER--NAME/course/refs/BRANCH        commit of the last download, complete or not
models--OWNER--NAME/course/checked.json       hash -> size and modification time of a verified file
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import constants
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils.sha import git_hash

from course_lib import data
from course_lib.atomic import atomic_write_text

SHA256 = re.compile(r"[0-9a-f]{64}")
SHA1 = re.compile(r"[0-9a-f]{40}")  # git's hash of a commit or of a file outside LFS


class File(NamedTuple):
    """Size in bytes and hash of a file; None if unknown.

    The hash is the SHA-256 of a large file (in Git LFS), otherwise git's SHA-1.
    """

    size: int | None
    digest: str | None

    @property
    def sha256(self) -> str | None:
        return self.digest if self.digest and SHA256.fullmatch(self.digest) else None


@dataclass(frozen=True)
class Listing:
    """The files of a repository at a commit.

    complete: True for the hub's list, False for a list of only those files that are in the cache.
    """

    commit: str
    files: dict[str, File]
    complete: bool = True


def hash_file(path: Path, like: str) -> str:
    """Return the hash of a file by the algorithm of the digest `like`: SHA-256 or git's SHA-1."""
    return data.sha256(path) if SHA256.fullmatch(like) else git_hash(path.read_bytes())


class Cache:
    """The part of the cache that belongs to one repository."""

    def __init__(self, repository: str, root: Path | None) -> None:
        self.root = (root or Path(constants.HF_HUB_CACHE)).expanduser()
        self.folder = self.root / repo_folder_name(repo_id=repository, repo_type="model")
        self.records = self.folder / "course"

    def snapshot(self, commit: str) -> Path:
        """Return the folder with the files of a commit."""
        return self.folder / "snapshots" / commit

    def _blob(self, file: File) -> Path:
        return self.folder / "blobs" / str(file.digest)

    def partial(self, file: File) -> Path:
        """Return the path of a partly downloaded file."""
        return self.folder / "blobs" / f"{file.digest}.incomplete"

    # -- records ------------------------------------------------------------------------------------------

    def listing(self, revision: str) -> Listing | None:
        """Return the files of a revision as recorded by a download or found in its snapshot, or None."""
        names = [self.folder / "refs" / revision, self.records / "refs" / revision]
        commits = [revision, *map(_read, names)]
        commit = next((c for c in commits if SHA1.fullmatch(c)), None)
        if commit is None:
            return None
        try:
            record = json.loads(_read(self.records / f"{commit}.json"))
            return Listing(commit, {name: File(f["size"], f["digest"]) for name, f in record.items()})
        except (ValueError, TypeError, AttributeError, KeyError):
            snapshot = self.snapshot(commit)
            paths = [p for p in snapshot.rglob("*") if p.is_file()]
            files = {
                p.relative_to(snapshot).as_posix(): File(p.stat().st_size, _linked_hash(p)) for p in paths
            }
            return Listing(commit, files, complete=False) if files else None

    def record_listing(self, listing: Listing, revision: str) -> None:
        """Record the hub's list of a revision's files."""
        record = {name: file._asdict() for name, file in listing.files.items()}
        atomic_write_text(self.records / f"{listing.commit}.json", json.dumps(record, indent=1))
        if revision != listing.commit:
            atomic_write_text(self.records / "refs" / revision, listing.commit)

    def set_revision(self, revision: str, commit: str) -> None:
        """Record the commit of a branch or tag, once all its files are in the cache."""
        if revision != commit and _read(self.folder / "refs" / revision) != commit:
            atomic_write_text(self.folder / "refs" / revision, commit)

    # -- files --------------------------------------------------------------------------------------------

    def find(self, listing: Listing, name: str) -> Path | None:
        """Return the path of a file after checking its content; None if it is missing or damaged."""
        file = listing.files.get(name)
        if file is None:
            return None
        pointer = self.snapshot(listing.commit) / name
        if file.digest is None:
            return pointer if pointer.is_file() else None
        return next((p for p in (pointer, self._blob(file)) if self._is_intact(p, file)), None)

    def _is_intact(self, path: Path, file: File) -> bool:
        """Whether a file has the expected hash. Hashed only if its size or modification time changed."""
        if not path.is_file() or file.size not in (None, path.stat().st_size):
            return False
        if self._checked().get(str(file.digest)) == _stamp(path):
            return True
        if hash_file(path, str(file.digest)) != file.digest:
            return False
        self._note_checked(path, file)
        return True

    def _note_checked(self, path: Path, file: File) -> None:
        """Record that a file has the expected hash."""
        with suppress(OSError):  # in a read-only cache, files are hashed each time
            record = self._checked() | {str(file.digest): _stamp(path)}
            atomic_write_text(self.records / "checked.json", json.dumps(record, indent=1))

    def _checked(self) -> dict[str, Any]:
        with suppress(ValueError):
            record = json.loads(_read(self.records / "checked.json"))
            return record if isinstance(record, dict) else {}
        return {}

    def downloaded_bytes(self, file: File) -> int:
        """Return the size of a partly downloaded file in bytes, 0 without one. A too long one is removed."""
        partial = self.partial(file)
        size = partial.stat().st_size if partial.is_file() else 0
        if size > (file.size or 0):
            partial.unlink()
            return 0
        return size

    def admit(self, file: File) -> str:
        """Move a downloaded file into the cache if its hash is right, or remove it. Return its hash."""
        partial, blob = self.partial(file), self._blob(file)
        digest = hash_file(partial, str(file.digest))
        if digest == file.digest:
            os.replace(partial, blob)
            self._note_checked(blob, file)
        else:
            partial.unlink()
        return digest

    def remove(self, listing: Listing, name: str) -> None:
        """Remove a damaged file from the snapshot and the blobs."""
        (self.snapshot(listing.commit) / name).unlink(missing_ok=True)
        self._blob(listing.files[name]).unlink(missing_ok=True)

    def link(self, listing: Listing, names: list[str]) -> None:
        """Create the snapshot's links. Called after the last download, so that no snapshot is incomplete."""
        for name in names:
            pointer, blob = self.snapshot(listing.commit) / name, self._blob(listing.files[name])
            if self.find(listing, name) == pointer:
                continue
            pointer.parent.mkdir(parents=True, exist_ok=True)
            pointer.unlink(missing_ok=True)  # it may point to a removed file
            try:
                pointer.symlink_to(os.path.relpath(blob, pointer.parent))
            except FileExistsError:  # made by another process just now
                pass
            except OSError:  # a file system without links, as on some Windows machines
                os.replace(blob, pointer)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the lock that lets only one process or thread at a time download the repository."""
        from filelock import FileLock

        path = self.root / ".locks" / self.folder.name / "course.lock"
        for folder in (path.parent, self.folder / "blobs", self.folder / "snapshots"):
            folder.mkdir(parents=True, exist_ok=True)
        with FileLock(path):
            yield


def _read(path: Path) -> str:
    """Return the text of a file, or "" if it cannot be read."""
    try:
        return path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _stamp(path: Path) -> list[int]:
    """Return the size in bytes and the modification time in nanoseconds of a file."""
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]


def _linked_hash(pointer: Path) -> str | None:
    """Return the hash that is the name of a link's target; None if it is not such a link."""
    name = Path(os.readlink(pointer)).name if pointer.is_symlink() else ""
    return name if SHA256.fullmatch(name) or SHA1.fullmatch(name) else None
