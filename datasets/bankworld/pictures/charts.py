"""Draw small bar charts of an account's balance, whose caption names the highest and the lowest month."""

from __future__ import annotations

import calendar
import random

from bankworld.pictures.canvas import INK, WHITE, Canvas, near

CAPTION = "A chart of three months: highest in {highest}, lowest in {lowest}."
INKS = [(45, 95, 200), (40, 140, 80), (240, 140, 40), (120, 60, 160)]
MONTHS = list(calendar.month_name)[1:]
BARS = 3


def draw_facts(rng: random.Random) -> dict[str, str]:
    first, bars = rng.randrange(12), rng.sample(range(BARS), 2)
    highest, lowest = (MONTHS[(first + bar) % 12] for bar in bars)
    return {"highest": highest, "lowest": lowest, "first": MONTHS[first]}


def combinations(facts: dict[str, str]) -> list[tuple[str, ...]]:
    """Return the combinations of these facts of which some are kept out of training; see `kept_back`."""
    return [(facts["highest"], facts["lowest"])]


def paint(canvas: Canvas, facts: dict[str, str]) -> None:
    rng, first = canvas.rng, MONTHS.index(facts["first"])
    low, high = rng.uniform(8, 18), rng.uniform(45, 58)
    colour = near(rng, rng.choice(INKS))
    canvas.box(3, 5, 93, 92, WHITE, 2)
    canvas.text(48, 12, "Balance", 9, INK)
    for bar in range(BARS):
        month, x = MONTHS[(first + bar) % 12], 7 + 28.5 * bar
        between = rng.uniform(low + 6, high - 6)
        height = {facts["highest"]: high, facts["lowest"]: low}.get(month, between)
        canvas.box(x + 4, 76 - height, x + 21, 76, colour)
        canvas.text(x + 12.5, 84, month[:3], 13, INK, width=27)
    canvas.box(6, 76, 91, 77, INK)
