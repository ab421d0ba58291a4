"""Pydantic schemas for the request bodies of the Ollama API (github.com/ollama/ollama, docs/api.md)."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from course_lib.serve.completion import CompletionRequest
from course_lib.serve.errors import ApiError
from course_lib.serve.limits import MAX_MESSAGES, MAX_TEXTS
from course_lib.serve.schemas import (
    Format,
    KeepAlive,
    RequestBody,
    Role,
    SamplingOptions,
    Texts,
    names,
    parse_num_predict,
)


class Options(SamplingOptions):
    """The supported fields of Ollama's `options`; all others are rejected."""

    num_ctx: int | None = Field(None, ge=1)
    num_predict: int | None = None


class EmbedOptions(RequestBody):
    """The supported field of Ollama's `options` in an embedding request."""

    num_ctx: int | None = Field(None, ge=1)


class ModelBody(RequestBody):
    """A request with a model name. The field `name` is the older spelling of `model`."""

    model: str = ""
    name: str = ""

    @property
    def model_name(self) -> str:
        """The model name. Raises ApiError if it is missing or the two fields differ."""
        if not (self.model or self.name):
            raise ApiError("model", "model is required")
        if self.model and self.name and self.model != self.name:
            raise ApiError(
                "name", f"{self.name!r}, but model is {self.model!r}"[:200], "send only one of them"
            )
        return self.model or self.name


class PromptBody(RequestBody):
    """The common fields of /api/generate and /api/chat."""

    model: str
    stream: bool = True
    format: Format = None
    options: Options = Field(default_factory=Options)
    keep_alive: KeepAlive | None = None

    def request(self, prompt: Any, prompt_field: str) -> CompletionRequest:
        """Convert the body to a CompletionRequest. Raises ApiError for invalid options."""
        return CompletionRequest(
            prompt=prompt,
            options=self.options.generation("options.", self.format),
            num_ctx=self.options.num_ctx,
            num_predict=parse_num_predict(self.options.num_predict, "options.num_predict"),
            prompt_field=prompt_field,
            options_prefix="options.",
        )


class GenerateBody(PromptBody):
    """POST /api/generate."""

    UNSUPPORTED: ClassVar[frozenset[str]] = names(
        "suffix template images context think logprobs top_logprobs width height steps truncate shift"
    )
    prompt: str = ""
    system: str = ""
    raw: bool = False


class Message(RequestBody):
    """One message of a conversation."""

    UNSUPPORTED: ClassVar[frozenset[str]] = names("images tool_calls thinking tool_name tool_call_id")
    role: Role
    content: str = ""


class ChatBody(PromptBody):
    """POST /api/chat."""

    UNSUPPORTED: ClassVar[frozenset[str]] = names("tools think logprobs top_logprobs truncate shift")
    messages: list[Message] = Field(default_factory=list, max_length=MAX_MESSAGES)


class EmbedBody(RequestBody):
    """POST /api/embed. Texts that are too long are rejected, even with `truncate`."""

    UNSUPPORTED: ClassVar[frozenset[str]] = names("dimensions")
    model: str
    truncate: bool = True
    input: Texts = Field(default_factory=list, max_length=MAX_TEXTS)
    options: EmbedOptions = Field(default_factory=EmbedOptions)
    keep_alive: KeepAlive | None = None


class EmbeddingsBody(RequestBody):
    """POST /api/embeddings, Ollama's older endpoint for a single text."""

    model: str
    prompt: str = ""
    options: EmbedOptions = Field(default_factory=EmbedOptions)
    keep_alive: KeepAlive | None = None


class PullBody(ModelBody):
    """POST /api/pull. `insecure` is not supported, because nothing is downloaded."""

    UNSUPPORTED: ClassVar[frozenset[str]] = names("insecure")
    stream: bool = True


class ShowBody(ModelBody):
    """POST /api/show."""

    UNSUPPORTED: ClassVar[frozenset[str]] = names("system template options")
    verbose: bool = False


class CopyBody(RequestBody):
    """POST /api/copy."""

    source: str
    destination: str
