"""Request bodies of Ollama's API (github.com/ollama/ollama, docs/api.md)."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from course_lib.serve.completion import CompletionRequest
from course_lib.serve.errors import ApiError
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
    """Those of Ollama's `options` that have an effect; the others are refused."""

    num_ctx: int | None = Field(None, ge=1)
    num_predict: int | None = None


class EmbedOptions(RequestBody):
    """The one of Ollama's `options` that has an effect on vectors."""

    num_ctx: int | None = Field(None, ge=1)


class ModelBody(RequestBody):
    """A request about a model. `name` is the older name of the field `model`."""

    model: str = ""
    name: str = ""

    @property
    def model_name(self) -> str:
        """The model's name. Raises ApiError where there is none."""
        if not (self.model or self.name):
            raise ApiError("model", "model is required")
        if self.model and self.name and self.model != self.name:
            raise ApiError("name", f"{self.name!r}, but model is {self.model!r}"[:200], "send one of them")
        return self.model or self.name


class PromptBody(RequestBody):
    """The common fields of /api/generate and /api/chat."""

    model: str
    stream: bool = True
    format: Format = None
    options: Options = Field(default_factory=Options)
    keep_alive: KeepAlive | None = None

    def request(self, prompt: Any, prompt_field: str) -> CompletionRequest:
        """The completion that is asked for. Raises ApiError for invalid options."""
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
    """A turn of a conversation."""

    UNSUPPORTED: ClassVar[frozenset[str]] = names("images tool_calls thinking tool_name tool_call_id")
    role: Role
    content: str = ""


class ChatBody(PromptBody):
    """POST /api/chat."""

    UNSUPPORTED: ClassVar[frozenset[str]] = names("tools think logprobs top_logprobs truncate shift")
    messages: list[Message] = Field(default_factory=list)


class EmbedBody(RequestBody):
    """POST /api/embed. A text that is too long is refused, whether or not `truncate` permits to cut it."""

    UNSUPPORTED: ClassVar[frozenset[str]] = names("dimensions")
    model: str
    truncate: bool = True
    input: Texts = Field(default_factory=list)
    options: EmbedOptions = Field(default_factory=EmbedOptions)
    keep_alive: KeepAlive | None = None


class EmbeddingsBody(RequestBody):
    """POST /api/embeddings, the older form."""

    model: str
    prompt: str = ""
    options: EmbedOptions = Field(default_factory=EmbedOptions)
    keep_alive: KeepAlive | None = None


class PullBody(ModelBody):
    """POST /api/pull. `insecure` has no meaning without a connection."""

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
