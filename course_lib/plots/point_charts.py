"""Point charts: repeated measurements, predictions, points with intervals, and scatter plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from statistics import median
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.text import Annotation
from matplotlib.ticker import LogLocator, NullLocator
from matplotlib.transforms import Bbox

from course_lib.plots.base import (
    COLOURS,
    MARKER_STYLES,
    PALE,
    Picture,
    check_count,
    check_numbers,
    new_picture,
)
from course_lib.plots.line_charts import Point

MOST_BESIDE = 12  # names beside their points
# How a name is written at first, 9 typographic points to the right of its point and above it.
BESIDE: dict[str, Any] = {
    "xytext": (9, 9),
    "textcoords": "offset points",
    "parse_math": False,
    "weight": "bold",
    "bbox": PALE,
}
# Places of a name relative to its point, in typographic points, and the height difference from which on a
# line joins the two.
PLACES = [(dx, dy) for dy in (9, -18, 27, -36, 45, -54, 63, -72) for dx in (9, -9)]
FAR = 20


def dots(values: Mapping[str, Sequence[float]], *, x: str, title: str) -> Picture:
    """Draw every measured value as a dot in a row per name, and the row's median as a vertical bar.

    Raises ValueError if there are no names, or a name has no values, and for a number that is not finite.
    """
    if not values or not all(map(len, values.values())):
        raise ValueError("no values to draw, of all names or of one")
    check_numbers(number for numbers in values.values() for number in numbers)
    rows = len(values)
    figure, axes = new_picture(7, 0.9 + 0.6 * rows)
    for row, (name, numbers) in enumerate(values.items()):
        axes.plot(numbers, [row] * len(numbers), "o", color=COLOURS[0], alpha=0.55, label=name)
        axes.plot([median(numbers)] * 2, [row - 0.25, row + 0.25], color=COLOURS[1], linewidth=2)
    axes.set_yticks(range(rows), list(values))
    axes.set(xlabel=x, title=title, ylim=(-0.6, rows - 0.4))
    axes.set_xlim(left=0)
    axes.grid(axis="x", alpha=0.3)
    return figure


def calibration(ratios: Mapping[str, float]) -> Picture:
    """Draw guess / measurement of every prediction on a logarithmic axis, on which a perfect guess is at 1.

    The band goes from half of the measurement to twice it.

    ratios: name -> guess / measurement. Raises ValueError if there are none, and unless all are positive and
    finite.
    """
    if not ratios:
        raise ValueError("no predictions to draw")
    if not all(0 < ratio < inf for ratio in ratios.values()):
        raise ValueError(f"ratios {list(ratios.values())}; each must be positive and finite")
    rows = len(ratios)
    figure, axes = new_picture(7, 1.2 + 0.45 * rows)
    axes.axvspan(0.5, 2, color=COLOURS[1], alpha=0.15)
    axes.axvline(1, color=COLOURS[1], linewidth=2)
    axes.plot(list(ratios.values()), range(rows), "o", color=COLOURS[0])
    widest = 1.5 * max(10.0, *(max(r, 1 / r) for r in ratios.values()))
    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.set(
        xlabel="guess / measurement: 1 is perfect, the band is a factor of two", title="Your predictions"
    )
    axes.set(xlim=(1 / widest, widest), ylim=(-0.6, rows - 0.4))
    axes.set_yticks(range(rows), [fill(name, 36) for name in ratios])
    axes.grid(axis="x", alpha=0.3)
    return figure


def named_points(
    points: Mapping[str, tuple[Point, Point]],
    *,
    x: str,
    y: str,
    title: str,
    front: Sequence[str] = (),
    from_zero: bool = True,
) -> Picture:
    """Draw named points with intervals on both axes; x is logarithmic if its values differ more than tenfold.

    points: name -> ((x, low, high), (y, low, high)), all >= 0. Every name has its own combination of colour
    and hollow marker. The names stand near their points, or in a legend if they are more than 12 or find no
    free place. front: names that a grey line joins in this order, such as the points that no other beats on
    both axes. from_zero: whether the y axis begins at 0. Raises ValueError for no points, for more points
    than combinations, and for a negative or non-finite number.
    """
    check_count(len(points), len(MARKER_STYLES), "points")
    check_numbers((number for both in points.values() for point in both for number in point), low=0)
    figure, axes = new_picture(7, 4)
    names = []
    for (name, (x_point, y_point)), (colour, marker) in zip(points.items(), MARKER_STYLES, strict=False):
        xerr, yerr = ([[value - low], [high - value]] for value, low, high in (x_point, y_point))
        bars = {"fmt": "none", "ecolor": colour, "elinewidth": 1, "capsize": 3}
        axes.errorbar([x_point[0]], [y_point[0]], xerr=xerr, yerr=yerr, **bars)
        hollow = {"fillstyle": "none", "markersize": 10, "markeredgewidth": 2}
        axes.plot([x_point[0]], [y_point[0]], marker, label=name, color=colour, **hollow)
        if len(points) <= MOST_BESIDE:
            names.append(axes.annotate(name, (x_point[0], y_point[0]), color=colour, **BESIDE))
    joined = [(points[name][0][0], points[name][1][0]) for name in front]
    axes.plot(*np.reshape(joined, (-1, 2)).T, "--", color="grey", linewidth=1, zorder=1)
    axes.set(xlabel=x, ylabel=y, title=title)
    low, high = axes.get_ylim()
    axes.set_ylim(0 if from_zero else low, high + 0.2 * (high - low))  # room for names
    values = [x_point[0] for x_point, _ in points.values()]
    if max(values) > 10 * min(values) > 0:
        axes.set(xscale="log", xlabel=f"{x} (log)")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.set_xlim(left=0)
        axes.locator_params(axis="x", nbins=5)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:,g}")
    axes.grid(alpha=0.3)
    axes.margins(x=0.25 if len(points) <= MOST_BESIDE else 0.05)
    intervals = [
        [
            (x_point[1], y_point[0]),
            (x_point[2], y_point[0]),
            (x_point[0], y_point[1]),
            (x_point[0], y_point[2]),
        ]
        for x_point, y_point in points.values()
    ]
    if not names or not (_place_names(axes, names, intervals) or _place_names(axes, names, [])):
        for name in names:
            name.remove()
        axes.margins(x=0.05)
        figure.legend(loc="outside right upper", frameon=False)
    return figure


def _place_names(axes: Any, names: Sequence[Annotation], intervals: Sequence[Sequence[Any]]) -> bool:
    """Move each name to the first place near its point where it covers no name and no point; False if none.

    intervals: the ends of lines that no name may cover either: for each point the left, the right, the lower
    and the upper end. A name that stands farther away than FAR is joined to its point by a line.
    """
    axes.figure.draw_without_rendering()  # computes the sizes of the texts
    points = [axes.transData.transform(name.xy) for name in names]
    taken = [Bbox.from_bounds(x - 7, y - 7, 14, 14) for x, y in points]
    for ends in intervals:
        left, right, low, high = axes.transData.transform(ends)
        taken += [Bbox([left - 2, right + 2]), Bbox([low - 2, high + 2])]
    joined = []
    for name in sorted(names, key=lambda name: name.xy):
        for across, up in PLACES:
            name.set(ha="left" if across > 0 else "right", va="bottom" if up > 0 else "top")
            name.xyann = (across, up)
            box = name.get_window_extent()
            if axes.bbox.count_contains(box.corners()) == 4 and not box.count_overlaps(taken):
                break
        else:
            return False
        taken.append(box)
        joined += [name] * (abs(up) > FAR)
    for name in joined:
        look = {"arrowstyle": "-", "color": name.get_color(), "linewidth": 0.6}
        axes.annotate("", name.xy, name.xyann, textcoords="offset points", arrowprops=look)
    return True


def bounded_choice(
    points: Mapping[str, tuple[float, float]], limit: float, chosen: str | None, *, x: str, y: str, title: str
) -> Picture:
    """Draw named points, of which the chosen one is filled, and a limit on x as a dashed line.

    points: name -> (x, proportion from 0 to 1, which is shown in per cent). chosen: a name, or None.
    """
    figure, axes = new_picture(6, 3.2)
    for name, (x_value, share) in points.items():
        look = {"color": COLOURS[0], "fillstyle": "full" if name == chosen else "none"}
        axes.plot([x_value], [100 * share], "o", markersize=11, **look)
        axes.annotate(name, (x_value, 100 * share), xytext=(8, 8), textcoords="offset points")
    axes.axvline(limit, color=COLOURS[1], linestyle="--")
    right = 1.25 * max(limit, *(x_value for x_value, _ in points.values()))
    axes.set(xlabel=x, ylabel=y, title=title, ylim=(0, 108), xlim=(0, right))
    return figure


def scatter(
    groups: Mapping[str, Sequence[tuple[float, float]]],
    *,
    title: str,
    notes: Mapping[str, tuple[float, float]] | None = None,
    others: Sequence[tuple[float, float]] = (),
) -> Picture:
    """Draw groups of points without axis labels, such as vectors of texts (embeddings) projected to a plane.

    groups: name -> (x, y) points; every group has its own combination of colour and marker. The names of up
    to 4 stand in the middle of their points, those of more in a legend. notes: text -> the (x, y) of a star
    that it labels. others: points that are small and grey. Describe in the text below the figure: which
    groups lie apart and which overlap. Raises ValueError for no groups, for more groups than combinations,
    for a group without points, and for a non-finite number.
    """
    stars = dict(notes or {})
    check_count(len(groups), len(MARKER_STYLES), "groups")
    for points in (*groups.values(), [(0, 0), *stars.values(), *others]):
        check_numbers(number for point in points for number in point)
    figure, axes = new_picture(7, 4.5, xticks=[], yticks=[], title=title)
    for (name, points), (colour, marker) in zip(groups.items(), MARKER_STYLES, strict=False):
        look = {"color": colour, "fillstyle": "none", "markersize": 6}
        axes.plot(*zip(*points, strict=True), marker, label=name, **look)
        if len(groups) <= len(COLOURS):
            centre = {"ha": "center", "va": "center", "weight": "bold", "bbox": PALE}
            axes.annotate(name, np.median(points, axis=0), color=colour, parse_math=False, **centre)
    axes.plot(*np.reshape(others, (-1, 2)).T, ".", color="lightgrey", markersize=4, zorder=1)
    axes.set_aspect("equal", adjustable="datalim")
    axes.plot(*np.reshape(list(stars.values()), (-1, 2)).T, "*", color="black", markersize=14)
    middle = sum(axes.get_xlim()) / 2
    for turn, (name, place) in enumerate(sorted(stars.items(), key=lambda star: -star[1][1])):
        right, above = place[0] <= middle, 2 * turn < len(stars)  # labels lead away from each other
        axes.annotate(
            fill(name, 28),
            place,
            xytext=(8 if right else -8, 4 if above else -4),
            textcoords="offset points",
            ha="left" if right else "right",
            va="bottom" if above else "top",
            parse_math=False,
            bbox=PALE,
        )
    if len(groups) > len(COLOURS):
        figure.legend(loc="outside right upper", frameon=False)
    return figure
