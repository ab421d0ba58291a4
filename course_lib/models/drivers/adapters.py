"""LoRA adapters (Hu et al. 2021, arXiv:2106.09685): find and check them, attach them to a model, merge them.

With adapters, a linear layer computes W x + the sum over i of weight_i * alpha_i / r_i * B_i A_i x.
"""

from __future__ import annotations

import copy
import hashlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from course_lib import data
from course_lib.errors import CourseError
from course_lib.models import catalog
from course_lib.models.drivers import bitsandbytes_weights
from course_lib.models.drivers.engine import Unsupported
from course_lib.models.files.headers import read_json, read_safetensors_header, weight_paths
from course_lib.models.files.resolution import from_hub
from course_lib.models.schema.sources import LocalSource
from course_lib.models.schema.spec import Adapter, CombinationType
from course_lib.quiet import quiet

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
BASE_FILE = "base.json"  # in an adapter's folder: {"model": name of the base, "sha256": hash of its weights}
BASE_PREFIX = "base_model.model."  # peft puts it before the names of the base model's tensors
WRONG_BASE_FIX = "use an adapter of this base model"


class ResolvedAdapter(NamedTuple):
    """An adapter on this machine. path: its folder or .gguf file; label: its name in messages."""

    path: Path
    weight: float
    label: str


def adapter_path(adapter: Adapter) -> Path:
    """The folder or .gguf file of an adapter, downloaded if needed. Shipped adapters are verified.

    Raises CourseError if it is missing, not an adapter, or cannot be downloaded.
    """
    if isinstance(adapter.source, LocalSource):
        path = adapter.source.path.expanduser()
    else:
        path = from_hub(adapter.source)
    if path.parent == data.MODELS and catalog.is_adapter(path.name):
        return catalog.verify_shipped(path.name)
    if path.suffix == ".gguf" and path.is_file():
        return path
    if not all((path / name).is_file() for name in (CONFIG_FILE, WEIGHTS_FILE)):
        what = f"{path} is not a LoRA adapter: {CONFIG_FILE} and {WEIGHTS_FILE} are needed"
        raise CourseError(what, "use the folder that save_pretrained wrote")
    return path


def resolve_adapters(
    adapters: Sequence[Adapter], base: Path, sha256: Callable[[Path], str] | None = None
) -> list[ResolvedAdapter]:
    """Find the adapters of a specification and check each against the base model, as `check_base` does.

    sha256: a function that returns the hash of the base's weights; `sha256_of_weights` by default.
    """
    resolved = [ResolvedAdapter(adapter_path(a), a.weight, a.label) for a in adapters]
    for adapter in resolved:
        check_base(adapter, base, sha256 or sha256_of_weights)
    return resolved


# -- the base model ---------------------------------------------------------------------------------------


def base_record(base: Path) -> dict[str, str]:
    """The content of BASE_FILE for adapters of the model in the folder `base`."""
    return {"model": catalog.model_name(base), "sha256": sha256_of_weights(base)}


def base_model_name(adapter: Path) -> str:
    """The base model that an adapter's BASE_FILE names. Raises CourseError if there is no such file."""
    name = read_json(adapter, BASE_FILE).get("model")
    if not name:
        what = f"the base model of {adapter.name} is unknown: it has no {BASE_FILE}"
        raise CourseError(what, "name the model with --base")
    return str(name)


def sha256_of_weights(folder: Path) -> str:
    """The SHA-256 of a model's weights file; for several files, the SHA-256 of their joined hashes."""
    hashes = [data.sha256(path) for path in weight_paths(folder)]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def check_base(adapter: ResolvedAdapter, base: Path, sha256: Callable[[Path], str]) -> None:
    """Raise CourseError if the adapter was trained on another model: its shapes or BASE_FILE do not match."""
    if adapter.path.suffix == ".gguf" or base.suffix == ".gguf":
        return  # llama.cpp compares the shapes
    _check_shapes(adapter, base)
    record = read_json(adapter.path, BASE_FILE)
    expected = record.get("sha256")
    if expected and (actual := sha256(base)) != expected:
        raise CourseError(
            f"the adapter {adapter.label} was made for {record.get('model')}, whose weights have SHA-256 "
            f"{expected[:12]}...; those of {base.name} have {actual[:12]}...",
            WRONG_BASE_FIX,
        )


