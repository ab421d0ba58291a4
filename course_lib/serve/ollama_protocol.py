"""Endpoints of the Ollama API (github.com/ollama/ollama, docs/api.md). Its durations are in nanoseconds.

The store is the server's folder of models, a tag its record of one model. A piece is a part of a generated
text. The worker runs jobs, the slow part of a request, in thread pools; a job sends its results through a
channel.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response, StreamingResponse

import course_lib
from course_lib.errors import CourseError
from course_lib.serve.completion import Completion, CompletionRequest, Piece
from course_lib.serve.errors import ApiError, error_line
from course_lib.serve.model_info import details, model_info, verbose_answer
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
from course_lib.serve.store import Line
from course_lib.serve.tags import Tag, parse_name
from course_lib.serve.worker import Channel, Worker

PROTOCOL = "0.12.11"  # the version of Ollama whose API this is, as reported to clients
FOREVER = timedelta(days=365 * 100)  # the expiry of models that are never unloaded
PART_BYTES = 1 << 16  # parts of a long answer, so that a slow client does not keep all of it in memory


async def generate(worker: Worker, body: GenerateBody) -> Response:
    """POST /api/generate: complete a prompt.

    Without a prompt, load the model, or unload it if keep_alive is 0.
    """
    if body.raw and body.system:
        raise ApiError("system", "raw mode does not support template, system, or context")
    tag = worker.store.find_generative(body.model, "generate")
    system = body.system or tag.system
    turns = [{"role": "system", "content": system}] if system else []
    turns.append({"role": "user", "content": body.prompt})
    if not tag.chat and body.system:
        raise ApiError("system", f'"{body.model}" has no chat template, and so no place for it')
    request = body.request(body.prompt if body.raw or not tag.chat else turns, "prompt", tag.options)
    if not body.prompt:
        return await _load_or_unload(worker, tag, body, _generated)
    return await _respond(worker, tag, body, request, _generated)


async def chat(worker: Worker, body: ChatBody) -> Response:
    """POST /api/chat: answer a conversation.

    Without messages, load or unload the model, as `generate` does.
    """
    tag = worker.store.find_generative(body.model, "chat")
    turns = [message.model_dump() for message in body.messages]
    if tag.system and turns and turns[0]["role"] != "system":
        turns.insert(0, {"role": "system", "content": tag.system})
    request = body.request(turns, "messages", tag.options)
    if not body.messages:
        return await _load_or_unload(worker, tag, body, _chatted)
    return await _respond(worker, tag, body, request, _chatted)


def _generated(piece: Piece) -> Line:
    return {"response": piece.text} | _probabilities(piece)


def _chatted(piece: Piece) -> Line:
    return {"message": {"role": "assistant", "content": piece.text}} | _probabilities(piece)


def _probabilities(piece: Piece) -> Line:
    if piece.logprobs is None:
        return {}
    return {"logprobs": [{k: v for k, v in token.items() if v != []} for token in piece.logprobs]}


async def _respond(
    worker: Worker, tag: Tag, body: PromptBody, request: CompletionRequest, to_json: Callable[[Piece], Line]
) -> Response:
    """Answer with one JSON object, or with a stream of them. to_json: the fields for a piece of text."""
    started = time.perf_counter()
    if not body.stream:
        completion = await worker.text(tag, request, body.keep_alive)
        return JSONResponse(
            _line(body.model, to_json(completion.piece)) | _completion_summary(completion, started)
        )
    pieces = worker.pieces(tag, request, body.keep_alive)
    first = await anext(pieces)  # an error before the first piece can still set the HTTP status

    async def lines() -> AsyncIterator[Line]:
        piece = first
        while isinstance(piece, Piece):
            yield _line(body.model, to_json(piece)) | {"done": False}
            piece = await anext(pieces)
        yield _line(body.model, to_json(Piece(""))) | _completion_summary(piece, started)

    return ndjson(lines())


async def _load_or_unload(
    worker: Worker, tag: Tag, body: PromptBody, to_json: Callable[[Piece], Line]
) -> Response:
    if body.keep_alive == 0:
        await run_in_threadpool(worker.placements.unload, tag)
    else:
        await worker.run(lambda _: worker.load(tag, body.keep_alive), worker.texts)
    reason = "unload" if body.keep_alive == 0 else "load"
    return JSONResponse(_line(body.model, to_json(Piece(""))) | {"done": True, "done_reason": reason})


def ndjson(lines: AsyncIterator[Line]) -> Response:
    """Return a streaming response with one JSON object per line. An error becomes the last line."""

    async def content() -> AsyncIterator[bytes]:
        try:
            async for line in lines:
                yield bytes(JSONResponse(line).body) + b"\n"
        except CourseError as error:
            yield bytes(JSONResponse({"error": error_line(error)}).body) + b"\n"

    return StreamingResponse(content(), media_type="application/x-ndjson")


def _line(model: str, piece: Line) -> Line:
    return {"model": model, "created_at": _iso(datetime.now(UTC))} | piece


def _completion_summary(completion: Completion, started: float) -> Line:
    return {
        "done": True,
        "done_reason": completion.finish_reason,
        "total_duration": _ns(time.perf_counter() - started),
        "load_duration": _ns(completion.load_seconds),
        "prompt_eval_count": completion.prompt_tokens,
        "prompt_eval_duration": _ns(completion.prompt_seconds),
        "eval_count": completion.tokens,
        "eval_duration": _ns(completion.seconds),
    }


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


def _iso(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


async def embed(worker: Worker, body: EmbedBody) -> Response:
    """POST /api/embed: return a unit-length embedding vector for each text."""
    started, tag = time.perf_counter(), worker.store.find_embedding(body.model)
    options: dict[str, Any] = {"truncate": body.truncate, "dimensions": body.dimensions}
    vectors = await worker.run(
        lambda channel: worker.embed(
            tag, body.input, channel, keep_alive=body.keep_alive, num_ctx=body.options.num_ctx, **options
        ),
        worker.embeddings,
    )
    return JSONResponse(
        {
            "model": body.model,
            "embeddings": vectors.rows,
            "total_duration": _ns(time.perf_counter() - started),
            "load_duration": _ns(vectors.load_seconds),
            "prompt_eval_count": vectors.tokens,
        }
    )


async def embeddings(worker: Worker, body: EmbeddingsBody) -> Response:
    """POST /api/embeddings: return the vector of one text, not scaled; an empty list for an empty text."""
    tag, texts = worker.store.find_embedding(body.model), [body.prompt] if body.prompt else []
    vectors = await worker.run(
        lambda channel: worker.embed(
            tag,
            texts,
            channel,
            field="prompt",
            truncate=True,
            unit_length=False,
            keep_alive=body.keep_alive,
            num_ctx=body.options.num_ctx,
        ),
        worker.embeddings,
    )
    return JSONResponse({"embedding": vectors.rows[0] if vectors.rows else []})


async def pull(worker: Worker, body: PullBody) -> Response:
    """POST /api/pull: add a model of the server's library (library.py), with progress line by line."""
    name = parse_name(body.model_name)
    return await progress(worker, lambda: worker.store.pull(name), body.stream)


