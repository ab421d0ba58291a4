"""LoRA adapters (Hu et al. 2021, arXiv:2106.09685): find their files, and compare them with the base model.

An adapter has matrices A and B for some of the base model's matrices W, which become W + B A. Its files are
those of the library peft, or a .gguf file for llama.cpp. A head is such a model's last layer, with an output
for each label.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from course_lib import data
from course_lib.errors import CourseError
from course_lib.models import catalog
from course_lib.models.files.headers import read_json, read_safetensors_header, weight_paths
from course_lib.models.files.resolution import from_hub
from course_lib.models.schema.sources import LocalSource
from course_lib.models.schema.spec import Adapter
from course_lib.names import existing_path

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
BASE_FILE = "base.json"  # in an adapter's folder: {"model": name of the base, "sha256": hash of its weights}
BASE_PREFIX = "base_model.model."  # peft puts it before the names of the base model's tensors
OLD_WEIGHTS_FILE = "adapter_model.bin"  # a pickle, which peft wrote until 2023
WRONG_BASE_FIX = "use an adapter of this base model"
# Kinds of peft adapters that add learned vectors to the input: they cannot be merged into the weights.
PROMPT_KINDS = frozenset(
    {"PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "CPT", "ADAPTION_PROMPT"}
)


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
        path = existing_path(adapter.source.path)
    else:
        path = from_hub(adapter.source)
    if path.parent == data.MODELS and catalog.is_adapter(path.name):
        return catalog.verify_shipped(path.name)
    if path.suffix == ".gguf" and path.is_file():
        return path
    if (kind := read_json(path, CONFIG_FILE).get("peft_type")) in PROMPT_KINDS:
        what = f"{path} is an adapter of the kind {kind}; an adapter must change weights, as LoRA does"
        raise CourseError(what, f'peft.PeftModel.from_pretrained(base, "{path}")')
    if (path / OLD_WEIGHTS_FILE).is_file() and not (path / WEIGHTS_FILE).is_file():
        what = f"{path / OLD_WEIGHTS_FILE} is a pickle: loading it can run any code that its author put in"
        call = f'peft.PeftModel.from_pretrained(base, "{path}").save_pretrained("NEW")'
        raise CourseError(what, f"{call}  # if you trust its author")
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
    """Raise CourseError if the adapter was trained on another model: its shapes or BASE_FILE do not match.

    Without a BASE_FILE, only the name in its configuration tells: another name is a warning.
    """
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
    if not expected:
        _warn_of_other_name(adapter, base)


def _warn_of_other_name(adapter: ResolvedAdapter, base: Path) -> None:
    """Warn if peft's configuration names another base model. The hub's cache has OWNER--NAME in its paths."""
    named = str(read_json(adapter.path, CONFIG_FILE).get("base_model_name_or_path") or "")
    name = named.replace("\\", "/").rstrip("/").rpartition("/")[2].lower()
    parts = [part.lower() for part in (catalog.model_name(base), *base.resolve().parts)]
    if name and not any(part == name or part.endswith(f"--{name}") for part in parts):
        what = f"the adapter {adapter.label} was made for {named}, and is used on {catalog.model_name(base)}"
        warnings.warn(what, stacklevel=2)


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
