"""Run the server's requests on models: a bounded queue, worker threads, and one ModelManager."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

from course_lib.errors import CourseError
from course_lib.models.drivers.engine import Engine
from course_lib.models.manager.manager import LoadedModel, ModelManager
from course_lib.models.schema import ModelSpec
from course_lib.serve.completion import Completion, CompletionRequest, ServedLlamaCpp
from course_lib.serve.errors import ApiError, not_found
from course_lib.serve.limits import MAX_PULLS, MAX_QUEUED, MAX_RUNNING
from course_lib.serve.store import Store, Tag

T = TypeVar("T")
EMBED_BATCH = 32  # texts that are embedded before a look whether the client is still there


class Vectors(NamedTuple):
    """Embedding vectors, one row per text; the total token count; the seconds to load the model."""

    rows: list[list[float]]
    tokens: int
    load_seconds: float


class Channel:
    """The way from a job in a thread to the client in the event loop that waits for it.

    stop: Is set when the client is gone, or the server is shutting down: then the job must end.
    """

    def __init__(self) -> None:
        self.stop, self.values = threading.Event(), asyncio.Queue[Any]()
        self._loop = asyncio.get_running_loop()

    def put(self, value: Any) -> None:
        """Send a value to the client, unless it is gone."""
        if not self.stop.is_set():
            self._loop.call_soon_threadsafe(self.values.put_nowait, (value,))


class Worker:
    """Run jobs (the blocking work of requests) in threads.

    Call `run`, `stream` and `stop` from the event loop; the methods under "jobs" run in worker threads. What
    only reads the store does not come here: it must never wait behind a generation.
    """

    def __init__(self, store: Store, *, max_queued: int = MAX_QUEUED, max_running: int = MAX_RUNNING) -> None:
        self.store, self.manager, self.closing = store, ModelManager(), threading.Event()
        self.limit = max_queued + max_running
        self.contexts: dict[str, int] = {}  # digest -> context length in tokens, for models loaded so far
        self._specs: dict[str, ModelSpec] = {}  # digest -> resolved specification
        self._threads = ThreadPoolExecutor(max_running, thread_name_prefix="course-serve")
        self.pulls = ThreadPoolExecutor(MAX_PULLS, thread_name_prefix="course-pull")
        self._channels: set[Channel] = set()  # of the requests that are running or waiting
        self._work: set[Future[Any]] = set()  # their jobs, and those that have not noticed yet that they end

    def __repr__(self) -> str:
        return f"Worker({self.store}, {self.outstanding} of {self.limit} requests, {self.manager})"

    @property
    def outstanding(self) -> int:
        """The number of requests that are running or waiting."""
        return len(self._channels)

    # -- in the event loop --

    async def run(self, job: Callable[[Channel], T]) -> T:
        """Run a job in a thread and return its result. Cancelling this call ends the job."""
        return [value async for value in self.stream(job)][-1]

    async def stream(
        self, job: Callable[[Channel], Any], threads: ThreadPoolExecutor | None = None
    ) -> AsyncIterator[Any]:
        """Run a job in a thread; yield each value that it puts into its channel, and finally its result.

        Raises ApiError (503) if the queue is full or the server is closing.
        """
        if self.closing.is_set():
            raise closing_error()
        if self.outstanding >= self.limit:
            what = f"server busy: {self.outstanding} requests are running or waiting"
            fix, headers = "try again in a second", {"Retry-After": "1"}
            raise ApiError("server", what, fix, status=503, headers=headers)
        channel = Channel()
        future = (threads or self._threads).submit(job, channel)
        self._work.add(future)
        future.add_done_callback(self._work.discard)
        work = asyncio.wrap_future(future)
        work.add_done_callback(lambda _: channel.values.put_nowait(None))
        self._channels.add(channel)
        try:
            while (item := await channel.values.get()) is not None:
                yield item[0]
            if self.closing.is_set():
                raise closing_error()
            yield work.result()
        finally:
            self._channels.discard(channel)
            channel.stop.set()
            work.cancel()  # takes it from the queue, if it has not begun

    def stop(self) -> None:
        """End every job, and tell every client that waits that the server is shutting down."""
        self.closing.set()
        for channel in self._channels:
            channel.stop.set()
            channel.values.put_nowait(None)

    def close(self, seconds: float | None = None) -> bool:
        """Wait for the jobs to end, and unload every model. Returns False if a job runs after `seconds`."""
        self.closing.set()
        for threads in (self._threads, self.pulls):
            threads.shutdown(wait=False, cancel_futures=True)
        ended = not wait(set(self._work), seconds).not_done
        if ended:
            self.manager.unload_all()
        return ended

    # -- jobs --

    def complete(
        self,
        tag: Tag,
        request: CompletionRequest,
        keep_alive: float | None,
        channel: Channel,
        *,
        stream: bool = False,
    ) -> Completion:
        """Complete a prompt with a model of the store. stream: Whether to put each piece into the channel."""
        with self._engine(tag, keep_alive) as (engine, load_seconds):
            assert isinstance(engine, ServedLlamaCpp)
            return replace(
                engine.complete(request, channel.stop, channel.put if stream else None),
                load_seconds=load_seconds,
            )

    def embed(
        self,
        tag: Tag,
        texts: list[str],
        channel: Channel,
        keep_alive: float | None = None,
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
            rows: list[list[float]] = []
            for start in range(0, len(texts), EMBED_BATCH):
                if channel.stop.is_set():
                    break
                rows += engine.embed(texts[start : start + EMBED_BATCH]).tolist()
            return Vectors(rows, sum(counts), load_seconds)

    def _spec(self, tag: Tag) -> ModelSpec:
        if tag.digest not in self._specs:
            self._specs[tag.digest] = self.manager.registry.spec(self.store.spec(tag))
        return self._specs[tag.digest]

    @contextmanager
    def _engine(self, tag: Tag, keep_alive: float | None) -> Iterator[tuple[Engine, float]]:
        """Yield the engine (loaded model) of a tag for use, and the seconds until it was available."""
        started = time.perf_counter()
        with ExitStack() as stack:
            try:
                engine = stack.enter_context(self.manager.use_resolved(self._spec(tag), keep_alive))
            except (CourseError, OSError) as error:
                if self.store.holds(tag):
                    raise
                raise not_found(tag.name) from error  # deleted after this request had come
            self.contexts[tag.digest] = engine.context
            yield engine, time.perf_counter() - started

    def load(self, tag: Tag, keep_alive: float | None) -> None:
        """Load a model into memory."""
        with self._engine(tag, keep_alive):
            pass

    def unload(self, tag: Tag) -> None:
        """Unload a model as soon as its current users are done."""
        if (spec := self._specs.pop(tag.digest, None)) is not None:
            self.manager.unload(spec)

    def delete(self, name: str) -> None:
        """Delete a model name from the store. The last name unloads the model; answers that run go on."""
        if (tag := self.store.delete(name)) is not None:
            self.unload(tag)

    def loaded(self) -> list[tuple[Tag, LoadedModel]]:
        """Return the loaded models, once for each of their names."""
        loaded = {model.key: model for model in self.manager.loaded_models()}
        keys = {digest: spec.key() for digest, spec in list(self._specs.items())}
        found = [(tag, loaded.get(keys.get(tag.digest, ""))) for tag in self.store.tags()]
        return [(tag, model) for tag, model in found if model is not None]


def closing_error() -> ApiError:
    """Return the error for requests that the end of the server interrupts."""
    return ApiError("server", "the server is shutting down", "send the request again later", status=503)
