"""Bar charts: named values, a stacked bar with a limit, memory for training, and histograms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from math import floor, log10
from typing import Any

import numpy as np
from matplotlib.patches import Patch
from matplotlib.ticker import NullFormatter

from course_lib.plots.base import COLOURS, Picture, check_count, check_numbers, new_picture

MORE_COLOURS = ("#56b4e9", "#e69f00", "#999999", "#f0e442")  # for further bars: no colour means two things
BAR_STYLES = list(zip(COLOURS, ("", "xx", "++", "oo"), strict=True))  # also told apart without colours
BAR_STYLES += [(colour, pattern) for pattern, colour in product(("//", ".."), MORE_COLOURS)]
TRAINING_PATTERNS = {"weights": "", "gradients": "//", "optimiser": ".."}  # name -> pattern


def bars(values: Mapping[str, float], *, x: str, title: str, line: float | None = None) -> Picture:
    """Draw a horizontal bar for each name, in the given order from the top.

    line: a reference value, drawn as a dashed line. Raises ValueError for no values, and for a negative or
    non-finite one.
    """
    check_numbers(values.values(), low=0)
    figure, axes = new_picture(7, 0.9 + 0.22 * len(values))
    axes.barh(range(len(values)), list(values.values()), color=COLOURS[0])
    axes.set_yticks(range(len(values)), list(values), fontsize="small")
    axes.invert_yaxis()
    if line is not None:
        axes.axvline(line, color=COLOURS[1], linestyle="--")
    axes.set(xlabel=x, title=title)
    axes.grid(axis="x", alpha=0.3)
    return figure


def stacked_bar(parts: Mapping[str, float], limit: float, *, x: str, title: str) -> Picture:
    """Draw one stacked bar of named parts, and a limit as a dashed line.

    Parts of size 0 are left out. Every part has its own combination of colour and pattern, and its name and
    size in the legend. Raises ValueError for no parts, for more parts than combinations, and for a negative
    or non-finite size.
    """
    check_count(len(parts), len(BAR_STYLES), "parts")
    check_numbers(parts.values(), low=0)
    figure, axes = new_picture(7, 2.2)
    left = 0.0
    for (name, size), (colour, pattern) in zip(parts.items(), BAR_STYLES, strict=False):
        if size:
            look = {"facecolor": colour, "hatch": pattern, "edgecolor": "white", "linewidth": 0}
            axes.barh([0], [size], left=[left], label=f"{name}: {size:.2f}", **look)
        left += size
    axes.axvline(limit, color="black", linestyle="--", label=f"limit: {limit:.2f}")
    axes.set(xlabel=x, title=title, xlim=(0, 1.1 * max(limit, left) or 1), ylim=(-0.5, 0.5))
    axes.set_yticks([])
    figure.legend(loc="outside right upper", frameon=False)
    return figure


def training_memory(costs: Mapping[str, tuple[int, int, int]], gpu_bytes: float | None = None) -> Picture:
    """Draw a stacked bar per training method: GB (10**9 bytes) of weights, gradients and optimiser data.

    costs: method -> bytes of the three. gpu_bytes: memory of a GPU, drawn as a dashed line. Describe in the
    text below the figure: the lines above the bars, and which methods fit in the GPU's memory. Raises
    ValueError for no costs, and for a negative or non-finite number.
    """
    rows = {name: [part / 1e9 for part in cost] for name, cost in costs.items()}
    limit = 0.0 if gpu_bytes is None else gpu_bytes / 1e9
    for parts in rows.values() or [[]]:
        check_numbers([*parts, limit] if parts else [], low=0)
    largest = max(limit, *map(sum, rows.values()))
    digits = max(2, 2 - floor(log10(largest))) if largest else 2
    looks: list[dict[str, Any]] = [
        {"facecolor": colour, "hatch": pattern, "edgecolor": "white", "linewidth": 0, "label": part}
        for (part, pattern), colour in zip(TRAINING_PATTERNS.items(), COLOURS, strict=False)
    ]
    figure, axes = new_picture(7.5, 1.3 + 0.75 * len(rows), title="Memory for training, without activations")
    axes.set(xlabel="GB", xlim=(0, 1.06 * largest or 1), ylim=(len(rows) - 0.5, -0.75), yticks=[])
    text = {"va": "bottom", "parse_math": False, "zorder": 3, "transform": axes.get_yaxis_transform()}
    for y, (name, parts) in enumerate(rows.items()):
        for i, (size, look) in enumerate(zip(parts, looks, strict=True)):
            axes.barh([y], [size], 0.4, [sum(parts[:i])], **look)
        sizes = " + ".join(
            f"{size:,.{digits}f} {part}" for size, part in zip(parts, TRAINING_PATTERNS, strict=True)
        )
        background = {"facecolor": "white", "edgecolor": "none", "pad": 1}
        axes.text(0.01, y - 0.26, f"{name}: {sum(parts):,.{digits}f} GB = {sizes}", bbox=background, **text)
    handles: list[Any] = [Patch(**look) for look in looks]
    if gpu_bytes is not None:
        label = f"card: {limit:,.{digits}f} GB"
        handles.append(axes.axvline(limit, color="black", linestyle="--", label=label))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    return figure


def histograms(
    values: Mapping[str, Any],
    *,
    x: str,
    title: str,
    levels: Mapping[str, Sequence[float]] | None = None,
    log: bool = True,
) -> Picture:
    """Draw a histogram per name, one below the other with a shared x axis; `log`: with logarithmic counts.

    values: name -> array of any shape. levels: name -> x values marked by thin lines, such as the values that
    a number format can represent. Raises ValueError for no names, and for an array that is empty or not
    finite.
    """
    arrays = {name: np.asarray(numbers, dtype=np.float64).ravel() for name, numbers in values.items()}
    if not arrays or not all(a.size and np.isfinite(a).all() for a in arrays.values()):
        raise ValueError("nothing to draw, or a number that is not finite")
    edges = np.histogram_bin_edges(np.concatenate(list(arrays.values())), bins=120)
    figure = Picture(figsize=(7, 0.6 + 1.5 * len(arrays)), layout="constrained")
    rows = figure.subplots(len(arrays), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, numbers) in zip(rows, arrays.items(), strict=True):
        for level in (levels or {}).get(name, ()):
            axes.axvline(level, color=COLOURS[1], linewidth=0.8)
        axes.hist(numbers, bins=edges, color=COLOURS[0])
        if log:
            axes.set_yscale("log")
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_ylabel("weights (log)" if log else "weights")
        axes.set_title(name, loc="left", fontsize="medium")
    rows[-1].set_xlabel(x)
    figure.suptitle(title)
    return figure
