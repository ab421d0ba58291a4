"""Keep loaded models in memory: load each once, share it, and unload it when idle or when memory runs short.

A specification (ModelSpec) declares a model; an engine is a loaded model. An adapter model is a model with
LoRA adapters, which shares the weights of its base model.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from course_lib.errors import CourseError
from course_lib.models.drivers import load
from course_lib.models.drivers.engine import Engine
from course_lib.models.drivers.reply import Counters
from course_lib.models.planner import memory
from course_lib.models.schema import ModelSpec

MEMORY_SHARE = 0.8  # default limit for weights, as a fraction of the machine's memory


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


class ModelPool:
    """Loads models by their specifications, and shares each among all callers. Thread-safe.

    byte_limit: The maximum total size of the loaded weights in bytes, by default 80% of the machine's memory.
    """

    def __init__(self, byte_limit: int | None = None) -> None:
        import psutil

        memory_size = psutil.virtual_memory().total
        self.byte_limit = int(MEMORY_SHARE * memory_size) if byte_limit is None else byte_limit
        # by ModelSpec.key(), least recently used first
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._dropped_in_use: list[_Entry] = []  # to be closed when their last user is done
        self._change = threading.Condition()  # the lock of all entries; notified when one of them changes
        self._reaper: threading.Thread | None = None  # unloads models when their keep_alive ends

    @contextmanager
    def use_resolved(self, spec: ModelSpec, keep_alive: float | None = None) -> Iterator[Engine]:
        """Like `ModelManager.use`, for a specification that `Registry.spec` has returned."""
        entry = self._acquire(spec)
        assert entry.engine is not None
        try:
            yield entry.engine
        finally:
            self._release(entry, spec.keep_alive if keep_alive is None else keep_alive)

    def unload_all(self) -> None:
        """Unload all models; models in use are unloaded when their users are done."""
        with self._change:
            loaded = [key for key, entry in self._entries.items() if entry.engine]
            closing = [entry for key in loaded for entry in self._drop(key)]
        self._close(closing)

    def is_loaded(self, spec: ModelSpec) -> bool:
        """Whether the model of a specification that `Registry.spec` has returned is loaded."""
        with self._change:
            entry = self._entries.get(spec.key())
        return entry is not None and entry.engine is not None

    def loaded_models(self) -> list[LoadedModel]:
        """Return the loaded models, the least recently used first."""
        now = time.monotonic()
        with self._change:
            return [
                LoadedModel(
                    name=self._name_of(entry.spec),
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

    def _unload(self, key: str) -> bool:
        with self._change:
            entry = self._entries.get(key)
            if entry is None or entry.engine is None:
                return False
            sharing = [k for k, e in self._entries.items() if e.engine and e.base is entry]
            closing = [dropped for k in (key, *sharing) for dropped in self._drop(k)]
        self._close(closing)
        return True

    def _name_of(self, spec: ModelSpec) -> str:
        """Return the name under which users know a model."""
        return spec.name

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
