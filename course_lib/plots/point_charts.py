"""Points: measured values, named points with intervals, a choice under a limit, a map of what is alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from textwrap import fill

import numpy as np
from matplotlib.ticker import LogLocator, NullLocator

from course_lib.plots.base import COLOURS, MARKER_STYLES, Picture, check_count, check_numbers, new_picture
from course_lib.plots.line_charts import Point


def dots(values: Mapping[str, Sequence[float]], *, x: str, title: str) -> Picture:
    """Every measured value as a dot, one row per name, the median as a bar: averages hide the spread."""
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
    """Guess divided by measurement of every prediction, on a logarithmic axis: a perfect guess is 1.

    ratios: name -> guess / measured, positive. Raises ValueError for none.
    """
    if not ratios:
        raise ValueError("no predictions to draw")
    rows = len(ratios)
    figure, axes = new_picture(7, 0.9 + 0.4 * rows)
    axes.axvline(1, color=COLOURS[1], linewidth=2)
    axes.plot(list(ratios.values()), range(rows), "o", color=COLOURS[0])
    widest = 2 * max(2.0, *(max(r, 1 / r) for r in ratios.values()))
    axes.set_xscale("log")
    axes.set(xlabel="guess / measurement", title="Your predictions")
    axes.set(xlim=(1 / widest, widest), ylim=(-0.6, rows - 0.4))
    axes.set_yticks(range(rows), list(ratios))
    axes.grid(axis="x", alpha=0.3)
    return figure


def named_points(points: Mapping[str, tuple[Point, Point]], *, x: str, y: str, title: str) -> Picture:
    """Named points, each with its interval on both axes.

    The x axis is logarithmic where x differs more than tenfold.

    points: name -> ((x, low, high), (y, low, high)), none below 0. Every name has its own pair of colour and
    marker, hollow, so that two points at the same place are both seen. Raises ValueError for no points, for
    more than there are pairs, and for a number that is negative or not finite.
    """
    check_count(len(points), len(MARKER_STYLES), "points")
    check_numbers((number for both in points.values() for point in both for number in point), low=0)
    figure, axes = new_picture(7, 4)
    for (name, (across, up)), (colour, marker) in zip(points.items(), MARKER_STYLES, strict=False):
        xerr, yerr = ([[value - low], [high - value]] for value, low, high in (across, up))
        bars = {"fmt": "none", "ecolor": colour, "elinewidth": 1, "capsize": 3}
        axes.errorbar([across[0]], [up[0]], xerr=xerr, yerr=yerr, **bars)
        hollow = {"fillstyle": "none", "markersize": 10, "markeredgewidth": 2}
        axes.plot([across[0]], [up[0]], marker, label=name, color=colour, **hollow)
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
    figure, axes = new_picture(6, 3.2)
    for name, (across, share) in points.items():
        look = {"color": COLOURS[0], "fillstyle": "full" if name == chosen else "none"}
        axes.plot([across], [100 * share], "o", markersize=11, **look)
        axes.annotate(name, (across, 100 * share), xytext=(8, 8), textcoords="offset points")
    axes.axvline(limit, color=COLOURS[1], linestyle="--")
    right = 1.25 * max(limit, *(across for across, _ in points.values()))
    axes.set(xlabel=x, ylabel=y, title=title, ylim=(0, 108), xlim=(0, right))
    return figure


def scatter(
    groups: Mapping[str, Sequence[tuple[float, float]]],
    *,
    title: str,
    notes: Mapping[str, tuple[float, float]] | None = None,
) -> Picture:
    """A map: points near each other are alike, directions mean nothing.

    notes: a few words -> place of a star.

    Every group has its own pair of colour and marker. In words: which groups lie apart and which mix. Raises
    ValueError for no groups, for more than there are pairs, for a group without points, and for a number that
    is not finite.
    """
    stars = dict(notes or {})
    check_count(len(groups), len(MARKER_STYLES), "groups")
    for points in (*groups.values(), [(0, 0), *stars.values()]):
        check_numbers(number for point in points for number in point)
    figure, axes = new_picture(7, 4.5, xticks=[], yticks=[], title=title)
    for (name, points), (colour, marker) in zip(groups.items(), MARKER_STYLES, strict=False):
        look = {"color": colour, "fillstyle": "none", "markersize": 6}
        axes.plot(*zip(*points, strict=True), marker, label=name, **look)
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
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 1},
        )
    figure.legend(loc="outside right upper", frameon=False)
    return figure
