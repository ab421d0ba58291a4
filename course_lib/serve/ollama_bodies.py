"""The bodies of Ollama's requests (github.com/ollama/ollama, docs/api.md)."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from course_lib.serve.engine import Ask
from course_lib.serve.fields import Body, Format, KeepAlive, Role, Sampling, Texts, predict
from course_lib.serve.refusal import Refused


class Options(Sampling):
    """Ollama's `options` on which this server acts. It refuses the others; Ollama ignores a name that it does not know."""

    num_ctx: int | None = Field(None, ge=1)
    num_predict: int | None = None


class EmbedOptions(Body):
    """The one of the options that means something for vectors."""

    num_ctx: int | None = Field(None, ge=1)


class Named(Body):
    """A request about a model: `name` is what `model` was called before."""

    model: str = ""
    name: str = ""

    @property
    def said(self) -> str:
        """The model's name. Raises Refused where there is none."""
        if not (self.model or self.name):
            raise Refused("model", "model is required")
        if self.model and self.name and self.model != self.name:
            raise Refused("name", f"{self.name!r}, but model is {self.model!r}"[:200], "send one of them")
        return self.model or self.name


class Asking(Body):
    """What generating and chatting have in common."""

    model: str
    stream: bool = True
    format: Format = None
    options: Options = Field(default_factory=Options)
    keep_alive: KeepAlive | None = None

    def ask(self, prompt: Any, field: str) -> Ask:
        """What an engine is asked. Raises Refused."""
        how = self.options.generation("options.", self.format)
        wanted = predict(self.options.num_predict, "options.num_predict")
        return Ask(prompt, how, self.options.num_ctx, wanted, field, "options.")


class GenerateBody(Asking):
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


class Message(Body):
    """A turn of a conversation."""

    UNUSED: ClassVar[frozenset[str]] = frozenset(
        {"images", "tool_calls", "thinking", "tool_name", "tool_call_id"}
    )
    role: Role
    content: str = ""


class ChatBody(Asking):
    """POST /api/chat."""

    UNUSED: ClassVar[frozenset[str]] = frozenset(
        {"tools", "think", "logprobs", "top_logprobs", "truncate", "shift"}
    )
    messages: list[Message] = Field(default_factory=list)


class EmbedBody(Body):
    """POST /api/embed. `truncate` is only a permission, of which no use is made: a text that is too long is refused."""

    UNUSED: ClassVar[frozenset[str]] = frozenset({"dimensions"})
    model: str
    truncate: bool = True
    input: Texts = Field(default_factory=list)
    options: EmbedOptions = Field(default_factory=EmbedOptions)
    keep_alive: KeepAlive | None = None


class EmbeddingsBody(Body):
    """POST /api/embeddings, the older form."""

    model: str
    prompt: str = ""
    options: EmbedOptions = Field(default_factory=EmbedOptions)
    keep_alive: KeepAlive | None = None


class PullBody(Named):
    """POST /api/pull. There is no connection that could be insecure."""

    UNUSED: ClassVar[frozenset[str]] = frozenset({"insecure"})
    stream: bool = True


class ShowBody(Named):
    """POST /api/show."""

    UNUSED: ClassVar[frozenset[str]] = frozenset({"system", "template", "options"})
    verbose: bool = False


class CopyBody(Body):
    """POST /api/copy."""

    source: str
    destination: str
