"""Endpoints of the OpenAI API as far as Ollama offers them (github.com/ollama/ollama, docs/openai.md)."""

from __future__ import annotations

import base64
import time
import uuid
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, PlainValidator
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response, StreamingResponse

from course_lib.errors import CourseError
from course_lib.models.schema.json_schema import check_size
from course_lib.serve.completion import Completion, CompletionRequest, Piece
from course_lib.serve.errors import ApiError, error_line
from course_lib.serve.limits import MAX_MESSAGES, MAX_PROMPTS, MAX_TEXTS
from course_lib.serve.schemas import (
    RequestBody,
    SamplingOptions,
    Texts,
    TopLogprobs,
    Whole,
    generation,
)
from course_lib.serve.tags import Tag
from course_lib.serve.worker import Worker


def _content(value: Any) -> Any:
    """Join the text parts of a message's content; a string stays as it is."""
    if not isinstance(value, list):
        return value
    for part in value:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise ValueError("only content parts of type text are supported")
    return "".join(part["text"] for part in value)


def _response_format(value: Any) -> dict[str, Any] | None:
    """Return the JSON schema in a `response_format`; None for free text."""
    kind = value.get("type") if isinstance(value, dict) else None
    if kind == "text":
        return None
    if kind == "json_object":
        return {"type": "object"}
    wrapper = value.get("json_schema") if kind == "json_schema" else None
    if not isinstance(wrapper, dict) or not isinstance(wrapper.get("schema"), dict):
        raise ValueError("expected type text, json_object, or json_schema with its schema")
    return check_size(wrapper["schema"])


class Turn(RequestBody):
    """One message of a chat. The role `developer` is what OpenAI's newer models call `system`."""

    UNSUPPORTED: ClassVar[dict[str, str]] = {
        "tool_calls": "tools",
        "function_call": "tools",
        "audio": "audio",
    }
    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, BeforeValidator(_content)] = ""


class StreamOptions(RequestBody):
    """`stream_options`: whether a stream ends with the token counts."""

    include_usage: bool = False


class CommonBody(SamplingOptions):
    """The common fields of /v1/chat/completions and /v1/completions."""

    UNSUPPORTED: ClassVar[dict[str, str]] = {"logit_bias": "logit_bias"}
    DEFAULTS: ClassVar[dict[str, Any]] = {"temperature": 1.0, "top_p": 1.0}
    model: str
    stream: bool = False
    stream_options: StreamOptions = Field(default_factory=StreamOptions)
    n: Whole = Field(1, ge=1, le=1)
    max_tokens: Whole | None = None
    max_completion_tokens: Whole | None = None
    response_format: Annotated[dict[str, Any] | None, PlainValidator(_response_format)] = None

    def request(
        self, prompt: Any, prompt_field: str, parameters: dict[str, Any], logprobs: int | None
    ) -> CompletionRequest:
        """Convert the body to a CompletionRequest. Raises ApiError for invalid options.

        parameters: The options stored with the model, which hold where the request sets none.
        prompt_field, logprobs: As in CompletionRequest.
        """
        older, newer = self.max_tokens, self.max_completion_tokens
        if older is not None and newer is not None and older != newer:
            raise ApiError(
                "max_tokens", f"{older}, but max_completion_tokens is {newer}", "send only one of them"
            )
        field, limit = ("max_tokens", older) if newer is None else ("max_completion_tokens", newer)
        if limit is not None and limit < 1 and limit != -1:
            raise ApiError(field, f"{limit}; expected at least 1, or -1 for no limit")
        if limit is None:
            limit = parameters.get("num_predict", -1)
        options = self.sampling(parameters)
        return CompletionRequest(
            prompt=prompt,
            options=generation(options, "", self.response_format),
            sampling=options,
            logprobs=logprobs,
            num_ctx=parameters.get("num_ctx"),
            num_predict=limit if limit > 0 else None,
            prompt_field=prompt_field,
            schema_field="response_format",
        )


class ChatBody(CommonBody):
    """POST /v1/chat/completions."""

    UNSUPPORTED: ClassVar[dict[str, str]] = CommonBody.UNSUPPORTED | {
        "tools": "tools",
        "functions": "tools",
        "audio": "audio",
        "web_search_options": "search",
    }
    reasoning_effort: Literal["none"] = "none"
    verbosity: Literal["medium"] = "medium"
    tool_choice: Literal["none", "auto"] = "none"
    modalities: Annotated[list[Literal["text"]], Field(fail_fast=True)] = Field(default_factory=list)
    logprobs: bool = False
    top_logprobs: TopLogprobs = 0
    messages: Annotated[list[Turn], Field(fail_fast=True)] = Field(min_length=1, max_length=MAX_MESSAGES)


class CompletionBody(CommonBody):
    """POST /v1/completions. As in Ollama, a model with a chat template gets the prompt as a user message."""

    UNSUPPORTED: ClassVar[dict[str, str]] = CommonBody.UNSUPPORTED | {"suffix": "insert", "echo": "echo"}
    logprobs: Annotated[Whole, Field(ge=0, le=20)] | None = None
    prompt: Annotated[Texts, Field(min_length=1, max_length=MAX_PROMPTS)]
    best_of: Whole = Field(1, ge=1, le=1)


class EmbeddingsBody(RequestBody):
    """POST /v1/embeddings."""

    model: str
    dimensions: Annotated[Whole, Field(ge=1)] | None = None
    input: Annotated[Texts, Field(max_length=MAX_TEXTS)]
    encoding_format: Literal["float", "base64"] = "float"


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
        worker.lane(requests[0]),
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
