"""LoRA adapters (Hu et al. 2021, arXiv:2106.09685): found, checked against the model they were made for, mixed, merged, shared.

W x  becomes  W x + sum of weight_i * alpha_i / r_i * B_i A_i x. `merged` adds that to the weights; `twin` lets models with other
adapters share the weights of one.
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
from course_lib.models.drivers import packed
from course_lib.models.drivers.engine import Unsupported
from course_lib.models.drivers.quiet import quiet
from course_lib.models.files.headers import read_json, tensors_in, weight_files
from course_lib.models.files.resolution import from_hub
from course_lib.models.schema import Adapter, LocalSource
from course_lib.models.schema.spec import CombinationType

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
BASE = "base.json"  # beside an adapter: {"model": for which it was made, "sha256": of that model's weights}
OTHER_BASE = "use an adapter of this base model"


class Part(NamedTuple):
    """An adapter that was found and checked, how much of it is added, and what messages call it."""

    folder: Path
    weight: float
    called: str


def found(adapter: Adapter) -> Path:
    """The folder of an adapter, or its .gguf file, on this machine; of one that the course carries the published files.

    Raises CourseError where it is missing or no adapter, and as the hub does.
    """
    if isinstance(adapter.source, LocalSource):
        path = adapter.source.path.expanduser()
    else:
        path = from_hub(adapter.source)
    if path.parent == data.MODELS and catalog.is_adapter(path.name):
        return catalog.folder_of(path.name)
    if path.suffix == ".gguf" and path.is_file():
        return path
    if not all((path / name).is_file() for name in (CONFIG, WEIGHTS)):
        raise CourseError(
            f"{path} is no LoRA adapter: {CONFIG} and {WEIGHTS} are needed",
            "name the folder that save_pretrained wrote",
        )
    return path


def parts(adapters: Sequence[Adapter], base: Path, sum_of: Callable[[Path], str] | None = None) -> list[Part]:
    """The adapters of a specification, each checked against the folder of the model. Raises CourseError as `check_base`.

    sum_of: what tells the sum of the base's weights, where that need not be `sha256_of_weights` each time.
    """
    some = [Part(found(adapter), adapter.weight, adapter.label) for adapter in adapters]
    for part in some:
        check_base(part, base, sum_of or sha256_of_weights)
    return some


# -- the model they were made for -----------------------------------------------------------------------------------------


def describe(base: Path) -> dict[str, str]:
    """What an adapter records of the model it is made for: its name, and the sum of its weights."""
    return {"model": catalog.model_name(base), "sha256": sha256_of_weights(base)}


def made_for(adapter: Path) -> str:
    """The model for which an adapter says that it was made. Raises CourseError where it says nothing."""
    said = read_json(adapter, BASE).get("model")
    if not said:
        raise CourseError(
            f"{adapter.name} does not say for which model it was made: it has no {BASE}",
            "name it with --base",
        )
    return str(said)


def sha256_of_weights(folder: Path) -> str:
    """The SHA-256 of the file of weights; of several, that of their sums, one after the other."""
    sums = [data.sha256(folder / name) for name in weight_files(p.name for p in folder.iterdir())]
    return sums[0] if len(sums) == 1 else hashlib.sha256("".join(sums).encode()).hexdigest()


def check_base(part: Part, base: Path, sum_of: Callable[[Path], str]) -> None:
    """Raises CourseError for an adapter that changes matrices of another shape, or says that it was made for other weights."""
    adapter = part.folder
    if adapter.suffix == ".gguf" or base.suffix == ".gguf":
        return  # llama.cpp compares shapes itself
    turned = bool(
        read_json(adapter, CONFIG).get("fan_in_fan_out")
    )  # GPT-2 keeps its matrices as (inputs, outputs)
    files = (
        ()
        if read_json(base, "config.json").get("quantization_config")
        else weight_files(p.name for p in base.iterdir())
    )
    there = {name: tensor.shape for file in files for name, tensor in tensors_in(base / file).items()}
    for name, tensor in tensors_in(adapter / WEIGHTS).items():
        module, _, half = name.removeprefix("base_model.model.").partition(".lora_")
        shape = there.get(f"{module}.weight")
        side = {"A.weight": 1, "B.weight": 0}.get(half)
        if shape and side is not None and len(shape) == 2 and tensor.shape[side] != shape[side ^ turned]:
            raise CourseError(
                f"the adapter {part.called} does not fit this model: its {half[0]} for {module} has the shape "
                f"{_by(tensor.shape)}, and the matrix there {_by(shape)}",
                OTHER_BASE,
            )
    said = read_json(adapter, BASE).get("sha256")
    if said and (sum_ := sum_of(base)) != said:
        raise CourseError(
            f"the adapter {part.called} was made for {read_json(adapter, BASE).get('model')}, whose weights have SHA-256 "
            f"{said[:12]}...; those of {base.name} have {sum_[:12]}...",
            OTHER_BASE,
        )


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


# -- heads ----------------------------------------------------------------------------------------------------------------


def head_tensors(adapter: Path) -> dict[str, tuple[int, ...]]:
    """Name -> shape of the layers that an adapter brings whole, such as the head of a classifier; most bring none."""
    return {
        name: tensor.shape for name, tensor in tensors_in(adapter / WEIGHTS).items() if ".lora_" not in name
    }


def head_of(adapters: Sequence[Adapter]) -> int | None:
    """How many labels the head gives that an adapter brings; None where none of them brings one. Raises CourseError."""
    heads = [
        shape
        for a in adapters
        for name, shape in head_tensors(found(a)).items()
        if len(shape) == 2 and ".pre_classifier." not in name
    ]
    return heads[-1][0] if heads else None


def brought(adapters: Sequence[Adapter]) -> set[str]:
    """The model's tensors that adapters bring whole, by the model's own names."""
    return {
        name.removeprefix("base_model.model.")
        for adapter in adapters
        for name in head_tensors(found(adapter))
    }


# -- on a model -----------------------------------------------------------------------------------------------------------


def applied(model: Any, some: Sequence[Part], combination_type: CombinationType = "cat") -> Any:
    """The model with adapters beside its weights, as a PeftModel; its own linear layers are replaced.

    combination_type "cat": all of them side by side, each times its weight, which is exactly the sum. "svd" and "linear" are peft's ways
    to make one adapter of them, and are not: see chapter 05. Raises CourseError for an adapter that does not fit, and for ranks
    that cannot be mixed so; Unsupported for a share of an adapter that brings a head, and for one beside others.
    """
    from peft import PeftModel

    for part in some:
        if head_tensors(part.folder) and (part.weight != 1 or len(some) > 1):
            raise Unsupported(
                f"weight={part.weight} of {part.called}, which brings a head of its own, one of {len(some)}: "
                "a share of a head is none",
                "use it alone, and leave the weight out",
            )
    adapted: Any = None
    names = [f"part{i}" for i in range(len(some))]  # a bare number would be taken for that of a layer
    for name, part in zip(names, some, strict=True):
        with _told(part.called):
            if adapted is None:
                adapted = PeftModel.from_pretrained(
                    model, part.folder, adapter_name=name, local_files_only=True
                )
            else:
                adapted.load_adapter(part.folder, adapter_name=name, local_files_only=True)
        _check_all_used(adapted, name, part)
    if combination_type == "cat" or len(some) == 1:
        _side_by_side(adapted, {name: part.weight for name, part in zip(names, some, strict=True)})
    else:
        try:
            adapted.add_weighted_adapter(
                names, [part.weight for part in some], "mix", combination_type=combination_type
            )
        except ValueError as error:
            raise CourseError(
                f"combination_type={combination_type!r}: {error}",
                "say combination_type: cat, which takes any ranks",
            ) from error
        adapted.set_adapter("mix")
        for name in names:
            adapted.delete_adapter(name)
    return adapted


def merged(model: Any, some: Sequence[Part], combination_type: CombinationType = "cat") -> Any:
    """The model with adapters added to its weights: no slower than without. Raises as `applied`."""
    return _merge(applied(model, some, combination_type))


def twin(model: Any) -> Any:
    """A model of its own that shares every tensor of `model`: what is done to its layers does not touch the other's."""
    from course_lib.models.planner.memory import tensors_of

    shared = [*model.buffers(), *(tensor for module in model.modules() for tensor in tensors_of(module))]
    return copy.deepcopy(model, {id(tensor): tensor for tensor in shared})


