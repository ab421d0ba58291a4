"""The pictures of the chapters. Each takes plain numbers, so that a test can look at what is drawn."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from io import BytesIO
from itertools import pairwise
from math import inf
from statistics import median
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # Okabe and Ito: told apart by colour-blind readers
MARKERS = ("o", "s", "^", "D")
LOOKS = [
    (colour, MARKERS[(i + turn) % 4]) for turn in range(4) for i, colour in enumerate(COLOURS)
]  # 16 different pairs
Point = tuple[float, float, float]  # value, low, high


class Picture(Figure):
    """A figure that a notebook shows without pyplot and its global state."""

    def _repr_png_(self) -> bytes:
        out = BytesIO()
        self.savefig(out, format="png", dpi=100)
        return out.getvalue()


def lines_with_intervals(
    lines: Mapping[str, Mapping[float, Point]], *, x: str, y: str, title: str, ticks: Mapping[float, str]
) -> Picture:
    """One line per name over a logarithmic x axis, each point with its interval; y is a share shown in per cent.

    lines: name -> x value -> (value, low, high), all shares in 0-1. ticks: x value -> its label.
    Raises ValueError for no lines and for more lines than there are colours.
    """
    if not 0 < len(lines) <= len(COLOURS):
        raise ValueError(f"{len(lines)} lines; 1 to {len(COLOURS)} can be told apart")
    figure = Picture(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for (name, points), colour, marker in zip(lines.items(), COLOURS, MARKERS, strict=False):
        xs = sorted(points)
        values = [100 * points[v][0] for v in xs]
        spread = [
            [100 * (points[v][0] - points[v][1]) for v in xs],
            [100 * (points[v][2] - points[v][0]) for v in xs],
        ]
        axes.errorbar(xs, values, yerr=spread, label=name, color=colour, marker=marker, capsize=3)
    axes.set(xscale="log", xlabel=x, ylabel=y, title=title, ylim=(-2, 102))
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.minorticks_off()
    axes.grid(axis="y", alpha=0.3)
    axes.legend(loc="best", frameon=False)
    return figure


def dots(values: Mapping[str, Sequence[float]], *, x: str, title: str) -> Picture:
    """Every measured value as a dot, one row per name, the median as a bar: a spread that an average would hide."""
    figure = Picture(figsize=(7, 0.9 + 0.6 * len(values)), layout="constrained")
    axes = figure.add_subplot()
    for row, (name, numbers) in enumerate(values.items()):
        axes.plot(numbers, [row] * len(numbers), "o", color=COLOURS[0], alpha=0.55, label=name)
        axes.plot([median(numbers)] * 2, [row - 0.25, row + 0.25], color=COLOURS[1], linewidth=2)
    axes.set_yticks(range(len(values)), list(values))
    axes.set(xlabel=x, title=title, ylim=(-0.6, len(values) - 0.4))
    axes.set_xlim(left=0)
    axes.grid(axis="x", alpha=0.3)
    return figure


def calibration(ratios: Mapping[str, float]) -> Picture:
    """Guess divided by measurement of every prediction, on a logarithmic axis: the line at 1 is a perfect guess.

    ratios: name -> guess / measured, positive. Raises ValueError for none.
    """
    if not ratios:
        raise ValueError("no predictions to draw")
    figure = Picture(figsize=(7, 0.9 + 0.4 * len(ratios)), layout="constrained")
    axes = figure.add_subplot()
    axes.axvline(1, color=COLOURS[1], linewidth=2)
    axes.plot(list(ratios.values()), range(len(ratios)), "o", color=COLOURS[0])
    widest = 2 * max(2.0, *(max(r, 1 / r) for r in ratios.values()))
    axes.set_xscale("log")
    axes.set(
        xlabel="guess / measurement",
        title="Your predictions",
        xlim=(1 / widest, widest),
        ylim=(-0.6, len(ratios) - 0.4),
    )
    axes.set_yticks(range(len(ratios)), list(ratios))
    axes.grid(axis="x", alpha=0.3)
    return figure


def named_points(points: Mapping[str, tuple[Point, Point]], *, x: str, y: str, title: str) -> Picture:
    """Named points, each with its interval on both axes. The x axis is logarithmic where values differ more than tenfold.

    points: name -> ((x, low, high), (y, low, high)), none below 0. Every name has its own pair of colour and marker, hollow,
    so that two points at the same place are both seen. Raises ValueError for no points, for more than there are pairs, and
    for a number that is negative or not finite.
    """
    if not 0 < len(points) <= len(LOOKS):
        raise ValueError(f"{len(points)} points; 1 to {len(LOOKS)} can be told apart")
    if not all(0 <= number < inf for both in points.values() for point in both for number in point):
        raise ValueError("a point with a number that is negative or not finite")
    figure = Picture(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for (name, ((across, left, right), (up, low, high))), (colour, marker) in zip(
        points.items(), LOOKS, strict=False
    ):
        axes.errorbar(
            [across],
            [up],
            xerr=[[across - left], [right - across]],
            yerr=[[up - low], [high - up]],
            fmt="none",
            ecolor=colour,
            elinewidth=1,
            capsize=3,
        )
        axes.plot(
            [across],
            [up],
            marker,
            label=name,
            color=colour,
            fillstyle="none",
            markersize=10,
            markeredgewidth=2,
        )
    axes.set(xlabel=x, ylabel=y, title=title)
    axes.set_ylim(bottom=0)
    values = [across[0] for across, _ in points.values()]
    if max(values) > 10 * min(values) > 0:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.set_xlim(left=0)
        axes.locator_params(axis="x", nbins=5)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:,g}")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", frameon=False)
    return figure


def bounded_choice(
    points: Mapping[str, tuple[float, float]], limit: float, chosen: str | None, *, x: str, y: str, title: str
) -> Picture:
    """Named points (x, share in 0-1 shown in per cent), a limit on x as a line, and the chosen one filled."""
    figure = Picture(figsize=(6, 3.2), layout="constrained")
    axes = figure.add_subplot()
    for name, (across, up) in points.items():
        axes.plot(
            [across],
            [100 * up],
            "o",
            markersize=11,
            color=COLOURS[0],
            fillstyle="full" if name == chosen else "none",
        )
        axes.annotate(name, (across, 100 * up), xytext=(8, 8), textcoords="offset points")
    axes.axvline(limit, color=COLOURS[1], linestyle="--")
    axes.set(
        xlabel=x,
        ylabel=y,
        title=title,
        ylim=(0, 108),
        xlim=(0, 1.25 * max(limit, *(p[0] for p in points.values()))),
    )
    return figure


def stacked_bar(parts: Mapping[str, float], limit: float, *, x: str, title: str) -> Picture:
    """One bar, cut into named parts from left to right, and a limit as a dashed line.

    Parts without a size are left out. Every part has its own pair of colour and pattern, and its name and size in the legend.
    Raises ValueError for none, for more than there are pairs, and for a size that is negative or not finite.
    """
    looks = [(colour, pattern) for pattern in ("", "//", "..") for colour in COLOURS]
    if not 0 < len(parts) <= len(looks) or not all(0 <= size < inf for size in parts.values()):
        raise ValueError(
            f"{len(parts)} parts; 1 to {len(looks)} can be told apart, of sizes that are finite and not negative"
        )
    figure = Picture(figsize=(7, 2.2), layout="constrained")
    axes = figure.add_subplot()
    begin = 0.0
    for (name, size), (colour, pattern) in zip(parts.items(), looks, strict=False):
        if size:
            axes.barh(
                [0],
                [size],
                left=[begin],
                color=colour,
                hatch=pattern,
                edgecolor="white",
                label=f"{name}: {size:.2f}",
            )
        begin += size
    axes.axvline(limit, color="black", linestyle="--", label=f"limit: {limit:.2f}")
    axes.set(xlabel=x, title=title, xlim=(0, 1.1 * max(limit, begin) or 1), ylim=(-0.5, 0.5))
    axes.set_yticks([])
    figure.legend(loc="outside right upper", frameon=False)
    return figure


def histograms(
    values: Mapping[str, Any], *, x: str, title: str, levels: Mapping[str, Sequence[float]] | None = None
) -> Picture:
    """How many numbers lie where: a row for each name, all on one x axis; counts are logarithmic, so that few are seen, too.

    values: name -> array of any shape. levels: name -> places marked by a thin line, such as the steps of a format.
    Raises ValueError for no names, and for an array that is empty or holds a number that is not finite.
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
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_ylabel("weights")
        axes.set_title(name, loc="left", fontsize="medium")
    rows[-1].set_xlabel(x)
    figure.suptitle(title)
    return figure


