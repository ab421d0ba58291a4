"""Line charts: proportions with confidence intervals, general curves, and training losses."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

from course_lib.plots.base import COLOURS, MARKERS, Picture, check_count, check_numbers, new_picture

Point = tuple[float, float, float]  # value, low, high
STYLES = ("-", "--", ":", "-.")
LEVEL_STYLES = ("--", ":", "-.", (0, (1, 4)))
BEST_MARKERS = (("*", 14), ("D", 9), ("s", 10), ("P", 11))  # marker and its size


def lines_with_intervals(
    lines: Mapping[str, Mapping[float, Point]], *, x: str, y: str, title: str, ticks: Mapping[float, str]
) -> Picture:
    """Draw a line per name over a logarithmic x axis, in per cent, with an interval at each point.

    lines: name -> x value -> (value, low, high), proportions from 0 to 1. ticks: x value -> its label.
    Raises ValueError for no lines and for more lines than colours.
    """
    check_count(len(lines), len(COLOURS), "lines")
    figure, axes = new_picture(7, 4)
    for (name, points), colour, marker in zip(lines.items(), COLOURS, MARKERS, strict=False):
        xs = sorted(points)
        values, lows, highs = zip(*([100 * number for number in points[at]] for at in xs), strict=True)
        below = [value - low for value, low in zip(values, lows, strict=True)]
        above = [high - value for value, high in zip(values, highs, strict=True)]
        axes.errorbar(xs, values, yerr=[below, above], label=name, color=colour, marker=marker, capsize=3)
    axes.set(xscale="log", xlabel=x, ylabel=y, title=title, ylim=(-2, 102))
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.minorticks_off()
    axes.grid(axis="y", alpha=0.3)
    axes.legend(loc="best", frameon=False)
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
    """Draw a line per name through its points; both axes are logarithmic, the x axis to base 2.

    lines: name -> x -> y. levels: name -> y value of a horizontal line. linear: use linear axes, which allow
    numbers of any sign. Raises ValueError for no lines, for more lines or levels than colours, and for a
    number that is not finite, or not positive on logarithmic axes.
    """
    marked, lowest = dict(levels or {}), -inf if linear else 0
    if not 0 < len(lines) <= len(COLOURS) or len(marked) > len(COLOURS):
        raise ValueError(
            f"{len(lines)} lines and {len(marked)} levels; 1 to {len(COLOURS)} can be told apart"
        )
    numbers = [*marked.values(), *(n for points in lines.values() for point in points.items() for n in point)]
    if not all(lowest < number < inf for number in numbers):
        needed = "finite" if linear else "positive and finite"
        raise ValueError(f"a number that is not {needed} cannot be drawn on these axes")
    figure, axes = new_picture(7, 4)
    for (name, points), colour, marker in zip(lines.items(), COLOURS, MARKERS, strict=False):
        axes.plot(list(points), list(points.values()), label=name, color=colour, marker=marker)
    for (name, level), style in zip(marked.items(), LEVEL_STYLES, strict=False):
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


def losses(
    lines: Mapping[str, Mapping[int, float]],
    best: Mapping[str, int] | None = None,
    *,
    title: str = "Loss of a token",
) -> Picture:
    """Draw the loss over training steps, a line per name, such as training and validation.

    lines: name -> step -> loss in nats. best: name -> the step whose weights were kept, drawn as a marker.

    In words: the first and the last loss of each line, and its loss at the kept step. Raises ValueError for
    no lines, for more than 4, for a line without points, for a loss that is not finite, and for a kept step
    at which its line has no loss.
    """
    kept = dict(best or {})
    if not 0 < len(lines) <= len(COLOURS) or not all(lines.values()):
        raise ValueError(f"{len(lines)} lines; 1 to {len(COLOURS)} can be told apart, each with its points")
    check_numbers(loss for points in lines.values() for loss in points.values())
    if unknown := [f"{name}: {step}" for name, step in kept.items() if step not in lines.get(name, {})]:
        raise ValueError(f"no loss is given at the kept step {unknown[0]}")
    figure, axes = new_picture(7.5, 4, xlabel="step", ylabel="loss, nats", title=title)
    for (name, points), colour, style in zip(lines.items(), COLOURS, STYLES, strict=False):
        marker = "o" if len(points) < 30 else ""
        xs, ys = list(points), list(points.values())
        axes.plot(xs, ys, style, marker=marker, markersize=4, color=colour, label=name)
    for (name, step), (marker, size) in zip(kept.items(), BEST_MARKERS, strict=False):
        look = {"color": COLOURS[list(lines).index(name)], "markeredgecolor": "black", "markersize": size}
        axes.plot(
            [step], [lines[name][step]], marker, zorder=4, label=f"kept: step {step:,} of {name}", **look
        )
    axes.locator_params(axis="x", integer=True)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure
