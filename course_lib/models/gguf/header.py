"""Read the header of a GGUF file, fields and tensors, without its weights (github.com/ggml-org/ggml, docs/gguf.md).

gguf.GGUFReader decodes the whole vocabulary to answer any question: 10 seconds for 256,000 words. Here lists are skipped.
"""

from __future__ import annotations

import math
import mmap
import struct
from pathlib import Path
from typing import Any, NamedTuple

VERSIONS = (2, 3)
SCALARS = dict(enumerate("BbHhIif?")) | {10: "Q", 11: "q", 12: "d"}  # type -> its letter for struct
STRING, LIST = 8, 9  # the other types of a field
LENGTH = struct.Struct("<Q")


class Header(NamedTuple):
    """The fields of a GGUF file by name; a list is None unless it was asked for. tensors: how many there are."""

    fields: dict[str, Any]
    tensors: int


def read_header(path: Path, *, lists: bool = False) -> Header:
    """The header of a GGUF file, with the contents of its lists where `lists` is true.

    Raises ValueError where it is damaged, or where the file is shorter than its tensors; OSError where it cannot be opened.
    """
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return _Reader(data).header(lists)
        except struct.error as error:
            raise ValueError(f"the header is longer than the file: {error}") from error


class _Reader:
    """Reads values one after the other. Raises struct.error at the end of the data."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.position = data, 0

    def header(self, lists: bool) -> Header:
        magic, version, tensors, fields = self.values("<IIQQ")
        if magic != int.from_bytes(b"GGUF", "little") or version not in VERSIONS:
            raise ValueError(f"it begins with {self.data[:8]!r}; read are versions {VERSIONS} of GGUF")
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
        needed = -(-self.position // alignment) * alignment + max(ends, default=0)
        if ends and needed > len(self.data):
            raise ValueError(f"its tensors end at byte {needed:,} of {len(self.data):,}")
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
            raise ValueError("a text is longer than the file")
        return self.data[begin : self.position].decode()

    def skip_string(self) -> None:
        self.position += LENGTH.size + LENGTH.unpack_from(self.data, self.position)[0]

    def field(self, kind: int, lists: bool) -> Any:
        if kind == STRING:
            return self.string()
        if kind == LIST:
            return self.list(lists)
        if kind not in SCALARS:
            raise ValueError(f"a field is of the unknown type {kind}")
        return self.value("<" + SCALARS[kind])

    def list(self, wanted: bool) -> list[Any] | None:
        kind, length = self.values("<IQ")
        if kind == STRING:
            if wanted:
                return [self.string() for _ in range(length)]
            for _ in range(length):
                self.skip_string()
            return None
        if kind not in SCALARS:
            raise ValueError(f"a list is of the unknown type {kind}")
        if wanted:
            return list(self.values(f"<{length}{SCALARS[kind]}"))
        self.position += length * struct.calcsize(SCALARS[kind])
        return None

    def end_of_tensor(self) -> int:
        """Where the next tensor's bytes end, counted from the first tensor."""
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

        self.skip_string()
        dimensions = self.value("<I")
        *shape, kind, offset = self.values(f"<{dimensions}QIQ")
        block, size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
        return int(offset + math.prod(shape) // block * size)