def bars(values: Mapping[str, float], *, x: str, title: str, line: float | None = None) -> Picture:
    """A bar for each name, from above to below in the order given; `line` marks what they are compared with.

    Raises ValueError for none, and for a number that is negative or not finite.
    """
    if not values or not all(0 <= number < inf for number in values.values()):
        raise ValueError("nothing to draw, or a number that is negative or not finite")
    figure = Picture(figsize=(7, 0.9 + 0.22 * len(values)), layout="constrained")
    axes = figure.add_subplot()
    axes.barh(range(len(values)), list(values.values()), color=COLOURS[0])
    axes.set_yticks(range(len(values)), list(values), fontsize="small")
    axes.invert_yaxis()
    if line is not None:
        axes.axvline(line, color=COLOURS[1], linestyle="--")
    axes.set(xlabel=x, title=title)
    axes.grid(axis="x", alpha=0.3)
    return figure


def curves(
    lines: Mapping[str, Mapping[float, float]],
    *,
    x: str,
    y: str,
    title: str,
    levels: Mapping[str, float] | None = None,
    linear: bool = False,
) -> Picture:
    """One line per name through its points, both axes logarithmic, x in powers of 2; levels: dashed lines across, by name.

    linear: both axes as they are, for numbers of any sign. Raises ValueError for no lines, for more than there are colours,
    and for a number that is not finite, or not positive where the axes are logarithmic.
    """
    marked, lowest = dict(levels or {}), -inf if linear else 0
    if not 0 < len(lines) <= len(COLOURS) or len(marked) > len(COLOURS):
        raise ValueError(
            f"{len(lines)} lines and {len(marked)} levels; 1 to {len(COLOURS)} can be told apart"
        )
    across = [number for points in lines.values() for number in points]
    if not all(
        lowest < n < inf
        for n in (*across, *marked.values(), *(n for line in lines.values() for n in line.values()))
    ):
        raise ValueError(
            f"a number that is not{'' if linear else ' positive and'} finite has no place on these axes"
        )
    figure = Picture(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for (name, points), colour, marker in zip(lines.items(), COLOURS, MARKERS, strict=False):
        axes.plot(list(points), list(points.values()), label=name, color=colour, marker=marker)
    for (name, level), style in zip(marked.items(), ("--", ":", "-.", (0, (1, 4))), strict=False):
        axes.axhline(level, label=name, color="black", linestyle=style)
    if not linear:
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
    axes.set(xlabel=x, ylabel=y, title=title)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:,g}")
    axes.grid(alpha=0.3)
    axes.legend(loc="best", frameon=False)
    return figure


