"""Options for text generation: length, sampling, stop texts, and a JSON schema for the answer."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, StringConstraints, field_validator, model_validator

from course_lib.models.schema.json_schema import check_keywords, check_size
from course_lib.models.schema.validation import Frozen, validate

MAX_STOPS = 16  # stop texts of a call
Stop = Annotated[str, StringConstraints(min_length=1)]


class Generation(Frozen):
    """Options for text generation. The defaults are the same whatever software runs the model.

    Raises pydantic.ValidationError (a ValueError) that names the wrong or unknown field.
    """

    max_output_length: int = Field(128, ge=1, le=1_000_000, description="most tokens to generate")
    min_output_length: int = Field(0, ge=0, le=1_000_000, description="fewest tokens to generate")
    temperature: float = Field(0.0, ge=0, le=100, description="0: always the most likely token (greedy)")
    top_p: float = Field(1.0, gt=0, le=1, description="sample from the smallest set with this probability")
    top_k: int = Field(0, ge=0, le=1_000_000, description="sample from the k most likely tokens; 0: all")
    repetition_penalty: float = Field(1.0, gt=0, le=10, description="above 1: fewer repeated tokens")
    stop: tuple[Stop, ...] = Field(
        (), max_length=MAX_STOPS, description="texts that end the answer; left out of it"
    )
    seed: int = Field(0, ge=0, lt=2**31, description="of the sampling; the same seed gives the same text")
    json_schema: dict[str, Any] | None = Field(None, description="JSON schema that the answer must match")

    @field_validator("json_schema")
    @classmethod
    def _check_schema(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        return value if value is None else check_keywords(check_size(value))

    @model_validator(mode="after")
    def _check_lengths(self) -> Generation:
        if self.min_output_length > self.max_output_length:
            raise ValueError(
                f"min_output_length {self.min_output_length} is above "
                f"max_output_length {self.max_output_length}"
            )
        return self

    def replace(self, **changes: Any) -> Generation:
        """Return a copy with `changes` applied. Raises SpecError for an unknown option or a bad value."""
        return validate(Generation, self.model_dump(exclude_unset=True) | changes, "generate")
