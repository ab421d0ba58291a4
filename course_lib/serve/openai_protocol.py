"""Endpoints of the OpenAI API as far as Ollama offers them (github.com/ollama/ollama, docs/openai.md).

The store is the server's folder of models, a tag its record of one model. A piece is a part of a generated
text. The worker runs jobs, the slow part of a request, in thread pools; a job sends its results through a
channel.
"""

from __future__ import annotations

import base64
import time
import uuid
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response, StreamingResponse

from course_lib.errors import CourseError
from course_lib.serve.completion import Completion, CompletionRequest, Piece
from course_lib.serve.errors import ApiError, error_line
from course_lib.serve.limits import MAX_PROMPTS
from course_lib.serve.openai_schemas import ChatBody, CommonBody, CompletionBody, EmbeddingsBody
from course_lib.serve.tags import Tag
from course_lib.serve.worker import Worker


async def chat_completions(worker: Worker, body: ChatBody) -> Response:
    """POST /v1/chat/completions: answer a conversation."""
    turns = [{"role": t.role.replace("developer", "system"), "content": t.content} for t in body.messages]
    tag = worker.store.find_generative(body.model, "chat")
    logprobs = body.top_logprobs if body.logprobs else None
    if tag.system and turns[0]["role"] != "system":
        turns.insert(0, {"role": "system", "content": tag.system})
    request = body.request(turns, "messages", tag.options, logprobs)
    head = _response_head(body, "chatcmpl", "chat.completion")
    if body.stream:
        return await _stream(worker, tag, request, body, head)
    completion = await worker.text(tag, request, None)
    message = {"message": {"role": "assistant", "content": completion.piece.text}}
    choice = _choice(0, message | _chat_logprobs(completion.piece), completion.finish_reason)
    return JSONResponse(head | {"choices": [choice], "usage": _usage([completion])})


async def completions(worker: Worker, body: CompletionBody) -> Response:
    """POST /v1/completions: complete each prompt."""
    # 20 alternatives for each token of 64 prompts took 1.3 GB.
    if body.logprobs and body.logprobs * len(body.prompt) > MAX_PROMPTS:
        what = f"{body.logprobs} for each of {len(body.prompt)} prompts, together more than {MAX_PROMPTS}"
        raise ApiError("logprobs", what, "send fewer prompts in a request")
    tag = worker.store.find_generative(body.model, "generate")
    system = [{"role": "system", "content": tag.system}] if tag.system else []
    prompts: list[Any] = [[*system, {"role": "user", "content": prompt}] for prompt in body.prompt]
    if not tag.chat:
        prompts = list(body.prompt)
    requests = [body.request(prompt, "prompt", tag.options, body.logprobs) for prompt in prompts]
    head = _response_head(body, "cmpl", "text_completion")
    if body.stream:
        if len(requests) > 1:
            what = f"{len(requests)} prompts, but a stream answers only one"
            raise ApiError("prompt", what, "send one prompt per request, or set stream to false")
        return await _stream(worker, tag, requests[0], body, head)
    results = await worker.run(
        lambda channel: [worker.complete(tag, request, None, channel) for request in requests],
        worker.pool_for(requests[0]),
    )
    choices = [_choice(i, _completion_text(c.piece), c.finish_reason) for i, c in enumerate(results)]
    return JSONResponse(head | {"choices": choices, "usage": _usage(results)})


def _response_head(body: CommonBody, prefix: str, kind: str) -> dict[str, Any]:
    kind = f"{kind}.chunk" if body.stream and kind.startswith("chat") else kind
    identifier = f"{prefix}-{uuid.uuid4().hex[:12]}"
    head = {"id": identifier, "object": kind, "created": int(time.time()), "model": body.model}
    return head | {"system_fingerprint": "fp_ollama"}


def _choice(index: int, content: dict[str, Any], finish_reason: str | None) -> dict[str, Any]:
    return {"index": index, "logprobs": None, **content, "finish_reason": finish_reason}


def _chat_logprobs(piece: Piece) -> dict[str, Any]:
    return {} if piece.logprobs is None else {"logprobs": {"content": piece.logprobs, "refusal": None}}


