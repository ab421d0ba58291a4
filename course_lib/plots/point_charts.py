"""Point charts: repeated measurements, predictions, points with intervals, and scatter plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from statistics import median
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.ticker import LogLocator, NullLocator

from course_lib.plots.base import (
    COLOURS,
    MARKER_STYLES,
    Picture,
    check_count,
    check_numbers,
    new_picture,
)
from course_lib.plots.labels import add_names, around, place_together, within
from course_lib.plots.line_charts import Point

MOST_BESIDE = 12  # names beside their points
FEW = 6  # points; a picture of more is wider
MOST_COVERED = 9  # lines and points that the names may cover together; each name counts for ten


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
    and hollow marker. The names stand near their points, or in a legend if they are more than 12 or would
    cover too much. front: names that a grey line joins in this order, such as the points that no other beats
    on both axes. from_zero: whether the y axis begins at 0. Raises ValueError for no points, for more points
    than combinations, and for a negative or non-finite number.
    """
    check_count(len(points), len(MARKER_STYLES), "points")
    check_numbers((number for both in points.values() for point in both for number in point), low=0)
    beside = len(points) <= MOST_BESIDE
    figure, axes = new_picture(7 if len(points) <= FEW else 9, 4, xlabel=x, ylabel=y, title=title)
    names: list[Any] = []
    for (name, (x_point, y_point)), (colour, marker) in zip(points.items(), MARKER_STYLES, strict=False):
        xerr, yerr = ([[value - low], [high - value]] for value, low, high in (x_point, y_point))
        bars = {"fmt": "none", "ecolor": colour, "elinewidth": 1, "capsize": 3}
        axes.errorbar([x_point[0]], [y_point[0]], xerr=xerr, yerr=yerr, **bars)
        hollow = {"fillstyle": "none", "markersize": 10, "markeredgewidth": 2}
        axes.plot([x_point[0]], [y_point[0]], marker, label=name, color=colour, **hollow)
        if beside:
            names += add_names(axes, {name: (x_point[0], y_point[0])}, color=colour, weight="bold")
    joined = [(points[name][0][0], points[name][1][0]) for name in front]
    axes.plot(*np.reshape(joined, (-1, 2)).T, "--", color="grey", linewidth=1, zorder=1)
    low, high = axes.get_ylim()
    axes.set_ylim(0 if from_zero else low, high + 0.2 * (high - low))  # room for names
    _scale_x(axes, [x_point[0] for x_point, _ in points.values()])
    axes.grid(alpha=0.3)
    axes.margins(x=0.25 if beside else 0.05)
    figure.lay_out()
    if not names or place_together(names, [around(name.xy) for name in names]) > MOST_COVERED:
        for name in names:
            name.remove()
        axes.margins(x=0.05)
        figure.legend(loc="outside right upper", frameon=False)
    return figure


def _scale_x(axes: Any, values: Sequence[float]) -> None:
    """Make x logarithmic if its values differ more than tenfold; write plain numbers on both axes."""
    if max(values) > 10 * min(values) > 0:
        axes.set(xscale="log", xlabel=f"{axes.get_xlabel()} (log)")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.set_xlim(left=0)
        axes.locator_params(axis="x", nbins=5)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:,g}")


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
    axes.axvline(limit, color=COLOURS[1], linestyle="--")
    right = 1.25 * max(limit, *(x_value for x_value, _ in points.values()))
    axes.set(xlabel=x, ylabel=y, title=title, ylim=(0, 108), xlim=(0, right))
    names = add_names(axes, {name: (x_value, 100 * share) for name, (x_value, share) in points.items()})
    figure.lay_out()
    place_together(names, [around(name.xy) for name in names])
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
    names: list[Any] = []
    for (name, points), (colour, marker) in zip(groups.items(), MARKER_STYLES, strict=False):
        look = {"color": colour, "fillstyle": "none", "markersize": 6}
        axes.plot(*zip(*points, strict=True), marker, label=name, **look)
        if len(groups) <= len(COLOURS):
            look = {"color": colour, "weight": "bold", "arrowprops": None}
            names += add_names(axes, {name: points[0]}, **look)
    axes.plot(*np.reshape(others, (-1, 2)).T, ".", color="lightgrey", markersize=4, zorder=1)
    axes.set_aspect("equal", adjustable="datalim")
    axes.plot(*np.reshape(list(stars.values()), (-1, 2)).T, "*", color="black", markersize=14)
    labels = add_names(axes, {fill(name, 28): at for name, at in stars.items()}, color="black")
    if len(groups) > len(COLOURS):
        figure.legend(loc="outside right upper", frameon=False)
    figure.lay_out()
    place_together(labels, [around(label.xy) for label in labels])
    if names:
        place_together(names, [within(points) for points in groups.values()])
    return figure
