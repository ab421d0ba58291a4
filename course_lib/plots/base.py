"""What all pictures share: a figure that shows itself, colours for everybody, checks of what is drawn."""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO
from math import inf
from typing import Any

from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # Okabe and Ito: for colour-blind readers, too
MARKERS = ("o", "s", "^", "D")
MARKER_STYLES = [
    (c, MARKERS[(i + turn) % 4]) for turn in range(4) for i, c in enumerate(COLOURS)
]  # 16 different pairs


class Picture(Figure):
    """A figure that a notebook shows as PNG, without pyplot and its global state."""

    def _repr_png_(self) -> bytes:
        out = BytesIO()
        self.savefig(out, format="png", dpi=100)
        return out.getvalue()


def new_picture(width: float, height: float, **settings: Any) -> tuple[Picture, Any]:
    """A picture of this size in inches with one pair of axes, which get the settings, such as xlabel."""
    figure = Picture(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot(**settings)


def check_count(count: int, most: int, what: str) -> None:
    """Raise ValueError unless there are 1 to `most` of `what`, such as lines: more cannot be told apart."""
    if not 0 < count <= most:
        raise ValueError(f"{count} {what}; 1 to {most} can be told apart")


def check_numbers(numbers: Iterable[float], low: float = -inf) -> None:
    """Raise ValueError for no numbers, and for a number that is below `low` or not finite."""
    values = list(numbers)
    if not values or not all(low <= value < inf and value > -inf for value in values):
        raise ValueError(f"nothing to draw, or a number that is {'negative or ' * (low == 0)}not finite")
