"""Which models fit a purpose, a memory and a licence? Over the catalogue, and over speeds that were measured here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from course_lib.learn.widgets.explorer import Choice, Explorer, Range, Shown
from course_lib.models.catalog import PURPOSES, Fit, entry, guide, largest
from course_lib.plots import COLOURS, Picture
from course_lib.tables import table

BITS = {"4.5 (q4_0)": 4.5, "8.5 (q8_0)": 8.5, "16 (bfloat16)": 16.0, "32 (float32)": 32.0}
ROOM = 1.0  # GiB kept free for the context: that of Llama-3.1-8B takes as much for 8,192 tokens of 128 KiB


def guide_table(
    memories: Sequence[float] = (4, 8, 24, 48),
    bits: float = 4.5,
    *,
    room: float = ROOM,
    commercial: bool = False,
) -> str:
    """The largest model for every purpose and memory in GiB, of which `room` stays free; a star: it knows Korean.

    Large is not good: measure two or three that fit. Raises ValueError as `guide` does.
    """
    found = [[largest(p, max(0, m - room), bits, commercial=commercial) for m in memories] for p in PURPOSES]
    rows = [
        [p, *("-" if e is None else e.model + " *" * e.korean for e in row)]
        for p, row in zip(PURPOSES, found, strict=True)
    ]
    return table(["purpose", *(f"{m:g} GiB" for m in memories)], rows)


def say(fits: Sequence[Fit], limit: float, speeds: Mapping[str, float]) -> str:
    """One line a model: those that fit with what speaks against them, the others with what rules them out; then the licences.

    limit: GiB for weights; speeds: model -> tokens per second, for those that were measured.
    """
    chosen = [f for f in fits if not f.excluded]
    best = f"the largest is {chosen[0].entry.model}" if chosen else "give more memory, or fewer bits"
    lines = [
        f"With {limit:g} GiB for weights, {len(chosen)} of {len(fits)} models are left; {best}.",
        "Large is not good: measure two or three that fit.",
    ]
    for fit in fits:
        facts = [
            _size(fit.gib),
            *["knows Korean"] * fit.entry.korean,
            *_speed(fit, speeds),
            *(fit.excluded or fit.against),
        ]
        lines.append(f"{'Not ' * bool(fit.excluded)}{fit.entry.model}: {'; '.join(facts)}.")
    terms: dict[str, list[str]] = {}
    for licence in dict.fromkeys(f.entry.terms for f in fits if f.entry.terms.commercial != "yes"):
        terms.setdefault(licence.note, []).append(licence.name)
    return "\n".join([*lines, *(f"{', '.join(names)}: {note}." for note, names in terms.items())])


def _size(gib: float) -> str:
    return f"{gib:.1f} GiB" if gib >= 0.1 else f"{1024 * gib:.1f} MiB"


def _speed(fit: Fit, speeds: Mapping[str, float]) -> list[str]:
    return [f"{speeds[fit.entry.model]:.0f} tokens/s here"] if fit.entry.model in speeds else []


def bars(fits: Sequence[Fit], limit: float) -> Picture:
    """GiB of weights as one bar a model, filled where it fits; the limit as a dashed line. Longer bars run off the edge."""
    figure = Picture(figsize=(7, 0.9 + 0.25 * len(fits)), layout="constrained")
    axes = figure.add_subplot()
    rows = axes.barh(
        [f.entry.model for f in fits], [f.gib for f in fits], color=COLOURS[0], edgecolor=COLOURS[0]
    )
    for row, fit in zip(rows, fits, strict=True):
        row.set_fill(not fit.excluded)
    axes.axvline(limit, color=COLOURS[1], linestyle="--")
    axes.invert_yaxis()
    axes.set(
        xlabel="weights, GiB",
        title="Filled: fits; dashed: your limit",
        xlim=(0, 1.25 * (limit or fits[0].gib)),
    )
    return figure


def selection_guide(speeds: Mapping[str, float] | None = None) -> Explorer:
    """The explorer. speeds: model of the catalogue -> tokens per second as measured on this machine, shown beside it.

    Raises CourseError for a model that the catalogue does not hold.
    """
    measured = {entry(model).model: speed for model, speed in (speeds or {}).items()}

    def show(purpose: str, memory: float, room: float, bits: str, commercial: str) -> Shown:
        limit = max(0, memory - room)
        fits = guide(purpose, limit, BITS[bits], commercial=commercial == "yes")
        return Shown(say(fits, limit, measured), bars(fits, limit))

    return Explorer(
        "selection-guide",
        "Which model for what?",
        show,
        {
            "purpose": Choice("purpose", PURPOSES),
            "memory": Range("memory", 0, 192, 8, 1, "GiB"),
            "room": Range("of it free for context and program", 0, 32, ROOM, 0.5, "GiB"),
            "bits": Choice("bits per weight", tuple(BITS)),
            "commercial": Choice("commercial use", ("no", "yes")),
        },
    )