def _check_shapes(adapter: ResolvedAdapter, base: Path) -> None:
    if read_json(base, "config.json").get("quantization_config"):
        return  # quantized matrices are stored in other shapes
    # GPT-2 stores its matrices as (inputs, outputs), other models as (outputs, inputs).
    transposed = bool(read_json(adapter.path, CONFIG_FILE).get("fan_in_fan_out"))
    headers = [read_safetensors_header(path) for path in weight_paths(base)]
    shapes = {name: tensor.shape for header in headers for name, tensor in header.items()}
    for name, tensor in read_safetensors_header(adapter.path / WEIGHTS_FILE).items():
        module, _, matrix = name.removeprefix(BASE_PREFIX).partition(".lora_")
        shape = shapes.get(f"{module}.weight")
        axis = {"A.weight": 1, "B.weight": 0}.get(matrix)
        if not shape or len(shape) != 2 or axis is None:
            continue
        if tensor.shape[axis] != shape[axis ^ transposed]:
            raise CourseError(
                f"the adapter {adapter.label} does not fit this model: its {matrix[0]} for {module} has the "
                f"shape {_format_shape(tensor.shape)}, and the model's matrix {_format_shape(shape)}",
                WRONG_BASE_FIX,
            )


def _format_shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


# -- complete layers in an adapter's file, such as a classification head ----------------------------------


def _complete_tensors(adapter: Path) -> dict[str, tuple[int, ...]]:
    """Name -> shape of the tensors that replace the model's (peft's modules_to_save); usually empty."""
    tensors = read_safetensors_header(adapter / WEIGHTS_FILE).items()
    return {name: tensor.shape for name, tensor in tensors if ".lora_" not in name}


def head_label_count(adapters: Sequence[Adapter]) -> int | None:
    """The number of labels of the last adapter with a classification head; None if no adapter has one."""
    head_shapes = [
        shape
        for adapter in adapters
        for name, shape in _complete_tensors(adapter_path(adapter)).items()
        if len(shape) == 2 and ".pre_classifier." not in name
    ]
    return head_shapes[-1][0] if head_shapes else None


def replaced_tensors(adapters: Sequence[Adapter]) -> set[str]:
    """The names of the model's tensors that adapters replace."""
    names = (name for adapter in adapters for name in _complete_tensors(adapter_path(adapter)))
    return {name.removeprefix(BASE_PREFIX) for name in names}


# -- attach and merge -------------------------------------------------------------------------------------


def attach(model: Any, adapters: Sequence[ResolvedAdapter], combination_type: CombinationType = "cat") -> Any:
    """Attach adapters to a model and return a PeftModel. It replaces linear layers of `model` itself.

    combination_type: "cat" keeps the adapters separate, and the model adds up their outputs: the exact
    weighted sum. "svd" and "linear" are peft's methods to combine them into one adapter; both approximate the
    sum. Raises CourseError for an adapter that does not fit the model, and for ranks that the method cannot
    combine; Unsupported for an adapter with a classification head that has a weight other than 1 or is not
    the only one.
    """
    from peft import PeftModel

    for adapter in adapters:
        if _complete_tensors(adapter.path) and (adapter.weight != 1 or len(adapters) > 1):
            raise Unsupported(
                f"the adapter {adapter.label} has its own head, which cannot be weighted or combined "
                f"(weight={adapter.weight}, one of {len(adapters)})",
                "use it alone with weight=1",
            )
    peft_model: Any = None
    names = [f"part{i}" for i in range(len(adapters))]  # peft would read a bare number as a layer's index
    for name, adapter in zip(names, adapters, strict=True):
        with _wrap_errors(adapter.label):
            if peft_model is None:
                peft_model = PeftModel.from_pretrained(
                    model, adapter.path, adapter_name=name, local_files_only=True
                )
            else:
                peft_model.load_adapter(adapter.path, adapter_name=name, local_files_only=True)
        _check_same_layers(peft_model, name, adapter)
    weights = {name: adapter.weight for name, adapter in zip(names, adapters, strict=True)}
    if combination_type == "cat" or len(adapters) == 1:
        _activate_weighted(peft_model, weights)
    else:
        _combine(peft_model, weights, combination_type)
    return peft_model


