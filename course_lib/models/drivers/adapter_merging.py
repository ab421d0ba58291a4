"""Attach LoRA adapters to a model, weighted, and merge them into its weights.

With adapters, a linear layer computes W x + the sum over i of weight_i * alpha_i / r_i * B_i A_i x, where A_i
has r_i rows. The library peft reads and attaches them. A classification head is a last layer with an output
per label.
"""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from course_lib.errors import CourseError
from course_lib.models.drivers import bitsandbytes_weights
from course_lib.models.drivers.adapters import BASE_PREFIX, WEIGHTS_FILE, WRONG_BASE_FIX, ResolvedAdapter
from course_lib.models.drivers.engine import Unsupported
from course_lib.models.files.headers import read_safetensors_header
from course_lib.models.schema.spec import CombinationType
from course_lib.quiet import quiet

LINEAR = re.compile(r"\.lora_(embedding_)?[AB]\b")  # in the name of a tensor: LoRA's matrix A or B


def attach(model: Any, adapters: Sequence[ResolvedAdapter], combination_type: CombinationType = "cat") -> Any:
    """Attach adapters to a model and return a PeftModel. It replaces linear layers of `model` itself.

    combination_type: "cat" keeps the adapters separate, and the model adds up their outputs: the exact
    weighted sum. "svd" and "linear" are peft's methods to combine them into one adapter; both approximate the
    sum. Raises CourseError for an adapter that does not fit the model, and for ranks that the method cannot
    combine; Unsupported for an adapter with a classification head, or of a kind such as DoRA that is not the
    only one or has another weight than 1.
    """
    from peft import PeftModel

    for adapter in adapters:
        _check_linear(adapter, len(adapters))
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


def _check_linear(adapter: ResolvedAdapter, count: int) -> None:
    """Raise Unsupported for an adapter that is to be weighted or combined, and is not a sum of matrices BA.

    DoRA (arXiv:2402.09353) also scales the columns of the whole matrix; other kinds multiply weights. count:
    the number of adapters.
    """
    others = [
        name for name in read_safetensors_header(adapter.path / WEIGHTS_FILE) if not LINEAR.search(name)
    ]
    if others and (adapter.weight != 1 or count > 1):
        name = others[0].removeprefix(BASE_PREFIX)
        what = (
            f"the adapter {adapter.label} has {name}, which cannot be weighted or combined as the matrices "
        )
        what += f"of LoRA can (weight={adapter.weight}, one of {count})"
        raise Unsupported(what, "use it alone with weight=1")


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
    """Merge attached adapters.

    Embeddings are tied if the output layer uses the same matrix. If an adapter changes them, the output layer
    gets a copy of the unchanged matrix.
    """
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
