"""Recognize model files by their names and headers, without reading the weights.

GGUF is the file format of llama.cpp.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from course_lib.errors import CourseError

PICKLE_SUFFIXES = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".h5", ".msgpack"}
MIN_GGUF_BYTES = 24  # magic, version, tensor count, metadata count
GGUF_ADAPTER = b"general.type" + struct.pack("<IQ", 8, 7) + b"adapter"  # a field, of type string
LFS_POINTER = b"version https://git-lfs"  # a file of Git LFS begins so until its content is fetched
SINGLE_FILE, INDEX = "model.safetensors", "model.safetensors.index.json"
WEIGHT_PATTERNS = [  # transformers reads the files of the first pattern that matches any
    re.compile(p)
    for p in (r"model\.safetensors", r"model-\d{5}-of-\d{5}\.safetensors", r"[^/]+\.safetensors")
]
SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})(\.gguf|\.safetensors)")  # one of the files of a split model
PIPELINE_FILE = "model_index.json"  # in a pipeline of diffusers, whose parts have a folder each
PIPELINE_FILES = re.compile(  # without variants, such as model.fp16.safetensors
    r"model_index\.json|[^/]+/([^/]+\.(json|txt|model)"
    r"|(diffusion_pytorch_)?model(-\d{5}-of-\d{5})?\.safetensors)"
)
MAX_HEADER_BYTES = 100_000_000  # limit of the safetensors format


# -- names ------------------------------------------------------------------------------------------------


def weight_files(names: Iterable[str]) -> list[str]:
    """Return the names of the model's safetensors files, including shards that are missing from `names`."""
    names = sorted(names)
    sets = ([n for n in names if pattern.fullmatch(n)] for pattern in WEIGHT_PATTERNS)
    return sorted({shard for name in next(filter(None, sets), []) for shard in shards(name)})


def shards(name: str) -> list[str]:
    """Return the names of all shards of a split file; for any other file, only its own name.

    >>> shards("m-00002-of-00002.gguf")
    ['m-00001-of-00002.gguf', 'm-00002-of-00002.gguf']
    """
    match = SHARD.fullmatch(name)
    if not match:
        return [name]
    return [f"{match[1]}-{i:05}-of-{match[3]}{match[4]}" for i in range(1, int(match[3]) + 1)]


def gguf_models(names: Iterable[str]) -> list[str]:
    """Return the GGUF models among file names; a split model is given by its first shard."""
    return sorted({shards(n)[0] for n in names if n.endswith(".gguf")})


def only_gguf(names: Iterable[str], where: str, fix: str) -> list[str]:
    """Return the files of the only GGUF model among `names`. Raises CourseError unless there is one."""
    models = gguf_models(names)
    if len(models) != 1:
        raise CourseError(f"{where} holds {len(models)} GGUF models: {', '.join(models)}", fix)
    return shards(models[0])


def picture_files(names: Iterable[str]) -> list[str]:
    """Return the files of a pipeline of diffusers, or of ONNX models (a file format); none of any other."""
    names = sorted(names)
    pipeline = [n for n in names if PIPELINE_FILE in names and PIPELINE_FILES.fullmatch(n)]
    if any(name.endswith(".safetensors") for name in pipeline):
        return pipeline
    onnx = [name for name in names if name.endswith(".onnx") and "/" not in name]
    return [] if "config.json" in names or weight_files(names) or gguf_models(names) else onnx


def missing_weights_error(names: Iterable[str], where: str) -> CourseError:
    """Return the error for a folder or repository that has neither safetensors nor GGUF files."""
    pickles = sorted(n for n in names if Path(n).suffix in PICKLE_SUFFIXES)
    if pickles:
        return pickle_error(f"{where}/{pickles[0]}")
    what = f"{where} has no .safetensors and no .gguf file"
    return CourseError(what, "name a Hugging Face model folder, or a .gguf file")


def pickle_error(name: str) -> CourseError:
    """Return the error for weights in a pickle-based format, which the course does not load."""
    return CourseError(
        f"{name} is a pickle or a similar format: loading it can run any code that its author put in",
        "choose a model with .safetensors or .gguf files",
    )


