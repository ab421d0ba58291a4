"""Make the customers' messages in Korean: complete ones as written, and situations joined with a request.

A Korean message has the id, the intent and the split of an English one, but not its content: it was not
translated. Each split has situations and requests of its own, so that no part of a test message occurs in
training.
"""

from __future__ import annotations

import random
from itertools import product
from typing import Any

from bankworld import korean_text
from bankworld.messages import NEAR, similarity, trigrams

Row = dict[str, Any]


def build_messages(english: list[Row]) -> list[Row]:
    """One Korean message for each English one. Raises ValueError where an intent has too few wordings."""
    texts: dict[tuple[str, str], list[str]] = {}
    for intent in dict.fromkeys(row["intent"] for row in english):
        wanted = {
            s: sum(r["intent"] == intent and r["split"] == s for r in english)
            for s in ("train", "validation", "test")
        }
        texts |= {(intent, split): drawn for split, drawn in _draw(intent, wanted).items()}
    return [row | {"message": texts[row["intent"], row["split"]].pop()} for row in english]


def _draw(intent: str, wanted: dict[str, int]) -> dict[str, list[str]]:
    """For each split `wanted` messages of an intent: complete ones, and situations joined with requests."""
    written = korean_text.messages_of(intent)
    rng = random.Random(f"haneul/ko/{intent}")
    situations, requests = _shares(rng, written.situations, wanted), _shares(rng, written.requests, wanted)
    joined, complete = {}, rng.sample(written.whole, len(written.whole))
    for split in wanted:
        pairs = [
            f"{situation} {request}" for situation, request in product(situations[split], requests[split])
        ]
        joined[split] = _apart(rng.sample(pairs, len(pairs)))
    take = {split: max(0, count - len(joined[split])) for split, count in wanted.items()}
    if sum(take.values()) > len(complete):
        raise ValueError(f"{intent}: {sum(take.values()) - len(complete)} messages are missing: write more")
    while sum(take.values()) < len(complete):  # the rest goes where complete messages are rarest
        take[min(take, key=lambda s: take[s] / wanted[s])] += 1
    out = {}
    for split, count in wanted.items():
        own, complete = complete[: take[split]], complete[take[split] :]
        out[split] = rng.sample([*own, *joined[split]][:count], count)
    return out


def _shares(rng: random.Random, parts: list[str], wanted: dict[str, int]) -> dict[str, list[str]]:
    """Divide the parts among the splits by the root of their sizes: messages join two parts."""
    left, out = rng.sample(parts, len(parts)), {}
    roots = [count**0.5 for count in wanted.values()]
    for i, split in enumerate(wanted):
        take = round(len(left) * roots[i] / sum(roots[i:]))
        out[split], left = left[:take], left[take:]
    return out


def _apart(texts: list[str]) -> list[str]:
    """`texts` without those that are nearly the same as an earlier one."""
    distinct: list[str] = []
    grams: list[set[tuple[str, ...]]] = []
    for text in texts:
        gram = trigrams(text)
        if all(similarity(gram, other) < NEAR for other in grams):
            distinct.append(text)
            grams.append(gram)
    return distinct
