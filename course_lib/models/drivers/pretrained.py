"""Models read by transformers: from safetensors alone, in the type, packing and place that a specification asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from course_lib.errors import CourseError
from course_lib.models.drivers import adapters, packed
from course_lib.models.drivers.engine import Unsupported
from course_lib.models.drivers.quiet import quiet
from course_lib.models.files.headers import read_json
from course_lib.models.schema import ModelSpec


def device_of(spec: ModelSpec) -> str:
    """The device that `spec` asks for. Raises CourseError where this machine has none of the kind."""
    import torch

    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if spec.device == "auto":
        return next(d for d in ("cuda", "mps", "cpu") if there[d])
    if not there[spec.device]:
        raise CourseError(
            f"device={spec.device!r}: torch {torch.__version__} finds none on this machine",
            "use device: auto",
        )
    return spec.device


def dtype_of(spec: ModelSpec, device: str) -> Any:
    """The type of the weights in memory. `auto`: 32 bits on a CPU, which most CPUs compute fastest; as stored elsewhere."""
    import torch

    if spec.precision == "auto":
        return torch.float32 if device == "cpu" else "auto"
    return getattr(torch, spec.precision)


def from_pretrained(kind: Any, spec: ModelSpec, folder: Path, **more: Any) -> Any:
    """A model by transformers, from safetensors alone, on its device, with its adapters merged in, or beside packed weights."""
    packed.silence()  # before anybody imports peft: it imports bitsandbytes, which tells of kernels that nobody asked for
    device = device_of(spec)
    if folder.suffix == ".gguf":
        raise Unsupported(
            f"{folder.name} is GGUF, which transformers would unpack to 32 bits", "use driver: llamacpp"
        )
    dtype, said = dtype_of(spec, device), read_json(folder, "config.json").get("quantization_config") or {}
    packed_as = packed.how(spec, folder.name, said, dtype, device)
    more |= packed_as | ({"device_map": "auto"} if _spread(spec, device) else {})
    try:
        with quiet():
            model, told = kind.from_pretrained(
                folder,
                dtype=dtype,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                **more,
            )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise CourseError(
            f"transformers cannot load {folder.name}: {_short(error)}", "course doctor"
        ) from error
    if made_up := sorted(set(told["missing_keys"]) - adapters.brought(spec.adapters)):
        raise CourseError(
            f"{folder.name} lacks {len(made_up)} of the model's tensors, such as {made_up[0]}: with random ones it "
            "would answer at random",
            "choose a model made for the task, or download it again",
        )
    model = model if "device_map" in more else model.to(device)
    if getattr(model, "is_loaded_in_4bit", False):
        packed.settle(model, spec)
    if some := adapters.parts(spec.adapters, folder):
        add = (
            adapters.applied if packed_as else adapters.merged
        )  # added to packed weights, they would be rounded, too
        model = add(model, some, spec.combination_type)
    return model.eval()


def _spread(spec: ModelSpec, device: str) -> bool:
    """Whether layers are to be spread over devices. Raises CourseError where there is nothing to spread them over."""
    if spec.device_mode == "auto" and device == "cpu":
        raise CourseError(
            "device_mode='auto' spreads a model over GPUs, and torch finds none here",
            "use device_mode: single",
        )
    return spec.device_mode == "auto"


def tokenizer_of(folder: Path) -> Any:
    """The tokenizer in a folder. Raises CourseError where there is none."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise CourseError(
            f"{folder.name} has no tokenizer that can be read: {_short(error)}", "course doctor"
        ) from error


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
