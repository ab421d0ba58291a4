"""Pictures of how models learn: what an adapter is, what training holds in memory, how the loss falls."""

from __future__ import annotations

from collections.abc import Mapping
from math import floor, inf, log10

from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from course_lib.plots import COLOURS, Picture

LONG, THIN, GAP = (
    100.0,
    1.0,
    14.0,
)  # units: the longest side, the thinnest that is seen, the space for + and x
LABEL, BELOW, ABOVE, UNIT = (
    54.0,
    20.0,
    6.0,
    0.032,
)  # units of a label, below and above the tallest; inches of a unit
PARTS = {"weights": "", "gradients": "//", "optimiser": ".."}
STYLES = ("-", "--", ":", "-.")
KEPT = (("*", 14), ("D", 9), ("s", 10), ("P", 11))  # marker and its size


def low_rank(outputs: int, inputs: int, rank: int) -> Picture:
    """W of (outputs, inputs) beside B and A of this rank, whose product is added to it: drawn to scale, with their weights.

    A side that would be too thin to be seen is drawn thicker, and the title says so. In words: how many weights W has, and how
    many B and A have together. Raises ValueError for a rank that is not from 1 to the shorter side of W.
    """
    if not 1 <= rank <= min(outputs, inputs):
        raise ValueError(f"rank {rank} of {outputs} x {inputs}: it is from 1 to the shorter side")
    parts = {"W": (outputs, inputs), "B": (outputs, rank), "A": (rank, inputs)}
    scale = LONG / max(outputs, inputs)
    sides = {
        name: (max(THIN, scale * down), max(THIN, scale * across)) for name, (down, across) in parts.items()
    }
    columns = [max(LABEL, across) for _, across in sides.values()]
    wide, high = sum(columns) + 3 * GAP, sides["W"][0]
    more, note = rank * (outputs + inputs), "" if scale * rank >= THIN else "\nthin sides not to scale"
    inches = UNIT * (high + BELOW + ABOVE)
    tall = inches + 0.35 + 0.2 * bool(note)  # with room for the title
    figure = Picture(figsize=(UNIT * wide, tall))
    axes = figure.add_axes(
        (0, 0, 1, inches / tall), xlim=(-GAP / 2, wide - GAP / 2), ylim=(-high / 2 - BELOW, high / 2 + ABOVE)
    )
    axes.axis("off")
    left = 0.0
    for (name, (down, across)), column, colour, sign in zip(
        sides.items(), columns, COLOURS, ("+", "x", ""), strict=False
    ):
        middle, (rows, width) = left + column / 2, parts[name]
        corner = middle - across / 2, -down / 2
        axes.add_patch(Rectangle(corner, across, down, facecolor=colour, label=name))
        label = f"{name}: {rows:,} x {width:,}\n{rows * width:,} weights"
        axes.text(middle, -down / 2 - 4, label, ha="center", va="top")
        axes.text(left + column + GAP / 2, 0, sign, ha="center", va="center", fontsize=16)
        left += column + GAP
    axes.set_title(
        f"Rank {rank}: {more:,} weights beside {outputs * inputs:,}, {more / outputs / inputs:.2%}{note}"
    )
    return figure


def training_memory(costs: Mapping[str, tuple[int, int, int]], gpu_bytes: float | None = None) -> Picture:
    """A bar for each way to train, from above to below: GB (10**9 bytes) of weights, gradients and the optimiser.

    costs: name -> a `tuning.cost.Cost`, in bytes; gpu_bytes: bytes of a card, a dashed line. In words: the lines above the bars, and
    which of them end before the card does. Raises ValueError for none, and for a number that is negative or not finite.
    """
    rows = {name: [part / 1e9 for part in cost] for name, cost in costs.items()}
    limit = 0.0 if gpu_bytes is None else gpu_bytes / 1e9
    if not rows or not all(0 <= part < inf for parts in (*rows.values(), [limit]) for part in parts):
        raise ValueError("nothing to draw, or a number of bytes that is negative or not finite")
    most = max(limit, *map(sum, rows.values()))
    places = max(2, 2 - floor(log10(most))) if most else 2
    figure = Picture(figsize=(7.5, 1.3 + 0.75 * len(rows)), layout="constrained")
    axes = figure.add_subplot(
        xlabel="GB",
        xlim=(0, 1.06 * most or 1),
        ylim=(len(rows) - 0.5, -0.75),
        yticks=[],
        title="Memory for training, without activations",
    )
    for y, (name, parts) in enumerate(rows.items()):
        begin = 0.0
        for size, (part, hatch), colour in zip(parts, PARTS.items(), COLOURS, strict=False):
            axes.barh(
                [y],
                [size],
                0.4,
                [begin],
                color=colour,
                hatch=hatch,
                edgecolor="white",
                linewidth=0,
                label=part,
            )
            begin += size
        sizes = " + ".join(f"{size:,.{places}f} {part}" for size, part in zip(parts, PARTS, strict=True))
        axes.text(
            0.01,
            y - 0.26,
            f"{name}: {begin:,.{places}f} GB = {sizes}",
            va="bottom",
            parse_math=False,
            zorder=3,
            transform=axes.get_yaxis_transform(),
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )
    handles: list[Patch | Line2D] = [
        Patch(facecolor=c, hatch=h, edgecolor="white", linewidth=0, label=part)
        for (part, h), c in zip(PARTS.items(), COLOURS, strict=False)
    ]
    if gpu_bytes is not None:
        handles.append(
            axes.axvline(limit, color="black", linestyle="--", label=f"card: {limit:,.{places}f} GB")
        )
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    return figure


def losses(
    lines: Mapping[str, Mapping[int, float]],
    best: Mapping[str, int] | None = None,
    *,
    title: str = "Loss of a token",
) -> Picture:
    """Losses over steps, a line for each name, such as those of training and of validation. best: name -> the step that was kept.

    In words: the first and the last loss of each line, and its loss at the step that was kept. Raises ValueError for no lines,
    for more than 4, for one without points, for a loss that is not finite, and for a kept step that its line has not.
    """
    kept = dict(best or {})
    if not 0 < len(lines) <= len(COLOURS) or not all(lines.values()):
        raise ValueError(f"{len(lines)} lines; 1 to {len(COLOURS)} can be told apart, each with its points")
    if not all(-inf < loss < inf for points in lines.values() for loss in points.values()):
        raise ValueError("a loss that is not finite")
    if odd := [f"{name}: {step}" for name, step in kept.items() if step not in lines.get(name, {})]:
        raise ValueError(f"no loss is given of the kept step {odd[0]}")
    figure = Picture(figsize=(7.5, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="step", ylabel="loss, nats", title=title)
    for (name, points), colour, style in zip(lines.items(), COLOURS, STYLES, strict=False):
        axes.plot(
            list(points),
            list(points.values()),
            style,
            marker="o" if len(points) < 30 else "",
            markersize=4,
            color=colour,
            label=name,
        )
    for (name, step), (marker, size) in zip(kept.items(), KEPT, strict=False):
        colour = COLOURS[list(lines).index(name)]
        axes.plot(
            [step],
            [lines[name][step]],
            marker,
            color=colour,
            markeredgecolor="black",
            markersize=size,
            zorder=4,
            label=f"kept: step {step:,} of {name}",
        )
    axes.locator_params(axis="x", integer=True)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure
