"""The settings for training a LoRA adapter (small matrices B and A beside a model's), and its examples."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from pydantic import Field

from course_lib.models.drivers.reply import Prompt
from course_lib.models.schema.validation import Frozen, validate


class Example(NamedTuple):
    """A prompt (a string or a list of chat turns) and the answer that the model should learn to give."""

    prompt: Prompt
    answer: str


class LoRATrainingConfig(Frozen):
    """The settings of a training run, with validated values."""

    rank: int = Field(8, ge=1, le=4096, description="rows of A and columns of B (Hu et al. 2021)")
    alpha: float = Field(16, gt=0, description="the adapter adds (alpha / rank) * B @ A to a weight matrix")
    target_modules: tuple[str, ...] | Literal["all-linear"] = Field(
        "all-linear", min_length=1, description="names of the linear layers that get an adapter"
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="probability that an input of A is set to 0")
    steps: int = Field(600, ge=1, description="number of optimiser steps")
    batch_size: int = Field(64, ge=1, description="examples per optimiser step")
    micro_batch_size: int | None = Field(
        None, ge=1, description="examples per forward pass; by default as many as fit in memory"
    )
    learning_rate: float = Field(
        2e-3, gt=0, description="peak value: it rises for warmup_steps, then falls linearly to 0"
    )
    warmup_steps: int = Field(20, ge=0, description="steps during which the learning rate rises")
    weight_decay: float = Field(
        0.0, ge=0, description="weight decay of AdamW (Loshchilov and Hutter 2017, arXiv:1711.05101)"
    )
    max_grad_norm: float = Field(
        1.0, gt=0, description="gradients with a larger norm are scaled down to this norm"
    )
    max_length: int = Field(
        2048, ge=2, description="maximum tokens per example; a longer one raises CourseError"
    )
    gradient_checkpointing: bool = Field(
        False, description="recompute activations to save memory (Chen et al. 2016, arXiv:1604.06174)"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto: bfloat16 if the hardware supports it natively, else float32"
    )
    seed: int = Field(
        0, ge=0, lt=2**31, description="random seed for the initial weights, the example order and dropout"
    )
    eval_steps: int = Field(100, ge=1, description="steps between two evaluations on the validation examples")
    patience: int | None = Field(
        None, ge=1, description="stop early after this many evaluations without a lower loss"
    )
    save_seconds: float = Field(60.0, ge=0, description="seconds between two checkpoints")

    def replace(self, **changes: Any) -> LoRATrainingConfig:
        """Return a copy with some fields changed. Raises SpecError for unknown fields and invalid values."""
        return validate(LoRATrainingConfig, self.model_dump(exclude_unset=True) | changes, call="train")
