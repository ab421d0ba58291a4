"""What file names and the first bytes of files tell about a model, without reading its weights."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from course_lib.errors import CourseError

PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".h5", ".msgpack"}
GGUF_HEADER = 24  # bytes: magic, version, number of tensors, number of metadata entries
LFS_POINTER = b"version https://git-lfs"
WEIGHTS = [  # of several sets, transformers reads the first
    re.compile(p)
    for p in (r"model\.safetensors", r"model-\d{5}-of-\d{5}\.safetensors", r"[^/]+\.safetensors")
]
SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})(\.gguf|\.safetensors)")
MAX_HEADER = 100_000_000  # bytes of a safetensors header, the format's own limit


# -- names ------------------------------------------------------------------------------------------------


def weight_files(names: Iterable[str]) -> list[str]:
    """The safetensors files that make up the model, missing shards included."""
    names = sorted(names)
    sets = ([n for n in names if pattern.fullmatch(n)] for pattern in WEIGHTS)
    return sorted({shard for name in next(filter(None, sets), []) for shard in shards(name)})


def shards(name: str) -> list[str]:
    """All parts of a file that was split; the name alone for any other.

    >>> shards("m-00002-of-00002.gguf")
    ['m-00001-of-00002.gguf', 'm-00002-of-00002.gguf']
    """
    split = SHARD.fullmatch(name)
    if not split:
        return [name]
    return [f"{split[1]}-{i:05}-of-{split[3]}{split[4]}" for i in range(1, int(split[3]) + 1)]


def gguf_models(names: Iterable[str]) -> list[str]:
    """The GGUF models among names; of one that was split, the first shard."""
    return sorted({shards(n)[0] for n in names if n.endswith(".gguf")})


def only_gguf(names: Iterable[str], where: str, fix: str) -> list[str]:
    """The shards of the only GGUF model among names. Raises CourseError that lists several."""
    models = gguf_models(names)
    if len(models) != 1:
        raise CourseError(f"{where} holds {len(models)} GGUF models: {', '.join(models)}", fix)
    return shards(models[0])


def missing_weights_error(names: Iterable[str], where: str) -> CourseError:
    """The error for a folder or repository without safetensors and GGUF: it may hold pickles, or nothing."""
    pickles = sorted(n for n in names if Path(n).suffix in PICKLES)
    if pickles:
        return pickle_error(f"{where}/{pickles[0]}")
    what = f"{where} holds no .safetensors and no .gguf"
    return CourseError(what, "name a folder in Hugging Face form, or a .gguf file")


def pickle_error(name: str) -> CourseError:
    """The error for weights that are a pickle."""
    return CourseError(
        f"{name} is a pickle or the like: reading it can run any program that its author put in",
        "choose a model with .safetensors or .gguf files",
    )


# -- first bytes ------------------------------------------------------------------------------------------


class Tensor(NamedTuple):
    """A tensor as its file's header describes it: its shape, and its size in bytes."""

    shape: tuple[int, ...]
    bytes: int


def read_safetensors_header(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name, from its header alone (huggingface.co/docs/safetensors).

    Raises CourseError where the file is missing, damaged, or not as long as its own header says.
    """
    if not path.is_file():
        raise CourseError(f"{path.parent.name}/{path.name} is missing", "download the model again")
    size = path.stat().st_size
    with open(path, "rb") as f:
        start = f.read(8)
        length = int.from_bytes(start, "little")
        header = f.read(length) if length <= min(size, MAX_HEADER) else b""
    check_not_pointer(path, start + header)
    try:
        tensors, end = {}, 0
        for name, entry in json.loads(header).items():
            if name != "__metadata__":
                first, last = map(int, entry["data_offsets"])
                tensors[name] = Tensor(tuple(map(int, entry["shape"])), last - first)
                end = max(end, last)
    except (ValueError, KeyError, TypeError, AttributeError):
        what = f"{path.name} is no safetensors file: it begins with {start!r}"
        raise CourseError(what, "download it again") from None
    if 8 + length + end != size:
        what = f"{path.name} has {size:,} bytes, and by its own header {8 + length + end:,}"
        raise CourseError(what, "download it again")
    return tensors


def check_gguf(path: Path) -> Path:
    """`path`, if it is a GGUF file. Raises CourseError, with the reason, if not."""
    if path.suffix in PICKLES:
        raise pickle_error(path.name)
    if path.suffix == ".safetensors":
        raise CourseError(f"{path.name} is the weights alone", f'load("{path.absolute().parent}")')
    with open(path, "rb") as f:
        start = f.read(len(LFS_POINTER))
    check_not_pointer(path, start)
    if start[:4] != b"GGUF" or path.stat().st_size < GGUF_HEADER:
        size = path.stat().st_size
        what = f"{path.name} is no GGUF file: it has {size:,} bytes and begins with {start[:4]!r}"
        raise CourseError(what, "name a .gguf file, or a folder")
    return path


def check_not_pointer(path: Path, start: bytes) -> None:
    """Raises CourseError for the few lines that Git LFS leaves in place of a file that was not fetched."""
    if start and LFS_POINTER.startswith(start[: len(LFS_POINTER)]) and path.stat().st_size < 1024:
        fix = f"git -C '{path.parent}' lfs pull"
        raise CourseError(f"{path.name} is a pointer of Git LFS, not the weights", fix)


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """The JSON object in a file of the model; empty where there is none. Raises CourseError for bad JSON."""
    path = folder / name
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        what = f"{path.name} of {folder.name} cannot be read: {error}"
        raise CourseError(what, "download it again") from error
    return value if isinstance(value, dict) else {}
