"""The server's library: the models that `pull` knows, under names of the form `name:tag`.

They ship with the course, or are in packages of the Python package index. GGUF is the file format of
llama.cpp.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from course_lib import data
from course_lib.errors import CourseError
from course_lib.models import catalog
from course_lib.models.catalog.names import similar
from course_lib.models.downloads.packages import pull_package
from course_lib.models.drivers.streaming import iterate_in_thread
from course_lib.models.gguf import cached_file
from course_lib.models.gguf.writer import TYPES

LATEST = "q8_0"  # weight type of the tag `latest`: 8 bits per weight, quantized like Ollama's own defaults
STOP_SECONDS = 5.0  # to wait until a download stops after its client has disconnected
# The program of the process that exports a shipped model to GGUF.
EXPORT_SCRIPT = """
import pathlib, sys
from course_lib.models.gguf import cached_export
folder, weight_type, scratch = sys.argv[1:]
print(cached_export(pathlib.Path(folder), weight_type, pathlib.Path(scratch)))
"""
EMBEDDER_NAME = "all-minilm:latest"  # Ollama's name of catalog.MINILM, an embedding model


@dataclass(frozen=True)
class Origin:
    """Where a model comes from. weight_type: of the GGUF file to export; "" if none is exported."""

    model: str
    weight_type: str = ""

    def export(self, scratch: Path) -> Path:
        """Return the GGUF file of a shipped model. scratch: a folder for temporary files.

        A separate process writes it, because the libraries for that would take 300 MB of the server's memory.
        """
        folder = catalog.verify_shipped(self.model)
        if (found := cached_file(folder, self.weight_type)) is not None:
            return found
        command = [sys.executable, "-c", EXPORT_SCRIPT, str(folder), self.weight_type, str(scratch)]
        # in the folder of course_lib, so that the process finds it
        done = subprocess.run(command, cwd=data.ROOT, capture_output=True, text=True)
        if done.returncode:
            what = f"{self.model} cannot be written as GGUF: {done.stderr.strip()[-500:]}"
            raise CourseError(what, "course doctor")
        return Path(done.stdout.splitlines()[-1])  # the last line; a library may print others before it

    def licence(self) -> str:
        """Return the name of the licence; "" if none is found."""
        if not self.weight_type and self.model != catalog.MINILM:
            return catalog.entry(self.model).licence
        card = (catalog.verify_shipped(self.model) / "README.md").read_text("utf-8")
        found = re.search(r"^license: *(\S+)", card, re.MULTILINE)
        return found[1] if found else ""


def library() -> dict[str, Origin]:
    """Return the models that can be pulled: `name:tag` in lower case -> where they come from."""
    types = {"latest": LATEST} | {t: t for t in TYPES}
    names = {
        f"{m}:{tag}": Origin(m, weight_type) for m in catalog.shipped() for tag, weight_type in types.items()
    }
    origins = {entry.model.lower(): Origin(entry.model) for entry in packaged()}
    names |= {f"{model}:latest": origin for model, origin in origins.items()}
    for entry in catalog.entries():  # the name in Ollama's library, such as smollm2:135m
        if entry.ollama and entry.model.lower() in origins:
            names[entry.ollama] = origins[entry.model.lower()]
    return {name.lower(): origin for name, origin in names.items()} | {EMBEDDER_NAME: Origin(catalog.MINILM)}


def packaged() -> list[catalog.Entry]:
    """Return the models from pip packages that the server can run: GGUF files, and embedding models."""
    entries = [entry for entry in catalog.entries() if entry.package]
    return [e for e in entries if e.task == "text-embedding" or e.pulled_path.suffix == ".gguf"]


def similar_names(name: str) -> list[str]:
    """Return the names in the library that are similar to `name`."""
    return similar(name.removesuffix(":latest"), [known.removesuffix(":latest") for known in library()])


def model_path(model: str) -> Path:
    """Return the folder or GGUF file of MiniLM or of a model from a pip package, whether it exists or not."""
    return catalog.shipped_folder(model) or catalog.entry(model).pulled_path


def download(entry: catalog.Entry) -> Iterator[dict[str, Any]]:
    """Download a model by pip, and yield progress lines. Leaving the loop stops the download.

    As in Ollama, complete parts are kept, and the next pull continues from there.
    """
    package, ended = entry.package, threading.Event()
    assert package
    line = {"status": f"pulling {package.sha256[:12]}", "digest": f"sha256:{package.sha256}"}

    def work(put: Callable[[int], None], stop: threading.Event) -> None:
        try:
            pull_package(entry, bar=_Bar(put, stop))
        finally:
            ended.set()

    try:
        with contextlib.closing(iterate_in_thread(work)) as counts:
            for completed in counts:
                yield line | {"total": package.download_bytes, "completed": completed}
    finally:
        ended.wait(STOP_SECONDS)


class _Bar(contextlib.nullcontext["_Bar"]):
    """Replaces a tqdm bar: passes the number of bytes to `put`, and ends the download if `stop` is set."""

    def __init__(self, put: Callable[[int], None], stop: threading.Event) -> None:
        super().__init__(self)
        self.n, self._put, self._stop = 0, put, stop

    def update(self, arrived: int) -> None:
        self.n += arrived
        self._put(self.n)
        if self._stop.is_set():
            raise CancelledError

    def set_postfix_str(self, text: str) -> None:
        """Ignore the text, which progress lines do not show."""
