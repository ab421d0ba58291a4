"""Run the server's requests on models: a bounded queue, worker threads, and one ModelManager."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

from course_lib.models.drivers.engine import Engine
from course_lib.models.manager.manager import LoadedModel, ModelManager
from course_lib.models.schema import ModelSpec
from course_lib.serve.completion import MAX_RUNNING, Completion, CompletionRequest, OnToken, ServedLlamaCpp
from course_lib.serve.errors import ApiError
from course_lib.serve.store import Store, Tag

T = TypeVar("T")
MAX_QUEUED = 64  # waiting requests; further ones are rejected


class Vectors(NamedTuple):
    """Embedding vectors, one row per text; the total token count; the seconds to load the model."""

    rows: list[list[float]]
    tokens: int
    load_seconds: float


class Worker:
    """Run jobs (the blocking work of requests) in threads.

    Call `submit`, `run` and `stream` from the event loop; the methods under "jobs" run in worker threads.
    """

    def __init__(self, store: Store, *, max_queued: int = MAX_QUEUED, max_running: int = MAX_RUNNING) -> None:
        self.store, self.manager, self.closing = store, ModelManager(), threading.Event()
        self.limit, self.outstanding = max_queued + max_running, 0
        self.contexts: dict[str, int] = {}  # digest -> context length in tokens, for models loaded so far
        self._specs: dict[str, ModelSpec] = {}  # digest -> resolved specification
        self._threads = ThreadPoolExecutor(max_running, thread_name_prefix="course-serve")

    def __repr__(self) -> str:
        return f"Worker({self.store}, {self.outstanding} of {self.limit} requests, {self.manager})"

    # -- in the event loop --

    def submit(self, job: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
        """Run a job in a thread. Raises ApiError (503) if the queue is full or the server is closing."""
        if self.closing.is_set():
            raise _closing_error()
        if self.outstanding >= self.limit:
            what, headers = (
                f"server busy: {self.outstanding} requests are running or waiting",
                {"Retry-After": "1"},
            )
            raise ApiError("server", what, "try again in a second", status=503, headers=headers)
        self.outstanding += 1
        future = asyncio.get_running_loop().run_in_executor(self._threads, job, *arguments)
        future.add_done_callback(self._done)
        return future

    def _done(self, future: asyncio.Future[Any]) -> None:
        self.outstanding -= 1
        if not future.cancelled():
            future.exception()  # retrieve it even if nobody awaits it, so that asyncio does not log it

    async def run(self, job: Callable[..., T], *arguments: Any) -> T:
        """Run a job in a thread and return its result."""
        return await self.submit(job, *arguments)

    async def stream(self, job: Callable[[Callable[[Any], bool]], T]) -> AsyncIterator[Any]:
        """Run `job(put)` in a thread; yield each value that it passes to `put`, and finally its result.

        `put` returns True when the job must stop: the client is gone or the server is closing.
        """
        loop, values, abandoned = asyncio.get_running_loop(), asyncio.Queue[Any](), threading.Event()

        def put(value: Any) -> bool:
            stop = abandoned.is_set() or self.closing.is_set()
            if not stop:
                loop.call_soon_threadsafe(values.put_nowait, (value,))
            return stop

        def unless_abandoned() -> T | None:
            return None if abandoned.is_set() else job(put)

        work = self.submit(unless_abandoned)
        work.add_done_callback(lambda _: values.put_nowait(None))
        try:
            while (item := await values.get()) is not None:
                yield item[0]
            if self.closing.is_set():
                raise _closing_error()
            yield work.result()
        finally:
            abandoned.set()

    def close(self) -> None:
        """Stop streams early, wait for the worker threads, and unload every model."""
        self.closing.set()
        self._threads.shutdown(wait=True, cancel_futures=True)
        self.manager.unload_all()

    # -- jobs --

    def complete(
        self, tag: Tag, request: CompletionRequest, keep_alive: float | None, on_token: OnToken | None = None
    ) -> Completion:
        """Complete a prompt with a model of the store."""
        with self._engine(tag, keep_alive) as (engine, load_seconds):
            assert isinstance(engine, ServedLlamaCpp)
            return replace(engine.complete(request, on_token), load_seconds=load_seconds)

    def embed(
        self,
        tag: Tag,
        texts: list[str],
        keep_alive: float | None,
        num_ctx: int | None = None,
        field: str = "input",
    ) -> Vectors:
        """Return a unit-length vector per text. Raises ApiError for a text that is too long.

        field: The request field with the texts, for error messages.
        """
        with self._engine(tag, keep_alive) as (engine, load_seconds):
            context = num_ctx or engine.context
            if context > engine.context:
                what = f"{num_ctx}, but the context length of this model is {engine.context}"
                raise ApiError("options.num_ctx", what, "use a smaller num_ctx")
            counts = [len(engine.tokenizer.encode(t, verbose=False)) for t in texts]  # type: ignore[attr-defined]
            for i, count in enumerate(counts):
                if count > context:
                    what = f"text {i} has {count} tokens, but num_ctx is {context}"
                    raise ApiError(field, what, "split it: this server does not truncate texts")
            return Vectors(engine.embed(texts).tolist(), sum(counts), load_seconds)

    def _spec(self, tag: Tag) -> ModelSpec:
        if tag.digest not in self._specs:
            self._specs[tag.digest] = self.manager.registry.spec(self.store.spec(tag))
        return self._specs[tag.digest]

    @contextmanager
    def _engine(self, tag: Tag, keep_alive: float | None) -> Iterator[tuple[Engine, float]]:
        """Yield the engine (loaded model) of a tag for use, and the seconds until it was available."""
        started = time.perf_counter()
        with self.manager.use_resolved(self._spec(tag), keep_alive) as engine:
            self.contexts[tag.digest] = engine.context
            yield engine, time.perf_counter() - started

    def load(self, tag: Tag, keep_alive: float | None) -> None:
        """Load a model into memory."""
        with self._engine(tag, keep_alive):
            pass

    def unload(self, tag: Tag) -> None:
        """Unload a model as soon as its current users are done."""
        self.manager.unload(self._spec(tag))

    def delete(self, name: str) -> None:
        """Delete a model name from the store; deleting a model's last name also unloads it."""
        if (tag := self.store.delete(name)) is not None:
            self.unload(tag)

    def loaded(self) -> list[tuple[Tag, LoadedModel]]:
        """Return the loaded models, once for each of their names."""
        loaded = {model.key: model for model in self.manager.loaded_models()}
        keys = [(tag, self._spec(tag).key()) for tag in self.store.tags()]
        return [(tag, loaded[key]) for tag, key in keys if key in loaded]


def _closing_error() -> ApiError:
    return ApiError("server", "the server is shutting down", "send the request again later", status=503)
