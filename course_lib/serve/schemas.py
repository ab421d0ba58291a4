"""Reading the body of a request: every field acts, is without effect by its meaning, or is refused by its name."""

from __future__ import annotations

import re
import secrets
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainValidator, ValidationError, model_validator
from pydantic_core import from_json

from course_lib.models.schema import Generation
from course_lib.models.schema.json_schema import check_size
from course_lib.serve.errors import ApiError

DURATION = re.compile(r"^[+-]?(?:0|(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|ms|s|m|h))+)$")
PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h)")
SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}
LONGEST = 1e8  # seconds, three years


class RequestBody(BaseModel):
    """A body. null means not set, as clients send it. UNUSED: fields of the protocol that have no effect here, and are
    refused unless they are empty; HARMLESS: fields that ask for nothing that changes an answer."""

    model_config = ConfigDict(
        extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True, protected_namespaces=()
    )
    UNUSED: ClassVar[frozenset[str]] = frozenset()
    HARMLESS: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _without_the_empty(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        empty = cls.HARMLESS | {k for k in cls.UNUSED if not value.get(k)}
        return {k: v for k, v in value.items() if v is not None and k not in empty}

    @classmethod
    def read(cls, raw: bytes) -> Self:
        """The body in JSON text. Raises ApiError that names the fields which are wrong."""
        try:
            value = from_json(raw, allow_inf_nan=False)
        except ValueError as error:
            raise ApiError(
                "body", f"no JSON that can be read: {error}"[:200] if raw.strip() else "missing request body"
            ) from error
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise ApiError(_place(first["loc"]), _reason(first["type"], first["msg"])) from None


def _place(where: tuple[Any, ...]) -> str:
    name = ".".join(map(str, where)) or "body"
    return name if len(name) <= 100 else f"{name[:97]}..."


def _reason(kind: str, message: str) -> str:
    if (
        kind == "extra_forbidden"
    ):  # Ollama drops what it does not know; here nothing is dropped without a word
        return "this server does not act on it; leave it out"
    return message.removeprefix("Value error, ")


def _seconds(value: Any) -> float:
    """A time in seconds from a number of them or Go's text for a duration ("1h30m"); -1, for ever, from any below 0."""
    if isinstance(value, str):
        if len(value) > 100 or not DURATION.match(value):
            raise ValueError("a number of seconds, or a text such as '5m', '1h30m', '-1m'")
        seconds = sum(float(n) * SECONDS[unit] for n, unit in PART.findall(value)) * (
            -1 if value[0] == "-" else 1
        )
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    else:
        raise ValueError("a number of seconds, or a text such as '5m'")
    if seconds > LONGEST:
        raise ValueError(f"at most {LONGEST:.0f} seconds; -1 keeps it for ever")
    return seconds if seconds >= 0 else -1.0


def _one_or_more(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _schema(value: Any) -> dict[str, Any] | None:
    """What an answer must be, as a schema; None for any text."""
    if value in ("", "json"):
        return {"type": "object"} if value else None
    if not isinstance(value, dict):
        raise ValueError("'json' or a JSON schema")
    return check_size(value)


KeepAlive = Annotated[float, BeforeValidator(_seconds)]
Texts = Annotated[list[str], BeforeValidator(_one_or_more)]
Format = Annotated[dict[str, Any] | None, PlainValidator(_schema)]
SYNONYMS = {
    "num_predict": "max_output_length",
    "repeat_penalty": "repetition_penalty",
}  # Ollama's names for ours


class SamplingOptions(RequestBody):
    """Ollama's options of drawing; their bounds and what is not set follow Generation."""

    temperature: float | None = None
    seed: int | None = None
    stop: Texts | None = None
    top_k: int | None = None
    top_p: float | None = None
    repeat_penalty: float | None = None

    def generation(self, prefix: str = "", json_schema: dict[str, Any] | None = None) -> Generation:
        """As options of the course's engines. Raises ApiError that names the field, after `prefix`."""
        said = {
            SYNONYMS.get(k, k): v for k in SamplingOptions.model_fields if (v := getattr(self, k)) is not None
        }
        if said.get("seed") == -1:  # in both protocols: another draw every time
            said["seed"] = secrets.randbelow(2**31)
        try:
            return Generation(**said, json_schema=json_schema)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            ours = str(first["loc"][0])
            raise ApiError(
                f"{prefix}{ {v: k for k, v in SYNONYMS.items()}.get(ours, ours) }", first["msg"]
            ) from None


def predict(value: int | None, field: str) -> int | None:
    """Tokens of an answer, at most; None for as many as there is room for, which -1 and -2 say. Raises ApiError."""
    if value is not None and value < 1 and value not in (-1, -2):
        raise ApiError(field, f"{value}; at least 1, or -1 for as many as there is room for")
    return value if value is not None and value > 0 else None


Role = Literal["system", "user", "assistant"]
