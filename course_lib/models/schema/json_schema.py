"""Check that a JSON schema for answers says something, and that llama.cpp can compile it within a second."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

MAX_SCHEMA_BYTES = 20_000  # texts of 90,000 characters in an enum took 8 seconds
MAX_DEPTH = 64  # nested objects and lists of the schema; above about 120 llama.cpp stops or ignores it
MAX_PROPERTIES = 100  # of all objects in the schema; 500 optional ones made every token five times slower
MAX_REPEATS = 10_000  # with maxItems=1e8 llama.cpp used up all memory; multipleOf=1e6 took minutes
MAX_PATTERN_REPEATS = 1_000  # product of the {counts} in a pattern; (a{1000}){1000} took 30 seconds
MAX_COMBINATIONS = 500  # of the alternatives that allOf multiplies; 3,125 took a second
COUNT_KEYWORDS = frozenset(
    {"minItems", "maxItems", "minProperties", "maxProperties", "minContains", "maxContains"}
)
KEYWORDS = ("type", "properties", "items", "enum", "const", "$ref", "anyOf", "oneOf", "allOf")


def check_keywords(schema: dict[str, Any]) -> dict[str, Any]:
    """Return `schema`. Raises ValueError for one that any JSON matches, such as {"city": "string"}.

    {} is allowed: it says so.
    """
    if schema and not any(keyword in schema for keyword in KEYWORDS):
        raise ValueError(
            f"the schema has none of the keywords {', '.join(KEYWORDS)}: any JSON would match it"
        )
    return schema


def check_size(schema: dict[str, Any]) -> dict[str, Any]:
    """Return `schema`. Raises ValueError if it is larger than one of the bounds above."""
    if (depth := _depth(schema)) > MAX_DEPTH:
        raise ValueError(f"the schema is nested {depth} deep, more than {MAX_DEPTH}")
    try:
        size = len(json.dumps(schema))
    except TypeError as error:
        raise ValueError(f"the schema is no JSON: {error}") from error
    if size > MAX_SCHEMA_BYTES:
        raise ValueError(f"the schema has {size:,} characters, more than {MAX_SCHEMA_BYTES:,}")
    multiple, properties, counted = 1, 0, dict[str, int]()
    for key, value in _pairs(schema):
        if key in COUNT_KEYWORDS and isinstance(value, int | float) and value > MAX_REPEATS:
            raise ValueError(f"{key} {value} is above {MAX_REPEATS}")
        if key == "properties" and isinstance(value, dict):
            properties += len(value)
        patterns = value if key == "patternProperties" and isinstance(value, dict) else ()
        for pattern in (value,) if key == "pattern" and isinstance(value, str) else patterns:
            _check_pattern(pattern)
        if key == "allOf" and _combinations({"allOf": value}, schema, counted) > MAX_COMBINATIONS:
            raise ValueError(f"allOf has more than {MAX_COMBINATIONS} combinations of alternatives")
        if key == "multipleOf" and isinstance(value, int | float) and value > 0:
            fraction = Fraction(str(value))
            multiple = math.lcm(multiple, fraction.numerator * fraction.denominator)
            if multiple > MAX_REPEATS:
                raise ValueError(
                    f"multipleOf {value}: the least common multiple of all steps is above {MAX_REPEATS}"
                )
    if properties > MAX_PROPERTIES:
        raise ValueError(f"the schema has {properties:,} properties, more than {MAX_PROPERTIES}")
    return schema


def _depth(value: Any) -> int:
    """The number of nested dicts and lists."""
    depth, level = 0, [value]
    while level := [v for v in level if isinstance(v, dict | list)]:
        level = [inner for v in level for inner in (v.values() if isinstance(v, dict) else v)]
        depth += 1
    return depth


def _pairs(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield every key and value of nested dicts and lists."""
    for key, inner in value.items() if isinstance(value, dict) else ((None, v) for v in value):
        if key is not None:
            yield key, inner
        if isinstance(inner, dict | list):
            yield from _pairs(inner)


def _check_pattern(pattern: str) -> None:
    if len(pattern) > MAX_PATTERN_REPEATS:
        raise ValueError(f"a pattern has {len(pattern):,} characters, more than {MAX_PATTERN_REPEATS:,}")
    counts = re.findall(r"\{(\d*),?(\d*)\}", pattern)
    repeats = math.prod(max(int(least or 0), int(most or 0), 1) for least, most in counts)
    if repeats > MAX_PATTERN_REPEATS:
        what = f"the counts in the pattern {pattern[:40]!r} multiply to {repeats}"
        raise ValueError(f"{what}, more than {MAX_PATTERN_REPEATS:,}")


def _combinations(part: Any, schema: dict[str, Any], counted: dict[str, int]) -> int:
    """The number of alternatives of a part of `schema`: allOf multiplies them, anyOf and oneOf add them up.

    counted: the numbers of the references met so far.
    """
    if not isinstance(part, dict):
        return 1
    number = 1
    for inner in _items(part, "allOf"):
        number = min(number * _combinations(inner, schema, counted), MAX_COMBINATIONS + 1)
    for keyword in ("anyOf", "oneOf"):
        number *= sum(_combinations(inner, schema, counted) for inner in _items(part, keyword)) or 1
    reference = part.get("$ref")
    if isinstance(reference, str):
        if reference not in counted:
            counted[reference] = 1  # a reference to itself multiplies nothing
            counted[reference] = _combinations(_resolve(reference, schema), schema, counted)
        number *= counted[reference]
    return min(number, MAX_COMBINATIONS + 1)


def _items(part: dict[str, Any], keyword: str) -> list[Any]:
    value = part.get(keyword)
    return value if isinstance(value, list) else []


def _resolve(reference: str, schema: Any) -> Any:
    """The part of `schema` that "#/$defs/name" means, for example; None if there is none."""
    for name in reference.removeprefix("#/").split("/"):
        schema = schema.get(name) if isinstance(schema, dict) else None
    return schema
