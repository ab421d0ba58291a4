"""Quantize the weights of a loaded model during a `with` block, to measure how its quality changes."""

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
    """Return {name: weight of shape (outputs, inputs)} for the linear layers of a transformers model.

    A shared weight is listed once. embeddings: also include the embedding and output layers (llama.cpp's GGUF
    files quantize them, the library bitsandbytes does not). Norms and biases are vectors and never included.

    Raises CourseError for other model types, and for a model that is already quantized.
    """
    from torch.nn import Embedding, Linear
    from transformers import PreTrainedModel

    if not isinstance(model, PreTrainedModel):
        raise CourseError(
            f"{type(model).__name__} is not a transformers model", 'matrices(load("haneul-4m").model)'
        )
    head, layer_types = model.get_output_embeddings(), (Linear, Embedding) if embeddings else Linear
    by_id: dict[int, tuple[str, Any]] = {}
    for name, module in model.named_modules():
        if isinstance(module, layer_types) and (embeddings or module is not head):
            by_id.setdefault(id(module.weight), (name, module.weight))
    if quantized := [name for name, weight in by_id.values() if not weight.is_floating_point()]:
        raise CourseError(
            f"{len(quantized)} layers, the first {quantized[0]}, are quantized already",
            'load(..., quantization="none")',
        )
    return dict(by_id.values())


def _matching(weights: dict[str, Any], layers: str | Sequence[str] | None) -> dict[str, Any]:
    """Return the weights whose names match a pattern. Raises CourseError for a pattern without a match."""
    patterns = ["*"] if layers is None else [layers] if isinstance(layers, str) else list(layers)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in weights):
            raise CourseError(
                f"no layer fits {pattern!r}; the layers are {', '.join(weights)}",
                f'quantized(model, fmt, layers="*.{next(iter(weights)).rpartition(".")[2]}")',
            )
    return {name: weight for name, weight in weights.items() if any(fnmatchcase(name, p) for p in patterns)}


@contextmanager
def quantized(
    model: PreTrainedModel,
    fmt: Format | str,
    layers: str | Sequence[str] | None = None,
    embeddings: bool = False,
) -> Iterator[PreTrainedModel]:
    """Round the model's weights to a format for the duration of a `with` block, then restore them.

    layers: names from `matrices`, or patterns such as "model.layers.0.*"; by default all. embeddings: as in
    `matrices`. In a 16-bit model the rounded weights are converted back to 16 bits.

    Raises CourseError, before any weight is changed, for an unknown format, a pattern that matches no layer,
    and a layer that the format cannot store.
    """
    import torch

    chosen_format = format_of(fmt)
    chosen = _matching(matrices(model, embeddings), layers)
    rounded = {
        name: torch.from_numpy(_roundtrip(chosen_format, name, weight)).to(weight)
        for name, weight in chosen.items()
    }
    original = {name: weight.data for name, weight in chosen.items()}
    try:
        for name, weight in chosen.items():
            weight.data = rounded[name]
        yield model
    finally:
        for name, weight in chosen.items():
            weight.data = original[name]


def _roundtrip(fmt: Format, name: str, weight: Parameter) -> Any:
    try:
        return fmt.roundtrip(weight.detach().float().cpu().numpy())
    except CourseError as error:
        raise CourseError(f"{name} as {fmt.name}: {error.what}", error.fix) from error
