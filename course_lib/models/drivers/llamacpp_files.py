"""The GGUF files that llama.cpp loads for a specification: given ones, or ones converted from folders.

A specification (ModelSpec) says which model to load, and how. GGUF is the file format of llama.cpp.
"""

from __future__ import annotations

from pathlib import Path

from course_lib.models.drivers.adapters import resolve_adapters
from course_lib.models.drivers.fields import Unsupported
from course_lib.models.gguf.adapter import export_adapter
from course_lib.models.gguf.cache import cached_export
from course_lib.models.schema.spec import ModelSpec

# precision -> GGUF type
WEIGHT_TYPES = {"auto": "f32", "float32": "f32", "float16": "f16", "bfloat16": "bf16"}


def weight_type(spec: ModelSpec) -> str:
    """The GGUF type of the weights. Raises Unsupported if both precision and quantization are set."""
    if spec.quantization == "none":
        return WEIGHT_TYPES[spec.precision]
    if spec.precision != "auto":
        what = f"precision={spec.precision!r} and quantization={spec.quantization!r}: only one can be set"
        raise Unsupported(what, "leave precision out")
    return spec.quantization


def model_file(source: Path, type_: str, scratch: Path) -> Path:
    """The model's GGUF file: `source` itself, or converted from this folder, in the cache or in `scratch`."""
    return source if source.suffix == ".gguf" else cached_export(source, type_, scratch=scratch)


def adapter_files(spec: ModelSpec, base: Path, scratch: Path) -> list[tuple[Path, float]]:
    """Each adapter's GGUF file, converted into the folder `scratch` if need be, and its weight."""
    return [
        (_adapter_file(adapter.path, base, scratch / f"adapter-{i}.gguf"), adapter.weight)
        for i, adapter in enumerate(resolve_adapters(spec.adapters, base))
    ]


def _adapter_file(path: Path, base: Path, target: Path) -> Path:
    """The GGUF file of an adapter: `path` itself, or `target`, converted from a folder of peft (library)."""
    if path.suffix == ".gguf":
        return path
    if base.suffix == ".gguf":
        what = f"the adapter {path.name} is a PEFT folder, but the base model {base.name} is a GGUF file"
        raise Unsupported(what, "use the adapter's .gguf file, or the base model's folder")
    return export_adapter(path, base, target)
