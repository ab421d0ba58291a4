"""Validate with pydantic, and report all wrong fields in one error with their allowed values.

A specification (ModelSpec) says which model to load, and how.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from course_lib.errors import CourseError

T = TypeVar("T", bound=BaseModel)
# What other libraries call a field.
OTHER_NAMES = {
    "max_tokens": "max_output_length",
    "max_new_tokens": "max_output_length",
    "max_length": "max_output_length",
    "num_predict": "max_output_length",
    "num_ctx": "context_length",
    "n_ctx": "context_length",
    "repeat_penalty": "repetition_penalty",
    "torch_dtype": "precision",
    "dtype": "precision",
}


class SpecError(CourseError, ValueError):
    """Wrong fields in a specification or in options: each with its value and the allowed values."""


class FieldError(ValueError):
    """A validator's error with a fix: the call that corrects the value."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what)
        self.fix = fix


class Frozen(BaseModel):
    """Base class of all parts of a specification: immutable, and without unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)

    def __repr_args__(self) -> Any:
        return (
            (name, getattr(self, name)) for name in type(self).model_fields if name in self.model_fields_set
        )


def validate(model: type[T], value: Any, call: str) -> T:
    """Return `value` as an instance of `model`. Raises SpecError with one line for every wrong field.

    call: name of the function that the user called, such as `load`, for the fix.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        problems = error.errors(include_url=False)
    except RecursionError:
        raise SpecError("nested too deeply", f"see {model.__name__}.model_fields") from None
    raise SpecError("\n".join(_line(p, model) for p in problems), _fix(problems[0], model, call))


def _path(problem: Any) -> list[str]:
    """Return the path of the wrong field, without the source type that pydantic inserts."""
    return [str(p) for p in problem["loc"] if p not in ("huggingface", "local", "server")]


def _line(problem: Any, model: type[BaseModel]) -> str:
    """Return the line that describes a wrong field. The value of a token is never shown."""
    where, what = ".".join(_path(problem)), problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        fields = _fields(_path(problem)[:-1], model)
        return f"{where}: no such field{'; the fields are ' * bool(fields)}{', '.join(fields)}"
    shown = repr(problem["input"])
    shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
    value = "" if "token" in where or isinstance(problem["input"], dict | BaseModel) else f"{shown}: "
    return f"{where}: {value}{what}" if where else what


def _fix(problem: Any, model: type[BaseModel], call: str) -> str:
    """Return a fix: the validator's own, the closest field name or allowed value, or the default."""
    path, context, fields = _path(problem), problem.get("ctx", {}), f"see {model.__name__}.model_fields"
    if isinstance(context.get("error"), FieldError):
        return str(context["error"].fix)
    if problem["type"] == "tuple_type" and isinstance(problem["input"], str) and len(path) == 1:
        return f"{call}(..., {path[0]}=[{problem['input']!r}])"
    if problem["type"] == "extra_forbidden":
        if len(path) == 1 and (other := OTHER_NAMES.get(path[-1])) in model.model_fields:
            return f"{call}(..., {other}={problem['input']!r})"
        if len(path) == 1 and isinstance(options := _defaults(model).get("generation"), BaseModel):
            name = OTHER_NAMES.get(path[-1], path[-1])
            if name in type(options).model_fields:
                return f"{call}(..., generation={{{name!r}: {problem['input']!r}}})"
        similar = get_close_matches(path[-1], _fields(path[:-1], model), n=1)
        return f"{call}(..., {similar[0]}=...)" if similar and len(path) == 1 else fields
    field = model.model_fields.get(path[0]) if len(path) == 1 else None
    if field is None or field.is_required():
        return fields
    allowed = get_close_matches(
        str(problem["input"]), re.findall("'(.+?)'", context.get("expected", "")), n=1
    )
    return f"{call}(..., {path[0]}={(allowed or [field.get_default(call_default_factory=True)])[0]!r})"


def _defaults(model: type[BaseModel]) -> dict[str, Any]:
    fields = model.model_fields.items()
    return {name: field.get_default(call_default_factory=True) for name, field in fields}


def _fields(path: list[str], model: type[BaseModel]) -> list[str]:
    """Return the field names of the part at `path`; an empty list where it is a union of types."""
    for name in path:
        field = model.model_fields.get(name)
        if field is None or not (
            isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        ):
            return []
        model = field.annotation
    return list(model.model_fields)
