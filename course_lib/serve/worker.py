"""The worker between requests and models: a queue with an end, worker threads, and one manager that keeps the models."""

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
from course_lib.serve.completion import MAX_RUNNING, Completion, CompletionRequest, OnToken, ServedLlamaCpp
from course_lib.serve.errors import ApiError
from course_lib.serve.store import Store, Tag

T = TypeVar("T")
MAX_QUEUED = 64  # requests that wait; the next is refused


class Vectors(NamedTuple):
    """Vectors, the tokens read for them, and the seconds it took to load the model before."""

    rows: list[list[float]]
    tokens: int
    load: float


class Worker:
    """Does the work of requests. `run` and `stream` belong to the event loop, the jobs to worker threads."""

    def __init__(self, store: Store, *, queue: int = MAX_QUEUED, at_once: int = MAX_RUNNING) -> None:
        self.store, self.manager, self.closing = store, ModelManager(), threading.Event()
        self.limit, self.outstanding = queue + at_once, 0
        self.contexts: dict[str, int] = {}  # digest -> tokens that the model reads, once it was loaded
        self._workers = ThreadPoolExecutor(at_once, thread_name_prefix="course-serve")

    # -- in the event loop ------------------------------------------------------------------------------------------

    def submit(self, job: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
        """Start a job in a worker thread. Raises ApiError, status 503, where the queue is full or the server is closing."""
        if self.closing.is_set():
            raise _closing()
        if self.outstanding >= self.limit:
            raise ApiError(
                "server",
                f"server busy: {self.outstanding} requests are in work or wait",
                "try again in a second",
                status=503,
                headers={"Retry-After": "1"},
            )
        self.outstanding += 1
        future = asyncio.get_running_loop().run_in_executor(self._workers, job, *arguments)
        future.add_done_callback(self._done)
        return future

    def _done(self, future: asyncio.Future[Any]) -> None:
        self.outstanding -= 1
        if not future.cancelled():
            future.exception()  # seen, even where nobody waits for it any more

    async def run(self, job: Callable[..., T], *arguments: Any) -> T:
        """What a job returns."""
        return await self.submit(job, *arguments)

    async def stream(self, job: Callable[[Callable[[Any], bool]], T]) -> AsyncIterator[Any]:
        """What a job gives to the function that it is called with, then what it returns.

        That function answers True once nobody reads any more or the server closes: the job is to end then.
        """
        loop, found, left = asyncio.get_running_loop(), asyncio.Queue[Any](), threading.Event()

        def each(piece: Any) -> bool:
            stop = left.is_set() or self.closing.is_set()
            if not stop:
                loop.call_soon_threadsafe(found.put_nowait, (piece,))
            return stop

        def unless_left() -> T | None:
            return None if left.is_set() else job(each)

        work = self.submit(unless_left)
        work.add_done_callback(lambda _: found.put_nowait(None))
        try:
            while (piece := await found.get()) is not None:
                yield piece[0]
            if self.closing.is_set():
                raise _closing()
            yield work.result()
        finally:
            left.set()

    def close(self) -> None:
        """Wait for the workers, then unload every model. `closing` makes streams end early, and is set here at the latest."""
        self.closing.set()
        self._workers.shutdown(wait=True, cancel_futures=True)
        self.manager.unload_all()

    # -- jobs -------------------------------------------------------------------------------------------------------

    def write(
        self, tag: Tag, ask: CompletionRequest, keep_alive: float | None, each: OnToken | None = None
    ) -> Completion:
        """An answer by a model of the store."""
        with self._using(tag, keep_alive) as (engine, seconds):
            assert isinstance(engine, ServedLlamaCpp)
            return replace(engine.write(ask, each), load=seconds)

    def embed(
        self,
        tag: Tag,
        texts: list[str],
        keep_alive: float | None,
        num_ctx: int | None = None,
        field: str = "input",
    ) -> Vectors:
        """A vector of length 1 for each text. Raises ApiError for a text that is too long: none is cut."""
        with self._using(tag, keep_alive) as (engine, seconds):
            reads = num_ctx or engine.context
            if reads > engine.context:
                raise ApiError(
                    "options.num_ctx",
                    f"{num_ctx}, but this model reads {engine.context} tokens",
                    "ask for less",
                )
            counts = [len(engine.tokenizer.encode(t, verbose=False)) for t in texts]  # type: ignore[attr-defined]
            for i, count in enumerate(counts):
                if count > reads:
                    raise ApiError(
                        field,
                        f"text {i} has {count} tokens, and {reads} are read (num_ctx)",
                        "split it: nothing is cut",
                    )
            return Vectors(engine.embed(texts).tolist(), sum(counts), seconds)

    @contextmanager
    def _using(self, tag: Tag, keep_alive: float | None) -> Iterator[tuple[Engine, float]]:
        """The engine of a tag while it is used, and the seconds until it was there."""
        begun = time.perf_counter()
        with self.manager.use(self.store.spec(tag), keep_alive) as engine:
            self.contexts[tag.digest] = engine.context
            yield engine, time.perf_counter() - begun

    def load(self, tag: Tag, keep_alive: float | None) -> None:
        """Have a model in memory."""
        with self._using(tag, keep_alive):
            pass

    def unload(self, tag: Tag) -> None:
        """Have a model out of memory, as soon as its present users are done."""
        self.manager.unload(self.store.spec(tag))

    def delete(self, name: str) -> None:
        """Remove a model of the store; it leaves the memory with its last name."""
        if (tag := self.store.delete(name)) is not None:
            self.unload(tag)

    def loaded(self) -> list[tuple[Tag, LoadedModel]]:
        """The models in memory, under each of their names."""
        by_key = {held.key: held for held in self.manager.loaded_models()}
        found = (
            (tag, by_key.get(self.manager.registry.spec(self.store.spec(tag)).key()))
            for tag in self.store.tags()
        )
        return [(tag, held) for tag, held in found if held is not None]


def _closing() -> ApiError:
    return ApiError(
        "server", "the server is shutting down", "start it again, and send the request again", status=503
    )
