"""Ollama's routes (github.com/ollama/ollama, docs/api.md): names, durations in nanoseconds, one JSON object a line."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.responses import JSONResponse, Response, StreamingResponse

import course_lib
from course_lib.errors import CourseError
from course_lib.serve.completion import Completion, CompletionRequest
from course_lib.serve.errors import ApiError, error_line
from course_lib.serve.model_info import details, model_info
from course_lib.serve.ollama_schemas import (
    ChatBody,
    CopyBody,
    EmbedBody,
    EmbeddingsBody,
    GenerateBody,
    ModelBody,
    PromptBody,
    PullBody,
    ShowBody,
)
from course_lib.serve.store import Line, Tag, parse_name
from course_lib.serve.worker import Worker

Shape = Callable[[str], Line]  # a piece of text, as the route writes it
FOR_EVER = timedelta(days=365 * 100)


async def generate(worker: Worker, body: GenerateBody) -> Response:
    """POST /api/generate: a text after a prompt. Without a prompt: load the model, or unload it where keep_alive is 0."""
    if body.raw and body.system:
        raise ApiError("system", "raw mode does not support template, system, or context")
    turns = [{"role": "system", "content": body.system}] * bool(body.system) + [
        {"role": "user", "content": body.prompt}
    ]
    ask = body.ask(body.prompt if body.raw else turns, "prompt")
    return await _answered(
        worker, body, ask, lambda piece: {"response": piece}, "generate", bool(body.prompt)
    )


async def chat(worker: Worker, body: ChatBody) -> Response:
    """POST /api/chat: the next turn of a conversation. Without messages: load or unload the model."""
    ask = body.ask([m.model_dump() for m in body.messages], "messages")
    return await _answered(
        worker,
        body,
        ask,
        lambda piece: {"message": {"role": "assistant", "content": piece}},
        "chat",
        bool(body.messages),
    )


async def _answered(
    worker: Worker, body: PromptBody, ask: CompletionRequest, shape: Shape, what: str, asked: bool
) -> Response:
    begun, tag = time.perf_counter(), worker.store.find_generative(body.model, what)
    if not asked:
        return await _loaded(worker, tag, body, shape)
    if not body.stream:
        answer = await worker.run(worker.write, tag, ask, body.keep_alive)
        return JSONResponse(_line(body.model, shape(answer.text)) | _last(answer, begun))
    pieces = worker.stream(lambda each: worker.write(tag, ask, body.keep_alive, each))
    first = await anext(pieces)  # what is refused is refused before the answer begins, with its own status

    async def lines() -> AsyncIterator[Line]:
        piece = first
        while isinstance(piece, str):
            yield _line(body.model, shape(piece)) | {"done": False}
            piece = await anext(pieces)
        yield _line(body.model, shape("")) | _last(piece, begun)

    return ndjson(lines())


async def _loaded(worker: Worker, tag: Tag, body: PromptBody, shape: Shape) -> Response:
    unload = body.keep_alive == 0
    await (worker.run(worker.unload, tag) if unload else worker.run(worker.load, tag, body.keep_alive))
    return JSONResponse(
        _line(body.model, shape("")) | {"done": True, "done_reason": "unload" if unload else "load"}
    )


def ndjson(lines: AsyncIterator[Line]) -> Response:
    """A stream of JSON objects, one a line. An error in its midst is its last line."""

    async def written() -> AsyncIterator[bytes]:
        try:
            async for line in lines:
                yield bytes(JSONResponse(line).body) + b"\n"
        except CourseError as error:
            yield bytes(JSONResponse({"error": error_line(error)}).body) + b"\n"

    return StreamingResponse(written(), media_type="application/x-ndjson")


def _line(model: str, piece: Line) -> Line:
    return {"model": model, "created_at": _iso(datetime.now(UTC))} | piece


def _last(answer: Completion, begun: float) -> Line:
    return {
        "done": True,
        "done_reason": answer.finish,
        "total_duration": _ns(time.perf_counter() - begun),
        "load_duration": _ns(answer.load),
        "prompt_eval_count": answer.prompt_tokens,
        "prompt_eval_duration": _ns(answer.read),
        "eval_count": answer.tokens,
        "eval_duration": _ns(answer.write),
    }


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


def _iso(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


async def embed(worker: Worker, body: EmbedBody) -> Response:
    """POST /api/embed: a vector of length 1 for each text."""
    begun, tag = time.perf_counter(), worker.store.find_embedding(body.model)
    found = await worker.run(worker.embed, tag, body.input, body.keep_alive, body.options.num_ctx)
    return JSONResponse(
        {
            "model": body.model,
            "embeddings": found.rows,
            "total_duration": _ns(time.perf_counter() - begun),
            "load_duration": _ns(found.load),
            "prompt_eval_count": found.tokens,
        }
    )


async def embeddings(worker: Worker, body: EmbeddingsBody) -> Response:
    """POST /api/embeddings: the vector of one text, none for an empty one."""
    tag, texts = worker.store.find_embedding(body.model), [body.prompt] * bool(body.prompt)
    found = await worker.run(worker.embed, tag, texts, body.keep_alive, body.options.num_ctx, "prompt")
    return JSONResponse({"embedding": found.rows[0] if found.rows else []})


async def pull(worker: Worker, body: PullBody) -> Response:
    """POST /api/pull: write a model of the catalogue into the store, with lines of progress."""
    name = parse_name(body.said)

    def job(each: Callable[[Any], bool]) -> None:
        for line in worker.store.pull(name):
            if each(line):
                return

    lines = worker.stream(job)
    if body.stream:
        return ndjson(line async for line in lines if line is not None)
    last = [line async for line in lines if line is not None][-1]
    return JSONResponse(last)


async def version(worker: Worker) -> Response:
    """GET /api/version. `server` tells this one from Ollama, which does not send it."""
    return JSONResponse({"version": course_lib.__version__, "server": "Local AI, Measured"})


async def tags(worker: Worker) -> Response:
    """GET /api/tags: the models that are here."""
    found = await worker.run(worker.store.tags)
    return JSONResponse({"models": [_listed(t) | {"modified_at": t.modified_at} for t in found]})


async def ps(worker: Worker) -> Response:
    """GET /api/ps: the models in memory. size: bytes of weights."""
    now, models = datetime.now(UTC), []
    for tag, held in await worker.run(worker.loaded):
        left = timedelta(seconds=held.expires_in) if held.expires_in <= FOR_EVER.total_seconds() else FOR_EVER
        models.append(
            _listed(tag)
            | {
                "size": held.bytes,
                "size_vram": 0 if held.device == "cpu" else held.bytes,
                "expires_at": _iso(now + left),
                "context_length": worker.contexts[tag.digest],
            }
        )
    return JSONResponse({"models": models})


def _listed(tag: Tag) -> Line:
    return {
        "name": tag.name,
        "model": tag.name,
        "size": tag.size,
        "digest": tag.digest,
        "details": details(tag),
    }


async def show(worker: Worker, body: ShowBody) -> Response:
    """POST /api/show: what is known of a model."""
    tag = worker.store.find(body.said)
    return JSONResponse(await worker.run(model_info, worker.store, tag, body.verbose))


async def copy(worker: Worker, body: CopyBody) -> Response:
    """POST /api/copy: a second name for a model."""
    await worker.run(worker.store.copy, body.source, body.destination)
    return Response()


async def delete(worker: Worker, body: ModelBody) -> Response:
    """DELETE /api/delete: remove a name, and the file with the last of its names."""
    await worker.run(worker.delete, body.said)
    return Response()
