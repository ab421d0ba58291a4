"""OpenAI's routes as Ollama has them (github.com/ollama/ollama, docs/openai.md): chat, completions, embeddings, models."""

from __future__ import annotations

import base64
import time
import uuid
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, PlainValidator
from starlette.responses import JSONResponse, Response, StreamingResponse

from course_lib.errors import CourseError
from course_lib.models.schema.json_schema import check_size
from course_lib.serve.completion import Completion, CompletionRequest
from course_lib.serve.errors import ApiError, error_line
from course_lib.serve.schemas import RequestBody, SamplingOptions, Texts, predict
from course_lib.serve.store import Tag
from course_lib.serve.worker import Worker

PROMPTS = 64  # of one request to /v1/completions


def _content(value: Any) -> Any:
    """A text, or the texts of its parts, one after the other."""
    if not isinstance(value, list):
        return value
    for part in value:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise ValueError("only parts of type text are read")
    return "".join(part["text"] for part in value)


def _response_format(value: Any) -> dict[str, Any] | None:
    kind = value.get("type") if isinstance(value, dict) else None
    if kind == "text":
        return None
    if kind == "json_object":
        return {"type": "object"}
    said = value.get("json_schema") if kind == "json_schema" else None
    if not isinstance(said, dict) or not isinstance(said.get("schema"), dict):
        raise ValueError("type text, json_object, or json_schema with its schema")
    return check_size(said["schema"])


class Turn(RequestBody):
    """A message. OpenAI calls the system's turn developer, lately."""

    UNUSED: ClassVar[frozenset[str]] = frozenset(
        {"name", "tool_calls", "tool_call_id", "refusal", "audio", "function_call"}
    )
    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, BeforeValidator(_content)] = ""


class StreamOptions(RequestBody):
    """What a stream brings besides the text."""

    UNUSED: ClassVar[frozenset[str]] = frozenset({"include_obfuscation"})
    include_usage: bool = False


class CommonBody(SamplingOptions):
    """What both kinds of completion have in common."""

    UNUSED: ClassVar[frozenset[str]] = frozenset(
        {"frequency_penalty", "presence_penalty", "logprobs", "top_logprobs", "logit_bias"}
    )
    HARMLESS: ClassVar[frozenset[str]] = frozenset(
        {
            "user",
            "metadata",
            "store",
            "service_tier",
            "safety_identifier",
            "prompt_cache_key",
            "prompt_cache_retention",
        }
    )
    model: str
    stream: bool = False
    stream_options: StreamOptions = Field(default_factory=StreamOptions)
    n: int = Field(1, ge=1, le=1)
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    response_format: Annotated[dict[str, Any] | None, PlainValidator(_response_format)] = None

    def ask(self, prompt: Any, field: str) -> CompletionRequest:
        """What an engine is asked. Raises ApiError."""
        first, second = self.max_tokens, self.max_completion_tokens
        if first is not None and second is not None and first != second:
            raise ApiError(
                "max_tokens", f"{first}, but max_completion_tokens is {second}", "send one of them"
            )
        wanted = predict(
            first if second is None else second, "max_tokens" if second is None else "max_completion_tokens"
        )
        return CompletionRequest(prompt, self.generation("", self.response_format), None, wanted, field)


class ChatBody(CommonBody):
    """POST /v1/chat/completions."""

    UNUSED: ClassVar[frozenset[str]] = CommonBody.UNUSED | {
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "functions",
        "function_call",
        "audio",
        "modalities",
        "prediction",
        "reasoning_effort",
        "verbosity",
        "web_search_options",
    }
    messages: list[Turn] = Field(min_length=1)


class CompletionBody(CommonBody):
    """POST /v1/completions. As with Ollama, the prompt becomes the user's turn: the models here are chat models."""

    UNUSED: ClassVar[frozenset[str]] = CommonBody.UNUSED | {"suffix", "echo"}
    prompt: Annotated[Texts, Field(min_length=1, max_length=PROMPTS)]
    best_of: int = Field(1, ge=1, le=1)


class EmbeddingsBody(RequestBody):
    """POST /v1/embeddings."""

    UNUSED: ClassVar[frozenset[str]] = frozenset({"dimensions"})
    HARMLESS: ClassVar[frozenset[str]] = frozenset({"user"})
    model: str
    input: Texts
    encoding_format: Literal["float", "base64"] = "float"


async def chat_completions(worker: Worker, body: ChatBody) -> Response:
    """POST /v1/chat/completions."""
    turns = [{"role": t.role.replace("developer", "system"), "content": t.content} for t in body.messages]
    ask, head = body.ask(turns, "messages"), _head(body, "chatcmpl", "chat.completion")
    tag = worker.store.find_generative(body.model, "chat")
    if body.stream:
        return await _streamed(worker, tag, ask, body, head)
    answer = await worker.run(worker.write, tag, ask, None)
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": answer.text},
        "logprobs": None,
        "finish_reason": answer.finish,
    }
    return JSONResponse(head | {"choices": [choice], "usage": _usage([answer])})


