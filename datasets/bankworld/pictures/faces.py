"""Draw faces of invented persons: an identity, in several views (pose, expression, light, glasses).

They train and test a face model without pictures of real persons; their colours are those of no real skin. A
picture depends only on its split, the number of its identity and the number of its view.
"""

from __future__ import annotations

import colorsys
import functools
import math
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

PIXELS = 64
FINER = 3  # the drawing is made so many times larger, then averaged
SPLITS = ("train", "validation", "test")
SKINS = (0.27, 0.44, 0.57, 0.74, 0.90)  # hues: lime, mint, sky, lilac, rose
HAIR = ("none", "short", "parting", "long", "curls")
HAIR_SHARES = (1, 2, 2, 2, 2)
HAIR_HUES = (0.03, 0.35, 0.62, 0.88)
LIGHTS = ("even", "left", "right", "dim")
Points = list[tuple[float, float]]
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Identity:
    """What stays of a face: lengths in pixels of a 64-pixel picture, angles in radians, hues from 0 to 1."""

    skin: float
    head_width: float
    head_height: float
    jaw: float  # exponent of the lower half: 2 is round, 4 is square
    eye_gap: float
    eye_size: float
    eye_shape: float  # height of an eye to its width
    eye_tilt: float
    eye_height: float
    iris: float
    brow_gap: float
    brow_width: float
    brow_tilt: float
    nose_length: float
    nose_width: float
    mouth_height: float
    mouth_width: float
    lips: float
    ears: float
    hair: str
    hair_hue: float
    hair_value: float


@dataclass(frozen=True)
class View:
    """What changes from picture to picture of one face."""

    turn: float  # radians in the plane
    look: float  # to the side: pixels by which the inner face moves
    scale: float
    x: float
    y: float
    smile: float
    brows: float
    light: str
    strength: float  # of the light, from 0 to 1
    cast: float  # hue that the light has
    glasses: bool
    frame: float  # hue of the glasses
    round_frame: bool
    dark_lenses: bool  # which hide the eyes
    noise: float
    blur: float


@functools.lru_cache(2048)
def draw_identity(split: str, number: int) -> Identity:
    """Identity `number` of a split. Raises ValueError for another split."""
    if split not in SPLITS:
        raise ValueError(f"{split!r} is none of {', '.join(SPLITS)}")
    rng = random.Random(f"faces/{split}/{number}")
    u = rng.uniform
    return Identity(
        skin=rng.choice(SKINS) + u(-0.02, 0.02),
        head_width=u(15.5, 20.5),
        head_height=u(20.0, 25.0),
        jaw=u(1.8, 3.6),
        eye_gap=u(6.0, 9.5),
        eye_size=u(2.8, 4.6),
        eye_shape=u(0.45, 0.9),
        eye_tilt=u(-0.25, 0.25),
        eye_height=u(-5.0, -1.0),
        iris=u(0, 1),
        brow_gap=u(4.0, 6.5),
        brow_width=u(0.7, 2.0),
        brow_tilt=u(-0.3, 0.3),
        nose_length=u(4.0, 8.5),
        nose_width=u(1.5, 4.2),
        mouth_height=u(10.0, 14.5),
        mouth_width=u(4.5, 9.0),
        lips=u(0.8, 2.4),
        ears=u(2.0, 5.0),
        hair=rng.choices(HAIR, HAIR_SHARES)[0],
        hair_hue=rng.choice(HAIR_HUES) + u(-0.03, 0.03),
        hair_value=rng.choice((0.25, 0.6)) + u(-0.08, 0.08),
    )


def draw_view(rng: random.Random, *, glasses: bool | None = None, light: str | None = None) -> View:
    """A view; `glasses` (one in three has them) and `light` are drawn where they are not given."""
    wears, wears_dark = rng.random() < 1 / 3, rng.random() < 1 / 3
    return View(
        turn=rng.gauss(0, 0.10),
        look=rng.gauss(0, 1.6),
        scale=rng.uniform(0.88, 1.08),
        x=rng.gauss(0, 1.5),
        y=rng.gauss(0, 1.5),
        smile=rng.uniform(-2.0, 3.0),
        brows=rng.uniform(-0.8, 1.0),
        light=light or rng.choice(LIGHTS),
        strength=rng.uniform(0.5, 1.0),
        cast=rng.random(),
        glasses=wears if glasses is None else glasses,
        frame=rng.random(),
        round_frame=rng.random() < 0.5,
        dark_lenses=wears_dark and (wears if glasses is None else glasses),
        noise=rng.uniform(2, 8),
        blur=rng.uniform(0.0, 0.7),
    )


