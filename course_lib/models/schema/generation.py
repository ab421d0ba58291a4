"""The options of generation: how long, how random, where to stop."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, StringConstraints, field_validator, model_validator

from course_lib.models.schema.json_schema import check_size
from course_lib.models.schema.validation import Frozen, validate

Stop = Annotated[str, StringConstraints(min_length=1)]


class Generation(Frozen):
    """Options of generation. What is not set follows the default named here, in every driver.

    Raises pydantic.ValidationError (a ValueError) that names the field, for an unknown one too.
    """

    max_output_length: int = Field(128, ge=1, le=1_000_000, description="tokens written, at most")
    min_output_length: int = Field(0, ge=0, le=1_000_000, description="tokens written before it may end")
    temperature: float = Field(0.0, ge=0, le=100, description="0: the most likely token each time (greedy)")
    top_p: float = Field(1.0, gt=0, le=1, description="draw from the smallest set with this probability")
    top_k: int = Field(0, ge=0, le=1_000_000, description="draw from the k most likely tokens; 0: from all")
    repetition_penalty: float = Field(1.0, gt=0, le=10, description="above 1: repeat tokens less often")
    stop: tuple[Stop, ...] = Field((), max_length=16, description="texts that end it; they are left out")
    seed: int = Field(0, ge=0, lt=2**31, description="of the draw; the same seed, the same text")
    json_schema: dict[str, Any] | None = Field(None, description="the answer must be JSON of this schema")

    @field_validator("json_schema")
    @classmethod
    def _bounded(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        return value if value is None else check_size(value)

    @model_validator(mode="after")
    def _ordered(self) -> Generation:
        if self.min_output_length > self.max_output_length:
            raise ValueError(f"{self.min_output_length} to {self.max_output_length} new tokens: impossible")
        return self

    def replace(self, **changes: Any) -> Generation:
        """These options with some of them changed. Raises SpecError for an unknown option or a bad value."""
        return validate(Generation, self.model_dump(exclude_unset=True) | changes, "generate")
