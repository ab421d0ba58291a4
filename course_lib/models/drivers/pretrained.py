"""Models read by transformers: from safetensors alone, in the type, packing and place that a specification asks for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from course_lib.errors import CourseError
from course_lib.models.drivers import packed
from course_lib.models.engine import Unsupported
from course_lib.models.source import facts
from course_lib.models.spec import ModelSpec


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' progress bars and warnings, and give both back as they were."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def device_of(spec: ModelSpec) -> str:
    """The device that `spec` asks for. Raises CourseError where this machine has none of the kind."""
    import torch

    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if spec.device == "auto":
        return next(d for d in ("cuda", "mps", "cpu") if there[d])
    if not there[spec.device]:
        raise CourseError(f"device={spec.device!r}: torch {torch.__version__} finds none on this machine", "use device: auto")
    return spec.device


def dtype_of(spec: ModelSpec, device: str) -> Any:
    """The type of the weights in memory. `auto`: 32 bits on a CPU, which most CPUs compute fastest; as stored elsewhere."""
    import torch

    if spec.precision == "auto":
        return torch.float32 if device == "cpu" else "auto"
    return getattr(torch, spec.precision)


def from_pretrained(kind: Any, spec: ModelSpec, folder: Path, **more: Any) -> Any:
    """A model by transformers, from safetensors alone, on its device, with its adapters merged in."""
    device = device_of(spec)
    if spec.low_cpu_mem_usage is False:
        raise Unsupported("low_cpu_mem_usage=False: transformers 5 always loads weight by weight", "leave it out, or say true")
    if folder.suffix == ".gguf":
        raise Unsupported(f"{folder.name} is GGUF, which transformers would unpack to 32 bits", "use driver: llamacpp")
    dtype, said = dtype_of(spec, device), facts(folder, "config.json").get("quantization_config") or {}
    more |= packed.how(spec, folder.name, said, dtype, device) | ({"device_map": "auto"} if _spread(spec, device) else {})
    try:
        with quiet():
            model = kind.from_pretrained(
                folder, dtype=dtype, use_safetensors=True, local_files_only=True, trust_remote_code=False, **more
            )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise CourseError(f"transformers cannot load {folder.name}: {_short(error)}", "course doctor") from error
    model = model if "device_map" in more else model.to(device)
    if getattr(model, "is_loaded_in_4bit", False):
        packed.settle(model, spec)
    for adapter in spec.adapters:
        model = merged(model, adapter.path.expanduser(), adapter.weight)
    return model.eval()


def _spread(spec: ModelSpec, device: str) -> bool:
    """Whether layers are to be spread over devices. Raises CourseError where there is nothing to spread them over."""
    if spec.device_mode == "auto" and device == "cpu":
        raise CourseError("device_mode='auto' spreads a model over GPUs, and torch finds none here", "use device_mode: single")
    return spec.device_mode == "auto"


def tokenizer_of(folder: Path) -> Any:
    """The tokenizer in a folder. Raises CourseError where there is none."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise CourseError(f"{folder.name} has no tokenizer that can be read: {_short(error)}", "course doctor") from error


def merged(model: Any, adapter: Path, weight: float) -> Any:
    """`model` with `weight` times a LoRA adapter added to its weights (Hu et al. 2021, arXiv:2106.09685): exact for any mix.

    Raises CourseError for a folder that is no adapter, or one of another base model.
    """
    from peft import PeftModel
    from peft.tuners.lora import LoraLayer

    if not (adapter / "adapter_model.safetensors").is_file() or not (adapter / "adapter_config.json").is_file():
        raise CourseError(f"{adapter} is no LoRA adapter: adapter_config.json and adapter_model.safetensors are needed",
                          "name the folder that save_pretrained wrote")  # fmt: skip
    try:
        with quiet():
            adapted = PeftModel.from_pretrained(model, adapter, local_files_only=True)
    except (RuntimeError, ValueError, KeyError, OSError, TypeError) as error:
        raise CourseError(f"the adapter {adapter.name} does not fit this model: {_short(error)}",
                          "use an adapter of this base model") from error  # fmt: skip
    for module in adapted.modules():
        if isinstance(module, LoraLayer):
            module.scale_layer(weight)
    return adapted.merge_and_unload()


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
