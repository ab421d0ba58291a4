"""Choose the context length and the number of slots with which the server loads a model.

A slot processes one text; with several slots, a model processes several texts at the same time. A model lies
in the server's model folder (`Store`), which records it under one or more names (`Tag`). A specification
(ModelSpec) says which model to load, and how.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from course_lib.errors import CourseError
from course_lib.models.manager.manager import ModelManager
from course_lib.models.planner.context import MOST_TOKENS
from course_lib.models.planner.estimate import format_bytes, plan
from course_lib.models.schema import ModelSpec
from course_lib.serve.completion import IMPLEMENTATION
from course_lib.serve.errors import ApiError
from course_lib.serve.settings import Settings
from course_lib.serve.store import Store
from course_lib.serve.tags import Tag

logger = logging.getLogger("course_lib.serve")
MAX_SLOTS = 4  # the most texts processed at the same time, unless OLLAMA_NUM_PARALLEL is set
MEMORY_SHARE = 0.5  # the part of the free memory that a model may use
MIN_TOKENS = 256  # the shortest context that is chosen automatically


class Placement(NamedTuple):
    """How to load a model: specification, context length in tokens, slots, and planned bytes in memory."""

    spec: ModelSpec
    context: int
    slots: int
    bytes: int


def place(store: Store, tag: Tag, settings: Settings, num_ctx: int | None = None) -> Placement:
    """Return how to load a model, with the longest context and the most slots that fit into memory.

    num_ctx: the number of tokens that a request needs. The first context that is tried is num_ctx, rounded up
    to a power of two so that few requests reload the model. It is at least the server's setting or else
    MOST_TOKENS, so that one request with a small num_ctx does not shorten the context for others, and, as in
    Ollama, at most the model's trained length. Until the model fits, the context is halved, down to the
    larger of num_ctx and the setting (without a setting, MIN_TOKENS). If the number of slots is not set, it
    is MAX_SLOTS, or fewer if memory is short.

    Raises ApiError, with the needed memory, if a model for llama.cpp (GGUF) does not fit into MEMORY_SHARE of
    the free memory. The memory of embedding models in safetensors is not checked. Raises CourseError if the
    model's files are missing.
    """
    import psutil

    source = _source(store, tag)
    if not tag.is_gguf:  # only embedding models are stored as safetensors
        fields = {"driver": "huggingface", "task": "text-embedding"}
        return Placement(ModelSpec.parse({"source": source} | fields), tag.context, 1, tag.size)
    adapter = store.blob(tag.adapter).stat().st_size if tag.adapter else 0
    budget = int(MEMORY_SHARE * psutil.virtual_memory().available)
    least = min(max(num_ctx or 0, settings.context_length or MIN_TOKENS), tag.context)
    power = 1 << ((num_ctx or 1) - 1).bit_length()
    contexts = [min(max(power, settings.context_length or MOST_TOKENS), tag.context)]
    while contexts[-1] > least:
        contexts.append(max(contexts[-1] // 2, least))
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
    fix = "use a smaller model"
    if slots[-1] > 1 or num_ctx or settings.context_length:
        fix = f"set a smaller {'OLLAMA_NUM_PARALLEL' if slots[-1] > 1 else 'num_ctx'}"
    raise ApiError("model", what, f"unload other models, or {fix}", status=500)


class Placements:
    """How each model is loaded, and which models are in use. A model is loaded once for all of its names."""

    def __init__(self, store: Store, settings: Settings, manager: ModelManager) -> None:
        self.store, self.settings, self.manager = store, settings, manager
        self._placed: dict[str, Placement] = {}  # key of a tag -> how the model was last loaded
        self._users = Counter[str]()  # key of a tag -> the number of requests that use it
        self._leaving = set[str]()  # keys of the models to unload once no request uses them
        self._lock = threading.Lock()

    def all(self) -> dict[str, Placement]:
        """Return key of a tag -> how the model was last loaded."""
        return dict(self._placed)

    @contextmanager
    def use(self, tag: Tag, num_ctx: int | None) -> Iterator[Placement]:
        """Yield how a model is loaded, for the duration of a request.

        The placement is chosen again if the model is not loaded, or if num_ctx is larger than its context.
        Raises ApiError if it does not fit into memory, even after idle models have been unloaded.
        """
        with self._lock:
            current = self._placed.get(tag.key)
            used = self._users[tag.key] or (current and self.manager.is_loaded(current.spec))
            if not (current and used and min(num_ctx or 0, tag.context) <= current.context):
                if current:
                    self.manager.unload(current.spec)
                current = self._placed[tag.key] = self._find_placement(tag, num_ctx)
            self._users[tag.key] += 1
            self._leaving.discard(tag.key)
        try:
            yield current
        finally:
            with self._lock:
                self._users[tag.key] -= 1
                self._unload_if_unused(tag.key)

    def unload(self, tag: Tag) -> None:
        """Unload a model as soon as no request uses it.

        A request in the meantime keeps it loaded, as in Ollama. If a model in use were unloaded, the next
        request would load it a second time.
        """
        with self._lock:
            self._leaving.add(tag.key)
            self._unload_if_unused(tag.key)

    def _unload_if_unused(self, key: str) -> None:
        if key in self._leaving and not self._users[key]:
            self._leaving.discard(key)
            if (placed := self._placed.pop(key, None)) is not None:
                self.manager.unload(placed.spec)

    def _find_placement(self, tag: Tag, num_ctx: int | None) -> Placement:
        """Return how to load a model; unload idle models until it fits."""
        while True:
            try:
                placed = place(self.store, tag, self.settings, num_ctx)
                break
            except ApiError:
                idle = {model.key for model in self.manager.loaded_models() if not model.users}
                others = [p.spec for p in self._placed.values() if p.spec.key() in idle]
                if not others:
                    raise
                self.manager.unload(others[0])
        placed = placed._replace(spec=self.manager.registry.spec(placed.spec))
        text = "%s is loaded for %d x %d tokens, %d bytes"
        logger.info(text, tag.name, placed.slots, placed.context, placed.bytes)
        return placed


def _spec(store: Store, tag: Tag, source: dict[str, str], context: int, slots: int) -> ModelSpec:
    task = "text-embedding" if tag.embeds else "chat-completion" if tag.chat else "text-generation"
    fields = {
        "source": source,
        "driver": "custom",  # implemented by completion.ServedLlamaCpp
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
