"""The hub's cache on this machine (huggingface.co/docs/huggingface_hub, "Understand caching"): what is here, and is it whole?

models--OWNER--NAME/blobs/HASH                  contents, each named by its hash
models--OWNER--NAME/snapshots/COMMIT/NAME       links to them
models--OWNER--NAME/refs/BRANCH                 the commit that a branch or tag was last seen at
models--OWNER--NAME/course/COMMIT.json          ours: what the hub said that the commit holds
models--OWNER--NAME/course/refs/BRANCH          ours: the commit that a pull, perhaps interrupted, was bringing
models--OWNER--NAME/course/checked.json         ours: hash -> size and time of change when its content was last hashed
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import constants
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils.sha import git_hash

from course_lib import data
from course_lib.atomic import atomic_write_text

SHA256 = re.compile(r"[0-9a-f]{64}")
SHA1 = re.compile(r"[0-9a-f]{40}")  # of a commit, or of a small file as git hashes it


@dataclass(frozen=True)
class File:
    """Size in bytes, and hash: the SHA-256 of a file in LFS, git's SHA-1 of another; None for what nobody has told."""

    size: int | None
    digest: str | None

    @property
    def sha256(self) -> str | None:
        return self.digest if self.digest and SHA256.fullmatch(self.digest) else None


@dataclass(frozen=True)
class Listing:
    """The files of a repository at a commit. `whole`: as the hub says; otherwise only what happens to be here."""

    commit: str
    files: dict[str, File]
    whole: bool = True


def digest_of(path: Path, like: str) -> str:
    """The hash of a file, of the kind that `like` is."""
    return data.sha256(path) if SHA256.fullmatch(like) else git_hash(path.read_bytes())