def draw_face(face: Identity, view: View, seed: int) -> Image.Image:
    """The picture, RGB, 64x64. `seed` chooses its background and noise."""
    rng = np.random.default_rng(seed)
    back = _colour(float(rng.random()), 0.25, float(rng.uniform(0.35, 0.9)))
    image = Image.new("RGB", (PIXELS * FINER, PIXELS * FINER), back)
    pen = _Pen(ImageDraw.Draw(image), view)
    _draw_head(pen, face)
    _draw_features(pen, face, view)
    if view.glasses:
        _draw_glasses(pen, face, view)
    _draw_hair(pen, face)
    image = image.resize((PIXELS, PIXELS), Image.Resampling.BOX).filter(ImageFilter.GaussianBlur(view.blur))
    return _lit(image, view, rng)


def face(split: str, identity: int, number: int) -> tuple[Image.Image, View]:
    """Picture `number` of an identity of a split, and its view."""
    rng = random.Random(f"faces/{split}/{identity}/{number}")
    view = draw_view(rng)
    return draw_face(draw_identity(split, identity), view, rng.getrandbits(32)), view


def _lit(image: Image.Image, view: View, rng: np.random.Generator) -> Image.Image:
    """The picture in its light, with the noise of a camera."""
    pixels: Any = np.asarray(image, np.float32)
    across = np.linspace(-1, 1, PIXELS, dtype=np.float32)[None, :, None]
    if view.light == "dim":
        pixels = pixels * (1 - 0.62 * view.strength)
    elif view.light != "even":
        side = 1 if view.light == "right" else -1
        pixels = pixels * (1 - 0.55 * view.strength * (1 - side * across) / 1.6)
    pixels = pixels * np.asarray(_colour(view.cast, 0.15 * view.strength, 1.0), np.float32) / 255
    pixels = pixels + view.noise * rng.standard_normal(pixels.shape, np.float32)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _colour(hue: float, saturation: float, value: float) -> Colour:
    r, g, b = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return round(r * 255), round(g * 255), round(b * 255)


def _skin(face: Identity, value: float = 0.88, saturation: float = 0.38) -> Colour:
    return _colour(face.skin, saturation, value)


class _Pen:
    """Draws shapes given in pixels from the middle of the head, turned, scaled and moved as the view says."""

    def __init__(self, draw: ImageDraw.ImageDraw, view: View) -> None:
        self.draw, self.scale = draw, view.scale * FINER
        self.sine, self.cosine = math.sin(view.turn), math.cos(view.turn)
        self.x, self.y = FINER * (PIXELS / 2 + view.x), FINER * (PIXELS / 2 + 2 + view.y)

    def at(self, x: float, y: float) -> tuple[float, float]:
        return (
            self.x + self.scale * (x * self.cosine - y * self.sine),
            self.y + self.scale * (x * self.sine + y * self.cosine),
        )

    def fill(self, points: Points, colour: Colour) -> None:
        self.draw.polygon([self.at(*p) for p in points], fill=colour)

    def line(self, points: Points, colour: Colour, width: float) -> None:
        pixels = max(1, round(width * self.scale))
        self.draw.line([self.at(*p) for p in points], fill=colour, width=pixels, joint="curve")


def _ellipse(x: float, y: float, rx: float, ry: float, turn: float = 0.0, points: int = 28) -> Points:
    angles = [2 * math.pi * i / points for i in range(points)]
    sine, cosine = math.sin(turn), math.cos(turn)
    around = [(rx * math.cos(a), ry * math.sin(a)) for a in angles]
    return [(x + px * cosine - py * sine, y + px * sine + py * cosine) for px, py in around]


