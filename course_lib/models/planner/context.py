"""Choose how many tokens a model reads where nobody said: as its memory allows, up to a common limit."""

from __future__ import annotations

from typing import NamedTuple

from course_lib.errors import CourseError
from course_lib.models.planner.buffers import CACHE_STEP, Driver
from course_lib.models.planner.estimate import format_bytes, plan
from course_lib.models.planner.lookup import Model, architecture

MOST_TOKENS = 4096  # chosen at most
SHARE = 0.5  # of the memory that is free beside the weights, for KV cache and buffers


class Context(NamedTuple):
    """The chosen length in tokens, that of the training, and the bytes of KV cache and buffers."""

    model: str
    tokens: int
    trained: int
    bytes: int

    def __str__(self) -> str:
        text = f"{self.model} reads {self.tokens:,} tokens"
        if self.tokens < self.trained:
            text += f" of the {self.trained:,} that it was trained for; context_length sets another number"
        return f"{text} ({format_bytes(self.bytes)} of KV cache and buffers)"


def choose_context(
    model: Model,
    free_bytes: int | None = None,
    slots: int = 1,
    *,
    weight_format: str | None = None,
    driver: Driver | None = None,
) -> Context:
    """Return the context length for a model where none is set.

    It is that of the training but at most MOST_TOKENS (for an encoder, all of it), halved until KV cache and
    buffers of all slots take at most SHARE of the memory that the weights leave free.

    model, weight_format, driver: As for `plan`. slots: How many texts are processed at the same time.
    free_bytes: The free memory before loading; by default what this machine has available now.
    Raises CourseError if not even CACHE_STEP tokens fit, and the errors of `plan`.
    """
    sizes = architecture(model)
    if free_bytes is None:
        import psutil

        free_bytes = psutil.virtual_memory().available
    tokens = sizes.context if sizes.family.encoder else min(sizes.context, MOST_TOKENS)
    while True:
        planned = plan(model, weight_format, tokens, slots, driver=driver)
        needed = planned.kv + planned.overhead
        limit = SHARE * (free_bytes - planned.total + needed)
        if needed <= limit:
            return Context(sizes.name, tokens, sizes.context, needed)
        if tokens <= CACHE_STEP:
            message = f"{sizes.name} needs {format_bytes(needed)} beside its weights for {slots} x {tokens}"
            message += f" tokens; {SHARE:.0%} of the free memory is {format_bytes(max(0, limit))}"
            raise CourseError(message, "unload other models, or close other programs")
        tokens = max(CACHE_STEP, tokens // 2)