class Cache:
    """What the cache holds of one repository."""

    def __init__(self, repository: str, folder: Path | None) -> None:
        self.root = (folder or Path(constants.HF_HUB_CACHE)).expanduser()
        self.folder = self.root / repo_folder_name(repo_id=repository, repo_type="model")

    def snapshot(self, commit: str) -> Path:
        """The folder of a commit."""
        return self.folder / "snapshots" / commit

    def blob(self, file: File) -> Path:
        """Where the content of a file lies. `file` has a hash."""
        return self.folder / "blobs" / str(file.digest)

    def partial(self, file: File) -> Path:
        """Where as much of a file lies as has arrived."""
        return self.folder / "blobs" / f"{file.digest}.incomplete"

    def commit_of(self, revision: str) -> str | None:
        """The commit of a revision: of the last whole pull, or of one that was interrupted; None where there was none."""
        if SHA1.fullmatch(revision):
            return revision
        found = (
            self._read(place / revision) for place in (self.folder / "refs", self.folder / "course" / "refs")
        )
        return next((commit for commit in found if SHA1.fullmatch(commit)), None)

    def _read(self, path: Path) -> str:
        try:
            return path.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return ""

    def listing(self, commit: str) -> Listing | None:
        """What is known of a commit: by what the hub said, or by what another program left here; None for nothing."""
        try:
            said = json.loads((self.folder / "course" / f"{commit}.json").read_text("utf-8"))
            return Listing(commit, {name: File(**file) for name, file in said.items()})
        except (OSError, ValueError, TypeError, AttributeError):
            snapshot = self.snapshot(commit)
            found = [p for p in snapshot.rglob("*") if p.is_file()]
            here = {
                p.relative_to(snapshot).as_posix(): File(p.stat().st_size, _name_of_blob(p)) for p in found
            }
            return Listing(commit, here, whole=False) if here else None

    def remember(self, listing: Listing, revision: str) -> None:
        """Keep what the hub said of a revision."""
        said = {name: asdict(file) for name, file in listing.files.items()}
        atomic_write_text(self.folder / "course" / f"{listing.commit}.json", json.dumps(said, indent=1))
        if revision != listing.commit:
            atomic_write_text(self.folder / "course" / "refs" / revision, listing.commit)

    def place(self, listing: Listing, name: str) -> Path | None:
        """Where a file of a commit lies, its content checked; None where it is missing or not what its hash says."""
        file = listing.files.get(name)
        if file is None:
            return None
        pointer = self.snapshot(listing.commit) / name
        if file.digest is None:
            return pointer if pointer.is_file() else None
        return next((p for p in (pointer, self.blob(file)) if self.is_whole(p, file)), None)

    def is_whole(self, path: Path, file: File) -> bool:
        """Whether a file is here and has its hash. It is read only where its size or time of change is new."""
        if not path.is_file() or file.size not in (None, path.stat().st_size):
            return False
        if self._checked().get(str(file.digest)) == _stamp(path):
            return True
        if digest_of(path, str(file.digest)) != file.digest:
            return False
        self._note(path, file)
        return True

    def _note(self, path: Path, file: File) -> None:
        with suppress(OSError):  # in a cache that cannot be written, files are read each time
            said = self._checked() | {str(file.digest): _stamp(path)}
            atomic_write_text(self.folder / "course" / "checked.json", json.dumps(said, indent=1))

    def _checked(self) -> dict[str, Any]:
        try:
            said = json.loads(self._read(self.folder / "course" / "checked.json"))
        except ValueError:
            return {}
        return said if isinstance(said, dict) else {}

    def arrived(self, file: File) -> int:
        """Bytes of a file that an earlier attempt has left. More than the file has cannot be of it, and is removed."""
        partial = self.partial(file)
        size = partial.stat().st_size if partial.is_file() else 0
        if size > (file.size or 0):
            partial.unlink()
            return 0
        return size

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Only one process or thread at a time brings files of a repository; the next one finds them here."""
        from filelock import FileLock

        path = self.root / ".locks" / self.folder.name / "course.lock"
        for folder in (path.parent, self.folder / "blobs", self.folder / "snapshots"):
            folder.mkdir(parents=True, exist_ok=True)
        with FileLock(path):
            yield

    def admit(self, file: File) -> str:
        """Hash what has arrived of a file, and let it in if the hash is right; otherwise remove it. Returns the hash."""
        partial, blob = self.partial(file), self.blob(file)
        found = digest_of(partial, str(file.digest))
        if found != file.digest:
            partial.unlink()
            return found
        os.replace(partial, blob)
        self._note(blob, file)
        return found

    def remove(self, listing: Listing, name: str) -> None:
        """Remove a file that is not what its hash says."""
        (self.snapshot(listing.commit) / name).unlink(missing_ok=True)
        self.blob(listing.files[name]).unlink(missing_ok=True)

    def link(self, listing: Listing, names: list[str]) -> None:
        """Make the snapshot's links to contents that are all here. A snapshot appears at the end of a pull, not on the way."""
        for name in names:
            pointer, blob = self.snapshot(listing.commit) / name, self.blob(listing.files[name])
            if self.place(listing, name) == pointer:
                continue
            pointer.parent.mkdir(parents=True, exist_ok=True)
            pointer.unlink(missing_ok=True)  # a link to a content that was removed
            try:
                pointer.symlink_to(os.path.relpath(blob, pointer.parent))
            except FileExistsError:  # made by another process just now
                pass
            except OSError:  # a file system without links, as on some Windows machines
                os.replace(blob, pointer)

    def name(self, revision: str, commit: str) -> None:
        """Remember the commit of a branch or tag: from now on, it is what the cache holds of it."""
        if revision != commit and self._read(self.folder / "refs" / revision) != commit:
            atomic_write_text(self.folder / "refs" / revision, commit)


def _stamp(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]


def _name_of_blob(pointer: Path) -> str | None:
    """The hash in the name of the content that a link leads to; None where there is no link."""
    name = Path(os.readlink(pointer)).name if pointer.is_symlink() else ""
    return name if SHA256.fullmatch(name) or SHA1.fullmatch(name) else None
