"""Draw Haneul Bank's cards: product, colour, and the last four digits of the number."""

from __future__ import annotations

import random

from bankworld import schema
from bankworld.pictures.canvas import INK, WHITE, Canvas, Colour, near

CAPTION = "A card in {colour}: {product}, number {number}."
COLOURS: dict[str, Colour] = {
    "red": (196, 40, 48),
    "orange": (240, 140, 40),
    "yellow": (245, 215, 70),
    "green": (40, 140, 80),
    "blue": (45, 95, 200),
    "purple": (120, 60, 160),
    "grey": (120, 124, 130),
    "black": (30, 30, 34),
}
DARK = {"red", "green", "blue", "purple", "grey", "black"}


def products() -> list[str]:
    """The names of the accounts and cards that come with a card."""
    kinds = schema.haneul_entities("accounts") | schema.haneul_entities("cards")
    return [name for names in kinds.values() for name in names.values()]


def draw_facts(rng: random.Random) -> dict[str, str]:
    return {
        "colour": rng.choice(list(COLOURS)),
        "product": rng.choice(products()),
        "number": f"{rng.randrange(10_000):04}",
    }


def combinations(facts: dict[str, str]) -> list[tuple[str, ...]]:
    """Return the combinations of these facts of which some are kept out of training; see `kept_back`."""
    return [(facts["product"], facts["colour"]), (facts["number"],)]


def paint(canvas: Canvas, facts: dict[str, str]) -> None:
    ink = WHITE if facts["colour"] in DARK else INK
    canvas.box(4, 14, 92, 84, near(canvas.rng, COLOURS[facts["colour"]]), 6)
    canvas.box(76, 20, 86, 28, near(canvas.rng, (215, 185, 90)), 1.5)
    bank, *name = facts["product"].split()
    words = 2 if name[1] in ("Plus", "Mini") else 1
    canvas.text(9, 22, bank.upper(), 8, ink, anchor="lm")
    canvas.text(48, 38, " ".join(name[:words]), 16, ink, bold=True, width=78)
    canvas.text(48, 51, " ".join(name[words:]), 10, ink, width=78)
    canvas.text(48, 69, facts["number"], 25, ink, bold=True)
