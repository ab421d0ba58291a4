"""Evaluate a captioner: which facts its captions state rightly, and how it copes with changed pictures.

Also measured, as shared words (token F1) and shared runs of words (corpus BLEU by sacrebleu, Papineni et al.
2002, P02-1040): how near the captions are to the right ones. The test pictures, which bankworld draws, were
not seen in training; those of the split "combinations" show combinations of facts that training leaves out.
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from bankworld.pictures import CAPTIONS, draw_picture
from PIL import Image, ImageChops, ImageFilter

from course_lib.measure import proportion_interval
from course_lib.measure.pictures import facts_right
from course_lib.models import load
from course_lib.rag.evaluate import token_f1

PIXELS, PAPER = 128, (220, 220, 220)  # side of a picture, and the colour of its background
# Facts that are reported together: fact -> name in the report.
GROUPS = {"opens": "opening hours", "closes": "opening hours", "highest": "month", "lowest": "month"}
# A share, the ends of its interval, and the number of captions or facts; under "words": BLEU and token F1.
Share = list[float]


def jpeg(image: Image.Image) -> Image.Image:
    """Return the picture after a compression that loses details."""
    file = io.BytesIO()
    image.save(file, "jpeg", quality=20)
    return Image.open(file).convert("RGB")


def noisy(image: Image.Image) -> Image.Image:
    noise = np.random.default_rng(0).normal(0, 25, (PIXELS, PIXELS, 3))
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))


def smaller(image: Image.Image) -> Image.Image:
    paper = Image.new("RGB", image.size, PAPER)
    paper.paste(image.resize((96, 96)), (16, 16))
    return paper


# Name in the report -> a function that changes a picture.
CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "none": lambda image: image,
    "JPEG of quality 20": jpeg,
    "noise (standard deviation 25 of 255)": noisy,
    "blur (radius 1.5)": lambda image: image.filter(ImageFilter.GaussianBlur(1.5)),
    "shifted to the right by 6 of 128 pixels": lambda image: ImageChops.offset(image, 6, 0),
    "turned by 5 degrees": lambda image: image.rotate(5, fillcolor=PAPER),
    "at three quarters of its size, on grey": smaller,
}


def evaluate(folder: Path, count: int = 400) -> dict[str, dict[str, Share]]:
    """Return the results as a nested dict.

    Split -> fact -> share that is right; the fact "caption" stands for the whole caption. "changed" -> change
    of the picture -> share of right captions. "words" -> split or change -> BLEU and token F1.
    """
    model: Any = load(folder, task="image-to-text")
    rows: dict[str, dict[str, Share]] = {"words": {}}
    for split in ("test", "combinations"):
        pictures = [draw_picture(split, index, PIXELS) for index in range(count)]
        captions = model.caption([picture.image for picture in pictures])
        right = defaultdict(list)
        for picture, caption in zip(pictures, captions, strict=True):
            right["caption"].append(caption == picture.caption)
            for fact, stated in facts_right(caption, CAPTIONS[picture.kind], picture.facts).items():
                right[GROUPS.get(fact, fact)].append(stated)
        rows[split] = {fact: share_of(stated) for fact, stated in right.items()}
        rows["words"][split] = words_alike(captions, [picture.caption for picture in pictures])
    rows["changed"] = {}
    pictures = [draw_picture("test", index, PIXELS) for index in range(count // 4)]
    truths = [picture.caption for picture in pictures]
    for name, change in CHANGES.items():
        captions = model.caption([change(picture.image) for picture in pictures])
        rows["changed"][name] = share_of([c == truth for c, truth in zip(captions, truths, strict=True)])
        rows["words"][name] = words_alike(captions, truths)
    return rows


def words_alike(captions: list[str], truths: list[str]) -> list[float]:
    """Return corpus BLEU, from 0 to 100, and the mean token F1."""
    from sacrebleu import corpus_bleu

    f1 = [token_f1(caption, truth) for caption, truth in zip(captions, truths, strict=True)]
    return [round(corpus_bleu(captions, [truths]).score, 1), round(sum(f1) / len(f1), 3)]


def share_of(right: list[bool]) -> Share:
    """Return the share of true values, its 95% confidence interval, and their number."""
    low, high = proportion_interval(sum(right), len(right))
    return [round(sum(right) / len(right), 4), round(low, 4), round(high, 4), len(right)]


def read_share(share: Share) -> str:
    """Return a share as text for the model card, such as 97.5% (95.5% to 98.6%) of 400."""
    return "{:.1%} ({:.1%} to {:.1%}) of {:.0f}".format(*share)


def tables(rows: dict[str, dict[str, Share]]) -> dict[str, str | float]:
    """Return the tables of the model card, by the names of their places in it."""
    unseen, combinations = rows["test"], rows["combinations"]
    facts = [f"| {name} | {read_share(unseen[name])} | {read_share(combinations[name])} |" for name in unseen]
    (bleu, f1), (other_bleu, other_f1) = rows["words"]["test"], rows["words"]["combinations"]
    changed = [
        "| {} | {} | {:.1f} | {:.3f} |".format(name, read_share(share), *rows["words"][name])
        for name, share in rows["changed"].items()
    ]
    return {
        "table": "\n".join(facts),
        "words": f"| BLEU | {bleu:.1f} | {other_bleu:.1f} |\n| token F1 | {f1:.3f} | {other_f1:.3f} |",
        "changed": "\n".join(changed),
        "months": combinations["month"][0],
    }
