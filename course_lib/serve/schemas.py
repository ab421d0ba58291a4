"""Base schemas for request bodies.

A field that would change the answer either has its effect or is rejected.
"""

from __future__ import annotations

import logging
import re
import secrets
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import from_json

from course_lib.models.schema import Generation
from course_lib.models.schema.generation import MAX_STOPS
from course_lib.models.schema.json_schema import check_size
from course_lib.serve import limits
from course_lib.serve.errors import ApiError

logger = logging.getLogger("course_lib.serve")
DURATION = re.compile(r"[+-]?(?:0|(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|ms|s|m|h))+)", re.ASCII)
DURATION_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h)")
SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}
MAX_SECONDS = 1e8  # three years
OUR_NAMES = {"repeat_penalty": "repetition_penalty"}  # Ollama's name -> the field of Generation, if different
GENERATION_OPTIONS = ("temperature", "seed", "stop", "top_k", "top_p", "repeat_penalty")
OLLAMA_NAMES = {ours: name for name, ours in OUR_NAMES.items()}


class RequestBody(BaseModel):
    """The base class of request bodies. Unknown fields are ignored, as Ollama does; null counts as missing.

    UNSUPPORTED: Field that would change the answer -> what the server would need for it. Such fields are
    rejected unless they are empty (null, false, [], {} or "").
    """

    model_config = ConfigDict(
        extra="ignore", strict=True, allow_inf_nan=False, hide_input_in_errors=True, protected_namespaces=()
    )
    UNSUPPORTED: ClassVar[dict[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, dict):
            return value
        for name, feature in cls.UNSUPPORTED.items():
            if (given := value.get(name)) is not None and given is not False and given not in ("", [], {}):
                raise ApiError(name, f"{info.context} does not support {feature} on this server")
        present = {name: v for name, v in value.items() if v is not None and name not in cls.UNSUPPORTED}
        if cls.model_config["extra"] != "forbid":
            return present
        unknown = present.keys() - {field.alias or name for name, field in cls.model_fields.items()}
        first = next((name for name in present if name in unknown), None)  # errors for 250,000 took seconds
        return {name: v for name, v in present.items() if name == first or name not in unknown}

    @classmethod
    def read(cls, raw: bytes) -> Self:
        """Parse JSON text. Raises ApiError with the name of the first invalid field."""
        try:
            value = from_json(raw, allow_inf_nan=False)
        except ValueError as error:
            what = f"invalid JSON: {error}"[:200] if raw.strip() else "missing request body"
            raise ApiError("body", what) from error
        if _has_more_values(value, limits.MAX_VALUES):
            raise ApiError("body", f"more than {limits.MAX_VALUES:,} values", "send a smaller request")
        name = value.get("model") if isinstance(value, dict) else None
        who = f'"{name[:100]}"' if isinstance(name, str) else "the model"
        try:  # so that errors in inner fields name the model too
            return cls.model_validate(value, context=who)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise ApiError(_field_name(first["loc"]), _reason(first["type"], first["msg"])) from None


def _has_more_values(value: Any, most: int) -> bool:
    """Whether there are more than `most` values in nested dicts and lists."""
    count, waiting = 0, [value]
    while waiting and count + len(waiting) <= most:
        value, count = waiting.pop(), count + 1
        waiting += value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return bool(waiting)


def _field_name(location: tuple[Any, ...]) -> str:
    name = ".".join(map(str, location)) or "body"
    return name if len(name) <= 100 else f"{name[:97]}..."


def _reason(kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return "this server does not support this field; leave it out"
    if kind == "model_type":  # pydantic would name its class
        return "expected a JSON object"
    return message.removeprefix("Value error, ")


def parse_duration(value: Any) -> float | None:
    """Convert a number, or a duration in Go's notation ("1h30m"), to seconds. Negative (forever) becomes -1.

    None stays None. Raises ValueError for another value.
    """
    if value is None:
        return None
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


def _whole(value: Any) -> Any:
    """Accept 5.0 as 5: JavaScript does not distinguish them."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _of_64_bits(value: int) -> int:
    if not -(2**63) <= value < 2**64:  # pydantic would write the second bound as 18446744073709552000
        raise ValueError("expected a whole number of 64 bits")
    return value


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _with_logprobs(value: int, info: ValidationInfo) -> int:
    if value and not info.data.get("logprobs"):
        raise ValueError("it needs logprobs: true")
    return value


def _json_schema(value: Any) -> dict[str, Any] | None:
    """Return the JSON schema that an answer must match; None for free text."""
    if value in ("", "json"):
        return {"type": "object"} if value else None
    if not isinstance(value, dict):
        raise ValueError("expected 'json' or a JSON schema")
    return check_size(value)


KeepAlive = Annotated[float, BeforeValidator(parse_duration)]
Texts = Annotated[list[str], Field(fail_fast=True), BeforeValidator(_as_list)]
Format = Annotated[dict[str, Any] | None, PlainValidator(_json_schema)]
Whole = Annotated[int, BeforeValidator(_whole)]
# Requires the field `logprobs`, which must be declared before it.
TopLogprobs = Annotated[Whole, Field(ge=0, le=20), AfterValidator(_with_logprobs)]
Penalty = Annotated[float, Field(ge=-100, le=100)]
Role = Literal["system", "user", "assistant"]


class SamplingOptions(RequestBody):
    """Sampling options, with Ollama's names.

    DEFAULTS: The protocol's default values, which a model's own parameters and the request override.
    """

    DEFAULTS: ClassVar[dict[str, Any]] = {}
    temperature: float | None = None
    seed: Annotated[Whole, AfterValidator(_of_64_bits)] | None = None
    stop: Annotated[Texts, Field(max_length=MAX_STOPS)] | None = None
    top_k: Whole | None = None
    top_p: float | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    typical_p: Annotated[float, Field(gt=0, le=1)] | None = None
    repeat_penalty: float | None = None
    repeat_last_n: Annotated[Whole, Field(ge=-1, le=1_000_000)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    # Mirostat is an algorithm (0: off) that chooses tokens of a target surprise tau, adapting by eta.
    mirostat: Annotated[Whole, Field(ge=0, le=2)] | None = None
    mirostat_tau: Annotated[float, Field(ge=0, le=100)] | None = None
    mirostat_eta: Annotated[float, Field(ge=0, le=100)] | None = None

    def sampling(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Return the options of the request, else of the model's `parameters`, else DEFAULTS.

        Without a seed, or with -1, a random seed is used and written to the log.
        """
        requested = {
            name: value for name in SamplingOptions.model_fields if (value := getattr(self, name)) is not None
        }
        options = self.DEFAULTS | parameters | requested
        if options.get("seed", -1) == -1:
            options["seed"] = secrets.randbelow(2**31)
            if options.get("temperature"):
                logger.info("seed %d is drawn", options["seed"])
        return options


def generation(options: dict[str, Any], prefix: str, json_schema: dict[str, Any] | None) -> Generation:
    """Convert sampling options to Generation. Raises ApiError that names `prefix` + the invalid field."""
    known = {name: options[name] for name in GENERATION_OPTIONS if name in options}
    if not 0.01 <= known.get("repeat_penalty", 1) <= 10:  # llama.cpp fails at 1e-300
        raise ApiError(f"{prefix}repeat_penalty", "expected a number from 0.01 to 10")
    known["seed"] %= 2**31
    # llama.cpp keeps at least one token, and reads every top_k below 1 as all tokens.
    known |= {"top_k": max(known.get("top_k", 0), 0), "top_p": max(known.get("top_p", 1.0), 1e-9)}
    try:
        fields = {OUR_NAMES.get(name, name): value for name, value in known.items()}
        return Generation(**fields, json_schema=json_schema)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = str(first["loc"][0])
        field = prefix + OLLAMA_NAMES.get(name, name)
        if name == "json_schema":
            field = "format" if prefix else "response_format"
        raise ApiError(field, _reason(first["type"], first["msg"])) from None