def rankings(columns: Mapping[str, Sequence[str]], marked: Collection[str], *, title: str) -> Picture:
    """Rankings side by side, the best above; a line leads an id from each column to the next. The marked are bold, in colour.

    columns: name -> ids, best first. In words: the place of every marked id in each column. Raises ValueError for no column
    and more than 4, for none or more than 25 rows, and for an id twice in a column.
    """
    rows, n = max((len(ids) for ids in columns.values()), default=0), len(columns)
    if n > 4 or not 0 < rows <= 25 or any(len(set(ids)) < len(ids) for ids in columns.values()):
        raise ValueError(
            f"{n} columns of {rows} rows; 1 to 4 of 1 to 25 can be read, with every id once in a column"
        )
    bold = FontProperties(weight="bold", size=10)  # what is between two $ would be measured as a formula
    labels = [
        [TextPath((0, 0), id.replace("$", "S"), prop=bold).get_extents() for id in ids]
        for ids in columns.values()
    ]
    reach = [max((label.width for label in column), default=0) for column in labels]
    wide = max(7, n * (max(reach) / 72 + 0.6))  # inches
    half = [
        (inches / 72 / 2 + 0.12) * (n + 0.2) / wide for inches in reach
    ]  # of a label and of the space around it
    figure = Picture(figsize=(wide, 0.8 + 0.27 * rows), layout="constrained")
    axes = figure.add_subplot()
    for x, (name, ids) in enumerate(columns.items()):
        axes.text(x, -1, name, ha="center", va="center", parse_math=False)
        for y, id in enumerate(ids):
            colour, weight = (COLOURS[0], "bold") if id in marked else ("dimgrey", "normal")
            axes.text(x, y, id, ha="center", va="center", color=colour, weight=weight, parse_math=False)
    for x, (left, right) in enumerate(pairwise(columns.values())):
        for id in (i for i in left if i in right):
            colour, width = (COLOURS[0], 2.0) if id in marked else ("darkgrey", 0.8)
            ends = [x + half[x], x + 1 - half[x + 1]], [list(left).index(id), list(right).index(id)]
            axes.plot(*ends, color=colour, linewidth=width)
    for y in range(rows):
        axes.text(-0.58, y, str(y + 1), ha="left", va="center", color="dimgrey")
    axes.set(title=title, xlim=(-0.6, n - 0.4), ylim=(rows - 0.4, -1.5))
    axes.axis("off")
    return figure


