"""Choose the context length and the number of parallel slots with which the server loads a model.

A model is in the server's model folder (`Store`), which records it under a name (`Tag`).
"""

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

MAX_SLOTS = 4  # the most texts processed at the same time, unless OLLAMA_NUM_PARALLEL is set
SHARE = 0.5  # the part of the free memory that a model may use
LEAST_TOKENS = 256  # the shortest context that is chosen automatically


class Placement(NamedTuple):
    """How to load a model: specification, context length in tokens, slots, and planned bytes in memory."""

    spec: ModelSpec
    context: int
    slots: int
    bytes: int


def place(store: Store, tag: Tag, settings: Settings, num_ctx: int | None = None) -> Placement:
    """Return how to load a model.

    The context length is `num_ctx`, or else the setting; a longer one than the model was trained with is
    reduced to that, as in Ollama. If neither is given, it is the trained length but at most MOST_TOKENS,
    halved (down to LEAST_TOKENS) until the model fits. Slots that are not set are MAX_SLOTS, or fewer if
    memory is short. Raises ApiError, with the memory that it would need, if a GGUF model does not fit into
    SHARE of the free memory; the memory for embedding models in safetensors is not checked. Raises
    CourseError if the model's files are missing.
    """
    import psutil

    source = _source(store, tag)
    if not tag.is_gguf:  # only embedding models are stored as safetensors
        fields = {"driver": "huggingface", "task": "text-embedding"}
        return Placement(ModelSpec.parse({"source": source} | fields), tag.context, 1, tag.size)
    adapter = store.blob(tag.adapter).stat().st_size if tag.adapter else 0
    budget = int(SHARE * psutil.virtual_memory().available)
    wanted = num_ctx or settings.context_length
    contexts = [min(wanted or MOST_TOKENS, tag.context)]
    while wanted is None and contexts[-1] > LEAST_TOKENS:
        contexts.append(max(LEAST_TOKENS, contexts[-1] // 2))
    slots = [settings.num_parallel] if settings.num_parallel else [MAX_SLOTS, 2, 1]
    planned = None
    for context in contexts:
        for count in slots:
            planned = plan(store.file(tag), context=context, batch=count)
            needed = planned.total + adapter
            if needed <= budget:
                return Placement(_spec(store, tag, source, context, count), context, count, needed)
    assert planned is not None
    weights = needed - planned.kv - planned.overhead
    what = f"model requires more system memory, {format_bytes(needed)} ({format_bytes(weights)} of weights, "
    what += f"{format_bytes(planned.overhead)} of buffers, {format_bytes(planned.kv)} of KV cache for "
    what += f"{slots[-1]} x {contexts[-1]} tokens), than half of what is free, {format_bytes(budget)}"
    smaller = "OLLAMA_NUM_PARALLEL" if slots[-1] > 1 else "num_ctx" if wanted else "model"
    raise ApiError("model", what, f"unload other models, or set a smaller {smaller}", status=500)


def _spec(store: Store, tag: Tag, source: dict[str, str], context: int, slots: int) -> ModelSpec:
    task = "text-embedding" if tag.embeds else "chat-completion" if tag.chat else "text-generation"
    fields = {
        "source": source,
        "driver": "custom",  # ServedLlamaCpp of `completion`
        "implementation": IMPLEMENTATION,
        "task": task,
        "batch_size": slots,
        "context_length": context,
        "adapters": [str(store.blob(tag.adapter))] if tag.adapter else [],
    }
    return ModelSpec.parse(fields)


def _source(store: Store, tag: Tag) -> dict[str, str]:
    """Return the source of a model's specification. Raises CourseError if one of its files is missing."""
    file = store.file(tag)
    if not file.is_file() or (tag.adapter and not store.blob(tag.adapter).is_file()):
        raise CourseError(f"the files of {tag.name} are missing", "delete the model and pull it again")
    return {"type": "local", "path": str(file if tag.is_gguf else file.parent)}