def _combine(peft_model: Any, weights: dict[str, float], combination_type: CombinationType) -> None:
    """Replace the adapters by one in which peft combines them. weights: adapter name -> weight."""
    names = list(weights)
    try:
        peft_model.add_weighted_adapter(
            names, list(weights.values()), "combined", combination_type=combination_type
        )
    except ValueError as error:
        what = f"combination_type={combination_type!r}: {error}"
        raise CourseError(what, 'load(..., combination_type="cat")') from error
    peft_model.set_adapter("combined")
    for name in names:
        peft_model.delete_adapter(name)


def _activate_weighted(peft_model: Any, weights: dict[str, float]) -> None:
    """Activate all adapters together and multiply the output of each by its weight."""
    from peft.tuners.lora import LoraLayer

    if len(weights) > 1:
        peft_model.base_model.set_adapter(list(weights))
    for module in peft_model.modules():
        if isinstance(module, LoraLayer):
            for name, weight in weights.items():
                if name in module.scaling:
                    module.scaling[name] *= weight


def merge(model: Any, adapters: Sequence[ResolvedAdapter], combination_type: CombinationType = "cat") -> Any:
    """Add adapters to the model's weights, so that they cost no time. Raises the errors of `attach`."""
    return _merge(attach(model, adapters, combination_type))


def share_weights(model: Any) -> Any:
    """A copy of a model that shares its tensors; replacing layers of one does not affect the other."""
    from course_lib.models.planner.memory import tensors_of

    shared = [*model.buffers(), *(tensor for module in model.modules() for tensor in tensors_of(module))]
    return copy.deepcopy(model, {id(tensor): tensor for tensor in shared})


def merged_copy(model: Any, name: str) -> Any:
    """Return a copy of the model with its attached adapters merged, or the model itself if it has none.

    Raises Unsupported for adapters on quantized weights.
    """
    if not hasattr(model, "peft_config"):
        return model
    if any(bitsandbytes_weights.is_quantized(p) for p in model.parameters()):
        raise Unsupported(
            f"{name}: adapters cannot be merged into quantized weights without rounding",
            "load it unquantized with its adapters, save(FOLDER), and load FOLDER with quantization",
        )
    return _merge(copy.deepcopy(model))


def _merge(peft_model: Any) -> Any:
    """Merge attached adapters. If an adapter changes tied embeddings, untie them from the output layer."""
    from torch.nn import Parameter

    layers: list[Any] = [peft_model.get_input_embeddings(), peft_model.get_output_embeddings()]
    embedding, head = (getattr(layer, "base_layer", layer) for layer in layers)
    if layers != [embedding, head] and head is not None and head.weight is embedding.weight:
        head.weight = Parameter(embedding.weight.detach().clone(), requires_grad=False)
        peft_model.base_model.model.config.tie_word_embeddings = False
    return peft_model.merge_and_unload()


@contextmanager
def _wrap_errors(label: str) -> Iterator[None]:
    """Silence peft while it reads an adapter, and turn its errors into a CourseError."""
    try:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # _check_same_layers reports missing tensors
            yield
    except (RuntimeError, ValueError, KeyError, OSError, TypeError, AttributeError) as error:
        message = " ".join(str(error).split())[:300]
        raise CourseError(
            f"the adapter {label} does not fit this model: {message}", WRONG_BASE_FIX
        ) from error


def _check_same_layers(peft_model: Any, name: str, adapter: ResolvedAdapter) -> None:
    """Raise CourseError if adapter and model have different layers: peft would skip those silently."""
    from peft import get_peft_model_state_dict

    state = get_peft_model_state_dict(peft_model, adapter_name=name, save_embedding_layers=False)
    in_file, in_model = (
        {tensor for tensor in tensors if ".lora_" in tensor}
        for tensors in (read_safetensors_header(adapter.path / WEIGHTS_FILE), state)
    )
    if unmatched := sorted(in_file ^ in_model):
        owner = "adapter" if unmatched[0] in in_file else "model"
        what = f"the adapter {adapter.label} does not fit this model: only the {owner} has {unmatched[0]}"
        raise CourseError(what, WRONG_BASE_FIX)
