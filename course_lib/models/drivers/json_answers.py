"""JSON schemas for answers: bound what a schema leaves open, and check an answer against its schema."""

from __future__ import annotations

import json
from typing import Any

# Options of llguidance: one space after ":" and ",", as in most JSON that a model has read, and no other
# white space; and oneOf, which pydantic writes for a union, is read as anyOf.
OPTIONS = {
    "whitespace_flexible": False,
    "key_separator": ": ",
    "item_separator": ", ",
    "coerce_one_of": True,
}
SCHEMAS_BY_NAME = ("properties", "patternProperties", "$defs", "definitions")
LISTS_OF_SCHEMAS = ("anyOf", "oneOf", "prefixItems")
SCHEMAS = ("items", "additionalProperties", "contains", "not", "if", "then", "else")


def bounded(schema: dict[str, Any]) -> dict[str, Any]:
    """A copy of a schema for llama.cpp whose answers have no keys and white space without end.

    llama.cpp enforces schemas with llguidance, which allows any white space, and in an object any keys
    beside the named ones. As in llama.cpp's own converter to grammars, an object that names keys has no
    others unless `additionalProperties` says so. A schema with allOf is left open, because a part of it must
    not exclude the keys of another part.
    See github.com/guidance-ai/llguidance/blob/main/docs/json_schema.md.
    """
    closed = schema if "allOf" in json.dumps(schema) else _close(schema)
    return {"x-guidance": OPTIONS} | closed


def _close(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    result = dict(schema)
    for name in SCHEMAS_BY_NAME:
        if isinstance(schema.get(name), dict):
            result[name] = {key: _close(value) for key, value in schema[name].items()}
    for name in LISTS_OF_SCHEMAS:
        if isinstance(schema.get(name), list):
            result[name] = [_close(value) for value in schema[name]]
    for name in SCHEMAS:
        if name in schema:
            result[name] = _close(schema[name])
    is_whole = not any(name in schema for name in ("$ref", "anyOf", "oneOf", "if", "patternProperties"))
    if schema.get("properties") and is_whole:
        result.setdefault("additionalProperties", False)
    return result


def matches(text: str, schema: dict[str, Any]) -> bool:
    """Whether a text is JSON that matches a schema."""
    from jsonschema.validators import validator_for  # type: ignore[import-untyped]

    try:
        return bool(validator_for(schema)(schema).is_valid(json.loads(text)))
    except (ValueError, RecursionError):
        return False
