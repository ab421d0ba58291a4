"""Check that a JSON schema for answers is small enough for llama.cpp, which fails on very large ones."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

MAX_REPEATS = 10_000  # with maxItems=1e8 llama.cpp used up all memory; multipleOf=1e6 took minutes
COUNT_KEYWORDS = frozenset(
    {"minItems", "maxItems", "minProperties", "maxProperties", "minContains", "maxContains"}
)


def check_size(schema: dict[str, Any]) -> dict[str, Any]:
    """Return `schema`. Raises ValueError for counts or multipleOf steps that llama.cpp cannot handle."""
    multiple = 1
    for key, value in _pairs(schema):
        if key in COUNT_KEYWORDS and isinstance(value, int | float) and value > MAX_REPEATS:
            raise ValueError(f"{key} {value} is above {MAX_REPEATS}")
        if key == "multipleOf" and isinstance(value, int | float) and value > 0:
            fraction = Fraction(str(value))
            multiple = math.lcm(multiple, fraction.numerator * fraction.denominator)
            if multiple > MAX_REPEATS:
                raise ValueError(
                    f"multipleOf {value}: the least common multiple of all steps is above {MAX_REPEATS}"
                )
    return schema


def _pairs(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield every key and value of nested dicts and lists."""
    for key, inner in value.items() if isinstance(value, dict) else ((None, v) for v in value):
        if key is not None:
            yield key, inner
        if isinstance(inner, dict | list):
            yield from _pairs(inner)
