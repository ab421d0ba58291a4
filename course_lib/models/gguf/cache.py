"""Cache the GGUF files (for llama.cpp) written from model folders, so that they are converted only once."""

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

from course_lib.data import sha256
from course_lib.models.gguf import architecture, tokenizer, vocabulary, writer

LIMIT_BYTES = 4 * 2**30  # for all cached files together; the least recently used are deleted first
PARTIAL_PREFIX = "partial-"  # of the name of a folder with a file that is being written
DAY_SECONDS = 24 * 3600  # an older folder of that kind was left by a killed process, and is deleted
METADATA_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
)
_write_lock = threading.Lock()


def cache_folder() -> Path:
    """Return the folder `gguf` in COURSE_CACHE_DIR, or by default in the system's cache directory."""
    import platformdirs

    root = os.environ.get("COURSE_CACHE_DIR") or platformdirs.user_cache_dir("local-ai-measured")
    return Path(root).expanduser() / "gguf"


def cached_export(folder: Path, weight_type: str, scratch: Path) -> Path:
    """Return the model in `folder` as a GGUF file, from the cache if it holds the same content and type.

    scratch: The folder for the file if the cache is not writable, the disk is full, or the weights are larger
    than LIMIT_BYTES. Raises the errors of `export`.
    """
    sources = _sources(folder)
    temporary = scratch / f"{folder.name}.gguf"
    if sum(path.stat().st_size for path in sources) > LIMIT_BYTES:
        return writer.export(folder, temporary, weight_type)
    cache, key = cache_folder(), _key(folder.name, weight_type, sources)
    try:
        with _write_lock:
            return _find(cache, key) or _write(folder, weight_type, cache, key)
    except OSError:
        return writer.export(folder, temporary, weight_type)


def cached_file(folder: Path, weight_type: str) -> Path | None:
    """Return the file that `cached_export` would return, if the cache holds it."""
    return _find(cache_folder(), _key(folder.name, weight_type, _sources(folder)))


def _sources(folder: Path) -> list[Path]:
    """Return the files of a model folder from which the GGUF file is written."""
    from course_lib.models.files.headers import weight_paths

    paths = [*weight_paths(folder), *(folder / name for name in METADATA_FILES)]
    return [path for path in paths if path.is_file()]


def _key(name: str, weight_type: str, sources: list[Path]) -> str:
    """Return a hash of what determines a GGUF file: sources, type, model name and writer version."""
    parts = (name, weight_type, _hash_files(sources), _writer_version())
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def _hash_files(paths: Iterable[Path]) -> list[tuple[str, str]]:
    """Return the name and the SHA-256 of each file."""
    stats = [(path, path.stat()) for path in paths]
    return [(path.name, _sha256(path, stat.st_size, stat.st_mtime_ns)) for path, stat in stats]


@functools.lru_cache(maxsize=256)
def _sha256(path: Path, size: int, modified: int) -> str:
    """Return the SHA-256 of a file, recomputed only if its size or modification time (ns) changes."""
    return sha256(path)


def _writer_version() -> tuple[Any, ...]:
    """Return the version of the gguf package and the hashes of the modules that write a file."""
    modules = (writer, architecture, tokenizer, vocabulary)
    return version("gguf"), *_hash_files(Path(str(module.__file__)) for module in modules)


def _find(cache: Path, key: str) -> Path | None:
    """Return the cached file for a key and mark it as just used; None if it is missing.

    A file whose size differs from the one in its name is damaged and deleted.
    """
    for path in cache.glob(f"{key}-*.gguf"):
        if path.stem == f"{key}-{path.stat().st_size}":
            os.utime(path)
            return path
        path.unlink()
    return None


def _write(folder: Path, weight_type: str, cache: Path, key: str) -> Path:
    """Write a file into the cache atomically: other processes never see a part of it. Raises OSError."""
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=PARTIAL_PREFIX, ignore_cleanup_errors=True) as work:
        partial = Path(work) / "model.gguf"
        writer.write(folder, partial, weight_type)
        path = cache / f"{key}-{partial.stat().st_size}.gguf"
        os.replace(partial, path)
    _shrink(cache, keep=path)
    return path


def _shrink(cache: Path, keep: Path) -> None:
    """Delete least recently used files beyond LIMIT_BYTES, and partial files of killed processes."""
    with suppress(OSError):
        stats = {path: path.stat() for path in cache.iterdir()}
        files = sorted((p for p in stats if p.suffix == ".gguf"), key=lambda p: -stats[p].st_mtime)
        for path, total in zip(files, accumulate(stats[p].st_size for p in files), strict=True):
            if total > LIMIT_BYTES and path != keep:
                path.unlink()
        for path, stat in stats.items():
            if path.name.startswith(PARTIAL_PREFIX) and stat.st_mtime < time.time() - DAY_SECONDS:
                shutil.rmtree(path, ignore_errors=True)
