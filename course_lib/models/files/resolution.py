"""From the source of a specification to files on this machine that are whole, known, and safe to read."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from course_lib import data
from course_lib.errors import CourseError
from course_lib.models import catalog
from course_lib.models.schema.spec import HuggingFaceSource, LocalSource, ServerSource

PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".h5", ".msgpack"}
GGUF_MAGIC = b"GGUF"
GGUF_HEADER = 24  # bytes: magic, version, numbers of tensors and of facts
LFS_POINTER = b"version https://git-lfs"
WEIGHTS = [
    re.compile(p)
    for p in (r"model\.safetensors", r"model-\d{5}-of-\d{5}\.safetensors", r"[^/]+\.safetensors")
]
PART = re.compile(r"(.+)-(\d{5})-of-(\d{5})(\.gguf|\.safetensors)")
LONGEST_HEADER = 100_000_000  # bytes, the format's own limit


def resolve(source: HuggingFaceSource | LocalSource | ServerSource) -> Path:
    """A folder in Hugging Face form or a .gguf file, checked.

    Raises CourseError where files are missing, damaged or of a kind that is not loaded.
    """
    if isinstance(source, LocalSource):
        try:
            return _local(source)
        except (OSError, RuntimeError) as error:  # no right to read it, a name too long, ~ of nobody
            raise CourseError(
                f"{source.path} cannot be read: {error}", "give the path of a folder or of a .gguf file"
            ) from error
    if isinstance(source, HuggingFaceSource):
        from course_lib.models.files.hub import fetched

        found = fetched(source)
        return _gguf(found) if found.is_file() else safe_folder(found, source.repository)
    raise CourseError(f"{source.model} lies on a server, not in files", "use driver: ollama or openai")


def _local(source: LocalSource) -> Path:
    path = _as_on_disk(source.path.expanduser())
    if catalog.ships(path):
        _check_format(source, "safetensors")
        return catalog.folder_of(path.name if path.parent == data.MODELS else catalog.MINILM)
    if path.is_file():
        _check_format(source, path.suffix.removeprefix("."))
        return _gguf(path)
    if not path.is_dir():
        raise CourseError(f"{path} does not exist", "give the path of a folder or of a .gguf file")
    names = [p.name for p in path.iterdir()]
    held = [kind for kind, some in (("safetensors", weights(names)), ("gguf", ggufs(names))) if some]
    found = source.format if source.format in held else held[0] if held else ""
    _check_format(source, found)
    if found == "gguf":
        return _gguf(path / one_gguf(names, str(path), "give the path of one of them")[0])
    return safe_folder(path)


def _as_on_disk(path: Path) -> Path:
    """`path`, or the same name in the other Unicode form: a folder copied from a Mac may be named in NFD."""
    forms = (
        path,
        *(path.with_name(unicodedata.normalize(form, path.name)) for form in ("NFC", "NFD") if path.name),
    )
    return next((p for p in forms if p.exists()), path)


def _check_format(source: LocalSource, found: str) -> None:
    if source.format not in ("auto", found) and found in ("gguf", "safetensors"):
        raise CourseError(
            f"format: {source.format!r}, but {source.path} is {found}",
            f"say format: {found}, or leave it out",
        )


def _gguf(path: Path) -> Path:
    if path.suffix in PICKLES:
        raise CourseError(*pickle_refused(path.name))
    if path.suffix == ".safetensors":
        raise CourseError(
            f"{path.name} is the weights alone",
            f"name the folder, which has the configuration too: {path.parent}",
        )
    with open(path, "rb") as f:
        begins = f.read(len(LFS_POINTER))
    _check_pointer(path, begins)
    if begins[:4] != GGUF_MAGIC or path.stat().st_size < GGUF_HEADER:
        raise CourseError(
            f"{path.name} is no GGUF file: it has {path.stat().st_size:,} bytes and begins with {begins[:4]!r}",
            "name a .gguf file, or a folder",
        )
    return path


def safe_folder(folder: Path, name: str = "") -> Path:
    """`folder`, if it holds a configuration and whole weights as safetensors. Raises CourseError, with the reason, if not.

    name: by which it was asked for, where that is not the folder's.
    """
    names = sorted(p.name for p in folder.iterdir())
    if "adapter_config.json" in names and "config.json" not in names:
        raise CourseError(
            f"{name or folder.name} is a LoRA adapter, which changes a model and is none",
            f"load the model that it was made for, with adapters=['{name or folder}']",
        )
    found = weights(names)
    if not found:
        raise no_weights(names, folder.name)
    if "config.json" not in names:
        raise CourseError(f"{folder} holds no config.json", "name a folder in Hugging Face form")
    for name in found:
        tensors_in(folder / name)
    return folder


class Tensor(NamedTuple):
    """A tensor as the header of its file tells of it."""

    shape: tuple[int, ...]
    bytes: int


def tensors_in(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name, from its header alone (huggingface.co/docs/safetensors).

    Raises CourseError where the file is missing, or not as long as its own header says.
    """
    if not path.is_file():
        raise CourseError(f"{path.parent.name}/{path.name} is missing", "download the model again")
    size = path.stat().st_size
    with open(path, "rb") as f:
        begins = f.read(8)
        length = int.from_bytes(begins, "little")
        header = f.read(length) if length <= min(size, LONGEST_HEADER) else b""
    _check_pointer(path, begins + header)
    try:
        said = {k: v for k, v in json.loads(header).items() if k != "__metadata__"}
        places = {name: (int(t["data_offsets"][0]), int(t["data_offsets"][1])) for name, t in said.items()}
        found = {
            name: Tensor(tuple(map(int, t["shape"])), places[name][1] - places[name][0])
            for name, t in said.items()
        }
        end = 8 + length + max((place[1] for place in places.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        raise CourseError(
            f"{path.name} is no safetensors file: it begins with {begins!r}", "download it again"
        ) from None
    if end != size:
        raise CourseError(
            f"{path.name} has {size:,} bytes, and by its own header {end:,}", "download it again"
        )
    return found


def facts(folder: Path, name: str) -> dict[str, Any]:
    """A JSON file of the model, or nothing where it has none."""
    path = folder / name
    if not path.is_file():
        return {}
    try:
        said = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise CourseError(
            f"{path.name} of {folder.name} cannot be read: {error}", "download it again"
        ) from error
    return said if isinstance(said, dict) else {}


def _check_pointer(path: Path, begins: bytes) -> None:
    if LFS_POINTER.startswith(begins[: len(LFS_POINTER)]) and path.stat().st_size < 1024 and begins:
        raise CourseError(
            f"{path.name} is a pointer of Git LFS, not the weights", "git lfs pull, in that folder"
        )


def weights(names: Iterable[str]) -> list[str]:
    """The safetensors files that make up the model, missing parts included; of several sets, the one that transformers reads."""
    names = sorted(names)
    found = next((some for p in WEIGHTS if (some := [n for n in names if p.fullmatch(n)])), [])
    return sorted({part for name in found for part in parts(name)})


def parts(name: str) -> list[str]:
    """All parts of a file that was split, named as `x-00001-of-00003.gguf`; the name alone for another.

    >>> parts("m-00002-of-00002.gguf")
    ['m-00001-of-00002.gguf', 'm-00002-of-00002.gguf']
    """
    split = PART.fullmatch(name)
    return (
        [f"{split[1]}-{i:05}-of-{split[3]}{split[4]}" for i in range(1, int(split[3]) + 1)]
        if split
        else [name]
    )


def ggufs(names: Iterable[str]) -> list[str]:
    """The GGUF models among names: of one that was split, the first part."""
    return sorted({parts(n)[0] for n in names if n.endswith(".gguf")})


def one_gguf(names: Iterable[str], where: str, fix: str) -> list[str]:
    """The parts of the only GGUF model among names. Raises CourseError that lists them where there are several."""
    found = ggufs(names)
    if len(found) != 1:
        raise CourseError(f"{where} holds {len(found)} GGUF models: {', '.join(found)}", fix)
    return parts(found[0])


def no_weights(names: Iterable[str], where: str) -> CourseError:
    """The error for a folder or repository without weights that are loaded: whether it holds pickles, or nothing."""
    pickles = sorted(n for n in names if Path(n).suffix in PICKLES)
    if pickles:
        return CourseError(*pickle_refused(f"{where}/{pickles[0]}"))
    return CourseError(
        f"{where} holds no .safetensors and no .gguf", "name a model in Hugging Face form, or a .gguf file"
    )


def pickle_refused(name: str) -> tuple[str, str]:
    """What happened, and the cure."""
    return (
        f"{name} is a pickle or the like: reading it can run any program that its author put in",
        "choose a model with .safetensors or .gguf files, or convert it where you trust it",
    )
