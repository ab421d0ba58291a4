"""Check that a JSON schema for answers says something, and that llama.cpp compiles it in about .1 seconds."""

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
MAX_REPEATS = 2_000  # all maxItems and so on together; 10,000 of any type took .1 s
MAX_STEPS = 10_000  # the least common multiple of all multipleOf; 1e6 took minutes
MAX_FORCED = 100_000  # minItems times the characters; 400,000 took .2 s for every token of an answer
MAX_PATTERN_REPEATS = 1_000  # product of the {counts} in a pattern; (a{1000}){1000} took 30 seconds
MAX_COMBINATIONS = 50  # of the parts that allOf joins, each with each: .1 s
LEAST = ("minItems", "minProperties", "minContains")
COUNTS = (*LEAST, "maxItems", "maxProperties", "maxContains")
NAMED, JOINERS = ("properties", "patternProperties"), {"allOf", "anyOf", "oneOf", "$ref"}
ANNOTATIONS = {"title", "description", "default", "examples", "discriminator", "$comment", "$schema", "$id"}
ANNOTATIONS |= {"$defs", "definitions"}
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
    properties, repetitions, least, joined, steps, counted = 0, 0, 0, 0, 1, dict[str, int]()
    for part in _parts(schema):
        properties += sum(len(part[name]) for name in NAMED if isinstance(part.get(name), dict))
        repetitions += _sum(part, COUNTS)
        least += _sum(part, LEAST)
        joined += _joined(part, schema, counted)
        size += _pattern_repeats(part)
        steps = math.lcm(steps, _step(part))
        if steps > MAX_STEPS:
            raise ValueError(f"multipleOf: the least common multiple of all steps is above {MAX_STEPS:,}")
    for number, most, what in (
        (properties, MAX_PROPERTIES, "properties"),
        (repetitions, MAX_REPEATS, "repetitions: the sum of all maxItems and so on"),
        (least * size, MAX_FORCED, "forced characters: the sum of all minItems times its length"),
        (joined, MAX_COMBINATIONS, "or more combinations of parts by allOf, $ref, anyOf and oneOf"),
    ):
        if number > most:
            raise ValueError(f"the schema has {number:,} {what}; at most {most:,} are possible")
    return schema


def _depth(value: Any) -> int:
    """The number of nested dicts and lists."""
    depth, level = 0, [value]
    while level := [v for v in level if isinstance(v, dict | list)]:
        level = [inner for v in level for inner in (v.values() if isinstance(v, dict) else v)]
        depth += 1
    return depth


def _parts(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every dict in nested dicts and lists."""
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value:
        if isinstance(inner, dict | list):
            yield from _parts(inner)


def _sum(part: dict[str, Any], keywords: tuple[str, ...]) -> int:
    counts = (part.get(keyword) for keyword in keywords)
    return sum(math.ceil(count) for count in counts if isinstance(count, int | float) and count > 0)


def _joined(part: dict[str, Any], schema: dict[str, Any], counted: dict[str, int]) -> int:
    """How many parts llama.cpp makes of `part`, where it joins several rules; 0 if there is only one rule."""
    rules = len(part.keys() - ANNOTATIONS - {"allOf"}) + len(_items(part, "allOf"))
    return _combinations(part, schema, counted) if rules > 1 and part.keys() & JOINERS else 0


def _step(part: dict[str, Any]) -> int:
    """The number whose multiples a multipleOf counts: 10 for .1; 1 if there is none."""
    value = part.get("multipleOf")
    if not isinstance(value, int | float) or value <= 0:
        return 1
    fraction = Fraction(str(value))
    return fraction.numerator * fraction.denominator


def _pattern_repeats(part: dict[str, Any]) -> int:
    """The number of repetitions in the patterns of `part`. Raises ValueError if one has too many."""
    total, named = 0, part.get("patternProperties")
    for pattern in (part.get("pattern"), *(named if isinstance(named, dict) else ())):
        if not isinstance(pattern, str):
            continue
        if len(pattern) > MAX_PATTERN_REPEATS:
            raise ValueError(f"a pattern has {len(pattern):,} characters, more than {MAX_PATTERN_REPEATS:,}")
        counts = re.findall(r"\{(\d*),?(\d*)\}", pattern)
        repeats = math.prod(max(int(least or 0), int(most or 0), 1) for least, most in counts)
        if repeats > MAX_PATTERN_REPEATS:
            what = f"the counts in the pattern {pattern[:40]!r} multiply to {repeats}"
            raise ValueError(f"{what}, more than {MAX_PATTERN_REPEATS:,}")
        total += repeats
    return total


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
