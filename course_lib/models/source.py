"""From the source of a specification to files on this machine that are whole, known, and safe to read."""

from __future__ import annotations

from pathlib import Path

from course_lib import data
from course_lib.errors import CourseError
from course_lib.models import catalog
from course_lib.models.spec import HuggingFaceSource, LocalSource, ServerSource

PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".h5", ".msgpack"}
GGUF_MAGIC = b"GGUF"


def resolve(source: HuggingFaceSource | LocalSource | ServerSource) -> Path:
    """A folder in Hugging Face form or a .gguf file, checked.

    Raises CourseError where files are missing, damaged or of a kind that is not loaded.
    """
    if isinstance(source, LocalSource):
        return _local(source)
    if isinstance(source, HuggingFaceSource):
        from course_lib.models.hub import fetched

        return fetched(source)
    raise CourseError(f"{source.model} lies on a server, not in files", "use driver: ollama or openai")


def _local(source: LocalSource) -> Path:
    path = source.path.expanduser()
    if catalog.ships(path):
        return catalog.folder_of(path.name if path.parent == data.MODELS else catalog.MINILM)
    if path.is_file():
        _check_format(source, "gguf" if path.suffix == ".gguf" else path.suffix)
        return _gguf(path)
    if not path.is_dir():
        raise CourseError(f"{path} does not exist", "give the path of a folder or of a .gguf file")
    _check_format(source, "safetensors")
    return safe_folder(path)


def _check_format(source: LocalSource, found: str) -> None:
    if source.format not in ("auto", found) and found in ("gguf", "safetensors"):
        raise CourseError(f"format: {source.format!r}, but {source.path} is {found}", f"say format: {found}, or leave it out")


def _gguf(path: Path) -> Path:
    if path.suffix in PICKLES:
        raise CourseError(*pickle_refused(path.name))
    with open(path, "rb") as f:
        begins = f.read(4)
    if begins != GGUF_MAGIC:
        raise CourseError(f"{path.name} is no GGUF file: it begins with {begins!r}", "name a .gguf file, or a folder")
    return path


def safe_folder(folder: Path) -> Path:
    """`folder`, if it holds a configuration and weights as safetensors. Raises CourseError, with the reason, if not."""
    names = sorted(p.name for p in folder.iterdir())
    if not any(n.endswith(".safetensors") for n in names):
        pickles = [n for n in names if Path(n).suffix in PICKLES]
        if pickles:
            raise CourseError(*pickle_refused(f"{folder.name}/{pickles[0]}"))
        raise CourseError(f"{folder} holds no .safetensors", "name a folder in Hugging Face form, or a .gguf file")
    if "config.json" not in names:
        raise CourseError(f"{folder} holds no config.json", "name a folder in Hugging Face form")
    return folder


def pickle_refused(name: str) -> tuple[str, str]:
    """What happened, and the cure."""
    return (f"{name} is a pickle or the like: reading it can run any program that its author put in",
            "choose a model with .safetensors or .gguf files, or convert it where you trust it")  # fmt: skip
