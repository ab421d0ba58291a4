"""How a text is drawn from a model: every option acts in a driver, or the driver refuses it by name."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from course_lib.errors import CourseError
from course_lib.models.schema.json_schema import bounded

T = TypeVar("T", bound=BaseModel)
TABLE = "look the field up in docs/model-fields.md"


class SpecError(CourseError, ValueError):
    """A specification or an option that cannot be: names each field, its value and what is allowed."""


def validated(kind: type[T], value: Any, fix: str = TABLE) -> T:
    """`value` as a `kind`. Raises SpecError with a line for every wrong field."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        lines = [_line(e, kind) for e in error.errors(include_url=False)]
    except RecursionError:
        lines = ["nested too deeply"]
    raise SpecError("\n".join(lines), fix)


def _line(error: Any, kind: type[BaseModel]) -> str:
    """One line for one wrong field. A token's value is never shown."""
    path = [str(p) for p in error["loc"] if p not in ("huggingface", "local", "server")]
    where, what = ".".join(path), error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        fields = (
            Generation.model_fields
            if path[:-1] == ["generation"]
            else kind.model_fields
            if len(path) == 1
            else {}
        )
        return f"{where}: no such field{'; the fields are ' * bool(fields)}{', '.join(fields)}"
    shown = repr(error["input"])
    shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
    value = "" if "token" in where or isinstance(error["input"], dict | BaseModel) else f"{shown}: "
    return f"{where}: {value}{what}" if where else what


Stop = Annotated[str, StringConstraints(min_length=1)]


class Generation(BaseModel):
    """Options of generation. What is not set follows the default named here, in every driver.

    Raises pydantic.ValidationError (a ValueError) that names the field, for an unknown one too.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    max_output_length: int = Field(128, ge=1, le=1_000_000, description="tokens written, at most")
    min_output_length: int = Field(
        0, ge=0, le=1_000_000, description="tokens written before it may end; for timing"
    )
    temperature: float = Field(
        0.0, ge=0, le=100, description="0 takes the most likely token every time (greedy)"
    )
    top_p: float = Field(
        1.0, gt=0, le=1, description="draw from the smallest set of tokens that holds this probability"
    )
    top_k: int = Field(0, ge=0, le=1_000_000, description="draw from the k most likely tokens; 0: from all")
    repetition_penalty: float = Field(
        1.0, gt=0, le=10, description="above 1 makes tokens already seen less likely"
    )
    stop: tuple[Stop, ...] = Field(
        (), max_length=16, description="texts at which writing ends; they are left out"
    )
    seed: int = Field(0, ge=0, lt=2**31, description="of the draw; the same seed, the same text")
    json_schema: dict[str, Any] | None = Field(None, description="the answer must be JSON of this schema")

    @field_validator("json_schema")
    @classmethod
    def _bounded(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        return value if value is None else bounded(value)

    @model_validator(mode="after")
    def _ordered(self) -> Generation:
        if self.min_output_length > self.max_output_length:
            raise ValueError(f"{self.min_output_length} to {self.max_output_length} new tokens: impossible")
        return self

    def but(self, **changes: Any) -> Generation:
        """These options with some changed. Raises SpecError."""
        return validated(Generation, self.model_dump(exclude_unset=True) | changes)
