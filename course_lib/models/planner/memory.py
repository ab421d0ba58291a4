"""Count the bytes of a model's weights, from its files before loading or from a loaded torch model."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from course_lib.models.files import resolve
from course_lib.models.files.headers import read_safetensors_header, shards, weight_paths
from course_lib.models.files.pictures import PACKAGED, packaged_folder, picture_weights, resolve_pictures
from course_lib.models.schema import ModelSpec, ServerSource
from course_lib.models.schema.pictures import ARCHITECTURES
from course_lib.models.schema.spec import QUANTIZATIONS

BITS_OF = {  # bits per weight, scales included; for llama.cpp as in gguf.GGML_QUANT_SIZES
    "float32": 32.0,
    "float16": 16.0,
    "bfloat16": 16.0,
    "q8_0": 8.5,
    "q6_k": 6.5625,
    "q5_1": 6.0,
    "q5_k": 5.5,
    "q5_0": 5.5,
    "q4_1": 5.0,
    "q4_k": 4.5,
    "q4_0": 4.5,
    "iq4_nl": 4.5,
    "q3_k": 3.4375,
    "q2_k": 2.625,
    "int8": 8.0,
    "nf4": 4.5,
    "fp4": 4.5,
}
# Names of matrices that bitsandbytes does not quantize.
NOT_QUANTIZED = re.compile(r"embed|lm_head|classifier|pooler")


class StoredWeights(NamedTuple):
    """The number of weights in a model's files, their bytes, and how many bitsandbytes can quantize."""

    weights: int
    bytes: int
    quantizable: int


def stored_weights(folder: Path) -> StoredWeights:
    """Count the weights in a folder's safetensors files. Raises CourseError for a damaged file."""
    weights = size = quantizable = 0
    for path in weight_paths(folder):
        for name, tensor in read_safetensors_header(path).items():
            count = math.prod(tensor.shape)
            weights, size = weights + count, size + tensor.bytes
            quantizable += count * (len(tensor.shape) == 2 and not NOT_QUANTIZED.search(name))
    return StoredWeights(weights, size, quantizable)


def bytes_to_load(spec: ModelSpec) -> int:
    """Return the bytes of a model's weights in this process after loading; 0 if a server holds them.

    spec: The declaration of the model. Its precision `auto` counts as 32 bits per weight, as on a CPU.
    Adapters and the memory for texts are not included.
    """
    if isinstance(spec.source, ServerSource):
        return 0
    if spec.driver in PACKAGED:
        return sum(path.stat().st_size for path in packaged_folder(spec).iterdir() if path.is_file())
    if spec.task in ARCHITECTURES:  # tasks of pictures
        weights = picture_weights(resolve_pictures(spec.source))
        return round(weights * BITS_OF.get(spec.precision, 32.0) / 8)
    path = resolve(spec.source)
    if path.is_file():
        return sum(path.with_name(name).stat().st_size for name in shards(path.name))
    stored, bits = stored_weights(path), BITS_OF.get(spec.precision, 32.0)
    quantized = stored.quantizable if spec.quantization in QUANTIZATIONS["huggingface"] else stored.weights
    return round((quantized * BITS_OF.get(spec.quantization, bits) + (stored.weights - quantized) * bits) / 8)


def memory_footprint(model: Any) -> int:
    """Return the bytes of a torch model's weights and quantization scales. Shared weights count once."""
    tensors = [tensor for module in model.modules() for tensor in tensors_of(module)]
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


def tensors_of(module: Any, seen: set[int] | None = None) -> Iterator[Any]:
    """Yield a module's own parameters, and the scales and tables that bitsandbytes stores with them."""
    import torch

    seen = set() if seen is None else seen
    if id(module) in seen:
        return
    seen.add(id(module))
    if isinstance(module, torch.Tensor):
        yield module
    parts = list(module.parameters(recurse=False)) if isinstance(module, torch.nn.Module) else []
    if type(module).__module__.startswith("bitsandbytes"):
        parts += vars(module).values()
    for part in parts:
        yield from tensors_of(part, seen)