async def completions(worker: Worker, body: CompletionBody) -> Response:
    """POST /v1/completions: an answer to each prompt."""
    asks = [body.ask([{"role": "user", "content": p}], "prompt") for p in body.prompt]
    tag, head = worker.store.find_generative(body.model, "generate"), _head(body, "cmpl", "text_completion")
    if body.stream:
        if len(asks) > 1:
            raise ApiError(
                "prompt",
                f"{len(asks)} prompts; a stream answers one",
                "send them one by one, or without stream",
            )
        return await _streamed(worker, tag, asks[0], body, head)
    answers = await worker.run(lambda: [worker.write(tag, a, None) for a in asks])
    choices = [
        {"index": i, "text": a.text, "logprobs": None, "finish_reason": a.finish}
        for i, a in enumerate(answers)
    ]
    return JSONResponse(head | {"choices": choices, "usage": _usage(answers)})


def _head(body: CommonBody, prefix: str, kind: str) -> dict[str, Any]:
    kind = f"{kind}.chunk" if body.stream and kind.startswith("chat") else kind
    return {
        "id": f"{prefix}-{uuid.uuid4().hex[:12]}",
        "object": kind,
        "created": int(time.time()),
        "model": body.model,
    }


def _usage(answers: list[Completion]) -> dict[str, int]:
    read, written = sum(a.prompt_tokens for a in answers), sum(a.tokens for a in answers)
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


async def _streamed(
    worker: Worker, tag: Tag, ask: CompletionRequest, body: CommonBody, head: dict[str, Any]
) -> Response:
    """Server-sent events: chunks of the text, the reason why it ended, usage where it is asked for, and [DONE]."""
    pieces = worker.stream(lambda each: worker.write(tag, ask, None, each))
    first = await anext(pieces)  # what is refused is refused before the answer begins, with its own status
    is_chat = isinstance(body, ChatBody)

    def chunk(piece: str, finish: str | None = None) -> dict[str, Any]:
        text = (
            {"delta": {"role": "assistant", "content": piece} if finish is None else {}}
            if is_chat
            else {"text": piece}
        )
        return head | {"choices": [{"index": 0, **text, "logprobs": None, "finish_reason": finish}]}

    async def chunks() -> AsyncIterator[dict[str, Any]]:
        piece = first
        while isinstance(piece, str):
            yield chunk(piece)
            piece = await anext(pieces)
        yield chunk("", piece.finish)
        if body.stream_options.include_usage:
            yield head | {"choices": [], "usage": _usage([piece])}

    async def events() -> AsyncIterator[bytes]:
        try:
            async for said in chunks():
                yield b"data: " + bytes(JSONResponse(said).body) + b"\n\n"
        except CourseError as error:
            yield b"data: " + bytes(JSONResponse(error_body(error)).body) + b"\n\n"
        yield b"data: [DONE]\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


def error_body(error: CourseError) -> dict[str, Any]:
    """An error as OpenAI's clients read it."""
    status = error.status if isinstance(error, ApiError) else 500
    kind = {400: "invalid_request_error", 404: "not_found_error"}.get(status, "api_error")
    field = error.field if isinstance(error, ApiError) else None
    return {"error": {"message": error_line(error), "type": kind, "param": field, "code": None}}


async def embeddings(worker: Worker, body: EmbeddingsBody) -> Response:
    """POST /v1/embeddings: vectors as numbers, or as base64 of their float32 bytes, which OpenAI's client asks for."""
    import numpy as np

    found = await worker.run(worker.embed, worker.store.find_embedding(body.model), body.input, None)
    rows: list[Any] = found.rows
    if body.encoding_format == "base64":
        rows = [base64.b64encode(np.array(r, dtype="<f4").tobytes()).decode() for r in found.rows]
    listed = [{"object": "embedding", "index": i, "embedding": r} for i, r in enumerate(rows)]
    usage = {"prompt_tokens": found.tokens, "total_tokens": found.tokens}
    return JSONResponse({"object": "list", "data": listed, "model": body.model, "usage": usage})


async def models(worker: Worker) -> Response:
    """GET /v1/models."""
    return JSONResponse({"object": "list", "data": [_model(t) for t in await worker.run(worker.store.tags)]})


async def model(worker: Worker, name: str) -> Response:
    """GET /v1/models/NAME."""
    return JSONResponse(_model(worker.store.find(name)))


def _model(tag: Tag) -> dict[str, Any]:
    created = int(datetime.fromisoformat(tag.modified_at).timestamp())
    return {"id": tag.name, "object": "model", "created": created, "owned_by": "library"}