def scatter(
    groups: Mapping[str, Sequence[tuple[float, float]]],
    *,
    title: str,
    notes: Mapping[str, tuple[float, float]] | None = None,
) -> Picture:
    """A map: points that are near each other are alike, directions mean nothing. notes: a few words -> place of a star.

    Every group has its own pair of colour and marker. In words: which groups lie apart and which mix. Raises ValueError for
    no groups, for more than there are pairs, for a group without points, and for a number that is not finite.
    """
    stars = dict(notes or {})
    if not 0 < len(groups) <= len(LOOKS):
        raise ValueError(f"{len(groups)} groups; 1 to {len(LOOKS)} can be told apart")
    places = [
        np.asarray(points, dtype=np.float64) for points in (*groups.values(), [(0, 0), *stars.values()])
    ]
    if not all(p.size and np.isfinite(p).all() for p in places):
        raise ValueError("a group without points, or a number that is not finite")
    figure = Picture(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot(xticks=[], yticks=[], title=title)
    for (name, points), (colour, marker) in zip(groups.items(), LOOKS, strict=False):
        axes.plot(
            *zip(*points, strict=True), marker, label=name, color=colour, fillstyle="none", markersize=6
        )
    axes.set_aspect("equal", adjustable="datalim")
    axes.plot(*places[-1][1:].T, "*", color="black", markersize=14)
    middle = sum(axes.get_xlim()) / 2
    for turn, (name, place) in enumerate(sorted(stars.items(), key=lambda star: -star[1][1])):
        side, above = (
            -1 if place[0] > middle else 1,
            2 * turn < len(stars),
        )  # labels lead away from each other
        axes.annotate(
            fill(name, 28),
            place,
            xytext=(8 * side, 4 if above else -4),
            textcoords="offset points",
            ha="left" if side > 0 else "right",
            va="bottom" if above else "top",
            parse_math=False,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 1},
        )
    figure.legend(loc="outside right upper", frameon=False)
    return figure
