"""Read the header of a GGUF file (github.com/ggml-org/ggml, docs/gguf.md), without its weights.

gguf.GGUFReader decodes the whole vocabulary: 14 seconds for 256,000 tokens. Here lists are skipped.
"""

from __future__ import annotations

import math
import mmap
import struct
from pathlib import Path
from typing import Any, NamedTuple

MAGIC, VERSIONS = int.from_bytes(b"GGUF", "little"), (2, 3)
SCALARS = dict(enumerate("BbHhIif?")) | {10: "Q", 11: "q", 12: "d"}  # type of a value -> its letter in struct
STRING, LIST = 8, 9  # the other types
LENGTH = struct.Struct("<Q")


class Header(NamedTuple):
    """Fields by name (a list is None unless it was asked for), and the number of tensors."""

    fields: dict[str, Any]
    tensors: int


def read_header(path: Path, *, lists: bool = False) -> Header:
    """The header of a GGUF file. lists: whether to decode the lists, too.

    Raises ValueError where it is damaged or the file too short; OSError where it cannot be opened.
    """
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return _Reader(data).header(lists)
        except struct.error as error:
            raise ValueError(f"the header is longer than the file: {error}") from error


class _Reader:
    """Decodes values one after the other. Raises struct.error at the end of the data."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.position = data, 0

    def header(self, lists: bool) -> Header:
        magic, version, tensors, fields = self.values("<IIQQ")
        if magic != MAGIC or version not in VERSIONS:
            raise ValueError(f"it begins with {self.data[:8]!r}, not with GGUF of version {VERSIONS}")
        found: dict[str, Any] = {}
        for _ in range(fields):
            name = self.string()
            if name in found:
                raise ValueError(f"two fields are named {name!r}")
            found[name] = self.field(self.value("<I"), lists)
        ends = [self.end_of_tensor() for _ in range(tensors)]
        alignment = found.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1:
            raise ValueError(f"general.alignment={alignment!r}")
        end = -(-self.position // alignment) * alignment + max(ends, default=0)
        if ends and end > len(self.data):
            raise ValueError(f"its tensors end at byte {end:,} of {len(self.data):,}")
        return Header(found, tensors)

    def values(self, form: str) -> tuple[Any, ...]:
        values = struct.unpack_from(form, self.data, self.position)
        self.position += struct.calcsize(form)
        return values

    def value(self, form: str) -> Any:
        return self.values(form)[0]

    def string(self) -> str:
        begin = self.position + LENGTH.size
        self.skip_string()
        if self.position > len(self.data):
            raise ValueError("a string is longer than the file")
        return self.data[begin : self.position].decode()

    def skip_string(self) -> None:
        self.position += LENGTH.size + LENGTH.unpack_from(self.data, self.position)[0]

    def field(self, kind: int, lists: bool) -> Any:
        if kind == STRING:
            return self.string()
        if kind == LIST:
            element_kind, length = self.values("<IQ")
            return self.items(element_kind, length, lists)
        if kind not in SCALARS:
            raise ValueError(f"a value is of the unknown type {kind}")
        return self.value("<" + SCALARS[kind])

    def items(self, kind: int, length: int, decode: bool) -> list[Any] | None:
        if kind == LIST:
            raise ValueError("a list holds lists, which llama.cpp does not read either")
        if decode:
            return [self.field(kind, decode) for _ in range(length)]
        if kind in SCALARS:
            self.position += length * struct.calcsize(SCALARS[kind])
        elif kind == STRING:
            for _ in range(length):
                self.skip_string()
        else:
            raise ValueError(f"a list is of the unknown type {kind}")
        return None

    def end_of_tensor(self) -> int:
        """Where the bytes of the next tensor end, counted from the first tensor."""
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

        self.skip_string()
        dimensions = self.value("<I")
        *shape, kind, offset = self.values(f"<{dimensions}QIQ")
        block, size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
        return int(offset + math.prod(shape) // block * size)
