"""Draw pictures of a thing with symbols on it, with sentences such as "a blue card with two hearts".

Chapter 08's image-generation model is trained on them. A picture has a colour, a thing, a count and a symbol.
In training, each colour is never drawn with one of the symbols (`HELD_OUT`): a model that draws them together
has learned to combine them.
"""

from __future__ import annotations

import colorsys
import itertools
import math
import random
from dataclasses import dataclass

from PIL import Image, ImageDraw

SIZE = 32  # pixels of width and height
FINER = 6  # the drawing is made so many times larger, then averaged
COLOURS = {  # hue, saturation, value
    "red": (0.985, 0.85, 0.80),
    "orange": (0.08, 0.90, 0.97),
    "green": (0.36, 0.75, 0.55),
    "blue": (0.60, 0.80, 0.82),
    "purple": (0.78, 0.60, 0.60),
    "black": (0.60, 0.15, 0.18),
}
THINGS = ("card", "coin", "sign", "bag")
COUNTS = ("a", "two", "three")
SYMBOLS = ("star", "heart", "dot", "square", "triangle", "cross")
HELD_OUT = frozenset(zip(COLOURS, SYMBOLS, strict=True))
SYMBOL_SIZES = (11.0, 8.5, 7.0)  # pixels, of one, two and three symbols


@dataclass(frozen=True)
class Thing:
    """What a picture shows. `count` is 1 to 3."""

    colour: str
    thing: str
    count: int
    symbol: str

    @property
    def prompt(self) -> str:
        """The sentence that describes it."""
        plural = "" if self.count == 1 else "es" if self.symbol == "cross" else "s"
        article = "an" if self.colour[0] in "aeiou" else "a"
        return f"{article} {self.colour} {self.thing} with {COUNTS[self.count - 1]} {self.symbol}{plural}"

    @property
    def labels(self) -> tuple[int, int, int, int]:
        """The indices of colour, thing, count and symbol in their lists."""
        colour, symbol = list(COLOURS).index(self.colour), SYMBOLS.index(self.symbol)
        return colour, THINGS.index(self.thing), self.count - 1, symbol

    @property
    def held_out(self) -> bool:
        """Whether the colour and the symbol never occur together in training."""
        return (self.colour, self.symbol) in HELD_OUT


EVERYTHING = [Thing(*parts) for parts in itertools.product(COLOURS, THINGS, (1, 2, 3), SYMBOLS)]
SEEN = [thing for thing in EVERYTHING if not thing.held_out]
UNSEEN = [thing for thing in EVERYTHING if thing.held_out]


def draw_thing(thing: Thing, rng: random.Random) -> Image.Image:
    """A picture of 32x32 pixels. Place, size, tilt, tone of colour and background vary."""
    paper = _colour(rng.random(), rng.uniform(0.02, 0.10), rng.uniform(0.90, 0.99))
    image = Image.new("RGB", (SIZE * FINER, SIZE * FINER), paper)
    hue, saturation, value = COLOURS[thing.colour]
    tone = _colour(hue + rng.uniform(-0.012, 0.012), saturation, value + rng.uniform(-0.06, 0.03))
    light = _colour(rng.random(), rng.uniform(0.0, 0.06), rng.uniform(0.95, 1.0))
    pen = _Pen(ImageDraw.Draw(image), rng)
    _draw_body(pen, thing.thing, tone, paper)
    size = SYMBOL_SIZES[thing.count - 1]
    step = size + 1.2
    for i in range(thing.count):
        x = (i - (thing.count - 1) / 2) * step
        outline = _symbol(thing.symbol, size / 2)
        pen.polygon([(x + px, py) for px, py in outline], light)
    return image.resize((SIZE, SIZE), Image.Resampling.BOX)


def _colour(hue: float, saturation: float, value: float) -> tuple[int, int, int]:
    r, g, b = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return round(r * 255), round(g * 255), round(b * 255)


