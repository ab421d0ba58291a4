"""Pydantic schemas for the request bodies of the OpenAI API, as far as Ollama offers it."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, PlainValidator

from course_lib.models.schema.json_schema import check_size
from course_lib.serve.completion import CompletionRequest
from course_lib.serve.errors import ApiError
from course_lib.serve.limits import MAX_MESSAGES, MAX_PROMPTS, MAX_TEXTS
from course_lib.serve.schemas import (
    RequestBody,
    SamplingOptions,
    Texts,
    TopLogprobs,
    Whole,
    generation,
)


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

        parameters: The options stored with the model, used where the request sets none. prompt_field,
        logprobs: As in CompletionRequest.
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
    """POST /v1/completions. As in Ollama, a model for chats gets the prompt as a user message."""

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
