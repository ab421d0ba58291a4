"""Haneul Bank's customer messages, divided into splits so that near-duplicates are in the same split."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from bankworld import schema
from bankworld.haneul import split_of

NEAR = 0.4  # Jaccard similarity of word trigrams from which two messages count as near-duplicates


def trigrams(text: str) -> set[tuple[str, ...]]:
    words = text.lower().split()
    return {tuple(words[i : i + 3]) for i in range(max(1, len(words) - 2))}


def similarity(a: set[tuple[str, ...]], b: set[tuple[str, ...]]) -> float:
    """Jaccard similarity."""
    return len(a & b) / len(a | b)


def near_pairs(texts: list[str]) -> list[tuple[int, int]]:
    """Return pairs of indices of near-duplicates. Only texts that share a trigram are compared."""
    grams = [trigrams(t) for t in texts]
    holders: dict[tuple[str, ...], list[int]] = defaultdict(list)
    candidates: set[tuple[int, int]] = set()
    for i, g in enumerate(grams):
        for gram in g:
            candidates |= {(j, i) for j in holders[gram]}
            holders[gram].append(i)
    return sorted(p for p in candidates if similarity(grams[p[0]], grams[p[1]]) >= NEAR)


def build_messages() -> list[dict[str, Any]]:
    """Return all messages with intent and split. Near-duplicates are in the split of the first of them."""
    messages = []
    for path in sorted((schema.HANEUL / "en" / "messages").glob("*.txt")):
        messages += [
            (path.stem, line.strip()) for line in path.read_text("utf-8").splitlines() if line.strip()
        ]
    texts = [text for _, text in messages]
    leader = list(range(len(messages)))
    for a, b in near_pairs(texts):
        leader[b] = leader[a]
    return [
        {"id": f"m{i + 1:04d}", "split": split_of(texts[leader[i]]), "intent": intent, "message": text}
        for i, (intent, text) in enumerate(messages)
    ]
