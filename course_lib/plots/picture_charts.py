"""Charts for chapter 08: galleries of pictures, attention maps, clouds of points, and two histograms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from course_lib.plots.base import COLOURS, Picture, check_count, check_numbers

WIDTH = 8.0  # inches of a row of pictures
LETTERS = 11.0  # characters of a caption per inch
PALETTE = 96  # colours of the PNG file, which pictures with noise would make large


def _panels(count: int, columns: int, height: float, title: str) -> tuple[Picture, list[Any]]:
    """Return a figure and its `count` axes without ticks, in rows of `columns`. height: inches per row."""
    rows, width = -(-count // columns), WIDTH / columns
    columns = min(columns, count)
    figure = Picture(figsize=(width * columns, rows * height + 0.4), layout="constrained")
    figure.palette = PALETTE
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.set(xticks=[], yticks=[])
    for axes in grid[count:]:
        axes.axis("off")
    figure.suptitle(title)
    return figure, list(grid[:count])


def gallery(pictures: Sequence[tuple[str, Any]], *, title: str, columns: int = 6) -> Picture:
    """Draw pictures in rows, each with its caption above it and every pixel as a square.

    pictures: (caption, a PIL image or an array of shape (height, width) or (height, width, 3)). A number in
    an array is a brightness: from 0 to 255 if it is a whole number, otherwise from 0 to 1. Describe in the
    text below the figure: what the captions say. Raises ValueError for no pictures or more than 48, and for
    more than 12 columns.
    """
    check_count(len(pictures), 48, "pictures")
    check_count(columns, 12, "columns")
    letters = int(LETTERS * WIDTH / columns)
    captions = [fill(caption, letters) for caption, _ in pictures]
    lines = max(caption.count("\n") for caption in captions) + 1
    shapes = [np.asarray(picture).shape for _, picture in pictures]
    tallest = max(shape[0] / shape[1] for shape in shapes)
    figure, panels = _panels(len(pictures), columns, WIDTH / columns * tallest + 0.18 * lines + 0.1, title)
    for axes, caption, (_, picture) in zip(panels, captions, pictures, strict=True):
        values = np.asarray(picture)
        top = 255 if values.dtype.kind in "iu" else 1
        axes.imshow(values, interpolation="nearest", cmap="gray", vmin=0, vmax=top)
        axes.set_title(caption, fontsize=9, parse_math=False)
    return figure


def attention(picture: Any, weights: Mapping[str, ArrayLike], *, title: str, columns: int = 6) -> Picture:
    """Draw a picture in grey for each word, and over it in orange the patches at which a model looked.

    weights: word -> array of shape (rows, columns) of patches, from the top left; each is drawn relative to
    its own maximum. Describe in the text below the figure: which part of the picture each word looks at.
    Raises ValueError for no words or more than 24, and for a weight that is negative or not finite.
    """
    check_count(len(weights), 24, "words")
    grey = np.asarray(picture.convert("L")) / 255
    height, width = grey.shape
    figure, panels = _panels(len(weights), columns, WIDTH / columns * height / width + 0.3, title)
    extent = (0, width, height, 0)
    colour = [int(COLOURS[1][i : i + 2], 16) / 255 for i in (1, 3, 5)]
    for axes, (word, patches) in zip(panels, weights.items(), strict=True):
        values = np.asarray(patches, dtype=np.float64)
        check_numbers(values.ravel(), low=0)
        cover = np.empty((*values.shape, 4))
        cover[..., :3], cover[..., 3] = colour, 0.85 * values / (values.max() or 1.0)
        axes.imshow(grey, cmap="gray", vmin=-0.8, vmax=1, extent=extent)
        axes.imshow(cover, interpolation="nearest", extent=extent)
        axes.set_title(word, fontsize=9, parse_math=False)
    return figure


def clouds(
    panels: Mapping[str, ArrayLike],
    *,
    title: str,
    columns: int = 6,
    limits: tuple[float, float, float, float] = (-3, 3, -2, 2),
) -> Picture:
    """Draw clouds of points in the plane side by side, all with the same limits.

    panels: name -> array of shape (n, 2). limits: left, right, bottom, top; points outside are not drawn.
    Describe in the text below the figure: what the clouds look like. Raises ValueError for no panels or more
    than 24, for another shape, and for a number that is not finite.
    """
    check_count(len(panels), 24, "panels")
    left, right, bottom, top = limits
    height = WIDTH / columns * (top - bottom) / (right - left) + 0.3
    figure, drawn = _panels(len(panels), columns, height, title)
    for axes, (name, points) in zip(drawn, panels.items(), strict=True):
        values = np.asarray(points, dtype=np.float64)
        if values.size and (values.ndim != 2 or values.shape[1] != 2):
            raise ValueError(f"{name!r}: points have the shape (number, 2), got {values.shape}")
        values = values.reshape(-1, 2)
        check_numbers(values.ravel())
        axes.plot(*values.T, ".", color=COLOURS[0], markersize=2)
        axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
        axes.set_title(name, fontsize=9, parse_math=False)
    return figure


def two_histograms(
    values: Mapping[str, ArrayLike],
    *,
    x: str,
    title: str,
    threshold: float | None = None,
    pair: tuple[Any, Any] | None = None,
) -> Picture:
    """Draw two overlapping histograms as shares, and a threshold as a dashed line.

    values: name -> numbers; exactly two names. pair: two pictures that stand to the left. Describe in the
    text below the figure: where the histograms lie, and how much of each lies on either side of the
    threshold. Raises ValueError for another number of names, for no numbers and for one that is not finite.
    """
    if len(values) != 2:
        raise ValueError(f"{len(values)} histograms; 2 can be compared")
    arrays = {name: np.asarray(numbers, dtype=np.float64).ravel() for name, numbers in values.items()}
    for numbers in arrays.values():
        check_numbers(numbers)
    figure = Picture(figsize=(WIDTH if pair else 7, 3.2), layout="constrained")
    grid = figure.add_gridspec(2, 2, width_ratios=(1, 5)) if pair else figure.add_gridspec(2, 1)
    for row, picture in enumerate(pair or ()):
        shown = figure.add_subplot(grid[row, 0], xticks=[], yticks=[])
        shown.imshow(np.asarray(picture), interpolation="nearest", cmap="gray")
    axes = figure.add_subplot(grid[:, -1], title=title, xlabel=x, ylabel="share of the pairs, %")
    edges = np.histogram_bin_edges(np.concatenate(list(arrays.values())), bins=60).tolist()
    for (name, numbers), colour, hatch in zip(arrays.items(), COLOURS, ("", "///"), strict=False):
        shares = np.full(numbers.size, 100 / numbers.size)
        look: dict[str, Any] = {"color": colour, "alpha": 0.55, "hatch": hatch, "edgecolor": colour}
        axes.hist(numbers, edges, weights=shares, label=name, **look)
    if threshold is not None:
        axes.axvline(threshold, color="black", linestyle="--", label="threshold")
    axes.legend(frameon=False)
    return figure
