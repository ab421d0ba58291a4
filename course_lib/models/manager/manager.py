"""Load each model once and share it; unload models when they are idle or memory runs short.

A specification (ModelSpec) declares a model; an engine is a loaded model.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from course_lib.errors import CourseError
from course_lib.models.drivers import load
from course_lib.models.drivers.engine import Engine
from course_lib.models.drivers.reply import Counters
from course_lib.models.manager.registry import ModelInfo, Registry
from course_lib.models.planner import memory
from course_lib.models.schema import ModelSpec

if TYPE_CHECKING:
    from course_lib.models.manager.langchain import ChatModel, EmbeddingModel, RerankerModel

MEMORY_SHARE = 0.8  # default limit for weights, as a fraction of the machine's memory
Model = ModelSpec | str | dict[str, Any]  # a specification, or what ModelSpec.parse accepts


@dataclass
class _Entry:
    """A loaded model, or one that is being loaded (then `engine` is None)."""

    spec: ModelSpec
    bytes: int = 0
    engine: Engine | None = None
    users: int = 0
    last_used: float = 0.0
    keep_alive: float = 0.0
    dropped: bool = False  # removed from the manager; will be closed when its last user is done
    base: _Entry | None = None  # the base model whose weights it shares, counted as one user of the base

    def expires_at(self) -> float:
        """Return the time (time.monotonic) when keep_alive ends; infinity if in use or kept forever."""
        if self.users or self.engine is None or self.keep_alive < 0:
            return math.inf
        return self.last_used + self.keep_alive


@dataclass(frozen=True)
class LoadedModel:
    """A loaded model, as reported by ModelManager.loaded_models.

    bytes: The size of the weights. users: How many callers are using it at the moment.
    idle, expires_in: Seconds since its last use, and until it is unloaded.
    """

    name: str
    key: str
    driver: str
    bytes: int
    device: str
    users: int
    idle: float
    expires_in: float
    counters: Counters = field(repr=False)


class ModelManager:
    """Loads models by name, and shares each loaded model among all callers. Thread-safe.

    byte_limit: The maximum total size of the loaded weights in bytes, by default 80% of the machine's memory.
    To stay below it, the least recently used model is unloaded first; a model in use is never unloaded.
    A language model with LoRA adapters shares the weights of its base model: changing adapters does not
    reload the base model, and several can be used concurrently.
    """

    def __init__(self, byte_limit: int | None = None) -> None:
        import psutil

        memory_size = psutil.virtual_memory().total
        self.byte_limit = int(MEMORY_SHARE * memory_size) if byte_limit is None else byte_limit
        self.registry = Registry()
        self._entries: OrderedDict[str, _Entry] = (
            OrderedDict()
        )  # by ModelSpec.key(), least recently used first
        self._dropped_in_use: list[_Entry] = []  # to be closed when their last user is done
        self._change = threading.Condition()
        self._reaper: threading.Thread | None = None

    def __repr__(self) -> str:
        models = self.loaded_models()
        used = sum(model.bytes for model in models)
        names = ", ".join(model.name for model in models) or "none"
        return f"ModelManager({used / 1e6:,.1f} of {self.byte_limit / 1e6:,.1f} MB; loaded: {names})"

    @classmethod
    def shared(cls) -> ModelManager:
        """Return the one shared manager of this process, created at the first call."""
        global _shared
        with _shared_lock:
            _shared = _shared or cls()
            return _shared

    # -- by name --

    def register(self, name: str, model: Model | type[Engine], /, **metadata: Any) -> None:
        """Register a specification or a subclass of Engine under a name.

        metadata: `version` (default "1"), and any further information about the model.
        Raises ValueError if this name and version are already registered for another model.
        """
        self.registry.register(name, model, **metadata)

    def list_available_models(self) -> list[ModelInfo]:
        """List the models of the roles (chat, embed, rerank), of LOCAL_MODELS_DIR, and registered ones."""
        return self.registry.available()

    def get_chat_model(self, name: Model | None = None, **options: Any) -> ChatModel:
        """Return a LangChain chat model. Its weights are loaded at its first use.

        name: A role, name, path, hub id or specification; by default DEFAULT_CHAT_MODEL.
        options: Generation options, such as temperature.
        """
        from course_lib.models.manager.langchain import ChatModel

        spec = self.registry.spec(name, task="chat-completion")
        return ChatModel(manager=self, spec=spec, options=spec.generation.replace(**options))

    def get_embedding_model(self, name: Model | None = None) -> EmbeddingModel:
        """Return LangChain Embeddings. Its weights are loaded at its first use.

        name: As for get_chat_model; by default DEFAULT_EMBEDDING_MODEL.
        It adds the prefixes for queries and passages that the model was trained with.
        """
        from course_lib.models.manager.langchain import EmbeddingModel

        spec = self.registry.spec(name, task="text-embedding")
        return EmbeddingModel(self, spec)

    def get_reranker(self, name: Model = "rerank") -> RerankerModel:
        """Return a reranker. Its weights are loaded at its first use. name: As for get_chat_model."""
        from course_lib.models.manager.langchain import RerankerModel

        return RerankerModel(self, self.registry.spec(name, task="rerank"))

    # -- in memory --

    @contextmanager
    def use(self, model: Model, keep_alive: float | None = None, **changes: Any) -> Iterator[Engine]:
        """Yield the engine (loaded model), which stays loaded at least until the end of the `with` block.

        keep_alive: Idle seconds until the model is unloaded, -1 for never, 0 for immediately; by default the
        value in the specification. Raises CourseError if the model cannot be loaded, or does not fit under
        the byte limit together with the models in use.
        """
        with self.use_resolved(self.registry.spec(model, **changes), keep_alive) as engine:
            yield engine

    @contextmanager
    def use_resolved(self, spec: ModelSpec, keep_alive: float | None = None) -> Iterator[Engine]:
        """Like `use`, for a specification that `registry.spec` has already resolved."""
        entry = self._acquire(spec)
        assert entry.engine is not None
        try:
            yield entry.engine
        finally:
            self._release(entry, spec.keep_alive if keep_alive is None else keep_alive)

    def unload(self, model: Model, **changes: Any) -> bool:
        """Unload a model, and the adapter models that share its weights, as soon as they are not in use.

        Returns whether the model was loaded.
        """
        key = self.registry.spec(model, **changes).key()
        with self._change:
            entry = self._entries.get(key)
            if entry is None or entry.engine is None:
                return False
            sharing = [k for k, e in self._entries.items() if e.engine and e.base is entry]
            closing = [dropped for k in (key, *sharing) for dropped in self._drop(k)]
        self._close(closing)
        return True

    def unload_all(self) -> None:
        """Unload all models; models in use are unloaded when their users are done."""
        with self._change:
            loaded = [key for key, entry in self._entries.items() if entry.engine]
            closing = [entry for key in loaded for entry in self._drop(key)]
        self._close(closing)

    def is_loaded(self, spec: ModelSpec) -> bool:
        """Whether the model of a specification that `registry.spec` has resolved is loaded."""
        with self._change:
            entry = self._entries.get(spec.key())
        return entry is not None and entry.engine is not None

    def loaded_models(self) -> list[LoadedModel]:
        """Return the loaded models, the least recently used first."""
        now = time.monotonic()
        with self._change:
            return [
                LoadedModel(
                    name=self.registry.name_of(entry.spec),
                    key=key,
                    driver=entry.spec.driver,
                    bytes=entry.bytes,
                    device=entry.engine.device,
                    users=entry.users,
                    idle=now - entry.last_used,
                    expires_in=max(0.0, entry.expires_at() - now),
                    counters=entry.engine.counters,
                )
                for key, entry in self._entries.items()
                if entry.engine is not None
            ]

    def _acquire(self, spec: ModelSpec) -> _Entry:
        """Return the entry of a specification, loading it if necessary, and add one user to it."""
        key = spec.key()
        with self._change:
            while (entry := self._entries.get(key)) is not None and entry.engine is None:
                self._change.wait()  # another thread is loading it
            if entry is not None:
                entry.users += 1
                self._entries.move_to_end(key)
                return entry
            entry = self._entries[key] = _Entry(spec)
        try:
            engine = self._load(key, entry)
        except BaseException:
            with self._change:
                self._entries.pop(key, None)
                self._change.notify_all()
            self._close([entry])
            raise
        with self._change:
            entry.engine, entry.users = engine, 1
            entry.bytes = (engine.weight_bytes or entry.bytes) - (entry.base.bytes if entry.base else 0)
            entry.last_used = time.monotonic()
            if entry.base and entry.base.dropped:  # unloaded in the meantime
                self._drop(key)
            self._change.notify_all()
        return entry

    def _load(self, key: str, entry: _Entry) -> Engine:
        """Make room for a model and load it. A model with adapters reuses the engine of its base model."""
        base_spec = _base_spec(entry.spec)
        if base_spec:
            entry.base = self._acquire(base_spec)
        else:
            entry.bytes = memory.bytes_to_load(entry.spec)
        self._make_room(key, entry)
        started = time.perf_counter()
        shared: Any = entry.base.engine if entry.base else None
        engine: Engine = shared.with_adapters(entry.spec) if shared else load(entry.spec)
        engine.counters.load_seconds = time.perf_counter() - started
        return engine

    def _make_room(self, key: str, wanted: _Entry) -> None:
        """Unload idle models (the longest unused first) for `wanted`. Raises CourseError if it cannot fit."""
        with self._change:
            idle = self._evictable(key)
            staying = {k: e for k, e in self._entries.items() if k not in idle}
            leaving = sum(e.bytes for e in self._dropped_in_use)
            excess = leaving + sum(e.bytes for e in staying.values()) - self.byte_limit
            if excess > 0:
                others = [*self._dropped_in_use, *(e for k, e in staying.items() if k != key)]
                in_use = ", ".join(e.spec.name for e in others) or "no other model"
                raise CourseError(
                    f"{wanted.spec.name} takes {wanted.bytes / 1e6:,.1f} MB, {excess / 1e6:,.1f} MB over "
                    f"the limit of {self.byte_limit / 1e6:,.1f} MB; in use: {in_use}",
                    f"ModelManager(byte_limit={self.byte_limit + excess})",
                )
            closing: list[_Entry] = []
            while leaving + sum(e.bytes for e in self._entries.values()) > self.byte_limit:
                closing += self._drop(idle.pop(0))
        self._close(closing)

    def _evictable(self, key: str) -> list[str]:
        """Return keys of models that may be unloaded: unused, or used only by idle adapter models.

        Adapter models come before the base models that they use.
        """
        unused = {k: e for k, e in self._entries.items() if k != key and e.engine and not e.users}
        idle_users = [e.base for e in unused.values() if e.base]
        evictable = {
            k: e
            for k, e in self._entries.items()
            if k in unused or 0 < e.users == sum(base is e for base in idle_users)
        }
        return sorted(evictable, key=lambda k: evictable[k].base is None and evictable[k].users > 0)

    def _drop(self, key: str) -> list[_Entry]:
        """Remove a model from the manager (with the lock held). Returns it in a list if it can be closed."""
        entry = self._entries.pop(key)
        entry.dropped = True
        if entry.engine and not entry.users:
            return [entry]
        self._dropped_in_use.append(entry)
        return []

    def _release(self, entry: _Entry, keep_alive: float) -> None:
        """Remove one user from an entry; close it if it was dropped or keep_alive is 0."""
        with self._change:
            entry.users -= 1
            entry.last_used, entry.keep_alive = time.monotonic(), keep_alive
            self._dropped_in_use = [e for e in self._dropped_in_use if e is not entry or e.users]
            closing = [entry] if entry.dropped and not entry.users and entry.engine else []
            if not entry.dropped and not entry.users and keep_alive == 0:
                closing = self._drop(entry.spec.key())
            if not entry.dropped and keep_alive > 0 and self._reaper is None:
                self._reaper = threading.Thread(target=self._reap, daemon=True, name="course-idle-models")
                self._reaper.start()
            if not entry.users:  # the reaper's next date may have changed
                self._change.notify_all()
        self._close(closing)

    def _close(self, entries: list[_Entry]) -> None:
        """Close models (call without the lock) and release the base models whose weights they shared."""
        for entry in entries:
            if entry.engine:
                entry.engine.close()
            if entry.base:
                self._release(entry.base, entry.base.spec.keep_alive)

    def _reap(self) -> None:
        """Unload models when their keep_alive ends; return when no model is left. Runs in its own thread."""
        while True:
            with self._change:
                now = time.monotonic()
                expired = [key for key, entry in self._entries.items() if entry.expires_at() <= now]
                closing = [entry for key in expired for entry in self._drop(key)]
                if not closing and not self._entries:
                    self._reaper = None
                    return
                if not closing:
                    soonest = min(entry.expires_at() for entry in self._entries.values())
                    self._change.wait(None if soonest == math.inf else soonest - now)
            self._close(closing)


def _base_spec(spec: ModelSpec) -> ModelSpec | None:
    """Return the model without its adapters if its driver can share the base weights, else None."""
    is_language_model = spec.task in ("chat-completion", "text-generation")
    if not (spec.adapters and is_language_model and spec.driver == "huggingface"):
        return None
    return spec.model_copy(update={"adapters": (), "combination_type": "cat"})


_shared: ModelManager | None = None
_shared_lock = threading.Lock()
