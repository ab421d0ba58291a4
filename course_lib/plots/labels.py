"""Places for the names in a chart: each covers as few lines, points and other names as possible."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import hypot, inf
from typing import Any

import numpy as np
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.path import Path
from matplotlib.text import Annotation, Text

from course_lib.plots.base import PALE

Choice = tuple[tuple[float, float], Mapping[str, Any]]  # the point that a name names, settings of its text

BESIDE: dict[str, Any] = {"textcoords": "offset points", "parse_math": False, "bbox": PALE}
FAR = 14  # points (1/72 inch) from which on a line joins a name to its point
SPACE = 2  # pixels around a name
CLEAR = 8  # pixels around a point, in which the line that leads to it may cross others
BEHIND = 2  # drawings below this zorder (they are drawn first) are a background, which a name may cover
MOST_TRIED = 200  # places for the name of a group
MOST_POINTS = 100  # of a group, between which those places lie
LATER = 0.01  # added to what a choice covers, for each choice before it: of equal ones the first is taken


def add_names(axes: Any, names: Mapping[str, tuple[float, float]], **look: Any) -> list[Annotation]:
    """Return a hidden annotation for each name; `place` puts it beside its point, and shows it.

    names: name -> the (x, y) that it names. look: settings of all texts.
    """
    joined = {"arrowprops": {"arrowstyle": "-", "color": look.get("color", "grey"), "linewidth": 0.6}}
    added = [axes.annotate(name, xy, (0, 0), **(BESIDE | joined | look)) for name, xy in names.items()]
    for name in added:
        name.set(visible=False, in_layout=False)
    return added


def around(point: tuple[float, float], *, near: float = 9, far: float = 75) -> list[Choice]:
    """Return places beside a point, above and below it, the nearest first, in points (1/72 inch)."""
    sides = {near: "left", 0.0: "center", -near: "right"}
    beside: list[Choice] = [
        (point, {"position": (dx, 0), "ha": ha, "va": "center"}) for dx, ha in sides.items() if dx
    ]
    for up in np.arange(near, far, 9):
        for dy, va in ((float(up), "bottom"), (float(-up), "top")):
            beside += [(point, {"position": (dx, dy), "ha": ha, "va": va}) for dx, ha in sides.items()]
            if up > FAR:
                wide = ((4 * near, "left"), (-4 * near, "right"))
                beside += [(point, {"position": (dx, dy), "ha": ha, "va": va}) for dx, ha in wide]
    return beside


def within(points: Sequence[tuple[float, float]]) -> list[Choice]:
    """Return places for the name of a group: its median, then places half-way between two points."""
    middle = np.median(points, axis=0)
    some = np.asarray(points, float)[:: 1 + len(points) // MOST_POINTS]
    first, second = np.triu_indices(len(some), k=1)
    between = (some[first] + some[second]) / 2
    nearest = np.argsort(np.linalg.norm(between - middle, axis=1), kind="stable")[:MOST_TRIED]
    look = {"position": (0.0, 0.0), "ha": "center", "va": "center"}
    return [((float(x), float(y)), look) for x, y in [middle, *between[nearest]]]


def place(text: Annotation, choices: Sequence[Choice]) -> float:
    """Show a name at the best of some places, and return how much it covers there: 0 for nothing.

    The figure must have been drawn, so that the size of the axes is known.
    """
    text.set_visible(True)
    drawn = _drawn(text)
    least, best = inf, choices[0]
    for i, choice in enumerate(choices):
        _move(text, choice)
        if (covered := _covered(text, drawn, least) + LATER * i) < least:
            least, best = covered, choice
        if least <= LATER * (i + 1):
            break
    _move(text, best)
    return _covered(text, drawn)


def place_together(names: Sequence[Annotation], choices: Sequence[Sequence[Choice]]) -> float:
    """Place names one after the other, in the best of some orders; return how much they cover together."""
    orders = [
        sorted(range(len(names)), key=lambda i: [sign * value for value in names[i].xy[::turn]])
        for turn in (1, -1)
        for sign in (1, -1)
    ]

    def in_turn(order: Sequence[int]) -> float:
        for name in names:
            name.set_visible(False)
        return sum(place(names[i], choices[i]) for i in order)

    covered = []
    for order in orders:
        covered.append(in_turn(order))
        if not covered[-1]:
            return 0.0
    return in_turn(orders[covered.index(min(covered))])


def _move(text: Annotation, choice: Choice) -> None:
    text.xy, settings = choice
    text.set(**settings)
    across, up = text.get_position()
    if text.arrow_patch is not None:
        text.arrow_patch.set_visible(hypot(across, up) > FAR)


@dataclass
class _Drawn:
    """What a name must not cover, in pixels: boxes of other names, lines, and points, each with a weight."""

    boxes: list[Any] = field(default_factory=list)
    paths: list[tuple[Path, float]] = field(default_factory=list)
    points: list[tuple[Any, float, float]] = field(default_factory=list)  # shape (n, 2), radius, weight


def _drawn(text: Any) -> _Drawn:
    axes, found = text.axes, _Drawn()
    pixels = axes.figure.dpi / 72
    for line in axes.lines:
        weight = 1.0 if line.get_zorder() >= BEHIND else 0.02
        path = line.get_path().transformed(line.get_transform())
        if line.get_linestyle() not in ("None", "none", " ", ""):
            found.paths.append((path, weight))
        if line.get_marker() not in ("None", "none", " ", "", None):
            found.points.append((path.vertices, line.get_markersize() / 2 * pixels, weight))
    for collection in axes.collections:
        if isinstance(collection, LineCollection):  # such as intervals
            found.paths += [(path.transformed(axes.transData), 1.0) for path in collection.get_paths()]
        elif isinstance(collection, PathCollection):  # such as the dots of notes
            radius = float(np.sqrt(collection.get_sizes().max())) / 2 * pixels
            dots = collection.get_offset_transform().transform(collection.get_offsets())
            found.points.append((dots, radius, 1.0))
    for other in axes.texts:
        if other is not text and other.get_visible() and other.get_text():
            found.boxes.append(Text.get_window_extent(other))
            found.paths += [(path, 1.0) for path in _leader(other)]
    return found


def _leader(text: Any) -> Iterator[Path]:
    """Yield the line from a name that is far from its point towards that point, which it does not reach."""
    arrow = getattr(text, "arrow_patch", None)
    if arrow is not None and arrow.get_visible():
        box, start = Text.get_window_extent(text), text.axes.transData.transform(text.xy)
        end = np.array([(box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2])
        yield Path([start + CLEAR * (end - start) / max(CLEAR, hypot(*(end - start))), end])


def _covered(text: Any, drawn: _Drawn, enough: float = inf) -> float:
    """How much a name covers where it stands: the lines, their points, and ten times as much each other name.

    A corner outside the axes counts most. The line that leads to the name counts where it crosses something.
    enough: a place that covers more is not looked at further.
    """
    text.get_window_extent()  # moves the text; the box that it returns includes the line to the point
    box = Text.get_window_extent(text).padded(SPACE)
    count = 100.0 * (4 - text.axes.bbox.count_contains(box.corners())) + 10 * box.count_overlaps(drawn.boxes)
    if count > enough:
        return count
    count += sum(weight for path, weight in drawn.paths if path.intersects_bbox(box, filled=False))
    for points, radius, weight in drawn.points:
        count += weight * box.padded(radius).count_contains(points)
    for leader in _leader(text):
        count += 10 * sum(leader.intersects_bbox(other.padded(1), filled=False) for other in drawn.boxes)
        count += sum(weight * leader.intersects_path(path, filled=False) for path, weight in drawn.paths) / 3
        count += sum(2 * weight * _passes(leader, points, radius) for points, radius, weight in drawn.points)
    return float(count)


def _passes(leader: Path, points: Any, radius: float) -> int:
    """Return the number of points, of this radius in pixels, that lie on a line."""
    start, end = np.asarray(leader.vertices)
    along = np.clip((points - start) @ (end - start) / max(1e-9, ((end - start) ** 2).sum()), 0, 1)
    apart = np.linalg.norm(points - (start + along[:, None] * (end - start)), axis=1)
    return int((apart < min(radius, CLEAR - 1)).sum())
