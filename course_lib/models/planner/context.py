"""Choose how many tokens a model reads where nobody said: as many as its memory allows, up to a common limit."""

from __future__ import annotations

from typing import NamedTuple

from course_lib.errors import CourseError
from course_lib.models.planner.estimate import CACHE_STEP, Driver, Plan, format_bytes, plan
from course_lib.models.planner.lookup import Model, architecture

MOST_TOKENS = 8192  # chosen at most; more by context_length, up to what the model was trained for
SHARE = 0.5  # of the free memory, for KV cache and buffers


class Context(NamedTuple):
    """The chosen length in tokens, that of the training, and the memory plan with the chosen length."""

    tokens: int
    trained: int
    plan: Plan

    def __str__(self) -> str:
        memory = f"{format_bytes(self.plan.kv + self.plan.overhead)} for KV cache and buffers"
        if self.tokens == self.trained:
            return f"{self.plan.model} reads {self.tokens:,} tokens, all that it was trained for: {memory}"
        which = f"{self.tokens:,} of the {self.trained:,} tokens that it was trained for"
        return f"{self.plan.model} reads {which}: {memory}; set context_length for another number"


def choose_context(
    model: Model,
    free_bytes: int | None = None,
    slots: int = 1,
    *,
    weight_format: str | None = None,
    driver: Driver | None = None,
) -> Context:
    """Return the context length for a model of which only the memory is known.

    It is the length of the training but at most MOST_TOKENS, halved until KV cache and buffers of all slots take
    at most SHARE of the free memory.

    model, weight_format, driver: As for `plan`. slots: How many texts are processed at the same time.
    free_bytes: The memory that is free after loading the weights; by default what this machine has available now.
    Raises CourseError if not even CACHE_STEP tokens fit, and the errors of `plan`.
    """
    if free_bytes is None:
        import psutil

        free_bytes = psutil.virtual_memory().available
    trained = architecture(model).context
    tokens = min(trained, MOST_TOKENS)
    while True:
        planned = plan(model, weight_format, tokens, slots, driver=driver)
        needed = planned.kv + planned.overhead
        if needed <= SHARE * free_bytes:
            return Context(tokens, trained, planned)
        if tokens <= CACHE_STEP:
            message = f"{planned.model} needs {format_bytes(needed)} for {slots} x {tokens:,} tokens beside its weights"
            message += f"; {SHARE:.0%} of the free memory is {format_bytes(SHARE * free_bytes)}"
            raise CourseError(message, "unload other models, or close other programs")
        tokens = max(CACHE_STEP, tokens // 2)
