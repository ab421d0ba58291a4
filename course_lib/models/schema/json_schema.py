"""Limits on the JSON schema that an answer must follow, because llama.cpp fails on very large ones."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

REPEATS = 10_000  # maxItems=1e8 made llama.cpp use all memory; multipleOf=1e6 took minutes
COUNTS = frozenset({"minItems", "maxItems", "minProperties", "maxProperties", "minContains", "maxContains"})


def check_size(schema: dict[str, Any]) -> dict[str, Any]:
    """`schema` itself. Raises ValueError for counts and steps that would exhaust the machine."""
    steps = 1
    for key, value in _pairs(schema):
        if key in COUNTS and isinstance(value, int | float) and value > REPEATS:
            raise ValueError(f"{key} {value}; at most {REPEATS}")
        if key == "multipleOf" and isinstance(value, int | float) and value > 0:
            fraction = Fraction(str(value))
            steps = math.lcm(steps, fraction.numerator * fraction.denominator)
            if steps > REPEATS:
                raise ValueError(f"multipleOf {value}; steps finer or together longer than {REPEATS}")
    return schema


def _pairs(value: Any) -> Iterator[tuple[str, Any]]:
    for key, inner in value.items() if isinstance(value, dict) else ((None, v) for v in value):
        if key is not None:
            yield key, inner
        if isinstance(inner, dict | list):
            yield from _pairs(inner)
