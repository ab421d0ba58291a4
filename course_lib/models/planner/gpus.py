"""Find out which model fits on which GPU. "24 GB" in a GPU's name means about 24 GiB (24 x 2**30 bytes).

The KV cache holds the keys and values that a model has computed for earlier tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from course_lib.errors import CourseError
from course_lib.models.planner.architectures import Architecture, architectures
from course_lib.models.planner.estimate import MIB, plan
from course_lib.models.planner.lookup import Model, architecture

RESERVE = 0.1  # fraction kept free for the display, the GPU driver, the program and fragmentation
GPUS = {  # memory in MiB as nvidia-smi reports it; for laptops, the RAM
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


def gpu_bytes(gpu: str | int) -> int:
    """Return the bytes of a GPU in GPUS; a number of bytes is returned unchanged. Raises CourseError."""
    if isinstance(gpu, int):
        return gpu
    if gpu not in GPUS:
        raise CourseError(f"unknown GPU {gpu!r}", f"use one of {'; '.join(GPUS)}; or a number of bytes")
    return GPUS[gpu] * MIB


def usable_bytes(gpu: str | int, reserve: float = RESERVE) -> int:
    """Return the bytes of a GPU minus the fraction `reserve`. Raises ValueError unless 0 <= reserve < 1."""
    if not 0 <= reserve < 1:
        raise ValueError(f"reserve={reserve}: it must be at least 0 and below 1")
    return int(gpu_bytes(gpu) * (1 - reserve))


def fits(
    gpu: str | int,
    model: Model,
    weight_format: str | None = None,
    context: int | None = None,
    batch: int = 1,
    *,
    reserve: float = RESERVE,
    **options: Any,
) -> bool:
    """Return whether a model fits on a GPU, less the reserve. options, errors: As for `plan`."""
    return plan(model, weight_format, context, batch, **options).total <= usable_bytes(gpu, reserve)


def largest_context(
    gpu: str | int,
    model: Model,
    weight_format: str | None = None,
    batch: int = 1,
    *,
    reserve: float = RESERVE,
    **options: Any,
) -> int:
    """Return the longest context in tokens with which a model fits on a GPU; 0 if it never fits."""
    low, high = 0, architecture(model).context
    while low < high:
        middle = (low + high + 1) // 2
        if fits(gpu, model, weight_format, middle, batch, reserve=reserve, **options):
            low = middle
        else:
            high = middle - 1
    return low


def largest_parameters(gpu: str | int, bits: float, kv: float = 0, reserve: float = RESERVE) -> int:
    """Return how many weights of `bits` bits fit on a GPU, with `kv` bytes for the KV cache and other needs.

    Raises ValueError if bits <= 0.

    >>> f"{largest_parameters(24 * 2**30, 4.5, 2 * 2**30) / 1e9:.1f} billion"
    '37.4 billion'
    """
    if not bits > 0:
        raise ValueError(f"bits={bits}: it must be above 0")
    return max(0, int((usable_bytes(gpu, reserve) - kv) * 8 / bits))


def fitting_models(
    gpu: str | int, weight_format: str = "q4_0", context: int = 4096, batch: int = 1, **options: Any
) -> Iterator[Architecture]:
    """Yield the well-known language models that fit on a GPU with this context, the largest first."""
    known = [a for a in architectures().values() if a.context >= context and not a.family.encoder]
    for sizes in sorted(known, key=lambda a: -a.parameters):
        if fits(gpu, sizes, weight_format, context, batch, **options):
            yield sizes


def largest_model(
    gpu: str | int, weight_format: str = "q4_0", context: int = 4096, batch: int = 1, **options: Any
) -> str | None:
    """Return the name of the largest of `fitting_models`; None if none fits."""
    return next((sizes.name for sizes in fitting_models(gpu, weight_format, context, batch, **options)), None)
