"""Bytes of weights: known from the files before anything is loaded, and measured in what is loaded."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from course_lib.measure.memory import peak_memory
from course_lib.models.files import resolve
from course_lib.models.files.headers import tensors_in
from course_lib.models.schema import ModelSpec, ServerSource
from course_lib.models.schema.spec import QUANTIZATIONS

BITS_OF = {
    "float32": 32.0,
    "float16": 16.0,
    "bfloat16": 16.0,
    "q8_0": 8.5,
    "q4_0": 4.5,
    "int8": 8.0,
    "nf4": 4.5,
    "fp4": 4.5,
}
T = TypeVar("T")
OUTSIDE = re.compile(r"embed|lm_head|classifier|pooler")  # matrices that stay whole


class StoredWeights(NamedTuple):
    """Weights and bytes in the files; `packable`: weights in the matrices of layers, which bitsandbytes packs."""

    weights: int
    bytes: int
    packable: int


def stored_weights(folder: Path) -> StoredWeights:
    """What a folder's safetensors hold, read from their headers alone.

    Raises CourseError as `tensors_in`.
    """
    weights = size = packable = 0
    for path in sorted(folder.glob("*.safetensors")):
        for name, tensor in tensors_in(path).items():
            count = math.prod(tensor.shape)
            weights, size = weights + count, size + tensor.bytes
            packable += count * (len(tensor.shape) == 2 and not OUTSIDE.search(name))
    return StoredWeights(weights, size, packable)


def bytes_to_load(spec: ModelSpec) -> int:
    """Bytes that the weights will take in this process; 0 where a server holds them.

    `auto` counts 32 bits a weight, as the drivers load them on a CPU; adapters, the KV cache and the program come on top.
    """
    if isinstance(spec.source, ServerSource):
        return 0
    path = resolve(spec.source)
    if path.is_file():
        return path.stat().st_size
    held, whole = stored_weights(path), BITS_OF.get(spec.precision, 32.0)
    packed = BITS_OF.get(spec.quantization, whole)
    packable = held.packable if spec.quantization in QUANTIZATIONS["huggingface"] else held.weights
    return round((packable * packed + (held.weights - packable) * whole) / 8)


class Real(NamedTuple):
    """Bytes that a loaded model truly holds.

    weights: parameters, whole or packed, with the scales that unpack them; buffers: what it keeps beside them; grown: by how
    much the process's resident memory is larger than before. Another process's memory and a GPU's are not in `grown`, nor is
    what this process had taken earlier and uses again.
    """

    weights: int
    buffers: int
    grown: int


def real_bytes(load: Callable[[], T]) -> tuple[T, Real]:
    """Call `load`, which returns an engine or a torch model, and measure what it holds. Libraries report less: see tests.

    A .gguf file that is mapped is resident as far as it has been read: generate first, in `load`, to count all of it.
    """
    made, memory = peak_memory(load)
    model: Any = getattr(made, "model", made)
    torch_model = hasattr(model, "buffers")
    buffers = sum({b.data_ptr(): b.nbytes for b in model.buffers()}.values()) if torch_model else 0
    weights = memory_footprint(model) if torch_model else int(model.weight_bytes)
    return made, Real(weights, buffers, memory.after - memory.before)


def memory_footprint(model: Any) -> int:
    """Bytes in memory of a torch model's weights, and of the scales and codes that unpack them; shared ones count once."""
    found = {
        t.untyped_storage().data_ptr(): t.untyped_storage().nbytes()
        for m in model.modules()
        for t in tensors_of(m)
    }
    return sum(found.values())


def tensors_of(thing: Any, seen: set[int] | None = None) -> Iterator[Any]:
    """The parameters of a module itself, and the tensors that bitsandbytes keeps beside them."""
    import torch

    seen = set() if seen is None else seen

    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, torch.Tensor):
        yield thing
    parts = list(thing.parameters(recurse=False)) if isinstance(thing, torch.nn.Module) else []
    if type(thing).__module__.startswith("bitsandbytes"):
        parts += vars(thing).values()
    for part in parts:
        yield from tensors_of(part, seen)
