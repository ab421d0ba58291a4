"""Base schemas for the request bodies of the model server. Unsupported fields are rejected, never ignored."""

from __future__ import annotations

import re
import secrets
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainValidator, ValidationError, model_validator
from pydantic_core import from_json

from course_lib.models.schema import Generation
from course_lib.models.schema.json_schema import check_size
from course_lib.serve.errors import ApiError

DURATION = re.compile(r"[+-]?(?:0|(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|ms|s|m|h))+)")
DURATION_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h)")
SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}
MAX_SECONDS = 1e8  # three years
OUR_NAMES = {"repeat_penalty": "repetition_penalty"}  # Ollama's name -> the field of Generation, if different
OLLAMA_NAMES = {ours: name for name, ours in OUR_NAMES.items()}


def names(text: str) -> frozenset[str]:
    """Return the whitespace-separated names in `text`."""
    return frozenset(text.split())


class RequestBody(BaseModel):
    """The base class of request bodies. A field that is null counts as missing, because clients send null.

    UNSUPPORTED: Fields of the API that are rejected unless they are empty (null, false, [] or "").
    IGNORED: Fields that are accepted without effect, because they do not change the response.
    """

    model_config = ConfigDict(
        extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True, protected_namespaces=()
    )
    UNSUPPORTED: ClassVar[frozenset[str]] = frozenset()
    IGNORED: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _drop_ignored(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        ignored = cls.IGNORED | {name for name in cls.UNSUPPORTED if not value.get(name)}
        return {name: v for name, v in value.items() if v is not None and name not in ignored}

    @classmethod
    def read(cls, raw: bytes) -> Self:
        """Parse JSON text. Raises ApiError with the name of the first invalid field."""
        try:
            value = from_json(raw, allow_inf_nan=False)
        except ValueError as error:
            what = f"invalid JSON: {error}"[:200] if raw.strip() else "missing request body"
            raise ApiError("body", what) from error
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise ApiError(_field_name(first["loc"]), _reason(first["type"], first["msg"])) from None


def _field_name(location: tuple[Any, ...]) -> str:
    name = ".".join(map(str, location)) or "body"
    return name if len(name) <= 100 else f"{name[:97]}..."


def _reason(kind: str, message: str) -> str:
    if kind == "extra_forbidden":  # Ollama would ignore the field silently
        return "this server does not support this field; leave it out"
    return message.removeprefix("Value error, ")


def _seconds(value: Any) -> float:
    """Convert a number or a Go duration such as "1h30m" to seconds. Negative values (forever) become -1."""
    if isinstance(value, str):
        if len(value) > 100 or not DURATION.fullmatch(value):
            raise ValueError("expected a number of seconds, or a string such as '5m', '1h30m', '-1m'")
        sign = -1 if value[0] == "-" else 1
        seconds = sign * sum(float(number) * SECONDS[unit] for number, unit in DURATION_PART.findall(value))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    else:
        raise ValueError("expected a number of seconds, or a string such as '5m'")
    if seconds > MAX_SECONDS:
        raise ValueError(f"at most {MAX_SECONDS:.0f} seconds; -1 keeps the model forever")
    return seconds if seconds >= 0 else -1.0


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _json_schema(value: Any) -> dict[str, Any] | None:
    """Return the JSON schema that an answer must match; None for free text."""
    if value in ("", "json"):
        return {"type": "object"} if value else None
    if not isinstance(value, dict):
        raise ValueError("expected 'json' or a JSON schema")
    return check_size(value)


KeepAlive = Annotated[float, BeforeValidator(_seconds)]
Texts = Annotated[list[str], BeforeValidator(_as_list)]
Format = Annotated[dict[str, Any] | None, PlainValidator(_json_schema)]
Role = Literal["system", "user", "assistant"]


class SamplingOptions(RequestBody):
    """Ollama's sampling options, with the bounds and defaults of the course's Generation options."""

    temperature: float | None = None
    seed: int | None = None
    stop: Texts | None = None
    top_k: int | None = None
    top_p: float | None = None
    repeat_penalty: float | None = None

    def generation(self, prefix: str = "", json_schema: dict[str, Any] | None = None) -> Generation:
        """Convert to Generation options. Raises ApiError that names `prefix` + the invalid field."""
        names = SamplingOptions.model_fields
        options = {OUR_NAMES.get(n, n): v for n in names if (v := getattr(self, n)) is not None}
        if options.get("seed") == -1:  # -1 means a random seed, in both APIs
            options["seed"] = secrets.randbelow(2**31)
        try:
            return Generation(**options, json_schema=json_schema)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            name = str(first["loc"][0])
            raise ApiError(prefix + OLLAMA_NAMES.get(name, name), first["msg"]) from None


def parse_num_predict(value: int | None, field: str) -> int | None:
    """Return the maximum number of answer tokens; None if unlimited (-1 or -2).

    Raises ApiError for 0 and for other negative values.
    """
    if value is not None and value < 1 and value not in (-1, -2):
        raise ApiError(field, f"{value}; expected at least 1, or -1 for no limit")
    return value if value is not None and value > 0 else None
