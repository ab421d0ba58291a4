"""Run the slow part of requests, their jobs, in thread pools with bounded queues.

A tag is the record of a model in the store. An engine is a loaded model. A channel takes a job's results to
the event loop, and tells the job to stop when its client has gone. The store is the server's folder of
models.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from course_lib.errors import CourseError
from course_lib.models.drivers.engine import Engine
from course_lib.models.manager.manager import ModelManager
from course_lib.models.manager.pool import LoadedModel
from course_lib.serve.channel import Channel
from course_lib.serve.completion import Completion, CompletionRequest, Piece, ServedLlamaCpp
from course_lib.serve.errors import ApiError, closing_error, not_found
from course_lib.serve.limits import MAX_EMBEDDINGS, MAX_PULLS, MAX_QUEUED, MAX_RUNNING, MAX_SCHEMAS
from course_lib.serve.placement import Placement, Placements
from course_lib.serve.settings import Settings
from course_lib.serve.store import Store
from course_lib.serve.tags import Tag
from course_lib.serve.uploads import Uploads

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

T = TypeVar("T")
logger = logging.getLogger("course_lib.serve")


class Vectors(NamedTuple):
    """Embedding vectors, one row per text; the total token count; the seconds to load the model."""

    rows: list[list[float]]
    tokens: int
    load_seconds: float


class Worker:
    """Runs jobs in threads.

    Call `run`, `stream` and `stop` from the event loop; the methods under "jobs" run in worker threads. Each
    kind of job has a thread pool with a queue, so that no kind waits behind another. Requests that only read
    the store do not come here, because they must never wait behind a text generation.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings | None = None,
        *,
        max_queued: int = MAX_QUEUED,
        max_running: int = MAX_RUNNING,
    ) -> None:
        self.store, self.manager, self.closing = store, ModelManager(), threading.Event()
        self.limit, self.uploads = max_queued + max_running, Uploads()
        self.settings = settings or Settings()
        self.placements = Placements(store, self.settings, self.manager)
        self._embedding = threading.Lock()  # held while a model in this process embeds a batch
        parallel = self.settings.num_parallel or 0
        max_running = max(max_running, parallel)
        self.texts = ThreadPoolExecutor(max_running, thread_name_prefix="course-text")
        self.schemas = ThreadPoolExecutor(max(MAX_SCHEMAS, parallel // 2), thread_name_prefix="course-schema")
        self.embeddings = ThreadPoolExecutor(MAX_EMBEDDINGS, thread_name_prefix="course-embed")
        self.pulls = ThreadPoolExecutor(MAX_PULLS, thread_name_prefix="course-pull")
        # For /api/show with `verbose`, whose answers hold whole vocabularies: one at a time.
        self.shows = ThreadPoolExecutor(1, thread_name_prefix="course-show")
        self._channels: dict[Channel, ThreadPoolExecutor] = {}  # for each running or waiting request
        self._work: set[Future[Any]] = set()  # their jobs, and jobs that are about to stop

    def __repr__(self) -> str:
        return f"Worker({self.store}, {self.outstanding} of {self.limit} requests, {self.manager})"

    @property
    def outstanding(self) -> int:
        """The number of requests that are running or waiting."""
        return len(self._channels)

    # -- in the event loop --

    def pool_for(self, request: CompletionRequest) -> ThreadPoolExecutor:
        """Return the pool for a text.

        JSON schemas have their own pool, because they take llama.cpp longer.
        """
        return self.texts if request.options.json_schema is None else self.schemas

    async def text(self, tag: Tag, request: CompletionRequest, keep_alive: float | None) -> Completion:
        """Complete a prompt with a model of the store."""
        return await self.run(partial(self.complete, tag, request, keep_alive), self.pool_for(request))

    def pieces(
        self, tag: Tag, request: CompletionRequest, keep_alive: float | None
    ) -> AsyncIterator[Piece | Completion]:
        """Yield the pieces of a text, and finally its completion."""
        return self.stream(
            partial(self.complete, tag, request, keep_alive, stream=True), self.pool_for(request)
        )

    async def run(self, job: Callable[[Channel], T], pool: ThreadPoolExecutor) -> T:
        """Run a job in a thread and return its result. Cancelling this call ends the job."""
        return [value async for value in self.stream(job, pool)][-1]

    async def stream(self, job: Callable[[Channel], Any], pool: ThreadPoolExecutor) -> AsyncIterator[Any]:
        """Run a job in a thread; yield each value that it puts into its channel, and finally its result.

        Raises ApiError (503) if the queue of the pool is full, or the server is shutting down.
        """
        if self.closing.is_set():
            raise closing_error()
        if (outstanding := [*self._channels.values()].count(pool)) >= self.limit:
            what = f"server busy: {outstanding} requests like this one are running or waiting"
            fix, headers = "try again in a second", {"Retry-After": "1"}
            raise ApiError("server", what, fix, status=503, headers=headers)
        channel = Channel()
        future = pool.submit(job, channel)
        self._work.add(future)
        future.add_done_callback(self._work.discard)
        work = asyncio.wrap_future(future)
        work.add_done_callback(lambda _: channel.values.put_nowait(None))
        self._channels[channel] = pool
        try:
            while (item := await channel.values.get()) is not None:
                yield item[0]
            if self.closing.is_set():
                raise closing_error()
            yield work.result()
        finally:
            del self._channels[channel]
            channel.stop.set()
            work.cancel()  # removes it from the queue if it has not started

    def stop(self) -> None:
        """Stop every job, and tell every waiting client that the server is shutting down."""
        self.closing.set()
        for channel in self._channels:
            channel.stop.set()
            channel.values.put_nowait(None)

    def close(self, seconds: float | None = None) -> bool:
        """Wait for the jobs to end, then unload all models.

        Returns False if a job still runs after `seconds`.
        """
        self.closing.set()
        for pool in (self.texts, self.schemas, self.embeddings, self.pulls, self.shows):
            pool.shutdown(wait=False, cancel_futures=True)
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
        with self._engine(tag, keep_alive, request.num_ctx) as (engine, load_seconds):
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
        *,
        field: str = "input",
        truncate: bool = False,
        dimensions: int | None = None,
        unit_length: bool = True,
        keep_alive: float | None = None,
        num_ctx: int | None = None,
    ) -> Vectors:
        """Return a vector per text.

        field: The request field with the texts, for error messages. truncate: Cut texts that are too long
        instead of raising ApiError. dimensions: Keep only the first ones.
        """
        engine: Any  # an Encoder (an embedding model in torch), or ServedLlamaCpp
        with self._engine(tag, keep_alive, num_ctx) as (engine, load_seconds):
            ids = [row for part in channel.batches(texts) for row in engine.text_ids(part)]
            context = min(num_ctx or engine.context, engine.context)
            _fit(ids, context, engine.end_tokens, truncate, field)
            rows: list[list[float]] = []
            for part in channel.batches(ids):
                vectors = self._vectors(engine, part, unit_length, channel)
                if dimensions and dimensions > (most := vectors.shape[1]):
                    raise ApiError("dimensions", f"{dimensions}, but a vector of {tag.name} has {most}")
                rows += (_first(vectors, dimensions) if dimensions else vectors).tolist()
            return Vectors(rows, sum(map(len, ids)), load_seconds)

    def _vectors(self, engine: Any, ids: list[list[int]], unit_length: bool, channel: Channel) -> Any:
        """Embed a batch.

        A model in this process (torch) embeds one batch at a time, so that none takes long.
        """
        with nullcontext() if isinstance(engine, ServedLlamaCpp) else self._embedding:
            channel.check()
            return engine.embed_ids(ids, unit_length=unit_length)

    @contextmanager
    def _engine(
        self, tag: Tag, keep_alive: float | None, num_ctx: int | None = None
    ) -> Iterator[tuple[Engine, float]]:
        """Yield the engine (loaded model) of a tag for use, and the seconds until it was available."""
        started = time.perf_counter()
        keep_alive = self.settings.keep_alive if keep_alive is None else keep_alive
        with ExitStack() as stack:
            try:
                spec = stack.enter_context(self.placements.use(tag, num_ctx)).spec
                engine = stack.enter_context(self.manager.use_resolved(spec, keep_alive))
            except (CourseError, OSError) as error:
                if not self.store.holds(tag):
                    raise not_found(tag.name) from error  # deleted after this request arrived
                raise
            yield engine, time.perf_counter() - started

    def load(self, tag: Tag, keep_alive: float | None) -> None:
        """Load a model into memory."""
        with self._engine(tag, keep_alive):
            pass

    def delete(self, name: str) -> None:
        """Delete a model name.

        Deleting a model's last name unloads it; running answers are finished first.
        """
        if (tag := self.store.delete(name)) is not None:
            self.placements.unload(tag)

    def loaded(self) -> list[tuple[Tag, LoadedModel, Placement]]:
        """Return the loaded models, one entry for each of their names."""
        loaded = {model.key: model for model in self.manager.loaded_models()}
        placed = {key: (loaded.get(p.spec.key()), p) for key, p in self.placements.all().items()}
        found = [(tag, *placed[tag.key]) for tag in self.store.tags() if tag.key in placed]
        return [(tag, model, placement) for tag, model, placement in found if model is not None]


def _first(vectors: NDArray[np.floating[Any]], dimensions: int) -> NDArray[np.floating[Any]]:
    """Return the first dimensions of each vector, scaled to length 1."""
    import numpy as np

    cut = vectors[:, :dimensions]
    return cut / np.linalg.norm(cut, axis=1, keepdims=True).clip(1e-12)


def _fit(rows: list[list[int]], context: int, end_tokens: int, truncate: bool, field: str) -> None:
    """Cut the token ids of texts that are too long, or raise an ApiError.

    end_tokens: The number of special tokens at the end of a text, which are kept. field: The request field of
    the texts.
    """
    for i, row in enumerate(rows):
        count = len(row)
        if count > context and truncate:
            row[context - end_tokens : count - end_tokens] = []
            logger.info("text %d of %d is cut to the context of %d tokens", i, len(rows), context)
        if len(row) > context:
            what = f"text {i} has {count} tokens, which exceeds the context length: num_ctx is {context}"
            raise ApiError(field, what, "split it")
        if not row:
            raise ApiError(field, f"text {i} is empty")
