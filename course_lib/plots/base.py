"""Shared parts of all plots: the figure class, colour-blind-safe colours, and checks of the input."""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO
from math import inf
from typing import Any

from matplotlib.figure import Figure

COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
)  # Okabe and Ito's, which colour-blind readers can tell apart
MARKERS = ("o", "s", "^", "D")
MARKER_STYLES = [
    (c, MARKERS[(i + turn) % 4]) for turn in range(4) for i, c in enumerate(COLOURS)
]  # 16 different pairs


class Picture(Figure):
    """A matplotlib figure that a notebook displays as PNG, without pyplot and its global state."""

    def _repr_png_(self) -> bytes:
        out = BytesIO()
        self.savefig(out, format="png", dpi=100)
        return out.getvalue()


def new_picture(width: float, height: float, **settings: Any) -> tuple[Picture, Any]:
    """Return a figure of this size in inches, and its axes with these settings, such as xlabel."""
    figure = Picture(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot(**settings)


def check_count(count: int, maximum: int, noun: str) -> None:
    """Raise ValueError unless 1 <= count <= maximum. noun: what is counted, such as "lines"."""
    if not 0 < count <= maximum:
        raise ValueError(f"{count} {noun}; 1 to {maximum} can be told apart")


def check_numbers(numbers: Iterable[float], low: float = -inf) -> None:
    """Raise ValueError if there are no numbers, or if one is below `low` or not finite."""
    values = list(numbers)
    if not values or not all(low <= value < inf and value > -inf for value in values):
        raise ValueError(f"nothing to draw, or a number that is {'negative or ' * (low == 0)}not finite")