class _Pen:
    """Draws polygons given in pixels from the centre of the thing, turned, scaled and moved."""

    def __init__(self, draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
        self.draw = draw
        self.scale = rng.uniform(0.92, 1.06) * FINER
        angle = math.radians(rng.uniform(-9, 9))
        self.sine, self.cosine = math.sin(angle), math.cos(angle)
        self.x, self.y = (FINER * (SIZE / 2 + rng.uniform(-1.2, 1.2)) for _ in range(2))

    def polygon(self, points: list[tuple[float, float]], fill: tuple[int, int, int]) -> None:
        self.draw.polygon(
            [
                (
                    self.x + self.scale * (x * self.cosine - y * self.sine),
                    self.y + self.scale * (x * self.sine + y * self.cosine),
                )
                for x, y in points
            ],
            fill=fill,
        )


def _draw_body(pen: _Pen, thing: str, tone: tuple[int, int, int], paper: tuple[int, int, int]) -> None:
    dark = (tone[0] * 6 // 10, tone[1] * 6 // 10, tone[2] * 6 // 10)
    if thing == "card":
        pen.polygon(_rounded(13.5, 9.0, 2.5), tone)
    elif thing == "coin":
        pen.polygon(_circle(14.2), dark)
        pen.polygon(_circle(12.8), tone)
    elif thing == "sign":
        pen.polygon(_rounded(1.3, 7.5, 0.5, y=8.5), dark)
        pen.polygon(_rounded(13.5, 6.6, 0.6), tone)
    else:  # a bag: two handles and a body that is wider below
        ring = [(x * 1.0, y - 7.5) for x, y in _circle(6.5)]
        pen.polygon(ring, dark)
        pen.polygon([(x * 0.6, (y + 7.5) * 0.6 - 7.5) for x, y in ring], paper)
        pen.polygon([(-11.5, -7), (11.5, -7), (14, 12), (-14, 12)], tone)


def _circle(radius: float, points: int = 40) -> list[tuple[float, float]]:
    angles = (2 * math.pi * i / points for i in range(points))
    return [(radius * math.cos(a), radius * math.sin(a)) for a in angles]


def _rounded(width: float, height: float, radius: float, y: float = 0.0) -> list[tuple[float, float]]:
    """A rectangle with round corners, by half its width and height."""
    corners = [(width, height), (-width, height), (-width, -height), (width, -height)]
    points = []
    for i, (cx, cy) in enumerate(corners):
        mx, my = cx - math.copysign(radius, cx), cy - math.copysign(radius, cy)
        for k in range(5):
            a = math.pi / 2 * (i + k / 4)
            points.append((mx + radius * math.cos(a), y + my + radius * math.sin(a)))
    return points


def _symbol(name: str, r: float) -> list[tuple[float, float]]:
    """The outline of a symbol of radius r around 0."""
    if name == "star":
        angles = [math.pi * (i / 5 - 0.5) for i in range(10)]
        lengths = [r * 1.1 if i % 2 == 0 else r * 0.45 for i in range(10)]
        return [(s * math.cos(a), s * math.sin(a)) for s, a in zip(lengths, angles, strict=True)]
    if name == "heart":
        ts = [2 * math.pi * i / 40 for i in range(40)]
        x = [r * math.sin(t) ** 3 for t in ts]
        y = [-r / 16 * (13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t)) for t in ts]
        return list(zip(x, y, strict=True))
    if name == "dot":
        return _circle(r * 0.9)
    if name == "square":
        return [(-0.82 * r, -0.82 * r), (0.82 * r, -0.82 * r), (0.82 * r, 0.82 * r), (-0.82 * r, 0.82 * r)]
    if name == "triangle":
        return [(0, -r), (r, 0.85 * r), (-r, 0.85 * r)]
    a, b = 0.33 * r, r
    return [
        (-a, -b),
        (a, -b),
        (a, -a),
        (b, -a),
        (b, a),
        (a, a),
        (a, b),
        (-a, b),
        (-a, a),
        (-b, a),
        (-b, -a),
        (-a, -a),
    ]