def weight_paths(folder: Path) -> list[Path]:
    """Return the model's safetensors files: model.safetensors, or else the shards that the index names.

    transformers does the same; other files in the folder, such as consolidated.safetensors, are not read.
    Without an index, `weight_files` decides by the names. Raises CourseError for an unreadable index.
    """
    names = [path.name for path in folder.iterdir()]
    if SINGLE_FILE not in names and (folder / INDEX).is_file():
        shards_of = read_json(folder, INDEX).get("weight_map")
        if not isinstance(shards_of, dict) or any(Path(str(n)).name != n for n in shards_of.values()):
            raise CourseError(f"{INDEX} of {folder.name} does not list files", "download it again")
        return [folder / name for name in sorted(set(shards_of.values()))]
    return [folder / name for name in weight_files(names)]


# -- first bytes ------------------------------------------------------------------------------------------


class Tensor(NamedTuple):
    """Shape, size in bytes and type of a tensor, from its file's header.

    type: As its file names it, in lower case: bf16, f32 (both formats), q4_k (GGUF). offset: Where its bytes
    begin in the file.
    """

    shape: tuple[int, ...]
    bytes: int
    type: str
    offset: int


def read_safetensors_header(path: Path) -> dict[str, Tensor]:
    """Read the tensors' shapes and sizes, by name, from a file's header (huggingface.co/docs/safetensors).

    Raises CourseError if the file is missing or damaged, or its size differs from what the header implies.
    """
    if not path.is_file():
        raise CourseError(f"{path.parent.name}/{path.name} is missing", "download the model again")
    size = path.stat().st_size
    with open(path, "rb") as f:
        start = f.read(8)
        length = int.from_bytes(start, "little")
        header = f.read(length) if length <= min(size, MAX_HEADER_BYTES) else b""
    check_not_pointer(path, start + header)
    try:
        tensors, end = {}, 0
        for name, entry in json.loads(header).items():
            if name != "__metadata__":
                first, last = map(int, entry["data_offsets"])
                shape = tuple(map(int, entry["shape"]))
                tensors[name] = Tensor(shape, last - first, entry["dtype"].lower(), 8 + length + first)
                end = max(end, last)
    except (ValueError, KeyError, TypeError, AttributeError):
        what = f"{path.name} is not a safetensors file: it begins with {start!r}"
        raise CourseError(what, "download it again") from None
    if 8 + length + end != size:
        what = f"{path.name} has {size:,} bytes, but should have {8 + length + end:,} by its header"
        raise CourseError(what, "download it again")
    return tensors


def check_gguf(path: Path) -> Path:
    """Return `path` if it begins as a model in GGUF does. Raises CourseError with the reason if not."""
    if path.suffix in PICKLE_SUFFIXES:
        raise pickle_error(path.name)
    if path.suffix == ".safetensors":
        raise CourseError(
            f"{path.name} has only the weights; load its folder", f'load("{path.absolute().parent}")'
        )
    with open(path, "rb") as f:
        start = f.read(4096)
    check_not_pointer(path, start)
    if start[:4] == b"GGUF" and GGUF_ADAPTER in start:
        what = f"{path.name} is a LoRA adapter, not a complete model"
        raise CourseError(what, f'load("BASE", driver="llamacpp", adapters=["{path}"])')
    if start[:4] != b"GGUF" or path.stat().st_size < MIN_GGUF_BYTES:
        size = path.stat().st_size
        what = f"{path.name} is not a GGUF file: it has {size:,} bytes and begins with {start[:4]!r}"
        raise CourseError(what, "name a .gguf file, or a folder")
    return path


def check_not_pointer(path: Path, start: bytes) -> None:
    """Raise CourseError if the file is a Git LFS pointer: the text in place of a file not yet fetched."""
    if start and LFS_POINTER.startswith(start[: len(LFS_POINTER)]) and path.stat().st_size < 1024:
        fix = f"git -C '{path.parent}' lfs pull"
        raise CourseError(f"{path.name} is a Git LFS pointer, not the weights", fix)


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """Read a JSON object from a file of the model; {} without one. Raises CourseError for invalid JSON."""
    path = folder / name
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        what = f"{path.name} of {folder.name} cannot be read: {error}"
        raise CourseError(what, "download it again") from error
    return value if isinstance(value, dict) else {}
