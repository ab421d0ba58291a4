"""Rank the models of the catalogue for a purpose, a memory size and a licence, with each one's drawbacks.

The catalogue is the list of models that the course knows (catalog.yaml).
"""

from __future__ import annotations

from typing import NamedTuple

from course_lib.models.catalog.catalogue import Entry, entries

PURPOSES = ("chat", "korean", "code", "reasoning", "embed", "rerank")


class Fit(NamedTuple):
    """How well a model fits a purpose, a memory size and a licence.

    weights_gib: size of its weights in GiB;
    exclusions: the reasons why it cannot be used, empty if it can; drawbacks: its other disadvantages.
    """

    entry: Entry
    weights_gib: float
    exclusions: tuple[str, ...]
    drawbacks: tuple[str, ...]


def rank_models(purpose: str, memory_gib: float, bits: float = 4.5, *, commercial: bool = False) -> list[Fit]:
    """Return every model for a purpose: first the usable ones, then the excluded ones, each largest first.

    bits: bits per weight. Only the weights are compared with `memory_gib`; commercial: exclude models whose
    licence forbids commercial use. Raises ValueError for an unknown purpose, bits <= 0 or negative memory.
    """
    if purpose not in PURPOSES or not bits > 0 or not memory_gib >= 0:
        raise ValueError(
            f"{purpose!r} in {memory_gib} GiB at {bits} bits: a purpose is one of {', '.join(PURPOSES)}"
        )
    fits = [_fit(e, memory_gib, bits, commercial) for e in entries() if purpose in e.purposes]
    return sorted(fits, key=lambda fit: (bool(fit.exclusions), -fit.entry.parameters))


def largest_fitting(
    purpose: str, memory_gib: float, bits: float = 4.5, *, commercial: bool = False
) -> Entry | None:
    """Return the largest usable model for a purpose, or None. Raises ValueError as `rank_models` does."""
    ranked = rank_models(purpose, memory_gib, bits, commercial=commercial)
    return next((fit.entry for fit in ranked if not fit.exclusions), None)


def _fit(entry: Entry, memory_gib: float, bits: float, commercial: bool) -> Fit:
    weights_gib, terms = entry.weight_bytes(bits) / 2**30, entry.terms
    forbidden = f"{terms.name}: no commercial use" if terms.commercial == "no" else ""
    conditions = f"{terms.name}: conditions on commercial use" if terms.commercial == "conditions" else ""
    exclusions = (
        "its weights do not fit" if weights_gib > memory_gib else "",
        forbidden if commercial else "",
    )
    drawbacks = (
        "" if commercial else forbidden,
        conditions,
        "gated: the hub asks for an account and your agreement" if entry.gated else "",
        "needs Ollama" if entry.driver == "ollama" else "",
        "slow without a GPU" if entry.tier == "gpu" else "",
        entry.note,
    )
    return Fit(entry, weights_gib, tuple(filter(None, exclusions)), tuple(filter(None, drawbacks)))
