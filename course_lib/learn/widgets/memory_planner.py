"""The widget of chapter 02: whether a model fits on a GPU, what fills the memory, and what else would fit.

A format, such as q4_k_m, says in how many bits each weight is stored; the context is the tokens of a text.
"""

from __future__ import annotations

from collections.abc import Sequence

from course_lib.learn.widgets.explorer import Choice, Control, Explorer, Output, Range
from course_lib.models.planner import architecture
from course_lib.models.planner.estimate import FORMATS, GIB, Plan, format_bytes, plan
from course_lib.models.planner.gpus import (
    GPUS,
    RESERVE,
    gpu_bytes,
    largest_context,
    largest_model,
    usable_bytes,
)
from course_lib.plots import Picture, stacked_bar

# Offered models, whose sizes the planner knows.
MODELS = (
    "Llama-3.1-8B",
    "Llama-3.2-1B",
    "Llama-3.2-3B",
    "Llama-3.3-70B",
    "Mistral-7B-v0.3",
    "Qwen2.5-0.5B",
    "Qwen2.5-7B",
    "Qwen2.5-14B",
    "Qwen2.5-32B",
    "Qwen2.5-72B",
    "Qwen3-8B",
    "Qwen3-30B-A3B",
    "gemma-2-9b",
    "gemma-3-4b",
    "gemma-3-12b",
    "phi-4",
    "EXAONE-3.5-7.8B",
    "SOLAR-10.7B",
)
ENGINES = {"huggingface": "transformers", "llamacpp": "llama.cpp"}
NOTES = dict.fromkeys(
    ("nf4", "fp4", "int8"),
    "Only the matrices of the layers are quantized; embeddings and norms stay in 16 bits.",
)


def describe(needed: Plan, gpu: str) -> str:
    """Describe what fills the memory, whether it fits, and the longest context and largest model that fit."""
    free = usable_bytes(gpu) - needed.total
    verdict = (
        f"it fits, {format_bytes(free)} are left"
        if free >= 0
        else f"it does not fit, {format_bytes(-free)} are missing"
    )
    texts = f"{needed.batch} x {needed.context:,} tokens"
    lines = [
        f"{needed.model} in {needed.weight_format} with {ENGINES[needed.driver]}, {texts}: "
        f"{format_bytes(needed.total)} ({needed.total / 1e9:,.2f} GB)."
    ]
    lines += [
        f"- {name}: {format_bytes(part)}, {part / needed.total:.0%}" for name, part in needed.parts.items()
    ]
    if needed.idle:  # bytes of the matrices (experts) that one token does not use
        used = format_bytes(needed.weights - needed.idle)
        lines.append(f"A mixture of experts: one token uses {used} of the weights, and the memory holds all.")
    lines.append(f"{gpu} holds {format_bytes(gpu_bytes(gpu))}, of which {RESERVE:.0%} stay free: {verdict}.")
    lines.append(f"The longest context that fits: {_longest(needed, gpu)}.")
    largest = largest_model(gpu, needed.weight_format, needed.context, needed.batch)
    lines.append(f"The largest known model that fits with these settings: {largest or 'none'}.")
    if gpu.startswith("laptop"):
        lines.append(
            "A laptop's own programs need memory, too: check how much of the "
            f"{format_bytes(usable_bytes(gpu))} is free."
        )
    return "\n".join([*lines, *filter(None, [NOTES.get(needed.weight_format)])])


def _longest(needed: Plan, gpu: str) -> str:
    longest = largest_context(gpu, needed.model, needed.weight_format, needed.batch)
    trained = architecture(needed.model).context
    if not longest:
        return "none"
    return f"{longest:,} tokens, {'all' if longest == trained else f'of the {trained:,}'} that it supports"


def memory_bar(needed: Plan, gpu: str) -> Picture:
    """Draw the parts and the reserve as one bar, in GiB: the model fits if it ends before the dashed line."""
    reserve = gpu_bytes(gpu) - usable_bytes(gpu)
    parts = {name: part / GIB for name, part in (needed.parts | {"kept free": reserve}).items()}
    title = f"{needed.model}, {needed.weight_format}, on {gpu}"
    return stacked_bar(parts, gpu_bytes(gpu) / GIB, x="memory, GiB", title=title)


def memory_planner(models: Sequence[str] = MODELS) -> Explorer:
    """Return the widget for well-known models.

    Raises CourseError for an unknown model, ValueError if `models` is empty.
    """
    if not models:
        raise ValueError("no models to plan for")
    names = tuple(architecture(m).name for m in models)

    def show(gpu: str, model: str, weight_format: str, context: float, batch: float) -> Output:
        needed = plan(model, weight_format, int(context), int(batch))
        return Output(describe(needed, gpu), memory_bar(needed, gpu))

    gpus = sorted(GPUS, key=lambda name: (name.startswith("laptop"), name != "GeForce RTX 3090, 24 GB"))
    controls: dict[str, Control] = {
        "gpu": Choice("GPU", tuple(gpus)),
        "model": Choice("model", names),
        "weight_format": Choice("format", FORMATS),
        "context": Range("context", 256, 131_072, start=8192, step=256, unit="tokens"),
        "batch": Range("batch size", 1, 64, 1, 1, "texts"),
    }
    return Explorer("memory-planner", "Does it fit?", show, controls)
