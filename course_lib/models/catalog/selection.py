"""Which models fit a purpose, a memory size and a licence, and what speaks against each."""

from __future__ import annotations

from typing import NamedTuple

from course_lib.models.catalog.catalogue import Entry, entries

PURPOSES = ("chat", "korean", "code", "reasoning", "embed", "rerank")


class Fit(NamedTuple):
    """A model judged for a purpose.

    gib: GiB of its weights; excluded: what rules it out, if anything; against: what else speaks against it.
    """

    entry: Entry
    gib: float
    excluded: tuple[str, ...]
    against: tuple[str, ...]


def guide(purpose: str, memory_gib: float, bits: float = 4.5, *, commercial: bool = False) -> list[Fit]:
    """Every model for a purpose at `bits` per weight: those that fit come first, large before small.

    Only the weights are counted. Raises ValueError for an unknown purpose, for bits that are not positive
    and for negative memory.
    """
    if purpose not in PURPOSES or not bits > 0 or not memory_gib >= 0:
        raise ValueError(
            f"{purpose!r} in {memory_gib} GiB at {bits} bits: a purpose is one of {', '.join(PURPOSES)}"
        )
    fits = [_fit(e, memory_gib, bits, commercial) for e in entries() if purpose in e.purposes]
    return sorted(fits, key=lambda fit: (bool(fit.excluded), -fit.entry.parameters))


def largest(purpose: str, memory_gib: float, bits: float = 4.5, *, commercial: bool = False) -> Entry | None:
    """The largest model for a purpose that fits; None where none does. Raises ValueError as `guide` does."""
    first = guide(purpose, memory_gib, bits, commercial=commercial)[0]
    return None if first.excluded else first.entry


def _fit(entry: Entry, memory_gib: float, bits: float, commercial: bool) -> Fit:
    gib, terms = entry.weight_bytes(bits) / 2**30, entry.terms
    forbidden = f"{terms.name}: no commercial use" if terms.commercial == "no" else ""
    conditions = f"{terms.name}: conditions on commercial use" if terms.commercial == "conditions" else ""
    excluded = ("its weights do not fit" if gib > memory_gib else "", forbidden if commercial else "")
    against = (
        "" if commercial else forbidden,
        conditions,
        "gated: the hub asks for an account and your agreement" if entry.gated else "",
        "needs Ollama" if entry.driver == "ollama" else "",
        "slow without a GPU" if entry.tier == "gpu" else "",
        entry.note,
    )
    return Fit(entry, gib, tuple(filter(None, excluded)), tuple(filter(None, against)))
