"""Line charts: proportions with confidence intervals, general curves, and training losses."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from math import inf
from typing import Any

import numpy as np
from matplotlib.ticker import LogFormatter

from course_lib.plots.base import COLOURS, MARKERS, Picture, check_count, check_numbers, new_picture
from course_lib.plots.labels import Choice, add_names, around, place

Point = tuple[float, float, float]  # value, low, high
# Of lines, and of horizontal levels.
STYLES = ("-", "--", ":", "-.")
LEVEL_STYLES = ("--", ":", "-.", (0, (1, 4)))
# Points of a line at which its name may stand: those tried first, above and below; then more, and sideways.
FIRST_TRIED, MOST_TRIED = 6, 24
BEST_MARKERS = (("*", 14), ("D", 9), ("s", 10), ("P", 11))  # marker and its size


def lines_with_intervals(
    lines: Mapping[str, Mapping[float, Point]], *, x: str, y: str, title: str, ticks: Mapping[float, str]
) -> Picture:
    """Draw one line per name over a logarithmic x axis, in per cent, with intervals.

    The lines are shifted sideways a little, so that their intervals do not cover each other.

    lines: name -> x value -> (value, low, high), proportions from 0 to 1. ticks: x value -> its label.
    Raises ValueError for no lines, more lines than colours, a line without points, and a number that is not
    finite.
    """
    check_count(len(lines), len(COLOURS), "lines")
    _check_points(lines)
    check_numbers(number for points in lines.values() for point in points.values() for number in point)
    figure, axes = new_picture(7, 4)
    names: list[Any] = []
    for i, (name, points) in enumerate(lines.items()):
        colour, marker, style = COLOURS[i], MARKERS[i], STYLES[i]
        xs = sorted(points)
        values, lows, highs = zip(*([100 * number for number in points[at]] for at in xs), strict=True)
        below = [value - low for value, low in zip(values, lows, strict=True)]
        above = [high - value for value, high in zip(values, highs, strict=True)]
        look: dict[str, Any] = {"color": colour, "marker": marker, "linestyle": style, "capsize": 3}
        moved = [at * 1.04 ** (i - (len(lines) - 1) / 2) for at in xs]
        axes.errorbar(moved, values, yerr=[below, above], label=name, **look)
        names += add_names(axes, {name: (moved[-1], values[-1])}, color=colour)
    axes.set(xscale="log", xlabel=x, ylabel=y, title=title, ylim=(-2, 102))
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.minorticks_off()
    axes.margins(x=0.24)
    axes.grid(axis="y", alpha=0.3)
    figure.lay_out()
    for name in names:
        place(name, around(name.xy))
    return figure


def _check_points(lines: Mapping[str, Mapping[Any, Any]]) -> None:
    if empty := [name for name, points in lines.items() if not points]:
        raise ValueError(f"the line {empty[0]!r} has no points")


def curves(
    lines: Mapping[str, Mapping[float, float]],
    *,
    x: str,
    y: str,
    title: str,
    levels: Mapping[str, float] | None = None,
    notes: Mapping[str, tuple[float, float]] | None = None,
    linear: bool = False,
) -> Picture:
    """Draw a line per name through its points.

    Both axes are logarithmic, the x axis to base 2, unless `linear`.

    lines: name -> x -> y. levels: name -> y value of a horizontal line. notes: text -> the (x, y) of the
    point that it names. linear: use linear axes, which allow numbers of any sign. Every line is labelled with
    its name, where it is farthest from the others.

    Raises ValueError for no lines, more lines or levels than colours, a line without points, and a number
    that is not finite, or not positive on logarithmic axes.
    """
    marked, named, lowest = dict(levels or {}), dict(notes or {}), -inf if linear else 0
    if not 0 < len(lines) <= len(COLOURS) or len(marked) > len(COLOURS):
        raise ValueError(
            f"{len(lines)} lines and {len(marked)} levels; 1 to {len(COLOURS)} can be told apart"
        )
    _check_points(lines)
    points = [*named.values(), *(point for line in lines.values() for point in line.items())]
    if not all(lowest < number < inf for number in (*marked.values(), *(n for p in points for n in p))):
        needed = "finite" if linear else "positive and finite"
        raise ValueError(f"a number that is not {needed} cannot be drawn on these axes")
    scale = "" if linear else " (log)"
    figure, axes = new_picture(7, 4, xlabel=x + scale, ylabel=y + scale, title=title)
    for (name, line), colour, marker, style in zip(lines.items(), COLOURS, MARKERS, STYLES, strict=False):
        look = {"color": colour, "marker": marker if len(line) < 30 else "", "linestyle": style}
        axes.plot(*zip(*sorted(line.items()), strict=True), label=name, **look)
    if not linear:
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
    axes.margins(y=0.12)  # room for names
    axes.autoscale_view()
    curves_drawn = list(axes.lines)
    for (name, level), dashes in zip(marked.items(), LEVEL_STYLES, strict=False):
        axes.axhline(level, label=name, color="black", linestyle=dashes)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:,g}")
    low, high = axes.get_ylim()
    if not linear:
        between = high < 10 * low  # less than a power of ten: the minor ticks have the numbers
        axes.yaxis.set_minor_formatter("{x:,g}" if between else PlainLogFormatter())
    axes.grid(alpha=0.3)
    written = _line_names(axes, curves_drawn)
    for name, level in marked.items():
        side = _free_side(axes, curves_drawn, level)
        at = (0.01 if side == "left" else 0.99, level)
        near = NEAR | {"xycoords": ("axes fraction", "data"), "ha": side, "va": "bottom", "xytext": (0, 2)}
        axes.annotate(name, at, **near).set_in_layout(False)
    axes.scatter(*np.reshape([*named.values()], (-1, 2)).T, s=14, color="black", zorder=3)
    beside = add_names(axes, named, fontsize=9)
    figure.lay_out()
    for note in beside:
        place(note, around(note.xy, near=11))
    _place_line_names(written, curves_drawn)
    return figure


# How a name is written beside its place.
NEAR: dict[str, Any] = {"textcoords": "offset points", "parse_math": False, "fontsize": 9}


class PlainLogFormatter(LogFormatter):
    """Labels for a few of the ticks between powers of ten: 60 and 0.6, not 6 x 10^1 and 6e-01."""

    def __init__(self) -> None:
        super().__init__(minor_thresholds=(2, 0.5))

    def __call__(self, x: float, pos: int | None = None) -> str:
        """Return the label of the tick at x, or ""."""
        return f"{x:,g}" if super().__call__(x, pos) else ""


def _line_names(axes: Any, lines: Sequence[Any]) -> list[Any]:
    """Return a hidden annotation with the name of each line."""
    names = []
    for line in lines:
        look = {"fontsize": 9, "color": line.get_color(), "weight": "bold"}
        names += add_names(axes, {line.get_label(): line.get_xydata()[0]}, **look)
    return names


def _place_line_names(names: Sequence[Any], lines: Sequence[Any]) -> None:
    """Write the name of each line at the one of its points that is vertically farthest from the others.

    Where it would cover a line there, even its own, it stands at the next such point that is free, or to the
    left or right of one.
    """
    to_axes = lines[0].axes.transScale + lines[0].axes.transLimits
    drawn = {line: to_axes.transform(line.get_xydata()) for line in lines}
    for (line, places), name in zip(drawn.items(), names, strict=True):
        others = [other[other[:, 0].argsort()] for key, other in drawn.items() if key is not line]
        free = [min((_gap(at, other) for other in others), key=abs, default=1.0) for at in places]
        best = sorted(range(len(free)), key=lambda i: -abs(free[i]))
        rest = best[FIRST_TRIED :: 1 + len(best) // MOST_TRIED]
        usual = ["left" if x < 0.2 else "right" if x > 0.8 else "center" for x, _ in places]
        spots = [(i, above, usual[i]) for i in best[:FIRST_TRIED] for above in (free[i] > 0, free[i] <= 0)]
        spots += itertools.product(best[:FIRST_TRIED] + rest, (True, False), ("left", "right", "center"))
        choices: list[Choice] = []
        for i, above, side in spots:
            where = {"va": "bottom" if above else "top", "position": (0, 7 if above else -7), "ha": side}
            choices.append((tuple(line.get_xydata()[i]), where))
        for i, right in itertools.product(best[:FIRST_TRIED] + rest, (True, False)):
            where = {"va": "center", "position": (8 if right else -8, 0), "ha": "left" if right else "right"}
            choices.append((tuple(line.get_xydata()[i]), where))
        place(name, choices)


def _free_side(axes: Any, lines: Sequence[Any], level: float) -> str:
    """Return the side of a level line, left or right, on which the ends of the lines are farther from it."""
    to_axes = axes.transScale + axes.transLimits
    height = to_axes.transform((axes.get_xlim()[0], level))[1]
    ends = [to_axes.transform(line.get_xydata()[[0, -1]])[:, 1] for line in lines]
    left, right = (min(abs(end[i] - height) for end in ends) for i in (0, 1))
    return "left" if left > right else "right"


def _gap(spot: Any, line: Any) -> float:
    """Return how far a spot lies above a line (points by ascending x), as a share of the axes' height."""
    if not line[0, 0] <= spot[0] <= line[-1, 0]:
        return 1.0
    return round(float(spot[1] - np.interp(spot[0], *line.T)), 2)


