"""Plots about search: rankings side by side, and a matrix of token similarities."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath
from numpy.typing import ArrayLike

from course_lib.plots.base import COLOURS, Picture, check_numbers, families, new_picture

WIDEST = 8.5  # inches, at which a notebook's page does not make a picture smaller
WHOLE_WORDS: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}


def rankings(columns: Mapping[str, Sequence[str]], marked: Collection[str], *, title: str) -> Picture:
    """Draw rankings side by side, the best at the top, with lines between equal ids in neighbouring columns.

    columns: name -> ids, best first. marked: ids that are bold and in colour. Describe in the text below the
    figure: the rank of every marked id in each column. Raises ValueError unless there are 1 to 4 columns and
    1 to 25 rows, and for an id that occurs twice in a column.
    """
    rows, n = max((len(ids) for ids in columns.values()), default=0), len(columns)
    if n > 4 or not 0 < rows <= 25 or any(len(set(ids)) < len(ids) for ids in columns.values()):
        raise ValueError(
            f"{n} columns of {rows} rows; 1 to 4 of 1 to 25 can be read, with every id once in a column"
        )
    room = WIDEST / n - 1.2  # for the labels of a column, without the space for the lines
    shown = {id_: _wrapped(id_, room) for ids in columns.values() for id_ in ids}
    tall = max(label.count("\n") + 1 for label in shown.values())
    widths = [max((_label_width(shown[id_]) for id_ in ids), default=0.0) for ids in columns.values()]
    wide = max(7, n * (max(widths) + 1.2))  # with room for the lines
    half = [(width / 2 + 0.12) * (n + 0.2) / wide for width in widths]  # of a label and the space around it
    figure, axes = new_picture(wide, 0.8 + (0.09 + 0.18 * tall) * rows)
    text = {"va": "center", "parse_math": False}
    for x, (name, ids) in enumerate(columns.items()):
        side = "center" if 0 < x < n - 1 or n == 1 else "left" if x else "right"  # labels end at their lines
        shift = {"center": 0.0, "left": -1, "right": 1}[side] * (half[x] - 0.06 * (n + 0.2) / wide)
        axes.text(x + shift, -1, name, ha=side, **text)
        for y, id_ in enumerate(ids):
            colour, weight = (COLOURS[0], "bold") if id_ in marked else ("dimgrey", "normal")
            look = {"color": colour, "weight": weight, "ha": side, "multialignment": side, "linespacing": 1}
            axes.text(x + shift, y, shown[id_], **look, **text)
    for x, (left, right) in enumerate(pairwise(columns.values())):
        for id_ in (i for i in left if i in right):
            colour, width = (COLOURS[0], 2.0) if id_ in marked else ("darkgrey", 0.8)
            ends = [x + half[x], x + 1 - half[x + 1]], [list(left).index(id_), list(right).index(id_)]
            axes.plot(*ends, color=colour, linewidth=width)
    for y in range(rows):
        axes.text(-0.58, y, str(y + 1), ha="left", va="center", color="dimgrey")
    axes.set(title=title, xlim=(-0.6, n - 0.4), ylim=(rows - 0.4, -1.5))
    axes.axis("off")
    return figure


def _wrapped(text: str, room: float) -> str:
    """Return a label in as few lines as have a width of at most `room` inches, or as its spaces allow."""
    for count in range(1, 5):
        lines = fill(text, -(-len(text) // count) + 4 * (count > 1), **WHOLE_WORDS)
        if _label_width(lines) <= room:
            break
    return lines


def _label_width(text: str) -> float:
    """Return the width of a label's longest line in bold, in inches.

    $ is replaced, as matplotlib reads $...$ as a formula.
    """
    bold = FontProperties(family=families(text), weight="bold", size=10)
    lines = text.replace("$", "S").splitlines() or [""]
    return max(float(TextPath((0, 0), line, prop=bold).get_extents().width) for line in lines) / 72


def alignment(cosines: ArrayLike, rows: Sequence[str], columns: Sequence[str], *, title: str) -> Picture:
    """Draw a heat map of cosine similarities between tokens; the maximum of each row has a frame.

    cosines: array of shape (rows, columns): a question's tokens by a passage's tokens. Describe in the text
    below the figure: which token of the passage is most similar to each token of the question. Raises
    ValueError if the shape does not match the labels, for more than 25 rows or 60 columns, and for a number
    that is not finite.
    """
    values = np.asarray(cosines, dtype=np.float64)
    if values.shape != (len(rows), len(columns)) or not 0 < len(rows) <= 25 or not 0 < len(columns) <= 60:
        raise ValueError(
            f"cosines of shape {values.shape} for {len(rows)} rows, {len(columns)} columns; at most 25 and 60"
        )
    check_numbers(values.ravel())
    figure, axes = new_picture(max(5, 0.3 * len(columns)), 1.4 + 0.26 * len(rows), title=title)
    image = axes.imshow(values, cmap="Blues", aspect="auto", vmin=0, vmax=1)
    frame = {"markersize": 11, "fillstyle": "none", "color": COLOURS[1], "markeredgewidth": 1.8}
    axes.plot(values.argmax(axis=1), range(len(rows)), "s", **frame)
    axes.set_xticks(range(len(columns)), columns, rotation=90, fontsize=8, parse_math=False)
    axes.set_yticks(range(len(rows)), rows, fontsize=8, parse_math=False)
    axes.set(xlabel="tokens of the passage", ylabel="tokens of the question")
    figure.colorbar(image, label="cosine", ax=axes)
    return figure
