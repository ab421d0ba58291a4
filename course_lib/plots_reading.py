"""Pictures of how models read: which text meets which, and which token finds which. Each has its text equivalent beside it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from course_lib.plots import COLOURS, Picture

WAYS = ("bi-encoder", "late interaction", "cross-encoder")


def ways_to_read() -> Picture:
    """Three ways in which a question and a passage meet: as one vector each, as a vector for each token, inside the model.

    In words: how many times what is read, and when.
    """
    figure = Picture(figsize=(9, 3.2), layout="constrained")
    for axes, way in zip(figure.subplots(1, 3), WAYS, strict=True):
        axes.set(xlim=(0, 10), ylim=(0, 10), title=way)
        axes.axis("off")
        if way == "cross-encoder":
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
            dots = [x] if way == "bi-encoder" else np.linspace(x - 1.5, x + 1.5, 5)
            axes.plot(dots, [6.3] * len(dots), "s", color=COLOURS[0], markersize=8)
            for dot in dots:
                _arrow(axes, (dot, 6.7), (5 + (dot - 5) / 5, 7.6), thin=len(dots) > 1)
        _box(axes, 5, 8.5, 5.6, "cosine" if way == "bi-encoder" else "best cosines, added", 2)
    return figure


def _box(axes: object, x: float, y: float, width: float, text: str, colour: int) -> None:
    box = {"boxstyle": "round,pad=0.35", "facecolor": "white", "edgecolor": COLOURS[colour], "linewidth": 1.5}
    axes.text(x, y, text, ha="center", va="center", bbox=box, fontsize=9 if width > 4 else 10)  # type: ignore[attr-defined]


def _arrow(axes: object, start: tuple[float, float], end: tuple[float, float], thin: bool = False) -> None:
    how = {"arrowstyle": "-" if thin else "->", "color": "grey", "linewidth": 0.6 if thin else 1.2}
    axes.annotate("", xy=end, xytext=start, arrowprops=how)  # type: ignore[attr-defined]


def alignment(cosines: ArrayLike, rows: Sequence[str], columns: Sequence[str], *, title: str) -> Picture:
    """A square for each pair of tokens, the darker the nearer; the best of each row has a frame.

    cosines: (rows, columns). In words: which token of the passage each token of the question finds. Raises ValueError for
    another shape than that of the labels, for more than 25 rows or 60 columns, and for a number that is not finite.
    """
    values = np.asarray(cosines, dtype=np.float64)
    if values.shape != (len(rows), len(columns)) or not 0 < len(rows) <= 25 or not 0 < len(columns) <= 60:
        raise ValueError(
            f"cosines of shape {values.shape} for {len(rows)} rows and {len(columns)} columns; at most 25 and 60"
        )
    if not np.isfinite(values).all():
        raise ValueError("a number that is not finite")
    figure = Picture(figsize=(max(5, 0.3 * len(columns)), 1.4 + 0.26 * len(rows)), layout="constrained")
    axes = figure.add_subplot(title=title)
    shown = axes.imshow(values, cmap="Blues", aspect="auto", vmin=0, vmax=1)
    best = values.argmax(axis=1)
    axes.plot(
        best, range(len(rows)), "s", markersize=11, fillstyle="none", color=COLOURS[1], markeredgewidth=1.8
    )
    axes.set_xticks(range(len(columns)), columns, rotation=90, fontsize=8, parse_math=False)
    axes.set_yticks(range(len(rows)), rows, fontsize=8, parse_math=False)
    figure.colorbar(shown, label="cosine", ax=axes)
    return figure
