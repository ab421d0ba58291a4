"""Shared parts of all plots: the figure class, colours, a font for Hangul (Korean), and checks of input."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from io import BytesIO
from math import inf
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.text import Text

from course_lib.errors import CourseError

#: Okabe and Ito's colours, which colour-blind readers can tell apart.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
PALE = {"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.5}  # behind a name on a drawing
MARKERS = ("o", "s", "^", "D")
# The 16 pairs of colour and marker.
MARKER_STYLES = [(c, MARKERS[(i + turn) % 4]) for turn in range(4) for i, c in enumerate(COLOURS)]


HANGUL = re.compile("[\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3]")


@cache
def hangul_font() -> str:
    """Return the name of a font with Hangul. Raises CourseError if the package that carries it is missing."""
    package = find_spec("koreanize_matplotlib")  # its fonts are used, its code is not
    if package is None or not package.submodule_search_locations:
        raise CourseError("no font here draws Hangul", "pip install koreanize-matplotlib")
    for file, weight in (("NanumGothic.ttf", 400), ("NanumGothicBold.ttf", 700)):
        fontManager.addfont(Path(package.submodule_search_locations[0]) / "fonts" / file)
        fontManager.ttflist[-1] = replace(fontManager.ttflist[-1], weight=weight)  # the file says 600
    return "NanumGothic"


def families(text: str) -> list[str]:
    """Return the fonts for a text, in the order in which they are tried. Raises as `hangul_font` does."""
    return ["DejaVu Sans", hangul_font()] if HANGUL.search(text) else ["DejaVu Sans"]


class Picture(Figure):
    """A matplotlib figure that a notebook displays as PNG, without pyplot and its global state.

    palette: the number of colours in the PNG; None for all.
    """

    palette: int | None = None

    def png(self) -> bytes:
        """Return the drawing as a PNG file. Raises CourseError if it has Hangul and no font draws that."""
        self._choose_fonts()
        out = BytesIO()
        self.savefig(out, format="png", dpi=100)
        return out.getvalue() if self.palette is None else _fewer_colours(out, self.palette)

    def lay_out(self) -> None:
        """Compute the sizes of axes and texts, which the places of names depend on. Raises as `png` does."""
        self._choose_fonts()
        self.draw_without_rendering()

    def _choose_fonts(self) -> None:
        for text in self.findobj(Text):
            text.set_fontfamily(families(text.get_text()))

    def _repr_png_(self) -> tuple[bytes, dict[str, str]]:
        """Return the PNG and its alternative text, which nbconvert gives to readers who cannot see it."""
        return self.png(), {"alt": self.alt}

    @property
    def alt(self) -> str:
        """The title, the axes and the names of what is drawn, in one line."""
        texts = [self.get_suptitle()]
        for axes in self.axes:
            texts += [axes.get_title(), axes.get_title(loc="left")]
            texts += [f"x: {axes.get_xlabel()}"] * bool(axes.get_xlabel())
            texts += [f"y: {axes.get_ylabel()}"] * bool(axes.get_ylabel())
            names = [text.get_text() for text in (*axes.get_yticklabels(), *axes.texts) if text.get_text()]
            names += axes.get_legend_handles_labels()[1]
            numbers = r"[\W\d_]+|\$\\mathdefault.*"  # ticks, those of logarithmic axes too
            names = [name for name in dict.fromkeys(names) if not re.fullmatch(numbers, name)]
            texts += ["shown: " + ", ".join(names)] * bool(names)
        return ". ".join(" ".join(text.split()) for text in dict.fromkeys(texts) if text)


def _fewer_colours(file: BytesIO, count: int) -> bytes:
    """Return a PNG file with at most `count` colours."""
    from PIL import Image

    out = BytesIO()
    Image.open(file).convert("RGB").quantize(count, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
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
