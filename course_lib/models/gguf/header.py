"""Read the header of a GGUF model file without its weights (format: github.com/ggml-org/ggml, docs/gguf.md).

gguf.GGUFReader decodes the whole vocabulary, 14 seconds for 256,000 tokens; this reader can skip it.
"""

from __future__ import annotations

import functools
import importlib.util
import math
import mmap
import struct
from collections.abc import Mapping, Set
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from course_lib.models.files.headers import Tensor

MAGIC, VERSIONS = int.from_bytes(b"GGUF", "little"), (2, 3)
# GGUF type code -> struct format character.
SCALARS = dict(enumerate("BbHhIif?")) | {
    10: "Q",
    11: "q",
    12: "d",
}
STRING, ARRAY = 8, 9  # the other GGUF type codes
CONTROL = 3  # GGUF's code for tokens that mark structure, such as <|im_end|>
LENGTH = struct.Struct("<Q")  # before each string
SHORT = 1024  # arrays of fewer numbers, such as one value per layer, are always decoded
Items = bool | Set[int]  # all items of an array, none, or those with these indices
MAX_DIMENSIONS = 4  # llama.cpp's limit for a tensor


class Header(NamedTuple):
    """The fields by name (long arrays and arrays of strings are None unless decoded), and the tensors."""

    fields: dict[str, Any]
    tensors: dict[str, Tensor]


def control_tokens(path: Path) -> list[str]:
    """Return the texts of the tokens that mark structure, such as the beginning of a turn."""
    texts, kinds = "tokenizer.ggml.tokens", "tokenizer.ggml.token_type"
    kind_of = read_header(path, decode_arrays={kinds: True}).fields.get(kinds, ())
    # Only these: the texts of all 49,000 tokens would take 4 MB.
    wanted = {i for i, kind in enumerate(kind_of) if kind == CONTROL}
    return read_header(path, decode_arrays={texts: wanted}).fields.get(texts) or []


@functools.cache
def gguf_constants() -> Any:
    """Return the module gguf.constants without its package, which would import NumPy (11 MB of memory)."""
    package = importlib.util.find_spec("gguf")
    assert package is not None and package.origin is not None
    path = Path(package.origin).with_name("constants.py")
    loader = SourceFileLoader("gguf_constants", str(path))
    module = ModuleType(loader.name)
    loader.exec_module(module)
    return module


def file_type(code: Any) -> str:
    """Return llama.cpp's name of a mixture of weight types, such as q4_k_m; "" for an unknown code.

    code: the field "general.file_type".
    """
    try:
        name = str(gguf_constants().LlamaFileType(code).name)
    except ValueError:
        return ""
    return name.lower().removeprefix("mostly_").removeprefix("all_")


def read_header(path: Path, *, decode_arrays: bool | Mapping[str, Items] = False) -> Header:
    """Return the header of a GGUF file.

    decode_arrays: Whether to decode long arrays and arrays of strings, such as the vocabulary; or this for
    each array, for one of strings also the indices of those to decode.

    Raises ValueError if the file is damaged or truncated, and OSError if it cannot be opened.
    """
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return _Reader(data).header(decode_arrays)
        except (struct.error, OverflowError) as error:
            raise ValueError(f"the header is longer than the file: {error}") from error


class _Reader:
    """Decode the values of a GGUF header one after the other. Raises struct.error at the end of the data."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.position = data, 0

    def header(self, decode_arrays: bool | Mapping[str, Items]) -> Header:
        magic, version, tensor_count, field_count = self.values("<IIQQ")
        if magic != MAGIC or version not in VERSIONS:
            raise ValueError(f"it begins with {self.data[:8]!r} instead of GGUF version 2 or 3")
        fields: dict[str, Any] = {}
        for _ in range(field_count):
            name = self.string()
            if name in fields:
                raise ValueError(f"two fields are named {name!r}")
            decode = decode_arrays if isinstance(decode_arrays, bool) else decode_arrays.get(name, False)
            fields[name] = self.field(self.value("<I"), decode)
        tensors: dict[str, Tensor] = {}
        for _ in range(tensor_count):
            self.tensor(tensors)
        alignment = fields.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1:
            raise ValueError(f"general.alignment={alignment!r} is not a positive integer")
        begin = -(-self.position // alignment) * alignment
        tensors = {name: t._replace(offset=begin + t.offset) for name, t in tensors.items()}
        end = max((tensor.offset + tensor.bytes for tensor in tensors.values()), default=0)
        if end > len(self.data):
            raise ValueError(f"its tensors need {end:,} bytes, but the file has {len(self.data):,}")
        return Header(fields, tensors)

    def values(self, layout: str) -> tuple[Any, ...]:
        values = struct.unpack_from(layout, self.data, self.position)
        self.position += struct.calcsize(layout)
        return values

    def value(self, layout: str) -> Any:
        return self.values(layout)[0]

    def string(self) -> str:
        begin = self.position + LENGTH.size
        self.position = begin + LENGTH.unpack_from(self.data, self.position)[0]
        if self.position > len(self.data):
            raise ValueError("a string is longer than the file")
        return self.data[begin : self.position].decode()

    def field(self, kind: int, decode: Items) -> Any:
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            elements, length = self.values("<IQ")
            return self.items(elements, length, decode)
        if kind not in SCALARS:
            raise ValueError(f"a field has the unknown type {kind}")
        return self.value("<" + SCALARS[kind])

    def items(self, kind: int, length: int, decode: Items) -> list[Any] | None:
        if kind in SCALARS:
            if decode or length <= SHORT:
                return list(self.values(f"<{length}{SCALARS[kind]}"))
            self.position += length * struct.calcsize(SCALARS[kind])
        elif kind == STRING:
            if decode is True:
                return [self.string() for _ in range(length)]
            begin, found = 0, []
            for i in sorted(i for i in decode or () if i < length):
                self.skip(i - begin)
                found.append(self.string())
                begin = i + 1
            self.skip(length - begin)
            return None if decode is False else found
        else:
            raise ValueError(f"an array has elements of type {kind}, which llama.cpp does not support")
        return None

    def skip(self, count: int) -> None:
        """Skip strings."""
        unpack, data, position = LENGTH.unpack_from, self.data, self.position
        for _ in range(count):  # up to 500,000 times
            position += LENGTH.size + unpack(data, position)[0]
        self.position = position

    def tensor(self, tensors: dict[str, Tensor]) -> None:
        """Add the next tensor to `tensors`, with its offset from the first tensor."""
        name, dimensions = self.string(), self.value("<I")
        if name in tensors:
            raise ValueError(f"two tensors are named {name!r}")
        if dimensions > MAX_DIMENSIONS:
            raise ValueError(f"{name} has {dimensions:,} dimensions, over {MAX_DIMENSIONS}")
        *shape, code, offset = self.values(f"<{dimensions}QIQ")
        gguf = gguf_constants()
        kind = gguf.GGMLQuantizationType(code)
        block, size = gguf.GGML_QUANT_SIZES[kind]
        if shape and shape[0] % block:
            raise ValueError(
                f"{name} has rows of {shape[0]:,} weights, not a multiple of {kind.name}'s {block}"
            )
        count = math.prod(shape) // block * size
        tensors[name] = Tensor(tuple(shape[::-1]), count, kind.name.lower(), offset)
