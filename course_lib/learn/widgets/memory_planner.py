"""Does this model fit on this card? What fills the memory, and how long a context still fits."""

from __future__ import annotations

from collections.abc import Sequence

from course_lib.errors import CourseError
from course_lib.learn.widgets.explorer import Choice, Explorer, Range, Shown
from course_lib.models.planner import architecture
from course_lib.models.planner.estimate import FORMATS, GIB, Plan, plan, size
from course_lib.models.planner.gpus import CARDS, RESERVE, card_bytes, largest_context, largest_model, usable
from course_lib.plots import Picture, stacked_bar

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
    "gemma-2-9b",
    "gemma-3-12b",
    "phi-4",
    "EXAONE-3.5-7.8B",
    "SOLAR-10.7B",
)
ENGINES = {"huggingface": "transformers", "llamacpp": "llama.cpp"}
NOTES = {
    "q4_k_m": "4.89 bits a weight are llama.cpp's average over Llama-3.1-8B: an approximation for other models.",
} | dict.fromkeys(
    ("nf4", "fp4", "int8"),
    "Only the matrices of the layers are packed; embeddings and norms stay in 16 bits.",
)


def say(needed: Plan, card: str) -> str:
    """What fills the memory, whether it fits, and what would: a line each."""
    free = usable(card) - needed.total
    verdict = (
        f"it fits, {size(free)} are left" if free >= 0 else f"it does not fit, {size(-free)} are missing"
    )
    what = f"{needed.model} in {needed.format} by {ENGINES[needed.driver]}, {needed.batch} x {needed.context:,} tokens"
    lines = [f"{what}: {size(needed.total)} ({needed.total / 1e9:,.2f} GB)."]
    lines += [f"- {name}: {size(part)}, {part / needed.total:.0%}" for name, part in needed.parts.items()]
    lines.append(f"{card} holds {size(card_bytes(card))}, of which {RESERVE:.0%} stay free: {verdict}.")
    lines.append(f"The longest context that fits: {_longest(needed, card)}.")
    best = largest_model(card, needed.format, needed.context, needed.batch)
    lines.append(f"The largest model of the list that fits so: {best or 'none'}.")
    if card.startswith("laptop"):
        lines.append(
            f"Of a laptop's memory its own programs take a part, too: look how much of the {size(usable(card))} is free."
        )
    return "\n".join([*lines, *filter(None, [NOTES.get(needed.format)])])


def _longest(needed: Plan, card: str) -> str:
    longest, reads = (
        largest_context(card, needed.model, needed.format, needed.batch),
        architecture(needed.model).context,
    )
    if not longest:
        return "none"
    return f"{longest:,} tokens, {'all' if longest == reads else f'of the {reads:,}'} that it reads"


def bar(needed: Plan, card: str) -> Picture:
    """What fills the memory, in GiB, with what stays free at its end: it fits where the bar ends before the dashed line."""
    kept = card_bytes(card) - usable(card)
    parts = {name: part / GIB for name, part in (needed.parts | {"kept free": kept}).items()}
    return stacked_bar(
        parts, card_bytes(card) / GIB, x="memory, GiB", title=f"{needed.model}, {needed.format}, on {card}"
    )


def memory_planner(models: Sequence[str] = MODELS) -> Explorer:
    """The explorer over well-known models. Raises CourseError for one that is not known, ValueError for none."""
    if not models:
        raise ValueError("no models to plan for")
    names = tuple(architecture(m).name for m in models)

    def show(card: str, model: str, format: str, context: float, batch: float) -> Shown:
        try:
            needed = plan(model, format, int(context), int(batch))
        except CourseError as error:
            return Shown(f"{error.what}: {error.fix}.")
        return Shown(say(needed, card), bar(needed, card))

    return Explorer(
        "memory-planner",
        "Does it fit?",
        show,
        {
            "card": Choice(
                "card",
                tuple(sorted(CARDS, key=lambda c: (c.startswith("laptop"), c != "GeForce RTX 3090, 24 GB"))),
            ),
            "model": Choice("model", names),
            "format": Choice("format", FORMATS),
            "context": Range("context", 256, 131_072, 8192, 256, "tokens"),
            "batch": Range("texts at once", 1, 64, 1, 1),
        },
    )
