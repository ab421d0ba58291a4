"""LoadedModel models, kept while they are used: loaded once, never mixed up, unloaded when idle or when memory is short."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from course_lib.errors import CourseError
from course_lib.models import catalog
from course_lib.models.drivers import load
from course_lib.models.drivers.engine import Engine
from course_lib.models.drivers.reply import Counters
from course_lib.models.manager.registry import ModelInfo, Registry
from course_lib.models.planner import memory
from course_lib.models.schema import ModelSpec

if TYPE_CHECKING:
    from course_lib.models.manager.langchain import ChatModel, EmbeddingModel, Reranker

SHARE = 0.8  # of the machine's memory, for weights, where no limit is given


@dataclass
class _Entry:
    """A model in memory, or on its way there (engine is None then)."""

    spec: ModelSpec
    bytes: int
    engine: Engine | None = None
    users: int = 0
    loaded_at: float = 0.0
    last_used: float = 0.0
    keep_alive: float = 0.0
    dropped: bool = False  # taken off the list; closed when its last user is done
    base: _Entry | None = None  # the model whose weights it shares, which counts it among its users

    def expires(self) -> float:
        """The moment (time.monotonic) at which it is idle for long enough; infinite while it is used or kept for ever."""
        return (
            float("inf")
            if self.users or self.engine is None or self.keep_alive < 0
            else self.last_used + self.keep_alive
        )


@dataclass(frozen=True)
class LoadedModel:
    """A line of `ps`: bytes of weights, where it runs, seconds since its last use and until it is unloaded, counters."""

    name: str
    key: str
    driver: str
    bytes: int
    device: str
    users: int
    loaded_at: float
    last_used: float
    idle: float
    expires_in: float
    counters: Counters = field(repr=False)


class ModelManager:
    """Models by name. Thread-safe. Two specifications share a model only if their weights and place are the same.

    byte_limit: bytes of weights held at once; four fifths of the machine's memory where none is given. To keep to it the
    model that was not used for longest goes first, and one in use never. A language model with adapters shares the weights of the
    same model without: adapters are exchanged without loading it again, and several are used at once.
    """

    def __init__(self, byte_limit: int | None = None) -> None:
        import psutil

        self.byte_limit = int(SHARE * psutil.virtual_memory().total) if byte_limit is None else byte_limit
        self.registry = Registry()
        self._held: OrderedDict[str, _Entry] = OrderedDict()  # the one not used for longest comes first
        self._leaving: list[_Entry] = []  # taken off that list, and still used
        self._change = threading.Condition()
        self._reaper: threading.Thread | None = None

    @classmethod
    def shared(cls) -> ModelManager:
        """The one manager of this process, made when it is first asked for. Tests make their own instances."""
        global _shared
        with _making:
            _shared = _shared or cls()
            return _shared

    # -- by name ----------------------------------------------------------------------------------------------------

    def register(self, name: str, what: ModelSpec | str | dict[str, Any] | type[Engine], **more: Any) -> None:
        """Give a model a name: a specification, or a subclass of Engine. `version` and other metadata may be named.

        Raises ValueError for a name and version that stand for something else already.
        """
        self.registry.register(name, what, **more)

    def list_available_models(self) -> list[ModelInfo]:
        """Roles of the tier, models of LOCAL_MODELS_DIR, and registered ones, each with what is known of it."""
        return self.registry.available()

    def get_chat_model(self, name: str | None = None, **options: Any) -> ChatModel:
        """A LangChain chat model, by role, name, path, hub id or specification; DEFAULT_CHAT_MODEL where none is named.

        It is loaded when it is first asked. `options`: of generation, such as temperature.
        """
        from course_lib.models.manager.langchain import ChatModel

        spec = self.registry.spec(name, task="chat-completion")
        return ChatModel(manager=self, spec=spec, options=spec.generation.replace(**options))

    def get_embedding_model(self, name: str | None = None) -> EmbeddingModel:
        """LangChain Embeddings, by the same names; DEFAULT_EMBEDDING_MODEL where none is given.

        A model of the catalogue that was trained with words before questions and passages gets them.
        """
        from course_lib.models.manager.langchain import EmbeddingModel

        spec = self.registry.spec(name, task="text-embedding")
        return EmbeddingModel(self, spec, *catalog.prefixes(spec.name))

    def get_reranker(self, name: str = "rerank") -> Reranker:
        """A reranker, by the same names."""
        from course_lib.models.manager.langchain import Reranker

        return Reranker(self, self.registry.spec(name, task="rerank"))

    # -- in memory --------------------------------------------------------------------------------------------------

    @contextmanager
    def use(
        self, model: ModelSpec | str | dict[str, Any], keep_alive: float | None = None, **changes: Any
    ) -> Iterator[Engine]:
        """The loaded engine, held until the end of the block; from then on its idle time counts.

        keep_alive: seconds, -1 for ever, 0 not at all; the specification's own where none is given.
        Raises CourseError where it cannot be loaded or does not fit under the byte limit beside the models in use.
        """
        spec = self.registry.spec(model, **changes)
        held = self._take(spec)
        assert held.engine is not None
        try:
            yield held.engine
        finally:
            self._release(held, spec.keep_alive if keep_alive is None else keep_alive)

    def unload(self, model: ModelSpec | str | dict[str, Any], **changes: Any) -> bool:
        """Unload a model, at once or when its present users are done; whether it was loaded. Those with adapters that share its
        weights go with it."""
        key = self.registry.spec(model, **changes).key()
        with self._change:
            held = self._held.get(key)
            if held is None or held.engine is None:
                return False
            sharing = [k for k, h in self._held.items() if h.engine and h.base is held]
            closing = [dropped for k in (key, *sharing) for dropped in self._drop(k)]
        self._close(closing)
        return True

    def unload_all(self) -> None:
        """Unload every model, those in use when their users are done."""
        with self._change:
            closing = [held for key in list(self._held) if self._held[key].engine for held in self._drop(key)]
        self._close(closing)

    def loaded_models(self) -> list[LoadedModel]:
        """The loaded models, the one not used for longest first."""
        now = time.monotonic()
        with self._change:
            return [
                LoadedModel(
                    self.registry.name_of(h.spec),
                    key,
                    h.spec.driver,
                    h.bytes,
                    h.engine.device,
                    h.users,
                    h.loaded_at,
                    h.last_used,
                    now - h.last_used,
                    max(0.0, h.expires() - now),
                    h.engine.counters,
                )
                for key, h in self._held.items()
                if h.engine is not None
            ]

    def _take(self, spec: ModelSpec) -> _Entry:
        key = spec.key()
        with self._change:
            while (held := self._held.get(key)) is not None and held.engine is None:
                self._change.wait()  # somebody else is loading it
            if held is not None:
                held.users += 1
                self._held.move_to_end(key)
                return held
            held = self._held[key] = _Entry(spec, 0)
        try:
            if alone := _alone(spec):
                held.base = self._take(alone)
            held.bytes = 0 if held.base else memory.bytes_to_load(spec)
            self._make_room(key, held)
            begun = time.perf_counter()
            engine: Engine = held.base.engine.with_adapters(spec) if held.base else load(spec)  # type: ignore[union-attr]
            engine.counters.load_seconds = time.perf_counter() - begun
        except BaseException:
            with self._change:
                self._held.pop(key, None)
                self._change.notify_all()
            self._close([held])
            raise
        with self._change:
            held.engine, held.users = engine, 1
            held.bytes = (engine.weight_bytes or held.bytes) - (held.base.bytes if held.base else 0)
            held.loaded_at = held.last_used = time.monotonic()
            if held.base and held.base.dropped:  # unloaded meanwhile
                self._drop(key)
            self._change.notify_all()
        return held

    def _make_room(self, key: str, wanted: _Entry) -> None:
        """Unload idle models, the one not used for longest first, until `wanted` fits. Raises CourseError if it cannot."""
        with self._change:
            idle = self._idle(key)
            staying = {k: h for k, h in self._held.items() if k not in idle}
            leaving = sum(h.bytes for h in self._leaving)
            short = leaving + sum(h.bytes for h in staying.values()) - self.byte_limit
            if short > 0:
                others = [*self._leaving, *(h for k, h in staying.items() if k != key)]
                in_use = ", ".join(h.spec.name for h in others) or "no other model"
                raise CourseError(
                    f"{wanted.spec.name} takes {wanted.bytes / 1e6:,.1f} MB, {short / 1e6:,.1f} MB over the limit of "
                    f"{self.byte_limit / 1e6:,.1f} MB; in use: {in_use}",
                    "unload a model, take a smaller one or fewer bits, or raise byte_limit",
                )
            closing: list[_Entry] = []
            while leaving + sum(h.bytes for h in self._held.values()) > self.byte_limit:
                closing += self._drop(idle.pop(0))
        self._close(closing)

    def _idle(self, key: str) -> list[str]:
        """The models, but for one, that nobody uses, or that only idle models with adapters share: those come before it."""
        unused = {k: h for k, h in self._held.items() if k != key and h.engine and not h.users}
        sharing = [h.base for h in unused.values() if h.base]
        free = {
            k: h
            for k, h in self._held.items()
            if k in unused or 0 < h.users == sum(base is h for base in sharing)
        }
        return sorted(free, key=lambda k: free[k].base is None and free[k].users > 0)

    def _drop(self, key: str) -> list[_Entry]:
        """Take a model off the list (the lock is held); it is to be closed if nobody uses it."""
        held = self._held.pop(key)
        held.dropped = True
        if held.engine and not held.users:
            return [held]
        self._leaving.append(held)
        return []

    def _release(self, held: _Entry, keep_alive: float) -> None:
        with self._change:
            held.users -= 1
            held.last_used, held.keep_alive = time.monotonic(), keep_alive
            closing = [held] if held.dropped and not held.users and held.engine else []
            self._leaving = [h for h in self._leaving if h is not held or h.users]
            if not held.dropped and not held.users and keep_alive == 0:
                closing = self._drop(held.spec.key())
            if not held.dropped and keep_alive > 0 and self._reaper is None:
                self._reaper = threading.Thread(target=self._reap, daemon=True, name="course-idle-models")
                self._reaper.start()
            self._change.notify_all()
        self._close(closing)

    def _close(self, models: list[_Entry]) -> None:
        """Close models (the lock is not held), and let go of those whose weights they shared."""
        for held in models:
            if held.engine:
                held.engine.close()
            if held.base:
                self._release(held.base, held.base.spec.keep_alive)

    def _reap(self) -> None:
        """Unload what is idle for long enough; ends when nothing is left that will ever be."""
        while True:
            with self._change:
                now = time.monotonic()
                closing = [
                    held for k, h in list(self._held.items()) if h.expires() <= now for held in self._drop(k)
                ]
                if not closing and not self._held:
                    self._reaper = None
                    return
                if not closing:
                    soonest = min(h.expires() for h in self._held.values())
                    self._change.wait(None if soonest == float("inf") else soonest - now)
            self._close(closing)


def _alone(spec: ModelSpec) -> ModelSpec | None:
    """The same model without its adapters, where its driver can share its weights with one that has them."""
    language = spec.task in ("chat-completion", "text-generation")
    if not (spec.adapters and language and spec.driver == "huggingface"):
        return None
    return spec.model_copy(update={"adapters": (), "combination_type": "cat"})


_shared: ModelManager | None = None
_making = threading.Lock()
