"""Explanatory diagrams: how models compare a question with a passage, and the matrices of LoRA.

LoRA trains two thin matrices, B and A, whose product is added to a model's matrix W.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.patches import Rectangle

from course_lib.plots.base import COLOURS, Picture

WAYS = ("bi-encoder", "late interaction", "cross-encoder")
# In UNITs: a matrix's longest and thinnest side, and the space for + and x.
LONGEST_SIDE, THINNEST_SIDE, GAP = (100.0, 1.0, 14.0)
LABEL, BELOW, ABOVE = 54.0, 20.0, 6.0  # units: width of a label, space below and above the tallest matrix
UNIT = 0.032  # inches
# Below its place, centred.
CAPTION: dict[str, Any] = {"ha": "center", "va": "top", "fontsize": 9}


def ways_to_read() -> Picture:
    """Draw how three kinds of model compare a question with a passage; what is computed in advance is grey.

    A bi-encoder compares one vector per text, late interaction one per token; a cross-encoder reads both
    texts together. Describe in the text below the figure: how many times each text is read, and when.
    """
    figure = Picture(figsize=(9, 3.2), layout="constrained")
    for axes, way in zip(figure.subplots(1, 3), WAYS, strict=True):
        axes.set(xlim=(0, 10), ylim=(-1.2, 10), title=way)
        axes.axis("off")
        early = way != "cross-encoder"
        if early:
            axes.add_patch(Rectangle((5.05, 0), 4.9, 7.2, color="gainsboro", zorder=0))
        axes.text(7.5 if early else 5, -0.6, "in advance" if early else "nothing in advance", **CAPTION)
        if not early:
            _box(axes, 5, 1, 9, "question + passage", 0)
            _box(axes, 5, 4.4, 9, "model reads both", 1)
            _arrow(axes, (5, 1.9), (5, 3.5))
            _arrow(axes, (5, 5.3), (5, 7.6))
            _box(axes, 5, 8.5, 3.4, "score", 2)
            continue
        for x, text in ((2.5, "question"), (7.5, "passage")):
            _box(axes, x, 1, 4.4, text, 0)
            _box(axes, x, 4.4, 4.4, "model", 1)
            _arrow(axes, (x, 1.9), (x, 3.5))
            vectors = [x] if way == "bi-encoder" else np.linspace(x - 1.5, x + 1.5, 5)
            axes.plot(vectors, [6.5] * len(vectors), "s", color=COLOURS[0], markersize=8)
            for vector in vectors:
                _arrow(axes, (x, 5.2), (vector, 6.2), thin=len(vectors) > 1)
                _arrow(axes, (vector, 6.7), (5 + (vector - 5) / 5, 7.6), thin=len(vectors) > 1)
        _box(axes, 5, 8.5, 5.6, "cosine" if way == "bi-encoder" else "best cosines, added", 2)
    return figure


def _box(axes: Any, x: float, y: float, width: float, text: str, colour: int) -> None:
    box = {"boxstyle": "round,pad=0.35", "facecolor": "white", "edgecolor": COLOURS[colour], "linewidth": 1.5}
    axes.text(x, y, text, ha="center", va="center", bbox=box, fontsize=9 if width > 4 else 10)


def _arrow(axes: Any, start: tuple[float, float], end: tuple[float, float], thin: bool = False) -> None:
    look = {"arrowstyle": "-" if thin else "->", "color": "grey", "linewidth": 0.6 if thin else 1.2}
    axes.annotate("", xy=end, xytext=start, arrowprops=look)


def low_rank(outputs: int, inputs: int, rank: int) -> Picture:
    """Draw LoRA to scale: the matrix W, and next to it B and A, whose product is added to W.

    W has the shape (outputs, inputs), B (outputs, rank) and A (rank, inputs). A side that would be too thin
    to see is drawn thicker, and the title says so. Describe in the text below the figure: how many weights W
    has, and how many B and A have together. Raises ValueError unless 1 <= rank <= min(outputs, inputs).
    """
    if not 1 <= rank <= min(outputs, inputs):
        raise ValueError(f"rank {rank} for {outputs} x {inputs}: it must be from 1 to the shorter side")
    shapes = {"W": (outputs, inputs), "B": (outputs, rank), "A": (rank, inputs)}
    scale = LONGEST_SIDE / max(outputs, inputs)
    sides = [
        (max(THINNEST_SIDE, scale * rows), max(THINNEST_SIDE, scale * columns))
        for rows, columns in shapes.values()
    ]
    widths = [max(LABEL, across) for _, across in sides]
    wide, high = sum(widths) + 3 * GAP, sides[0][0]
    note = "" if scale * rank >= THINNEST_SIDE else "\nthin sides not to scale"
    inches = UNIT * (high + BELOW + ABOVE)
    tall = inches + 0.35 + 0.2 * bool(note)  # with room for the title
    figure = Picture(figsize=(UNIT * wide, tall))
    limits: dict[str, Any] = {
        "xlim": (-GAP / 2, wide - GAP / 2),
        "ylim": (-high / 2 - BELOW, high / 2 + ABOVE),
    }
    axes = figure.add_axes((0, 0, 1, inches / tall), **limits)
    axes.axis("off")
    left = 0.0
    for (name, (rows, columns)), (down, across), width, colour, sign in zip(
        shapes.items(), sides, widths, COLOURS, ("+", "x", ""), strict=False
    ):
        middle = left + width / 2
        corner = middle - across / 2, -down / 2
        axes.add_patch(Rectangle(corner, across, down, facecolor=colour, label=name))
        label = f"{name}: {rows:,} x {columns:,}\n{rows * columns:,} weights"
        axes.text(middle, -down / 2 - 4, label, ha="center", va="top")
        axes.text(left + width + GAP / 2, 0, sign, ha="center", va="center", fontsize=16)
        left += width + GAP
    added, total = rank * (outputs + inputs), outputs * inputs
    axes.set_title(f"Rank {rank}: {added:,} weights beside {total:,}, {added / total:.2%}{note}")
    return figure
