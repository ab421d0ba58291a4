"""A model with some of its weights rounded to a format, for as long as one measures it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from course_lib.errors import CourseError
from course_lib.tuning.formats import Format, format_of

if TYPE_CHECKING:
    from torch.nn import Parameter
    from transformers import PreTrainedModel


def matrices(model: PreTrainedModel, embeddings: bool = False) -> dict[str, Parameter]:
    """Name -> weight (outputs, inputs) of the linear layers of a model of transformers, in its order, each once.

    embeddings: also the token (and other) embeddings and the output layer, which often shares their weights. bitsandbytes
    leaves these whole; a GGUF file packs them, too. Norms and biases are vectors, and never here.

    Raises CourseError for what is no such model, and for one whose weights are packed already.
    """
    from torch.nn import Embedding, Linear
    from transformers import PreTrainedModel

    if not isinstance(model, PreTrainedModel):
        raise CourseError(
            f"{type(model).__name__} is no model of transformers", 'pass load("haneul-4m").model'
        )
    head, kinds = model.get_output_embeddings(), (Linear, Embedding) if embeddings else Linear
    found: dict[int, tuple[str, Any]] = {}
    for name, module in model.named_modules():
        if isinstance(module, kinds) and (embeddings or module is not head):
            found.setdefault(id(module.weight), (name, module.weight))
    if packed := [name for name, weight in found.values() if not weight.is_floating_point()]:
        raise CourseError(
            f"{len(packed)} layers, the first {packed[0]}, are packed already",
            "load it with quantization: none",
        )
    return dict(found.values())


def _chosen(there: dict[str, Any], layers: str | Sequence[str] | None) -> dict[str, Any]:
    """Those whose name fits one of the patterns. Raises CourseError for a pattern that fits none."""
    patterns = ["*"] if layers is None else [layers] if isinstance(layers, str) else list(layers)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in there):
            raise CourseError(
                f"no layer fits {pattern!r}",
                f"name one of {', '.join(there)}, or a pattern such as '*.q_proj'",
            )
    return {name: weight for name, weight in there.items() if any(fnmatchcase(name, p) for p in patterns)}


@contextmanager
def quantized(
    model: PreTrainedModel,
    fmt: Format | str,
    layers: str | Sequence[str] | None = None,
    embeddings: bool = False,
) -> Iterator[PreTrainedModel]:
    """The same model, whose chosen weights are meanwhile as they come back from a format; afterwards they are the old ones.

    layers: names of `matrices`, or patterns of them such as "model.layers.0.*"; all where none are named.
    embeddings: as in `matrices`. Weights of 16 bits are rounded to 16 bits once more on their way back.

    Nothing is changed before all are rounded. Raises CourseError for an unknown format, a layer that is not there, and, with
    its name, for a layer that the format cannot hold.
    """
    import torch

    wanted = format_of(fmt)
    chosen = _chosen(matrices(model, embeddings), layers)
    rounded = {
        name: torch.from_numpy(_roundtrip(wanted, name, weight)).to(weight) for name, weight in chosen.items()
    }
    whole = {name: weight.data for name, weight in chosen.items()}
    try:
        for name, weight in chosen.items():
            weight.data = rounded[name]
        yield model
    finally:
        for name, weight in chosen.items():
            weight.data = whole[name]


def _roundtrip(wanted: Format, name: str, weight: Parameter) -> Any:
    try:
        return wanted.roundtrip(weight.detach().float().cpu().numpy())
    except CourseError as error:
        raise CourseError(f"{name} as {wanted.name}: {error.what}", error.fix) from error
