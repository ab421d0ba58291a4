"""What fits on which card: makers say GB and mean GiB, so that "24 GB" are 24 x 2**30 bytes, or a few MiB less."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from course_lib.errors import CourseError
from course_lib.models.planner.architectures import Architecture, architecture, architectures
from course_lib.models.planner.estimate import MIB, plan

RESERVE = (
    0.1  # share that stays free: for the screen, the driver, the program, and memory that is cut into pieces
)
CARDS = {  # MiB as nvidia-smi gives them
    "GeForce RTX 4060, 8 GB": 8188,
    "GeForce RTX 3060, 12 GB": 12288,
    "Tesla T4, 16 GB": 15360,
    "GeForce RTX 4080, 16 GB": 16376,
    "L4, 24 GB": 23034,
    "GeForce RTX 3090, 24 GB": 24576,
    "GeForce RTX 4090, 24 GB": 24564,
    "GeForce RTX 5090, 32 GB": 32607,
    "RTX A6000, 48 GB": 49140,
    "A100, 80 GB": 81920,
    "H100, 80 GB": 81559,
    "laptop, 16 GB of RAM": 16384,
    "laptop, 32 GB of RAM": 32768,
}


def card_bytes(card: str | int) -> int:
    """Bytes of a card of CARDS, or the bytes that are given. Raises CourseError for an unknown one."""
    if isinstance(card, str) and card not in CARDS:
        raise CourseError(
            f"the card {card!r} is not known here", f"name one of {'; '.join(CARDS)}; or give its bytes"
        )
    return CARDS[card] * MIB if isinstance(card, str) else card


def usable(card: str | int, reserve: float = RESERVE) -> int:
    """Bytes of a card less the share that stays free. Raises ValueError for a share outside 0 to 1."""
    if not 0 <= reserve < 1:
        raise ValueError(f"reserve={reserve}: a share from 0 to 1")
    return int(card_bytes(card) * (1 - reserve))


def fits(
    card: str | int,
    model: str | Path | Architecture,
    format: str = "q4_0",
    context: int = 4096,
    batch: int = 1,
    *,
    reserve: float = RESERVE,
    **how: Any,
) -> bool:
    """Whether a model fits on a card, of which a share stays free. Errors and further arguments as in `plan`."""
    return plan(model, format, context, batch, **how).total <= usable(card, reserve)


def largest_context(
    card: str | int,
    model: str | Path | Architecture,
    format: str = "q4_0",
    batch: int = 1,
    *,
    reserve: float = RESERVE,
    **how: Any,
) -> int:
    """The longest context, in tokens, with which a model fits on a card; 0 where it fits with none."""
    sizes = architecture(model)
    low, high = 0, sizes.context
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (
            (middle, high)
            if fits(card, sizes, format, middle, batch, reserve=reserve, **how)
            else (low, middle - 1)
        )
    return low


def largest_parameters(card: str | int, bits: float, kv: float = 0, reserve: float = RESERVE) -> int:
    """Weights of so many bits that fit on a card beside `kv` bytes for all else. Raises ValueError for bits that are none.

    >>> f"{largest_parameters(24 * 2**30, 4.5, 2 * 2**30) / 1e9:.1f} billion"
    '37.4 billion'
    """
    if not bits > 0:
        raise ValueError(f"{bits} bits a weight")
    return max(0, int((usable(card, reserve) - kv) * 8 / bits))


def candidates(
    card: str | int, format: str = "q4_0", context: int = 4096, batch: int = 1, **how: Any
) -> Iterator[Architecture]:
    """The well-known language models that read so long a context and fit on a card with it, the largest first."""
    known = [a for a in architectures().values() if a.context >= context and not a.family.encoder]
    for sizes in sorted(known, key=lambda a: -a.parameters):
        if fits(card, sizes, format, context, batch, **how):
            yield sizes


def largest_model(
    card: str | int, format: str = "q4_0", context: int = 4096, batch: int = 1, **how: Any
) -> str | None:
    """The first of `candidates`; None where none fits."""
    found = next(candidates(card, format, context, batch, **how), None)
    return found.name if found else None
