"""Models read by transformers: from safetensors alone, in the type, packing and place that a specification asks for."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from course_lib import data
from course_lib.errors import CourseError
from course_lib.models import catalog
from course_lib.models.drivers import packed
from course_lib.models.engine import Unsupported
from course_lib.models.source import facts, tensors_in, weights
from course_lib.models.spec import Adapter, ModelSpec

WEIGHTS = "adapter_model.safetensors"
BASE = "base.json"  # beside an adapter: {"model": for which it was made, "sha256": of that model's weights}


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
    packed.silence()  # peft imports bitsandbytes, which would tell of kernels that nobody asked for
    device = device_of(spec)
    if spec.low_cpu_mem_usage is False:
        raise Unsupported("low_cpu_mem_usage=False: transformers 5 always loads weight by weight", "leave it out, or say true")
    if folder.suffix == ".gguf":
        raise Unsupported(f"{folder.name} is GGUF, which transformers would unpack to 32 bits", "use driver: llamacpp")
    dtype, said = dtype_of(spec, device), facts(folder, "config.json").get("quantization_config") or {}
    more |= packed.how(spec, folder.name, said, dtype, device) | ({"device_map": "auto"} if _spread(spec, device) else {})
    try:
        with quiet():
            model, told = kind.from_pretrained(
                folder, dtype=dtype, use_safetensors=True, local_files_only=True, trust_remote_code=False,
                output_loading_info=True, **more,
            )  # fmt: skip
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise CourseError(f"transformers cannot load {folder.name}: {_short(error)}", "course doctor") from error
    if made_up := sorted(set(told["missing_keys"]) - _brought(spec.adapters)):
        raise CourseError(f"{folder.name} lacks {len(made_up)} of the model's tensors, such as {made_up[0]}: with random ones it "
                          "would answer at random", "choose a model made for the task, or download it again")  # fmt: skip
    model = model if "device_map" in more else model.to(device)
    if getattr(model, "is_loaded_in_4bit", False):
        packed.settle(model, spec)
    for adapter in spec.adapters:
        _check_base(adapter.path.expanduser(), folder)
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


def checked_adapter(folder: Path) -> Path:
    """`folder`, if it holds a LoRA adapter, and of one that the course carries the published files. Raises CourseError."""
    if folder.parent == data.MODELS and catalog.adapted(folder.name):
        return catalog.folder_of(folder.name)
    if not all((folder / name).is_file() for name in ("adapter_config.json", WEIGHTS)):
        raise CourseError(f"{folder} is no LoRA adapter: adapter_config.json and {WEIGHTS} are needed",
                          "name the folder that save_pretrained wrote")  # fmt: skip
    return folder


def head_tensors(adapter: Path) -> dict[str, tuple[int, ...]]:
    """Name -> shape of the layers that an adapter brings whole, such as the head of a classifier; most bring none."""
    return {name: tensor.shape for name, tensor in tensors_in(adapter / WEIGHTS).items() if ".lora_" not in name}


def head_of_adapters(adapters: Sequence[Adapter]) -> int | None:
    """How many labels the head gives that an adapter brings; None where none of them brings one. Raises CourseError."""
    heads = [shape for a in adapters for name, shape in head_tensors(checked_adapter(a.path.expanduser())).items()
             if len(shape) == 2 and ".pre_classifier." not in name]  # fmt: skip
    return heads[-1][0] if heads else None


def _brought(adapters: Sequence[Adapter]) -> set[str]:
    """The model's tensors that adapters bring whole, by the model's own names."""
    folders = [checked_adapter(adapter.path.expanduser()) for adapter in adapters]
    return {name.removeprefix("base_model.model.") for folder in folders for name in head_tensors(folder)}


def _check_base(adapter: Path, base: Path) -> None:
    """Raises CourseError for an adapter that says, in base.json, that it was made for other weights than these."""
    said = facts(checked_adapter(adapter), BASE).get("sha256")
    if said and (found := sha256_of_weights(base)) != said:
        raise CourseError(
            f"the adapter {adapter.name} was made for {facts(adapter, BASE).get('model')}, whose weights have SHA-256 "
            f"{said[:12]}...; those of {base.name} have {found[:12]}...", "use an adapter of this base model",
        )  # fmt: skip


def sha256_of_weights(folder: Path) -> str:
    """The SHA-256 of the file of weights; of several, that of their sums, one after the other."""
    found = [data.sha256(folder / name) for name in weights(p.name for p in folder.iterdir())]
    return found[0] if len(found) == 1 else hashlib.sha256("".join(found).encode()).hexdigest()


def merged(model: Any, adapter: Path, weight: float) -> Any:
    """`model` with `weight` times a LoRA adapter added to its weights (Hu et al. 2021, arXiv:2106.09685): exact for any mix.

    Raises CourseError for an adapter of another base model; Unsupported for a share of one that brings a head.
    """
    from peft import PeftModel, get_peft_model_state_dict
    from peft.tuners.lora import LoraLayer

    said = {name for name in tensors_in(adapter / WEIGHTS) if ".lora_" in name}
    if weight != 1 and head_tensors(adapter):
        raise Unsupported(f"weight={weight} of {adapter.name}, which brings a head of its own: a share of a head is none",
                          "leave the weight out")  # fmt: skip
    try:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by a name that will go
            adapted = PeftModel.from_pretrained(model, adapter, local_files_only=True)
    except (RuntimeError, ValueError, KeyError, OSError, TypeError) as error:
        raise CourseError(f"the adapter {adapter.name} does not fit this model: {_short(error)}",
                          "use an adapter of this base model") from error  # fmt: skip
    has = {name for name in get_peft_model_state_dict(adapted, save_embedding_layers=False) if ".lora_" in name}
    if odd := sorted(said ^ has):  # of more or fewer layers: peft would leave out what does not fit
        raise CourseError(f"the adapter {adapter.name} does not fit this model: {odd[0]} is only in one of the two",
                          "use an adapter of this base model")  # fmt: skip
    for module in adapted.modules():
        if isinstance(module, LoraLayer):
            module.scale_layer(weight)
    return adapted.merge_and_unload()


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
