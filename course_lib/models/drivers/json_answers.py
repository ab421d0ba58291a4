"""JSON schemas for answers: bound what a schema leaves open, and check an answer against its schema."""

from __future__ import annotations

import json
import re
from typing import Any

from course_lib.lazy import jsonschema_validators
from course_lib.models.drivers.arguments import InputError
from course_lib.models.drivers.fields import Unsupported

# Options of llguidance, the library by which llama.cpp enforces schemas: one space after ":" and ",", as in
# most JSON that a model has read, and no other white space; and oneOf, which pydantic writes for a union, is
# read as anyOf.
OPTIONS = {
    "whitespace_flexible": False,
    "key_separator": ": ",
    "item_separator": ", ",
    "coerce_one_of": True,
}
SCHEMAS_BY_NAME = ("properties", "patternProperties", "$defs", "definitions")
LISTS_OF_SCHEMAS = ("anyOf", "oneOf", "allOf", "prefixItems")
SCHEMAS = ("items", "additionalProperties", "contains", "not", "if", "then", "else")
LARGEST = 10**15 - 1  # 15 digits, which a float holds exactly
STEP = 1e-9  # between two numbers; the smallest that llguidance accepts as multipleOf
# The end of an answer in a long number, or in a text that repeats itself.
RUNAWAY = re.compile(r"\d{20,}$|(?P<part>.{1,40}?)(?P=part){4,}$", re.DOTALL)
MINIMUM_RUN = 20  # characters


def bounded(schema: dict[str, Any]) -> dict[str, Any]:
    """A copy of a schema for llama.cpp whose answers have no keys, white space and digits without end.

    llama.cpp enforces schemas with llguidance, which allows any white space, any digits, and in an object any
    keys in addition to the named ones. As in llama.cpp's own converter to grammars, an object that names keys
    has no others unless `additionalProperties` says so, and the digits of numbers are limited: to 15 before
    the point and 9 after it. The decimals of negative numbers stay open, because llguidance cannot limit
    them. In a schema with allOf, keys and decimals stay open, because a part of it must not exclude what
    another part allows. Raises Unsupported for a multipleOf with negative multiples, which llguidance never
    writes. See github.com/guidance-ai/llguidance/blob/main/docs/json_schema.md.
    """
    return {"x-guidance": OPTIONS} | _bound(schema, joined="allOf" in json.dumps(schema))


def _bound(schema: Any, joined: bool) -> Any:
    """A copy of a schema with bounds. joined: Whether a part of it may have to fit another part."""
    if not isinstance(schema, dict):
        return schema
    result = dict(schema)
    for name in SCHEMAS_BY_NAME:
        if isinstance(schema.get(name), dict):
            result[name] = {key: _bound(value, joined) for key, value in schema[name].items()}
    for name in LISTS_OF_SCHEMAS:
        if isinstance(schema.get(name), list):
            result[name] = [_bound(value, joined) for value in schema[name]]
    for name in SCHEMAS:
        if name in schema:
            result[name] = _bound(schema[name], joined)
    is_whole = not any(name in schema for name in ("$ref", "anyOf", "oneOf", "if", "patternProperties"))
    if schema.get("properties") and is_whole and not joined:
        result.setdefault("additionalProperties", False)
    return _bound_number(result, joined)


def _bound_number(schema: dict[str, Any], joined: bool) -> dict[str, Any]:
    """A copy of a schema in which a number has a minimum, a maximum and, unless it is negative, a step."""
    types = [schema["type"]] if isinstance(schema.get("type"), str) else schema.get("type") or []
    if not {"integer", "number"} & {*types} or "enum" in schema or "const" in schema:
        return schema
    least = max(_values(schema, "minimum", "exclusiveMinimum"), default=None)
    most = min(_values(schema, "maximum", "exclusiveMaximum"), default=None)
    if "integer" in types and (wide := [v for v in (least, most) if v and abs(v) >= 2**63]):
        raise Unsupported(f"a bound of {wide[0]}: llama.cpp's integers have 64 bits", "set a smaller bound")
    result = dict(schema)
    if least is None:
        result["minimum"] = min(-LARGEST, 10 * (most or 0))
    if most is None:
        result["maximum"] = max(LARGEST, 10 * (least or 0))
    may_be_negative = least is None or least < 0
    if joined or ("multipleOf" in schema and not may_be_negative):
        return result
    if "multipleOf" in schema:
        what = f"multipleOf {schema['multipleOf']}: llama.cpp writes no negative multiples"
        raise Unsupported(what, 'add "minimum": 0 to this part of the schema')
    if "number" not in types or (most is not None and most <= 0):
        return result
    if not may_be_negative:
        return result | {"multipleOf": STEP}
    negative = {k: result[k] for k in ("minimum", "exclusiveMinimum") if k in result}
    return {
        "anyOf": [
            result | {"minimum": 0, "multipleOf": STEP},
            {"type": "number", "exclusiveMaximum": 0} | negative,
        ]
    }


def _values(schema: dict[str, Any], *keywords: str) -> list[float]:
    values = (schema.get(keyword) for keyword in keywords)
    return [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]


def is_runaway(text: str) -> bool:
    """Whether an answer that was cut ends in a very long number, or in a part that it repeats."""
    run = RUNAWAY.search(text[-1000:])
    return run is not None and len(run.group()) >= MINIMUM_RUN


def check_validity(schema: dict[str, Any]) -> None:
    """Raise InputError for what is not a valid JSON schema, such as an unknown type."""
    validators = jsonschema_validators()
    try:
        validators.validator_for(schema).check_schema(schema)
    except validators.exceptions.SchemaError as error:
        where = "/".join(map(str, error.absolute_path)) or "its root"
        what = f"the JSON schema is not valid at {where}: {error.message[:200]}"
        raise InputError(what, "see json-schema.org/understanding-json-schema/reference") from error


def matches(text: str, schema: dict[str, Any]) -> bool:
    """Whether a text is JSON that matches a schema."""
    try:
        return bool(jsonschema_validators().validator_for(schema)(schema).is_valid(json.loads(text)))
    except (ValueError, RecursionError):
        return False
