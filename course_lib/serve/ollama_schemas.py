"""Pydantic schemas for the request bodies of the Ollama API (github.com/ollama/ollama, docs/api.md)."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Field

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
    TopLogprobs,
    Whole,
    generation,
)

DEFAULTS = {"temperature": 0.8, "top_k": 40, "top_p": 0.9, "repeat_penalty": 1.1, "repeat_last_n": 64}
# Request field -> the feature that it needs and this server lacks; the field is rejected unless it is empty.
UNSUPPORTED = {"think": "thinking"}
# As in Ollama, a single empty text gets no vector.
Input = Annotated[Texts, BeforeValidator(lambda value: [] if value == "" else value)]


class RunnerOptions(RequestBody):
    """Options for how Ollama runs a model. Those that cannot change the answer are accepted and ignored."""

    model_config = ConfigDict(extra="forbid")
    num_ctx: Annotated[Whole, Field(ge=1)] | None = None  # tokens of the context: prompt and answer
    num_keep: Whole = 0  # tokens to keep if a prompt is shortened, which this server never does
    num_batch: Whole = 0
    num_gpu: Whole = 0
    main_gpu: Whole = 0
    num_thread: Whole = 0
    numa: bool = False
    low_vram: bool = False
    f16_kv: bool = True
    use_mmap: bool = True
    use_mlock: bool = False
    vocab_only: Literal[False] = False
    logits_all: bool = False
    penalize_newline: bool = True  # has no effect in Ollama either
    tfs_z: Annotated[float, Field(ge=1, le=1)] = 1


class Options(RunnerOptions, SamplingOptions):
    """Ollama's `options`. Unknown ones are rejected; Ollama would only mention them in its log."""

    model_config = ConfigDict(extra="forbid")
    DEFAULTS: ClassVar[dict[str, Any]] = DEFAULTS
    num_predict: Whole | None = None  # the most tokens of the answer; not limited if negative


class EmbedOptions(RunnerOptions, SamplingOptions):
    """Ollama's `options` for embeddings, on which sampling options have no effect."""

    model_config = ConfigDict(extra="forbid")
    num_predict: Whole | None = None


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
    logprobs: bool = False
    top_logprobs: TopLogprobs = 0
    options: Options = Field(default_factory=Options)
    keep_alive: KeepAlive | None = None

    def request(self, prompt: Any, prompt_field: str, parameters: dict[str, Any]) -> CompletionRequest:
        """Convert the body to a CompletionRequest. Raises ApiError for invalid options.

        parameters: The options that are stored with the model.
        """
        options = self.options.sampling(parameters)
        num_predict = self.options.num_predict or parameters.get("num_predict", -1)
        return CompletionRequest(
            prompt=prompt,
            options=generation(options, "options.", self.format),
            sampling=options,
            num_ctx=self.options.num_ctx or parameters.get("num_ctx"),
            num_predict=num_predict if num_predict > 0 else None,
            logprobs=self.top_logprobs if self.logprobs else None,
            prompt_field=prompt_field,
        )


class GenerateBody(PromptBody):
    """POST /api/generate."""

    UNSUPPORTED: ClassVar[dict[str, str]] = UNSUPPORTED | {
        "suffix": "insert",
        "template": "templates of a request",
        "context": "the context of an earlier answer",
        "images": "vision",
    }
    prompt: str = ""
    system: str = ""
    raw: bool = False


class Message(RequestBody):
    """One message of a conversation."""

    UNSUPPORTED: ClassVar[dict[str, str]] = {
        "images": "vision",
        "tool_calls": "tools",
        "thinking": "thinking",
    }
    role: Role
    content: str = ""


class ChatBody(PromptBody):
    """POST /api/chat."""

    UNSUPPORTED: ClassVar[dict[str, str]] = UNSUPPORTED | {"tools": "tools"}
    messages: Annotated[list[Message], Field(fail_fast=True)] = Field(
        default_factory=list, max_length=MAX_MESSAGES
    )


class EmbedBody(RequestBody):
    """POST /api/embed. truncate: Whether to cut texts that are too long."""

    model: str
    truncate: bool = True
    input: Input = Field(default_factory=list, max_length=MAX_TEXTS)
    dimensions: Annotated[Whole, Field(ge=0)] = 0
    options: EmbedOptions = Field(default_factory=EmbedOptions)
    keep_alive: KeepAlive | None = None


class EmbeddingsBody(RequestBody):
    """POST /api/embeddings, Ollama's older endpoint for a single text."""

    model: str
    prompt: str = ""
    options: EmbedOptions = Field(default_factory=EmbedOptions)
    keep_alive: KeepAlive | None = None


class PullBody(ModelBody):
    """POST /api/pull. `insecure` has no effect: nothing is pulled from a registry of Ollama's."""

    stream: bool = True


class ShowBody(ModelBody):
    """POST /api/show."""

    verbose: bool = False


class CopyBody(RequestBody):
    """POST /api/copy."""

    source: str
    destination: str
