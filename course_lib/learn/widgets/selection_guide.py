"""The widget and table of chapter 01: which models of the catalogue fit a purpose, memory and licence?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from course_lib.learn.widgets.explorer import Choice, Control, Explorer, Output, Range
from course_lib.models.catalog import PURPOSES, Entry, Fit, entry, largest_fitting, rank_models
from course_lib.plots import COLOURS, Picture
from course_lib.plots.base import PALE, new_picture
from course_lib.tables import table

# Bits per weight of each choice in the widget.
BITS = {"4.5 (q4_0)": 4.5, "8.5 (q8_0)": 8.5, "16 (bfloat16)": 16.0, "32 (float32)": 32.0}
# Memory kept free for the context, that is, what a model keeps of its text: Llama-3.1-8B needs as much for
# 8,192 tokens (pieces of words), at 128 KiB each.
DEFAULT_ROOM_GIB = 1.0


def guide_table(
    memories: Sequence[float] = (4, 8, 24, 48),
    bits: float = 4.5,
    *,
    room: float = DEFAULT_ROOM_GIB,
    commercial: bool = False,
) -> str:
    """Return a table of the largest model for each purpose and memory size.

    A star marks models with Korean; "not for business" those whose licence forbids commercial use.

    memories: memory sizes in GiB. bits: bits per weight. room: GiB of memory to keep free for the context.
    commercial: only models whose licence allows commercial use. The largest model need not be the best.
    Raises ValueError for bits that are not above 0.
    """
    rows = []
    for purpose in PURPOSES:
        entries = (largest_fitting(purpose, max(0, m - room), bits, commercial=commercial) for m in memories)
        rows.append([purpose, *("-" if e is None else _marked(e) for e in entries)])
    return table(["purpose", *(f"{m:g} GiB" for m in memories)], rows)


def _marked(entry: Entry) -> str:
    forbidden = entry.terms.commercial == "no"
    return entry.model + " *" * entry.korean + ", not for business" * forbidden


def describe(fits: Sequence[Fit], limit: float, speeds: Mapping[str, float]) -> str:
    """Return a line for each model with its drawbacks or exclusions, and then the conditions of the licences.

    limit: GiB for weights. speeds: model -> tokens per second, for the measured models.
    """
    left = [fit for fit in fits if not fit.exclusions]
    best = f"the largest is {left[0].entry.model}" if left else "give more memory, or fewer bits"
    lines = [
        f"With {limit:g} GiB for weights, {len(left)} of {len(fits)} models are left; {best}.",
        "The largest need not be the best: measure two or three that fit.",
    ]
    for fit in fits:
        model = fit.entry.model
        facts = [_size(fit.weights_gib)]
        facts += ["knows Korean"] * fit.entry.korean
        facts += [f"{speeds[model]:.0f} tokens/s here"] if model in speeds else []
        facts += fit.exclusions or fit.drawbacks
        lines.append(f"{'Not ' * bool(fit.exclusions)}{model}: {'; '.join(facts)}.")
    conditions: dict[str, list[str]] = {}
    for terms in dict.fromkeys(fit.entry.terms for fit in fits if fit.entry.terms.commercial != "yes"):
        conditions.setdefault(terms.note, []).append(terms.name)
    return "\n".join([*lines, *(f"{', '.join(names)}: {note}." for note, names in conditions.items())])


def _size(gib: float) -> str:
    return f"{gib:.1f} GiB" if gib >= 0.1 else f"{1024 * gib:.1f} MiB"


def size_bars(fits: Sequence[Fit], limit: float) -> Picture:
    """Draw the weights of each model as a bar in GiB with its size, filled if the model fits.

    The limit is a dashed line. Bars much longer than it are cut off.
    """
    figure, axes = new_picture(7, 0.9 + 0.25 * len(fits), xlabel="weights, GiB")
    names, right = [fit.entry.model for fit in fits], 1.25 * (limit or fits[0].weights_gib)
    axes.axvline(limit, color=COLOURS[1], linestyle="--", zorder=0.5)
    rows = axes.barh(names, [fit.weights_gib for fit in fits], 0.6, color=COLOURS[0], edgecolor=COLOURS[0])
    for y, (row, fit) in enumerate(zip(rows, fits, strict=True)):
        row.set_fill(not fit.exclusions)
        text = {"va": "center", "fontsize": "small", "textcoords": "offset points", "bbox": PALE}
        cut = fit.weights_gib > 0.9 * right
        side = {"xytext": (-4, 0), "ha": "right"} if cut else {"xytext": (4, 0), "ha": "left"}
        axes.annotate(_size(fit.weights_gib), (min(fit.weights_gib, right), y), **side, **text)
    axes.tick_params(axis="y", length=0)
    axes.set(title="Filled: fits; dashed: your limit", xlim=(0, right), ylim=(len(fits) - 0.4, -0.6))
    return figure


def selection_guide(speeds: Mapping[str, float] | None = None) -> Explorer:
    """Return the widget.

    speeds: model -> tokens per second measured on this machine, shown with that model. Raises CourseError for
    a model that is not in the catalogue.
    """
    measured = {entry(model).model: speed for model, speed in (speeds or {}).items()}

    def show(purpose: str, memory: float, room: float, bits: str, commercial: str) -> Output:
        limit = max(0, memory - room)
        fits = rank_models(purpose, limit, BITS[bits], commercial=commercial == "yes")
        return Output(describe(fits, limit, measured), size_bars(fits, limit))

    controls: dict[str, Control] = {
        "purpose": Choice("purpose", PURPOSES),
        "memory": Range("memory", 0, 192, 8, 1, "GiB"),
        "room": Range("kept free for context and program", 0, 32, DEFAULT_ROOM_GIB, 0.5, "GiB"),
        "bits": Choice("bits per weight", tuple(BITS)),
        "commercial": Choice("commercial use", ("no", "yes")),
    }
    return Explorer("selection-guide", "Which model for what?", show, controls)