@functools.lru_cache(4096)
def _outline(face: Identity, grow: float = 0.0) -> Points:
    """The head: an ellipse above, a superellipse with the jaw's exponent below."""
    points = []
    for i in range(60):
        a = 2 * math.pi * i / 60
        power = 2 / (face.jaw if math.sin(a) > 0 else 2.0)
        x = math.copysign(abs(math.cos(a)) ** power, math.cos(a)) * (face.head_width + grow)
        y = math.copysign(abs(math.sin(a)) ** power, math.sin(a)) * (face.head_height + grow)
        points.append((x, y))
    return points


def _draw_head(pen: _Pen, face: Identity) -> None:
    hair = _colour(face.hair_hue, 0.55, face.hair_value)
    if face.hair == "long":
        pen.fill(_ellipse(0, 3, face.head_width + 4.5, face.head_height + 3), hair)
    pen.fill([(-7, 15), (7, 15), (8, 40), (-8, 40)], _skin(face, 0.78))
    for side in (-1, 1):
        pen.fill(_ellipse(side * face.head_width, 0, face.ears * 0.7, face.ears), _skin(face, 0.80))
    pen.fill(_outline(face), _skin(face))


def _draw_features(pen: _Pen, face: Identity, view: View) -> None:
    dx, ink = view.look, _colour(face.hair_hue, 0.5, face.hair_value * 0.6)
    for side in (-1, 1):
        x, y, tilt = dx + side * face.eye_gap, face.eye_height, side * face.eye_tilt
        pen.fill(_ellipse(x, y, face.eye_size, face.eye_size * face.eye_shape, tilt), (250, 250, 250))
        size = face.eye_size * min(face.eye_shape, 0.62)
        pen.fill(_ellipse(x + dx * 0.15, y, size, size), _colour(face.iris, 0.8, 0.55))
        pen.fill(_ellipse(x + dx * 0.15, y, size * 0.5, size * 0.5), (15, 15, 20))
        brow, rise = y - face.brow_gap - view.brows, math.tan(face.brow_tilt) * 4
        pen.line([(x - side * 4, brow - rise / 2), (x + side * 4, brow + rise / 2)], ink, face.brow_width)
    tip, width = face.eye_height + 2 + face.nose_length, face.nose_width
    bridge = dx * 1.4
    pen.line(
        [(bridge, tip - face.nose_length), (bridge + width, tip), (bridge - width * 0.6, tip + 0.6)],
        _skin(face, 0.62, 0.5),
        0.9,
    )
    half, steps = face.mouth_width, 8
    curve = [
        (
            dx + half * (2 * i / steps - 1),
            face.mouth_height + view.smile * (1 - (2 * i / steps - 1) ** 2) - view.smile / 2,
        )
        for i in range(steps + 1)
    ]
    pen.line(curve, _skin(face, 0.50, 0.65), face.lips)


def _draw_glasses(pen: _Pen, face: Identity, view: View) -> None:
    frame, y = _colour(view.frame, 0.7, 0.3), face.eye_height
    for side in (-1, 1):
        x = view.look + side * (face.eye_gap + 0.3)
        rim = (
            _ellipse(x, y, 6.2, 5.6)
            if view.round_frame
            else [(x - 6, y - 4), (x + 6, y - 4), (x + 5.2, y + 4.6), (x - 5.2, y + 4.6)]
        )
        if view.dark_lenses:
            pen.fill(rim, _colour(view.frame, 0.5, 0.15))
        pen.line([*rim, rim[0]], frame, 1.1)
        pen.line([(x + side * 6, y - 1), (side * face.head_width, y - 2)], frame, 0.9)
    pen.line([(view.look - face.eye_gap + 6, y - 1), (view.look + face.eye_gap - 6, y - 1)], frame, 1.0)


def _draw_hair(pen: _Pen, face: Identity) -> None:
    colour = _colour(face.hair_hue, 0.55, face.hair_value)
    top = -face.head_height
    if face.hair == "none":
        return
    cap = [(x, y) for x, y in _outline(face, 1.5) if y < -face.head_height * 0.42]
    if face.hair == "parting":
        cap = [*cap, (face.head_width * 0.45, top * 0.86)]
    elif face.hair == "curls":
        for i in range(9):
            a = math.pi * (1 + i / 8)
            pen.fill(
                _ellipse(face.head_width * math.cos(a), face.head_height * math.sin(a) * 0.92 - 2, 5, 5),
                colour,
            )
    pen.fill(cap, colour)
