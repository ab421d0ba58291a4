"""Load models and tokenizers by transformers, with the type, quantization and device of a ModelSpec."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from course_lib.errors import CourseError
from course_lib.models.drivers import adapters, bitsandbytes_weights
from course_lib.models.drivers.engine import Unsupported
from course_lib.models.drivers.quiet import quiet
from course_lib.models.files.headers import read_json
from course_lib.models.schema.spec import ModelSpec

LOADING_ERRORS = (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError)


def select_device(spec: ModelSpec) -> str:
    """The device that `spec` asks for. Raises CourseError where this machine does not have it."""
    import torch

    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if spec.device == "auto":
        return next(device for device in ("cuda", "mps", "cpu") if available[device])
    if not available[spec.device]:
        what = f"device={spec.device!r}: torch {torch.__version__} finds none on this machine"
        raise CourseError(what, 'load(..., device="auto")')
    return spec.device


def weight_dtype(spec: ModelSpec, device: str) -> Any:
    """The type of the weights in memory. `auto`: float32 on a CPU, where it is fastest, else as stored."""
    import torch

    if spec.precision == "auto":
        return torch.float32 if device == "cpu" else "auto"
    return getattr(torch, spec.precision)


def from_pretrained(auto_class: Any, spec: ModelSpec, folder: Path, **kwargs: Any) -> Any:
    """A model of transformers on its device. Adapters are merged into it, or attached to quantized weights.

    Raises CourseError for files that cannot be loaded, and Unsupported for fields without an effect.
    """
    device = select_device(spec)
    if folder.suffix == ".gguf":
        what = f"{folder.name} is GGUF, which transformers would unpack to 32 bits"
        raise Unsupported(what, 'load(..., driver="llamacpp")')
    dtype, config = (
        weight_dtype(spec, device),
        read_json(folder, "config.json").get("quantization_config") or {},
    )
    quantization = bitsandbytes_weights.loading_options(spec, folder.name, config, dtype, device)
    kwargs |= quantization | ({"device_map": "auto"} if _spread_over_gpus(spec, device) else {})
    try:
        with quiet():
            model, info = auto_class.from_pretrained(
                folder,
                dtype=dtype,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                **kwargs,
            )
    except LOADING_ERRORS as error:
        what = f"transformers cannot load {folder.name}: {_one_line(error)}"
        raise CourseError(what, "course doctor") from error
    brought = adapters.full_layers(spec.adapters) if spec.adapters else set()
    if missing := sorted(set(info["missing_keys"]) - brought):
        raise CourseError(
            f"{folder.name} lacks {len(missing)} of the model's tensors, such as {missing[0]}: with random "
            "ones it would answer at random",
            "choose a model made for the task, or download it again",
        )
    model = model if "device_map" in kwargs else model.to(device)
    if getattr(model, "is_loaded_in_4bit", False):
        bitsandbytes_weights.set_compute_dtype(model, spec)
    if spec.adapters:
        add = (
            adapters.attach if quantization else adapters.merge
        )  # merging would round quantized weights again
        model = add(model, adapters.resolve_adapters(spec.adapters, folder), spec.combination_type)
    return model.eval()


def _spread_over_gpus(spec: ModelSpec, device: str) -> bool:
    """Whether device_mode is auto. Raises CourseError without a GPU."""
    if spec.device_mode == "auto" and device == "cpu":
        what = "device_mode='auto' spreads a model over GPUs, and torch finds none here"
        raise CourseError(what, 'load(..., device_mode="single")')
    return spec.device_mode == "auto"


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer in a folder. Raises CourseError where there is none."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except LOADING_ERRORS as error:
        what = f"the tokenizer of {folder.name} cannot be loaded: {_one_line(error)}"
        raise CourseError(what, "course doctor") from error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
