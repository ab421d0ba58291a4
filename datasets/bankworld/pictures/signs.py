"""Draw signs of Haneul Bank's branches and advice centres, with the place and its opening hours."""

from __future__ import annotations

import random

from bankworld import schema
from bankworld.pictures.canvas import INK, WHITE, Canvas, near

CAPTION = "A sign: {place}, open from {opens} to {closes}."
BANDS = [(45, 95, 200), (30, 120, 110), (80, 60, 140), (60, 64, 72)]


def places() -> list[str]:
    return [name for names in schema.haneul_entities("branches").values() for name in names.values()]


def draw_facts(rng: random.Random) -> dict[str, str]:
    return {
        "place": rng.choice(places()),
        "opens": f"{rng.randint(8, 11)}:{rng.choice(('00', '15', '30', '45'))}",
        "closes": f"{rng.randint(15, 18)}:{rng.choice(('00', '15', '30', '45'))}",
    }


def combinations(facts: dict[str, str]) -> list[tuple[str, ...]]:
    """Return the combinations of these facts of which some are kept out of training; see `kept_back`."""
    return [(facts["place"], facts["opens"]), (facts["opens"], facts["closes"])]


def paint(canvas: Canvas, facts: dict[str, str]) -> None:
    band = near(canvas.rng, canvas.rng.choice(BANDS))
    bank, *name = facts["place"].split()
    words = 2 if name[1] == "Station" else 1
    canvas.box(3, 8, 93, 88, WHITE, 3)
    canvas.box(3, 8, 93, 56, band, 3)
    canvas.text(48, 16, bank.upper(), 8, WHITE)
    canvas.text(48, 30, " ".join(name[:words]), 17, WHITE, bold=True)
    canvas.text(48, 46, " ".join(name[words:]), 12, WHITE)
    canvas.text(48, 72, f"{facts['opens']}-{facts['closes']}", 18, INK, bold=True)
