"""Choose a context length if none is given: what the free memory allows, at most MOST_TOKENS.

The KV cache holds the keys and values that a model has computed for earlier tokens. An encoder reads a text
and gives vectors or labels, but generates no text.
"""

from __future__ import annotations

from typing import NamedTuple

from course_lib.errors import CourseError
from course_lib.models.planner.buffers import CACHE_STEP, Driver
from course_lib.models.planner.estimate import format_bytes, plan
from course_lib.models.planner.lookup import Model, architecture

MOST_TOKENS = 4096  # the longest context that is chosen automatically
SHARE = 0.5  # the part of the memory left by the weights that KV cache and buffers may use


class Context(NamedTuple):
    """The chosen context length, the length that the model was trained with (both in tokens), and the bytes
    of KV cache and buffers.
    """

    model: str
    tokens: int
    trained: int
    bytes: int

    def __str__(self) -> str:
        text = f"{self.model} reads {self.tokens:,} tokens"
        if self.tokens < self.trained:
            text += f" of the {self.trained:,} that it was trained for; set context_length to change this"
        return f"{text} ({format_bytes(self.bytes)} of KV cache and buffers)"


def choose_context(
    model: Model,
    free_bytes: int | None = None,
    slots: int = 1,
    *,
    weight_format: str | None = None,
    driver: Driver | None = None,
) -> Context:
    """Return the context length for a model.

    It is the trained length, at most MOST_TOKENS except for encoders, and halved until KV cache and buffers
    of all slots use at most SHARE of the memory that the weights leave free.

    model, weight_format, driver (the software that runs it): As for `plan`. slots: How many texts are
    processed at the same time. free_bytes: The free memory before loading; by default the memory (RAM) now
    available on this machine. Raises CourseError if not even CACHE_STEP tokens (the smallest KV cache of
    llama.cpp) fit, or all tokens of a model that was trained with fewer; and the errors of `plan`.
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
            weights = planned.total - needed
            message = (
                f"{sizes.name} needs {format_bytes(weights)} for its weights and {format_bytes(needed)} "
            )
            message += f"for {slots} x {tokens} tokens, which may use {SHARE:.0%} of what the weights leave; "
            message += f"{format_bytes(free_bytes)} are free"
            fewer = ", or set a smaller batch_size" if slots > 1 else ""
            raise CourseError(message, f"unload other models, close other programs{fewer}")
        tokens = max(CACHE_STEP, tokens // 2)
