"""Load models and tokenizers with transformers, in the precision and on the device of a ModelSpec.

A specification (ModelSpec) says which model to load, and how. GGUF is the file format of llama.cpp.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from course_lib.errors import CourseError
from course_lib.models.drivers import adapters, bitsandbytes_weights
from course_lib.models.drivers.adapter_merging import attach, merge
from course_lib.models.drivers.engine import Unsupported
from course_lib.models.files.headers import read_json
from course_lib.models.files.weights import check_weights, raise_on_difference
from course_lib.models.schema.pictures import MODEL_TYPES
from course_lib.models.schema.spec import ModelSpec
from course_lib.quiet import quiet

POOLER = {"pooler.dense.weight", "pooler.dense.bias"}  # BERT's layer on top of its encoder, which is not used


@contextmanager
def library_errors(what: str, fix: str) -> Iterator[None]:
    """Turn any error of another library into a CourseError with its message: such errors share no class.

    what: A description of what failed.
    """
    try:
        yield
    except CourseError:
        raise
    except Exception as error:
        raise CourseError(f"{what}: {one_line(error)}", fix) from error


def select_device(spec: ModelSpec) -> str:
    """The device to run on: cpu, cuda or mps. Raises CourseError if this machine lacks the spec's device."""
    import torch

    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if spec.device == "auto":
        return next(device for device in ("cuda", "mps", "cpu") if available[device])
    if not available[spec.device]:
        what = f"device={spec.device!r}: torch {torch.__version__} finds no such device on this machine"
        raise CourseError(what, 'load(..., device="auto")')
    return spec.device


def weight_dtype(spec: ModelSpec, device: str) -> Any:
    """The torch type of the weights. `auto` means float32 on a CPU (the fastest there), else as stored."""
    import torch

    if spec.precision == "auto":
        return torch.float32 if device == "cpu" else "auto"
    return getattr(torch, spec.precision)


def from_pretrained(auto_class: Any, spec: ModelSpec, folder: Path, **kwargs: Any) -> Any:
    """Load a transformers model onto its device, and merge its adapters, or attach them to quantized weights.

    auto_class: such as AutoModelForCausalLM. Raises CourseError for files that cannot be loaded, and
    Unsupported for a GGUF file and for fields that have no effect.
    """
    device = select_device(spec)
    refuse_gguf(folder)
    dtype = weight_dtype(spec, device)
    config = read_json(folder, "config.json").get("quantization_config") or {}
    quantization = bitsandbytes_weights.loading_options(spec, folder.name, config, dtype, device)
    replaced = adapters.replaced_tensors(spec.adapters) if spec.adapters else set()
    changes = {name: value for name, value in kwargs.items() if name == "num_labels"}
    if kwargs.get("add_pooling_layer") is False:
        replaced |= POOLER
    kwargs |= quantization | ({"device_map": "auto"} if _spread_over_gpus(spec, device) else {})
    with library_errors(f"transformers cannot load {folder.name}", "course doctor"):
        check_weights(folder, auto_class, replaced=replaced, **changes)
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
    raise_on_difference(folder.name, sorted(set(info["missing_keys"]) - replaced), [])  # quantized weights
    model = model if "device_map" in kwargs else model.to(device)
    if getattr(model, "is_loaded_in_4bit", False):
        bitsandbytes_weights.set_compute_dtype(model, spec)
    if spec.adapters:
        resolved = adapters.resolve_adapters(spec.adapters, folder)
        # Merging would round quantized weights a second time.
        add_adapters = attach if quantization else merge
        model = add_adapters(model, resolved, spec.combination_type)
    return model.eval()


def refuse_gguf(path: Path) -> None:
    """Raise Unsupported for a .gguf file."""
    if path.suffix == ".gguf":
        what = f"{path.name} is a GGUF file, which transformers would convert to 32 bits"
        raise Unsupported(what, 'load(..., driver="llamacpp")')


def refuse_pictures(folder: Path) -> None:
    """Raise Unsupported for the folder of a picture model, loaded with a task of text."""
    kind = read_json(folder, "config.json").get("model_type")
    for task, kinds in MODEL_TYPES.items():
        if kind in kinds:
            raise Unsupported(f"{folder.name} is a {kind}, a model of pictures", f'load(..., task="{task}")')


def _spread_over_gpus(spec: ModelSpec, device: str) -> bool:
    """Whether to distribute the layers over all GPUs.

    Raises CourseError if the spec asks for it without a GPU.
    """
    if spec.device_mode == "auto" and device == "cpu":
        what = "device_mode='auto' distributes a model over GPUs, and torch finds none on this machine"
        raise CourseError(what, 'load(..., device_mode="single")')
    return spec.device_mode == "auto"


def load_config(folder: Path) -> Any:
    """Load the configuration in a folder, without the weights. Raises CourseError if that fails."""
    from transformers import AutoConfig

    with library_errors(f"transformers cannot load {folder.name}", "course doctor"):
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def load_tokenizer(folder: Path) -> Any:
    """Load the tokenizer in a folder. Raises CourseError if that fails."""
    from transformers import AutoTokenizer

    what, fix = (
        f"the tokenizer of {folder.name} cannot be loaded",
        "save the model's own tokenizer in the folder",
    )
    with library_errors(what, fix):
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def one_line(error: BaseException) -> str:
    """The error's message on one line, at most 300 characters of it; the name of its class if it has none."""
    return " ".join(str(error).split())[:300] or type(error).__name__