async def progress(worker: Worker, work: Callable[[], Iterator[Line]], stream: bool) -> Response:
    """Do the work in a thread; return its progress line by line or, without `stream`, only the last line."""

    def job(channel: Channel) -> None:
        for line in work():
            channel.put(line)
            if channel.stop.is_set():
                return

    lines = (line async for line in worker.stream(job, worker.pulls) if line is not None)
    if stream:
        return ndjson(lines)
    return JSONResponse([line async for line in lines][-1])


async def version(worker: Worker) -> Response:
    """GET /api/version. The field `server` is only sent by this server, not by Ollama."""
    return JSONResponse({"version": PROTOCOL, "server": f"Local AI, Measured {course_lib.__version__}"})


async def tags(worker: Worker) -> Response:
    """GET /api/tags: list the models in the store."""
    stored = await run_in_threadpool(worker.store.tags)
    return JSONResponse(
        {"models": [_model_summary(tag) | {"modified_at": tag.modified_at} for tag in stored]}
    )


async def ps(worker: Worker) -> Response:
    """GET /api/ps: list the loaded models. `size` is the bytes of weights and of the memory for texts."""
    now, models = datetime.now(UTC), []
    for tag, model, placed in await run_in_threadpool(worker.loaded):
        seconds = min(model.expires_in, FOREVER.total_seconds())
        models.append(
            _model_summary(tag)
            | {
                "size": placed.bytes,
                "size_vram": 0 if model.device == "cpu" else placed.bytes,
                "expires_at": _iso(now + timedelta(seconds=seconds)),
                "context_length": placed.context,
            }
        )
    return JSONResponse({"models": models})


def _model_summary(tag: Tag) -> Line:
    summary = {"name": tag.name, "model": tag.name, "size": tag.size, "digest": tag.digest}
    return summary | {"details": details(tag)}


async def show(worker: Worker, body: ShowBody) -> Response:
    """POST /api/show: return details and metadata of a model."""
    tag = worker.store.find(body.model_name)
    if not body.verbose:
        return JSONResponse(await run_in_threadpool(model_info, worker.store, tag))
    content = await worker.run(lambda _: verbose_answer(worker.store, tag), worker.shows)

    async def parts() -> AsyncIterator[bytes]:
        for start in range(0, len(content), PART_BYTES):
            yield content[start : start + PART_BYTES]

    headers = {"Content-Length": str(len(content))}
    return StreamingResponse(parts(), headers=headers, media_type="application/json")


async def copy(worker: Worker, body: CopyBody) -> Response:
    """POST /api/copy: give a model a second name."""
    await run_in_threadpool(worker.store.copy, body.source, body.destination)
    return Response()


async def delete(worker: Worker, body: ModelBody) -> Response:
    """DELETE /api/delete: remove a model name; removing a model's last name deletes its file."""
    await run_in_threadpool(worker.delete, body.model_name)
    return Response()
