"""What an adapter is trained on, and how: examples, and a recipe of which every field acts."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from course_lib.models.drivers.reply import Prompt
from course_lib.models.schema.validation import validate


class Example(NamedTuple):
    """What is asked (a text or the turns of a conversation), and what is to be answered."""

    prompt: Prompt
    answer: str


class Recipe(BaseModel):
    """How a LoRA adapter is trained. Raises SpecError, by `but`, for a field that is unknown or out of range."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    rank: int = Field(8, ge=1, le=4096, description="rows of A and columns of B (Hu et al. 2021)")
    alpha: float = Field(16, gt=0, description="what is added is alpha / rank * B A")
    targets: tuple[str, ...] | Literal["all-linear"] = Field(
        "all-linear", min_length=1, description="names of linear layers"
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="share of what reaches A that is left out")
    steps: int = Field(600, ge=1, description="updates of the weights")
    batch_size: int = Field(64, ge=1, description="examples in a step")
    at_once: int | None = Field(
        None, ge=1, description="examples in memory at once; as many as there is room for, if not said"
    )
    rate: float = Field(
        2e-3, gt=0, description="of learning: it rises in `warm_up` steps and falls to 0 in all"
    )
    warm_up: int = Field(20, ge=0)
    weight_decay: float = Field(
        0.0, ge=0, description="of AdamW (Loshchilov and Hutter 2017, arXiv:1711.05101)"
    )
    clip: float = Field(1.0, gt=0, description="the longest gradient")
    longest: int = Field(2048, ge=2, description="tokens of an example; a longer one is refused")
    gradient_checkpointing: bool = Field(
        False, description="compute layers twice and keep less (Chen et al. 2016)"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto: bfloat16 where it is computed natively"
    )
    seed: int = Field(0, ge=0, lt=2**31, description="of what is drawn: first weights, order, dropout")
    validate_every: int = Field(100, ge=1, description="steps between two looks at the validation examples")
    patience: int | None = Field(None, ge=1, description="looks without a better loss until it stops early")
    save_every: float = Field(60.0, ge=0, description="seconds between two checkpoints")

    def but(self, **changes: Any) -> Recipe:
        """This recipe with some fields changed. Raises SpecError."""
        return validate(Recipe, self.model_dump() | changes, "train")
