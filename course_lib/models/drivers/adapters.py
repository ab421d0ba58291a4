"""LoRA adapters (Hu et al. 2021, arXiv:2106.09685): find, check, attach to a model, or merge into it.

W x becomes W x + sum of weight_i * alpha_i / r_i * B_i A_i x.
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
from course_lib.models.drivers.quiet import quiet
from course_lib.models.files.headers import read_json, read_safetensors_header, weight_files
from course_lib.models.files.resolution import from_hub
from course_lib.models.schema.sources import LocalSource
from course_lib.models.schema.spec import Adapter, CombinationType

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
BASE_FILE = "base.json"  # in an adapter's folder: {"model": its base, "sha256": of the base's weights}
BASE_PREFIX = "base_model.model."  # before the names of the base's tensors in an adapter's file
OTHER_BASE = "use an adapter of this base model"


class ResolvedAdapter(NamedTuple):
    """An adapter on this machine, checked against its base model. path: its folder or .gguf file."""

    path: Path
    weight: float
    label: str


def adapter_path(adapter: Adapter) -> Path:
    """The folder of an adapter, or its .gguf file, on this machine. Adapters of the course are verified.

    Raises CourseError where it is missing or no adapter, and what the hub raises.
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
        what = f"{path} is no LoRA adapter: {CONFIG_FILE} and {WEIGHTS_FILE} are needed"
        raise CourseError(what, "name the folder that save_pretrained wrote")
    return path


def resolve_adapters(
    adapters: Sequence[Adapter], base: Path, sha256: Callable[[Path], str] | None = None
) -> list[ResolvedAdapter]:
    """The adapters of a specification, each checked against the base model. Raises as `check_base`.

    sha256: computes the hash of the base's weights; `sha256_of_weights` by default.
    """
    resolved = [ResolvedAdapter(adapter_path(a), a.weight, a.label) for a in adapters]
    for adapter in resolved:
        check_base(adapter, base, sha256 or sha256_of_weights)
    return resolved


# -- the base model ---------------------------------------------------------------------------------------


def base_record(base: Path) -> dict[str, str]:
    """The content of BASE_FILE: the name of the base model, and the SHA-256 of its weights."""
    return {"model": catalog.model_name(base), "sha256": sha256_of_weights(base)}


def base_model_name(adapter: Path) -> str:
    """The base model that an adapter's BASE_FILE names. Raises CourseError without such a file."""
    name = read_json(adapter, BASE_FILE).get("model")
    if not name:
        what = f"{adapter.name} does not say for which model it was made: it has no {BASE_FILE}"
        raise CourseError(what, "name the model with --base")
    return str(name)


def sha256_of_weights(folder: Path) -> str:
    """The SHA-256 of a model's weights file; of several files, that of their hashes, one after the other."""
    hashes = [data.sha256(folder / name) for name in weight_files(p.name for p in folder.iterdir())]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def check_base(adapter: ResolvedAdapter, base: Path, sha256: Callable[[Path], str]) -> None:
    """Raise CourseError for an adapter of matrices of another shape, or that was made for other weights."""
    if adapter.path.suffix == ".gguf" or base.suffix == ".gguf":
        return  # llama.cpp compares shapes itself
    _check_shapes(adapter, base)
    record = read_json(adapter.path, BASE_FILE)
    expected = record.get("sha256")
    if expected and (actual := sha256(base)) != expected:
        raise CourseError(
            f"the adapter {adapter.label} was made for {record.get('model')}, whose weights have SHA-256 "
            f"{expected[:12]}...; those of {base.name} have {actual[:12]}...",
            OTHER_BASE,
        )


def _check_shapes(adapter: ResolvedAdapter, base: Path) -> None:
    if read_json(base, "config.json").get("quantization_config"):
        return  # quantized matrices have other shapes
    transposed = bool(
        read_json(adapter.path, CONFIG_FILE).get("fan_in_fan_out")
    )  # GPT-2's are (inputs, outputs)
    files = weight_files(p.name for p in base.iterdir())
    shapes = {
        name: tensor.shape for file in files for name, tensor in read_safetensors_header(base / file).items()
    }
    for name, tensor in read_safetensors_header(adapter.path / WEIGHTS_FILE).items():
        module, _, matrix = name.removeprefix(BASE_PREFIX).partition(".lora_")
        shape = shapes.get(f"{module}.weight")
        axis = {"A.weight": 1, "B.weight": 0}.get(matrix)
        if not shape or len(shape) != 2 or axis is None:
            continue
        if tensor.shape[axis] != shape[axis ^ transposed]:
            raise CourseError(
                f"the adapter {adapter.label} does not fit this model: its {matrix[0]} for {module} has the "
                f"shape {_by(tensor.shape)}, and the matrix there {_by(shape)}",
                OTHER_BASE,
            )


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


# -- heads ------------------------------------------------------------------------------------------------


def _full_tensors(adapter: Path) -> dict[str, tuple[int, ...]]:
    """Name -> shape of the layers that an adapter holds in full, such as a head; most hold none."""
    tensors = read_safetensors_header(adapter / WEIGHTS_FILE).items()
    return {name: tensor.shape for name, tensor in tensors if ".lora_" not in name}


def head_labels(adapters: Sequence[Adapter]) -> int | None:
    """Number of labels of the head in the last adapter that has one; None where no adapter has one."""
    heads = [
        shape
        for adapter in adapters
        for name, shape in _full_tensors(adapter_path(adapter)).items()
        if len(shape) == 2 and ".pre_classifier." not in name
    ]
    return heads[-1][0] if heads else None