def losses(
    lines: Mapping[str, Mapping[int, float]],
    best: Mapping[str, int] | None = None,
    *,
    title: str = "Loss per token",
) -> Picture:
    """Draw the loss over training steps, a line per name, such as training and validation.

    lines: name -> step -> loss in nats per token (minus the natural log-probability of the right token).
    best: name -> the step whose weights were kept, which is marked. Every line is labelled with its name.

    Describe in the text below the figure: the first and the last loss of each line, and its loss at the kept
    step. Raises ValueError for no lines, more lines than colours, a line without points, a loss that is not
    finite, and a kept step at which its line has no loss.
    """
    kept = dict(best or {})
    if not 0 < len(lines) <= len(COLOURS):
        raise ValueError(f"{len(lines)} lines; 1 to {len(COLOURS)} can be told apart")
    _check_points(lines)
    check_numbers(loss for points in lines.values() for loss in points.values())
    if unknown := [f"{name}: {step}" for name, step in kept.items() if step not in lines.get(name, {})]:
        raise ValueError(f"no loss is given at the kept step {unknown[0]}")
    figure, axes = new_picture(7.5, 4, xlabel="step", ylabel="loss, nats per token", title=title)
    for (name, points), colour, style in zip(lines.items(), COLOURS, STYLES, strict=False):
        marker = "o" if len(points) < 30 else ""
        xs, ys = zip(*sorted(points.items()), strict=True)
        axes.plot(xs, ys, style, marker=marker, markersize=4, color=colour, label=name)
    axes.margins(y=0.14)
    axes.locator_params(axis="x", integer=True)
    axes.grid(alpha=0.3)
    drawn = list(axes.lines)
    written = _line_names(axes, drawn)
    figure.lay_out()
    for (name, step), (marker, size) in zip(kept.items(), BEST_MARKERS, strict=False):
        look = {"color": COLOURS[list(lines).index(name)], "markeredgecolor": "black", "markersize": size}
        at = step, lines[name][step]
        axes.plot(*at, marker, zorder=4, label=f"kept: step {step:,} of {name}", **look)
    for name, step in kept.items():
        (note,) = add_names(axes, {f"kept: step {step:,}": (step, lines[name][step])}, fontsize=9)
        place(note, around(note.xy, near=9))
    _place_line_names(written, drawn)
    return figure
