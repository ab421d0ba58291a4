"""Decide with how many slots and tokens a model of the store is loaded, so that it fits into memory."""

from __future__ import annotations

from typing import NamedTuple

from course_lib.errors import CourseError
from course_lib.models.planner.context import MOST_TOKENS
from course_lib.models.planner.estimate import format_bytes, plan
from course_lib.models.schema import ModelSpec
from course_lib.serve.completion import IMPLEMENTATION
from course_lib.serve.errors import ApiError
from course_lib.serve.settings import Settings
from course_lib.serve.store import Store
from course_lib.serve.tags import Tag

MAX_SLOTS = 4  # texts that a model processes at the same time, where memory suffices
SHARE = 0.5  # of the free memory that a model may take
LEAST_TOKENS = 256  # for which a model is still loaded


class Placement(NamedTuple):
    """How a model is loaded: its specification, context in tokens, slots, and planned bytes in memory."""

    spec: ModelSpec
    context: int
    slots: int
    bytes: int


def place(store: Store, tag: Tag, settings: Settings, num_ctx: int | None = None) -> Placement:
    """Return how to load a model.

    Without a number of tokens (num_ctx, or in the settings) it is that of the training, at most MOST_TOKENS,
    and halved until the model fits. The slots are at most MAX_SLOTS, and fewer where memory is short.
    Raises ApiError, with the sum, if the model does not fit into half of the free memory.
    """
    import psutil

    if not tag.is_gguf:
        fields = {"driver": "huggingface", "task": "text-embedding"}
        return Placement(ModelSpec.parse({"source": _source(store, tag)} | fields), tag.context, 1, tag.size)
    budget = int(SHARE * psutil.virtual_memory().available)
    wanted = num_ctx or settings.context_length
    contexts = [min(wanted or MOST_TOKENS, tag.context)]
    while wanted is None and contexts[-1] > LEAST_TOKENS:
        contexts.append(contexts[-1] // 2)
    slots = [settings.num_parallel] if settings.num_parallel else [MAX_SLOTS, 2, 1]
    planned = None
    for context in contexts:
        for count in slots:
            planned = plan(store.file(tag), context=context, batch=count)
            if planned.total <= budget:
                return Placement(_spec(store, tag, context, count), context, count, planned.total)
    assert planned is not None
    needs = (
        f"{format_bytes(planned.total)} ({format_bytes(planned.total - planned.kv - planned.overhead)} of "
    )
    needs += f"weights, {format_bytes(planned.kv)} of KV cache for {slots[-1]} x {contexts[-1]} tokens)"
    what = f"model requires more system memory, {needs}, than half of what is free, {format_bytes(budget)}"
    smaller = "OLLAMA_NUM_PARALLEL" if slots[-1] > 1 else "num_ctx"
    raise ApiError("model", what, f"unload other models, or set a smaller {smaller}", status=500)


def _spec(store: Store, tag: Tag, context: int, slots: int) -> ModelSpec:
    task = "text-embedding" if tag.embeds else "chat-completion" if tag.chat else "text-generation"
    fields = {
        "source": _source(store, tag),
        "driver": "custom",
        "implementation": IMPLEMENTATION,
        "task": task,
        "batch_size": slots,
        "context_length": context,
        "adapters": [str(store.blob(tag.adapter))] if tag.adapter else [],
    }
    return ModelSpec.parse(fields)


def _source(store: Store, tag: Tag) -> dict[str, str]:
    if not store.file(tag).is_file():
        raise CourseError(f"the files of {tag.name} are missing", "delete the model and pull it again")
    file = store.file(tag)
    return {"type": "local", "path": str(file if tag.is_gguf else file.parent)}
