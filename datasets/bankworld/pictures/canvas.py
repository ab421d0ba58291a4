"""A canvas for the pictures: it draws shapes and text in units of 1/96 of its side, so at any size."""

from __future__ import annotations

import functools
import random
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
UNITS = 96  # a picture is this wide and high
Colour = tuple[int, int, int]
WHITE, INK = (255, 255, 255), (25, 25, 30)


@functools.cache
def font(size: float, bold: bool) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib: the same glyphs on every machine."""
    return ImageFont.truetype(
        FONTS / f"DejaVuSans{'-Bold' if bold else ''}.ttf", size, layout_engine=ImageFont.Layout.BASIC
    )


def near(rng: random.Random, colour: Colour, by: int = 14) -> Colour:
    """A colour close to `colour`."""
    red, green, blue = (min(255, max(0, value + rng.randint(-by, by))) for value in colour)
    return red, green, blue


class Canvas:
    """A picture of `pixels` x `pixels`, all of whose content is shifted by up to 2 units each way."""

    def __init__(self, pixels: int, rng: random.Random) -> None:
        self.rng, self.scale = rng, pixels / UNITS
        grey = rng.randint(190, 250)
        self.image = Image.new("RGB", (pixels, pixels), near(rng, (grey, grey, grey), 8))
        self._draw = ImageDraw.Draw(self.image)
        self.dx, self.dy = rng.uniform(-2, 2), rng.uniform(-2, 2)

    def _xy(self, x: float, y: float) -> tuple[float, float]:
        return (x + self.dx) * self.scale, (y + self.dy) * self.scale

    def box(
        self, left: float, top: float, right: float, bottom: float, fill: Colour, radius: float = 0
    ) -> None:
        """A filled rectangle, with round corners of `radius` units."""
        corners = (*self._xy(left, top), *self._xy(right, bottom))
        self._draw.rounded_rectangle(corners, radius * self.scale, fill)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        units: float,
        fill: Colour,
        *,
        bold: bool = False,
        anchor: str = "mm",
        width: float = 84,
    ) -> None:
        """Text `units` high, or smaller where it would be wider than `width`; `anchor` is Pillow's."""
        at_100 = font(100, bold).getlength(text) / 100
        size = round(min(units, width / at_100) * 4) / 4
        self._draw.text(self._xy(x, y), text, fill, font(size * self.scale, bold), anchor)
