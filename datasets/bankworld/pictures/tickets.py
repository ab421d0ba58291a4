"""Draw queue tickets of a branch, with a number and the counter that calls it."""

from __future__ import annotations

import random

from bankworld.pictures.canvas import INK, Canvas, near

CAPTION = "A ticket: number {number}, counter {counter}."
PAPERS = [(255, 255, 255), (255, 246, 200), (215, 235, 255), (255, 220, 220)]


def draw_facts(rng: random.Random) -> dict[str, str]:
    return {"number": f"{rng.randrange(1000):03}", "counter": str(rng.randint(1, 9))}


def combinations(facts: dict[str, str]) -> list[tuple[str, ...]]:
    """Return the combinations of these facts of which some are kept out of training; see `kept_back`."""
    return [(facts["number"],)]


def paint(canvas: Canvas, facts: dict[str, str]) -> None:
    canvas.box(10, 5, 86, 91, near(canvas.rng, canvas.rng.choice(PAPERS), 8))
    for x in range(14, 84, 8):
        canvas.box(x, 7, x + 4, 8, (150, 150, 155))
    canvas.text(48, 18, "HANEUL BANK", 8, INK)
    canvas.text(48, 44, facts["number"], 36, INK, bold=True)
    canvas.text(48, 76, f"Counter {facts['counter']}", 15, INK, width=70)
