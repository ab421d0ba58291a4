"""Turning what pydantic reports into one error that names each wrong field and what is allowed."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from course_lib.errors import CourseError

T = TypeVar("T", bound=BaseModel)


class SpecError(CourseError, ValueError):
    """A specification or an option with wrong fields: names each one, its value and what is allowed."""


class FieldError(ValueError):
    """For a validator: what is wrong with a value, and the call that corrects it."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what)
        self.fix = fix


class Frozen(BaseModel):
    """Base of all parts of a specification: immutable, and no unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)

    def __repr_args__(self) -> Any:
        return (
            (name, getattr(self, name)) for name in type(self).model_fields if name in self.model_fields_set
        )


def validate(model: type[T], value: Any, call: str) -> T:
    """`value` as an instance of `model`. Raises SpecError with one line for every wrong field.

    call: the function that its caller used, for the correction, such as `load`.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        problems = error.errors(include_url=False)
    except RecursionError:
        raise SpecError("nested too deeply", f"see {model.__name__}.model_fields") from None
    raise SpecError("\n".join(_line(p, model) for p in problems), _fix(problems[0], model, call))


def _path(problem: Any) -> list[str]:
    """Where the problem is, without the name of the kind of source, which pydantic adds."""
    return [str(p) for p in problem["loc"] if p not in ("huggingface", "local", "server")]


def _line(problem: Any, model: type[BaseModel]) -> str:
    """One line for one wrong field. A token's value is never shown."""
    where, what = ".".join(_path(problem)), problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        fields = _fields(_path(problem)[:-1], model)
        return f"{where}: no such field{'; the fields are ' * bool(fields)}{', '.join(fields)}"
    shown = repr(problem["input"])
    shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
    value = "" if "token" in where or isinstance(problem["input"], dict | BaseModel) else f"{shown}: "
    return f"{where}: {value}{what}" if where else what


def _fix(problem: Any, model: type[BaseModel], call: str) -> str:
    """How to correct a wrong field: the validator's own, an allowed value, the right name, or the default."""
    path, context, fields = _path(problem), problem.get("ctx", {}), f"see {model.__name__}.model_fields"
    if isinstance(context.get("error"), FieldError):
        return str(context["error"].fix)
    if problem["type"] == "extra_forbidden":
        similar = get_close_matches(path[-1], _fields(path[:-1], model), n=1)
        return f"{call}(..., {similar[0]}=...)" if similar and len(path) == 1 else fields
    field = model.model_fields.get(path[0]) if len(path) == 1 else None
    if field is None or field.is_required():
        return fields
    allowed = get_close_matches(
        str(problem["input"]), re.findall("'(.+?)'", context.get("expected", "")), n=1
    )
    return f"{call}(..., {path[0]}={(allowed or [field.get_default(call_default_factory=True)])[0]!r})"


def _fields(path: list[str], model: type[BaseModel]) -> list[str]:
    """Names of the fields of the part at `path`; none where the part has several forms."""
    for name in path:
        field = model.model_fields.get(name)
        if field is None or not (
            isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        ):
            return []
        model = field.annotation
    return list(model.model_fields)
