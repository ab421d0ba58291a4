"""Measure how much wording texts share, in sequences of five words (5-grams). Used by `check`."""

from __future__ import annotations

GRAMS = 5


def five_grams(text: str) -> set[tuple[str, ...]]:
    words = text.lower().split()
    return {tuple(words[i : i + GRAMS]) for i in range(len(words) - GRAMS + 1)}


def largest_overlap(texts: list[str]) -> tuple[float, int, int]:
    """Return the largest share of a text's 5-grams that another text also has, and the two texts' indices."""
    grams = [five_grams(t) for t in texts]
    worst = (0.0, -1, -1)
    for i, a in enumerate(grams):
        for j in range(i):
            share = len(a & grams[j]) / max(1, min(len(a), len(grams[j])))
            worst = max(worst, (share, j, i))
    return worst
