"""A cache of GGUF files written from model folders: the second load of a model writes nothing."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import version
from itertools import accumulate
from pathlib import Path
from typing import Any

from course_lib.models.gguf import tokenizer, writer

LIMIT = 4 * 2**30  # bytes of all cached files; the least recently used go first
PARTIAL, DAY = "partial-", 24 * 3600
READ_BY_THE_WRITER = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
)
_writing = threading.Lock()


def cache_folder() -> Path:
    """COURSE_CACHE_DIR, or the system's place for caches, and in it a folder for GGUF files."""
    import platformdirs

    root = os.environ.get("COURSE_CACHE_DIR") or platformdirs.user_cache_dir("local-ai-measured")
    return Path(root).expanduser() / "gguf"


def cached_export(folder: Path, weight_type: str, scratch: Path) -> Path:
    """The model in `folder` as a GGUF file, written only where the cache has none of the same content and
    type.

    scratch: a folder for the file where the cache cannot hold it: no permission, no room, or weights above
    LIMIT. Raises what `export` raises.
    """
    sources = _sources(folder)
    temporary = scratch / f"{folder.name}.gguf"
    if sum(path.stat().st_size for path in sources) > LIMIT:
        return writer.export(folder, temporary, weight_type)
    cache, key = cache_folder(), _key(folder.name, weight_type, sources)
    try:
        with _writing:
            return _find(cache, key) or _write(folder, weight_type, cache, key)
    except OSError:
        return writer.export(folder, temporary, weight_type)


def _sources(folder: Path) -> list[Path]:
    """The files that a GGUF file is written from."""
    from course_lib.models.files.headers import weight_files

    names = [*weight_files(p.name for p in folder.iterdir()), *READ_BY_THE_WRITER]
    return [folder / name for name in names if (folder / name).is_file()]


def _key(name: str, weight_type: str, sources: list[Path]) -> str:
    """A hash of what determines a file: sources, type, name of the model, and the code that writes it."""
    parts = (name, weight_type, _hash_files(sources), _version())
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def _hash_files(paths: Iterable[Path]) -> list[tuple[str, str]]:
    """(name, SHA-256) of each file."""
    stats = [(path, path.stat()) for path in paths]
    return [(path.name, _sha256(path, stat.st_size, stat.st_mtime_ns)) for path, stat in stats]


@functools.lru_cache(maxsize=256)
def _sha256(path: Path, size: int, modified: int) -> str:
    """The SHA-256 of a file, computed once for each size and modification time."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _version() -> tuple[Any, ...]:
    """The version of the gguf package, and hashes of the modules that write GGUF files."""
    return version("gguf"), *_hash_files(Path(str(module.__file__)) for module in (writer, tokenizer))


def _find(cache: Path, key: str) -> Path | None:
    """The file of a key, marked as used now; None where it is missing or has not the size in its name."""
    for path in cache.glob(f"{key}-*.gguf"):
        if path.stem == f"{key}-{path.stat().st_size}":
            os.utime(path)
            return path
        path.unlink()
    return None


def _write(folder: Path, weight_type: str, cache: Path, key: str) -> Path:
    """Write a file and move it into the cache: other processes see all of it or nothing. Raises OSError."""
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=PARTIAL, ignore_cleanup_errors=True) as work:
        partial = Path(work) / "model.gguf"
        writer.write(folder, partial, weight_type)
        path = cache / f"{key}-{partial.stat().st_size}.gguf"
        os.replace(partial, path)
    _shrink(cache, keep=path)
    return path


def _shrink(cache: Path, keep: Path) -> None:
    """Remove the least recently used files above LIMIT, and what killed processes left half-written."""
    with suppress(OSError):
        stats = {path: path.stat() for path in cache.iterdir()}
        files = sorted((p for p in stats if p.suffix == ".gguf"), key=lambda p: -stats[p].st_mtime)
        for path, total in zip(files, accumulate(stats[p].st_size for p in files), strict=True):
            if total > LIMIT and path != keep:
                path.unlink()
        for path, stat in stats.items():
            if path.name.startswith(PARTIAL) and stat.st_mtime < time.time() - DAY:
                shutil.rmtree(path, ignore_errors=True)
