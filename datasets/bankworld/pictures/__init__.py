"""Draw the pictures of chapter 08 from a bank's daily life: cards, signs, tickets, charts, with captions.

A picture depends only on its split, its index and its size. Some combinations of facts are drawn only in the
split "combinations", to test what a model does with combinations that it has not seen in training.
"""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass

from PIL import Image

from bankworld.pictures import cards, charts, signs, tickets
from bankworld.pictures.canvas import Canvas

KINDS = {"card": cards, "sign": signs, "ticket": tickets, "chart": charts}
CAPTIONS = {name: kind.CAPTION for name, kind in KINDS.items()}  # str.format templates of facts
SPLITS = ("train", "validation", "test", "combinations")  # the last: all of them with unseen combinations
KEPT_BACK = 5  # one in so many combinations of facts is not drawn for training


@dataclass(frozen=True)
class Picture:
    """A picture, the facts that it shows, and the caption that states them."""

    image: Image.Image
    kind: str
    facts: dict[str, str]

    @property
    def caption(self) -> str:
        return CAPTIONS[self.kind].format(**self.facts)


def kept_back(kind: str, facts: dict[str, str]) -> bool:
    """Whether some combination of these facts is never seen in training."""
    return any(
        zlib.crc32(" ".join((kind, *combination)).encode()) % KEPT_BACK == 0
        for combination in KINDS[kind].combinations(facts)
    )


def draw_picture(split: str, index: int, pixels: int = 96) -> Picture:
    """The picture `index` of a split, RGB, `pixels` x `pixels`. Raises ValueError for another split."""
    if split not in SPLITS:
        raise ValueError(f"{split!r} is none of {', '.join(SPLITS)}")
    rng = random.Random(f"pictures/{split}/{index}")
    kind = rng.choice(list(KINDS))
    while True:
        facts = KINDS[kind].draw_facts(rng)
        if kept_back(kind, facts) == (split == "combinations"):
            break
    canvas = Canvas(pixels, rng)
    KINDS[kind].paint(canvas, facts)
    return Picture(canvas.image, kind, facts)
