"""The bodies of Ollama's requests (github.com/ollama/ollama, docs/api.md)."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from course_lib.serve.completion import CompletionRequest
from course_lib.serve.errors import ApiError
from course_lib.serve.schemas import Format, KeepAlive, RequestBody, Role, SamplingOptions, Texts, predict


class Options(SamplingOptions):
    """Ollama's `options` on which this server acts. It refuses the others; Ollama ignores a name that it does not know."""

    num_ctx: int | None = Field(None, ge=1)
    num_predict: int | None = None


class EmbedOptions(RequestBody):
    """The one of the options that means something for vectors."""

    num_ctx: int | None = Field(None, ge=1)


class ModelBody(RequestBody):
    """A request about a model: `name` is what `model` was called before."""

    model: str = ""
    name: str = ""

    @property
    def said(self) -> str:
        """The model's name. Raises ApiError where there is none."""
        if not (self.model or self.name):
            raise ApiError("model", "model is required")
        if self.model and self.name and self.model != self.name:
            raise ApiError("name", f"{self.name!r}, but model is {self.model!r}"[:200], "send one of them")
        return self.model or self.name


class PromptBody(RequestBody):
    """What generating and chatting have in common."""

    model: str
    stream: bool = True
    format: Format = None
    options: Options = Field(default_factory=Options)
    keep_alive: KeepAlive | None = None

    def ask(self, prompt: Any, field: str) -> CompletionRequest:
        """What an engine is asked. Raises ApiError."""
        how = self.options.generation("options.", self.format)
        wanted = predict(self.options.num_predict, "options.num_predict")
        return CompletionRequest(prompt, how, self.options.num_ctx, wanted, field, "options.")


class GenerateBody(PromptBody):
    """POST /api/generate."""

    UNUSED: ClassVar[frozenset[str]] = frozenset(
        {
            "suffix",
            "template",
            "images",
            "context",
            "think",
            "logprobs",
            "top_logprobs",
            "width",
            "height",
            "steps",
            "truncate",
            "shift",
        }
    )
    prompt: str = ""
    system: str = ""
    raw: bool = False


class Message(RequestBody):
    """A turn of a conversation."""

    UNUSED: ClassVar[frozenset[str]] = frozenset(
        {"images", "tool_calls", "thinking", "tool_name", "tool_call_id"}
    )
    role: Role
    content: str = ""


class ChatBody(PromptBody):
    """POST /api/chat."""

    UNUSED: ClassVar[frozenset[str]] = frozenset(
        {"tools", "think", "logprobs", "top_logprobs", "truncate", "shift"}
    )
    messages: list[Message] = Field(default_factory=list)


class EmbedBody(RequestBody):
    """POST /api/embed. `truncate` is only a permission, of which no use is made: a text that is too long is refused."""

    UNUSED: ClassVar[frozenset[str]] = frozenset({"dimensions"})
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
    """POST /api/pull. There is no connection that could be insecure."""

    UNUSED: ClassVar[frozenset[str]] = frozenset({"insecure"})
    stream: bool = True


class ShowBody(ModelBody):
    """POST /api/show."""

    UNUSED: ClassVar[frozenset[str]] = frozenset({"system", "template", "options"})
    verbose: bool = False


class CopyBody(RequestBody):
    """POST /api/copy."""

    source: str
    destination: str