def _completion_text(piece: Piece) -> dict[str, Any]:
    """The text of a choice of /v1/completions, and the log probabilities in their older form."""
    if piece.logprobs is None:
        return {"text": piece.text}
    columns = {
        "tokens": [token["token"] for token in piece.logprobs],
        "token_logprobs": [token["logprob"] for token in piece.logprobs],
        "top_logprobs": [{o["token"]: o["logprob"] for o in t["top_logprobs"]} for t in piece.logprobs],
    }
    return {"text": piece.text, "logprobs": columns}


def _usage(completions: list[Completion]) -> dict[str, int]:
    read, written = sum(c.prompt_tokens for c in completions), sum(c.tokens for c in completions)
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


async def _stream(
    worker: Worker, tag: Tag, request: CompletionRequest, body: CommonBody, head: dict[str, Any]
) -> Response:
    """Return server-sent events: text chunks, the finish reason, usage if requested, and [DONE]."""
    pieces = worker.pieces(tag, request, None)
    first = await anext(pieces)  # an error before the first piece can still set the HTTP status

    def chunk(piece: Piece, finish_reason: str | None = None) -> dict[str, Any]:
        content = _completion_text(piece)
        if isinstance(body, ChatBody):
            delta = {} if finish_reason else {"role": "assistant", "content": piece.text}
            content = {"delta": delta} | _chat_logprobs(piece)
        return head | {"choices": [_choice(0, content, finish_reason)]}

    async def events() -> AsyncIterator[bytes]:
        piece = first
        try:
            while isinstance(piece, Piece):
                yield _event(chunk(piece))
                piece = await anext(pieces)
            yield _event(chunk(Piece(""), piece.finish_reason))
            if body.stream_options.include_usage:
                yield _event(head | {"choices": [], "usage": _usage([piece])})
        except CourseError as error:
            yield _event(error_body(error))
        yield b"data: [DONE]\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


def _event(content: dict[str, Any]) -> bytes:
    return b"data: " + bytes(JSONResponse(content).body) + b"\n\n"


def error_body(error: CourseError) -> dict[str, Any]:
    """Return an error as the JSON object that OpenAI clients expect."""
    status, field = (error.status, error.field) if isinstance(error, ApiError) else (500, None)
    kind = {400: "invalid_request_error", 404: "not_found_error"}.get(status, "api_error")
    return {"error": {"message": error_line(error), "type": kind, "param": field, "code": None}}


async def embeddings(worker: Worker, body: EmbeddingsBody) -> Response:
    """POST /v1/embeddings: return vectors as lists of numbers, or as base64-encoded float32.

    OpenAI's Python client requests base64 unless it is told otherwise.
    """
    import numpy as np

    tag = worker.store.find_embedding(body.model)
    vectors = await worker.run(
        lambda channel: worker.embed(tag, body.input, channel, dimensions=body.dimensions),
        worker.embeddings,
    )
    rows: list[Any] = vectors.rows
    if body.encoding_format == "base64":
        rows = [base64.b64encode(np.array(row, dtype="<f4").tobytes()).decode() for row in rows]
    data = [{"object": "embedding", "index": i, "embedding": row} for i, row in enumerate(rows)]
    usage = {"prompt_tokens": vectors.tokens, "total_tokens": vectors.tokens}
    return JSONResponse({"object": "list", "data": data, "model": body.model, "usage": usage})


async def models(worker: Worker) -> Response:
    """GET /v1/models: list the models in the store."""
    tags = await run_in_threadpool(worker.store.tags)
    return JSONResponse({"object": "list", "data": [_model(tag) for tag in tags]})


async def model(worker: Worker, name: str) -> Response:
    """GET /v1/models/NAME: return one model."""
    return JSONResponse(_model(worker.store.find(name)))


def _model(tag: Tag) -> dict[str, Any]:
    created = int(datetime.fromisoformat(tag.modified_at).timestamp())
    owner = tag.name.rpartition("/")[0] or "library"
    return {"id": tag.name, "object": "model", "created": created, "owned_by": owner}