def whole(model: Any, name: str) -> Any:
    """A model that can be saved: adapters that lie beside its weights are added to a copy of them. Raises Unsupported for
    packed weights."""
    if not hasattr(model, "peft_config"):
        return model
    if any(packed.is_packed(p) for p in model.parameters()):
        raise Unsupported(
            f"{name}: adapters beside packed weights cannot be added to them without rounding",
            "load it unpacked with its adapters, save(FOLDER), and load FOLDER with quantization",
        )
    return _merge(copy.deepcopy(model))


def _merge(adapted: Any) -> Any:
    """The model with what lies beside its weights added to them. Token embeddings and an output layer that are one matrix become
    two where an adapter changes one of them: else it would change both."""
    from torch.nn import Parameter

    ends: list[Any] = [adapted.get_input_embeddings(), adapted.get_output_embeddings()]
    words, head = (getattr(end, "base_layer", end) for end in ends)
    if ends != [words, head] and head is not None and head.weight is words.weight:
        head.weight = Parameter(words.weight.detach().clone(), requires_grad=False)
        adapted.base_model.model.config.tie_word_embeddings = False
    return adapted.merge_and_unload()


@contextmanager
def _told(called: str) -> Iterator[None]:
    """Silence while peft reads an adapter; what it cannot read becomes a CourseError."""
    try:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of missing tensors, which are told below
            yield
    except (RuntimeError, ValueError, KeyError, OSError, TypeError, AttributeError) as error:
        what = " ".join(str(error).split())[:300]
        raise CourseError(f"the adapter {called} does not fit this model: {what}", OTHER_BASE) from error


def _check_all_used(adapted: Any, name: str, part: Part) -> None:
    """Raises CourseError for an adapter of more or fewer layers: peft would leave out what does not fit."""
    from peft import get_peft_model_state_dict

    said = {tensor for tensor in tensors_in(part.folder / WEIGHTS) if ".lora_" in tensor}
    has = {
        t
        for t in get_peft_model_state_dict(adapted, adapter_name=name, save_embedding_layers=False)
        if ".lora_" in t
    }
    if odd := sorted(said ^ has):
        raise CourseError(
            f"the adapter {part.called} does not fit this model: {odd[0]} is only in one of the two",
            OTHER_BASE,
        )


def _side_by_side(adapted: Any, weight_of: dict[str, float]) -> None:
    from peft.tuners.lora import LoraLayer

    if len(weight_of) > 1:
        adapted.base_model.set_adapter(list(weight_of))
    for module in adapted.modules():
        if isinstance(module, LoraLayer):
            for name, weight in weight_of.items():
                if name in module.scaling:
                    module.scaling[name] *= weight