def full_layers(adapters: Sequence[Adapter]) -> set[str]:
    """Names of the model's tensors that adapters hold in full."""
    names = (name for adapter in adapters for name in _full_tensors(adapter_path(adapter)))
    return {name.removeprefix(BASE_PREFIX) for name in names}


# -- attach and merge -------------------------------------------------------------------------------------


def attach(model: Any, adapters: Sequence[ResolvedAdapter], combination_type: CombinationType = "cat") -> Any:
    """The model with adapters attached to its weights, as a PeftModel. Its linear layers are replaced.

    combination_type: "cat" attaches them side by side, which is their exact weighted sum. "svd" and "linear"
    are peft's ways to make one adapter of them, and approximate it. Raises CourseError for an adapter that
    does not fit, and for ranks that cannot be combined so; Unsupported for an adapter with a head that has a
    weight or is not alone.
    """
    from peft import PeftModel

    for adapter in adapters:
        if _full_tensors(adapter.path) and (adapter.weight != 1 or len(adapters) > 1):
            raise Unsupported(
                f"the adapter {adapter.label} brings a head of its own, which cannot be weighted or combined "
                f"(weight={adapter.weight}, one of {len(adapters)})",
                "use it alone with weight=1",
            )
    peft_model: Any = None
    names = [f"part{i}" for i in range(len(adapters))]  # peft would take a bare number for a layer's
    for name, adapter in zip(names, adapters, strict=True):
        with _wrap_errors(adapter.label):
            if peft_model is None:
                peft_model = PeftModel.from_pretrained(
                    model, adapter.path, adapter_name=name, local_files_only=True
                )
            else:
                peft_model.load_adapter(adapter.path, adapter_name=name, local_files_only=True)
        _check_all_used(peft_model, name, adapter)
    factors = {name: adapter.weight for name, adapter in zip(names, adapters, strict=True)}
    if combination_type == "cat" or len(adapters) == 1:
        _side_by_side(peft_model, factors)
    else:
        _combine(peft_model, factors, combination_type)
    return peft_model


def _combine(peft_model: Any, factors: dict[str, float], combination_type: CombinationType) -> None:
    """Replace the adapters by one that peft makes of them."""
    names = list(factors)
    try:
        peft_model.add_weighted_adapter(
            names, list(factors.values()), "mix", combination_type=combination_type
        )
    except ValueError as error:
        what = f"combination_type={combination_type!r}: {error}"
        raise CourseError(what, 'load(..., combination_type="cat")') from error
    peft_model.set_adapter("mix")
    for name in names:
        peft_model.delete_adapter(name)


def _side_by_side(peft_model: Any, factors: dict[str, float]) -> None:
    from peft.tuners.lora import LoraLayer

    if len(factors) > 1:
        peft_model.base_model.set_adapter(list(factors))
    for module in peft_model.modules():
        if isinstance(module, LoraLayer):
            for name, factor in factors.items():
                if name in module.scaling:
                    module.scaling[name] *= factor


def merge(model: Any, adapters: Sequence[ResolvedAdapter], combination_type: CombinationType = "cat") -> Any:
    """The model with adapters added to its weights, as fast as without. Raises as `attach`."""
    return _merge(attach(model, adapters, combination_type))


def share_weights(model: Any) -> Any:
    """A copy of a model that shares all of its tensors; replacing layers of one does not affect the other."""
    from course_lib.models.planner.memory import tensors_of

    shared = [*model.buffers(), *(tensor for module in model.modules() for tensor in tensors_of(module))]
    return copy.deepcopy(model, {id(tensor): tensor for tensor in shared})


def merged_copy(model: Any, name: str) -> Any:
    """The model without attached adapters: itself, or a copy into which they are merged.

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
    """Merge attached adapters. Tied embeddings and output layer are untied if an adapter changes one."""
    from torch.nn import Parameter

    layers: list[Any] = [peft_model.get_input_embeddings(), peft_model.get_output_embeddings()]
    embedding, head = (getattr(layer, "base_layer", layer) for layer in layers)
    if layers != [embedding, head] and head is not None and head.weight is embedding.weight:
        head.weight = Parameter(embedding.weight.detach().clone(), requires_grad=False)
        peft_model.base_model.model.config.tie_word_embeddings = False
    return peft_model.merge_and_unload()


@contextmanager
def _wrap_errors(label: str) -> Iterator[None]:
    """Silence peft while it reads an adapter, and turn its errors into CourseError."""
    try:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of missing tensors, which _check_all_used finds
            yield
    except (RuntimeError, ValueError, KeyError, OSError, TypeError, AttributeError) as error:
        message = " ".join(str(error).split())[:300]
        raise CourseError(f"the adapter {label} does not fit this model: {message}", OTHER_BASE) from error


def _check_all_used(peft_model: Any, name: str, adapter: ResolvedAdapter) -> None:
    """Raise CourseError for an adapter of more or fewer layers: peft would skip what does not fit."""
    from peft import get_peft_model_state_dict

    state = get_peft_model_state_dict(peft_model, adapter_name=name, save_embedding_layers=False)
    in_file = {
        tensor for tensor in read_safetensors_header(adapter.path / WEIGHTS_FILE) if ".lora_" in tensor
    }
    in_model = {tensor for tensor in state if ".lora_" in tensor}
    if unmatched := sorted(in_file ^ in_model):
        what = (
            f"the adapter {adapter.label} does not fit this model: {unmatched[0]} is only in one of the two"
        )
        raise CourseError(what, OTHER_BASE)
