"""The settings of a training run of a LoRA adapter, and the examples that it learns from."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from pydantic import Field

from course_lib.models.drivers.reply import Prompt
from course_lib.models.schema.validation import Frozen, validate


class Example(NamedTuple):
    """A prompt (a text or the turns of a conversation) and the answer to be learnt."""

    prompt: Prompt
    answer: str


class LoRATrainingConfig(Frozen):
    """The settings of a training run. `replace` raises SpecError for an unknown field or a wrong value."""

    rank: int = Field(8, ge=1, le=4096, description="rows of A and columns of B (Hu et al. 2021)")
    alpha: float = Field(16, gt=0, description="the adapter adds alpha / rank * B A to a matrix")
    target_modules: tuple[str, ...] | Literal["all-linear"] = Field(
        "all-linear", min_length=1, description="names of the linear layers that get an adapter"
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="probability that an input of A is left out")
    steps: int = Field(600, ge=1, description="updates of the weights")
    batch_size: int = Field(64, ge=1, description="examples in a step")
    micro_batch_size: int | None = Field(
        None, ge=1, description="examples in memory at once; by default as many as fit"
    )
    learning_rate: float = Field(
        2e-3, gt=0, description="the peak: it rises for warmup_steps, then falls linearly to 0"
    )
    warmup_steps: int = Field(20, ge=0, description="steps in which the learning rate rises")
    weight_decay: float = Field(
        0.0, ge=0, description="of AdamW (Loshchilov and Hutter 2017, arXiv:1711.05101)"
    )
    max_grad_norm: float = Field(1.0, gt=0, description="longer gradients are shortened to this length")
    max_length: int = Field(2048, ge=2, description="tokens of an example; a longer one raises CourseError")
    gradient_checkpointing: bool = Field(
        False, description="compute layers twice and keep less (Chen et al. 2016, arXiv:1604.06174)"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto: bfloat16 where the processor computes it natively"
    )
    seed: int = Field(0, ge=0, lt=2**31, description="of the first weights, the order and dropout")
    eval_steps: int = Field(100, ge=1, description="steps between two evaluations of the validation examples")
    patience: int | None = Field(
        None, ge=1, description="evaluations without a better loss after which training stops early"
    )
    save_seconds: float = Field(60.0, ge=0, description="seconds between two checkpoints")

    def replace(self, **changes: Any) -> LoRATrainingConfig:
        """This configuration with some fields changed. Raises SpecError."""
        return validate(LoRATrainingConfig, self.model_dump(exclude_unset=True) | changes, "train")
