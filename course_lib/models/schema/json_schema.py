"""Check that a JSON schema for answers excludes some, and that llama.cpp compiles it in about .1 seconds."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

MAX_SCHEMA_BYTES = 20_000  # an enum of texts of 90,000 characters in all took 8 seconds
MAX_DEPTH = 64  # nested objects and lists of the schema; above about 120 llama.cpp stops or ignores it
MAX_PROPERTIES = 100  # of all objects in the schema; 500 optional ones made every token five times slower
MAX_REPEATS = 2_000  # all maxItems and so on together; a list of 10,000 items of type {} took .1 s
MAX_STEPS = 10_000  # the least common multiple of all multipleOf; 1e6 took minutes
MAX_FORCED = (
    100_000  # all minItems times the length of the schema; 400,000 took .2 s for every token of an answer
)
MAX_PATTERN = 1_000  # characters of a pattern, its {counts} written out; (a{1000}){1000} took 30 seconds
MAX_COMBINATIONS = (
    50  # alternatives that result when an allOf of several anyOf is multiplied out; 50 took .1 s
)
LEAST = ("minItems", "minProperties", "minContains")
COUNTS = (*LEAST, "maxItems", "maxProperties", "maxContains")
NAMED = ("properties", "patternProperties")  # keywords whose values map names or patterns to schemas
JOINERS = {"allOf", "anyOf", "oneOf", "$ref"}  # keywords that join other schemas
ANNOTATIONS = {"title", "description", "default", "examples", "discriminator", "$comment", "$schema", "$id"}
ANNOTATIONS |= {"$defs", "definitions"}
DATA = ("enum", "const", "default", "examples")  # keywords whose values are data and no schemas
KEYWORDS = ("type", "properties", "items", "enum", "const", "$ref", "anyOf", "oneOf", "allOf")


def check_keywords(schema: dict[str, Any]) -> dict[str, Any]:
    """Return `schema`. Raises ValueError for one that any JSON matches, such as {"city": "string"}.

    {} is allowed, because it obviously matches any JSON.
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
        size = len(json.dumps(schema, ensure_ascii=False, allow_nan=False).encode("utf-8", "surrogatepass"))
    except (TypeError, ValueError) as error:
        raise ValueError(f"the schema is no JSON: {error}") from error
    if size > MAX_SCHEMA_BYTES:
        raise ValueError(f"the schema has {size:,} bytes, more than {MAX_SCHEMA_BYTES:,}")
    try:
        _check_counts(schema, size)
    except RecursionError as error:
        raise ValueError("the references of the schema lead too deep into each other") from error
    return schema


def _check_counts(schema: dict[str, Any], size: int) -> None:
    """Raise ValueError if one of the sums over all parts of the schema is above its bound."""
    properties, repetitions, least, joined, steps, counted = 0, 0, 0, 0, 1, dict[str, int]()
    for part in _parts(schema):
        properties += sum(len(part[name]) for name in NAMED if isinstance(part.get(name), dict))
        repetitions += _sum(part, COUNTS)
        least += _sum(part, LEAST)
        joined += _joined(part, schema, counted)
        size += _pattern_length(part)
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


def _depth(value: Any) -> int:
    """The number of nested dicts and lists."""
    depth, level = 0, [value]
    while level := [v for v in level if isinstance(v, dict | list)]:
        level = [inner for v in level for inner in (v.values() if isinstance(v, dict) else v)]
        depth += 1
    return depth


def _parts(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every dict in nested dicts and lists, but none that is data."""
    if isinstance(value, dict):
        yield value
        value = [inner for keyword, inner in value.items() if keyword not in DATA]
    for inner in value:
        if isinstance(inner, dict | list):
            yield from _parts(inner)


def _sum(part: dict[str, Any], keywords: tuple[str, ...]) -> int:
    counts = (part.get(keyword) for keyword in keywords)
    return sum(math.ceil(count) for count in counts if isinstance(count, int | float) and count > 0)


def _joined(part: dict[str, Any], schema: dict[str, Any], counted: dict[str, int]) -> int:
    """How many alternatives llama.cpp makes of a part with several keywords; 0 if it has only one.

    A single anyOf stays as it is: only a combination of keywords is multiplied out.
    """
    rules = len(part.keys() - ANNOTATIONS - {"allOf"}) + len(_items(part, "allOf"))
    return _combinations(part, schema, counted) if rules > 1 and part.keys() & JOINERS else 0


def _step(part: dict[str, Any]) -> int:
    """Numerator times denominator of multipleOf (10 for .1, 3 for 3), or 1 without it.

    The grammar (rules for the text) that llama.cpp makes of the schema grows with it.
    """
    value = part.get("multipleOf")
    if not isinstance(value, int | float) or isinstance(value, bool) or value <= 0:
        return 1
    fraction = Fraction(str(value))
    return fraction.numerator * fraction.denominator


def _pattern_length(part: dict[str, Any]) -> int:
    """The length of the patterns of `part`, counts written out. Raises ValueError for a long pattern."""
    total, named = 0, part.get("patternProperties")
    for pattern in (part.get("pattern"), *(named if isinstance(named, dict) else ())):
        if isinstance(pattern, str):
            length = _written_out(pattern) if len(pattern) <= MAX_PATTERN else len(pattern)
            if length > MAX_PATTERN:
                what = f"the pattern {pattern[:40]!r} has {length:,} characters, its counts written out"
                raise ValueError(f"{what}: more than {MAX_PATTERN:,}")
            total += length
    return total


def _written_out(pattern: str) -> int:
    """The number of characters and classes in a pattern whose {counts} are written out.

    >>> _written_out("[a-z]{3}-(b{2}c){2,5}")
    19
    """
    lengths, last = [0], 0  # of the group that is open, of those around it; of what a count repeats
    for token in re.finditer(r"\\.|\[(?:\\.|[^\]\\])*\]|\{(\d*),?(\d*)\}|.", pattern, re.DOTALL):
        if token[0] == "(":
            lengths.append(0)
        elif token[0] == ")" and len(lengths) > 1:
            last = lengths.pop()
            lengths[-1] += last
        elif token[0][0] == "{" and len(token[0]) > 1:
            count = max(int(token[1] or 0), int(token[2] or 0), 1)
            lengths[-1] += last * (count - 1)
            last *= count
        else:
            last = 1
            lengths[-1] += last
    return sum(lengths)


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
