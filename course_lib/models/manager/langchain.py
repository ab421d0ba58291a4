"""LangChain chat models and embeddings, and rerankers, on top of the models of a ModelManager.

An engine is a loaded model. A turn is a message of a conversation, as an engine takes it. A specification
(ModelSpec) says which model to load, and how.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol, cast

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import (
    Runnable,
    RunnableConfig,
    RunnableLambda,
    RunnablePassthrough,
)
from langchain_core.utils.function_calling import convert_to_json_schema
from pydantic import BaseModel, ConfigDict
from typing_extensions import is_typeddict

from course_lib.errors import CourseError
from course_lib.models.drivers import driver_class
from course_lib.models.drivers.arguments import InputError, as_list, as_text
from course_lib.models.drivers.capabilities import drivers_with
from course_lib.models.drivers.engine import Engine, Kind, Unsupported
from course_lib.models.drivers.json_answers import check_validity, is_runaway
from course_lib.models.drivers.reply import Reply, Turn
from course_lib.models.schema import Generation, ModelSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ROLES = {"system": "system", "human": "user", "ai": "assistant"}  # LangChain message type -> turn role


class EngineSource(Protocol):
    """The part of ModelManager that is needed here: it provides the loaded engine for a specification."""

    def use_resolved(self, spec: ModelSpec) -> AbstractContextManager[Engine]: ...


def turns(messages: Sequence[BaseMessage]) -> list[Turn]:
    """Convert LangChain messages to turns. Raises InputError for unsupported roles, images and files."""
    result: list[Turn] = []
    for message in messages:
        if message.type not in ROLES:
            what = f"a message of type {message.type!r}; supported: {', '.join(ROLES)}"
            raise InputError(what, 'invoke([("human", "Hello.")])')
        parts = [message.content] if isinstance(message.content, str) else message.content
        texts = [part if isinstance(part, str) else part.get("text") for part in parts]
        if not all(isinstance(text, str) for text in texts):
            what = "a message has content other than text; images and files are not supported"
            raise InputError(what, 'invoke([("human", "Hello.")])')
        result.append({"role": ROLES[message.type], "content": "".join(cast(list[str], texts))})
    return result


def to_message(reply: Reply) -> AIMessage:
    """Convert a reply to a LangChain message with its token counts."""
    return AIMessage(content=str(reply), **_metadata(reply))


def _metadata(reply: Reply) -> dict[str, Any]:
    total = reply.prompt_tokens + reply.tokens
    return {
        "usage_metadata": UsageMetadata(
            input_tokens=reply.prompt_tokens, output_tokens=reply.tokens, total_tokens=total
        ),
        "response_metadata": {"finish_reason": reply.finish_reason},
    }


def _check_complete(message: AIMessage) -> AIMessage:
    """Return the message. Raises CourseError if max_output_length cut it: a part of JSON may look whole."""
    if message.response_metadata.get("finish_reason") == "length" and message.usage_metadata:
        limit, text = message.usage_metadata["output_tokens"], str(message.content)
        what = f"max_output_length={limit} cut the answer within its JSON: {text[-60:]!r}"
        if is_runaway(text):
            bounds = '"maxLength" to a text, "maxItems" to a list, "minimum" and "maximum" to a number'
            raise CourseError(f"{what}; it repeats itself and would not end", f"add {bounds} in the schema")
        raise CourseError(what, f"get_chat_model(..., max_output_length={2 * limit})")
    return message


def _json_schema(schema: Any) -> dict[str, Any]:
    """Return the JSON schema of a pydantic class or TypedDict, or the dict itself. Raises InputError."""
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        return schema.model_json_schema()
    if is_typeddict(schema):
        return convert_to_json_schema(schema)
    if isinstance(schema, dict):
        return schema
    what = f"{schema!r:.80} is no JSON schema (a dict), pydantic class or TypedDict"
    raise InputError(what, "model.with_structured_output(MyPydanticClass)")


class ChatModel(BaseChatModel):
    """A LangChain chat model, with structured output if its driver (the software that runs it) can."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    manager: Any
    spec: ModelSpec
    options: Generation

    def __repr__(self) -> str:
        return f"ChatModel({self.spec.name!r}, driver={self.spec.driver!r})"

    @property
    def _llm_type(self) -> str:
        return f"course-{self.spec.driver}"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self.spec.name, "driver": self.spec.driver, **self.options.model_dump()}

    def engine(self) -> AbstractContextManager[Engine]:
        """Return a context manager that yields the loaded engine and keeps it loaded in the `with` block."""
        source: EngineSource = self.manager
        return source.use_resolved(self.spec)

    def _options(self, stop: list[str] | None, changes: dict[str, Any]) -> Generation:
        return self.options.replace(**changes | ({"stop": stop} if stop else {}))

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        with self.engine() as engine:
            (reply,) = engine.generate([turns(messages)], self._options(stop, kwargs))
        return ChatResult(generations=[ChatGeneration(message=to_message(reply))])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        with self.engine() as engine:
            pieces = engine.stream(turns(messages), self._options(stop, kwargs))
            for piece in pieces:
                chunk = ChatGenerationChunk(message=AIMessageChunk(content=piece))
                if run_manager:
                    run_manager.on_llm_new_token(piece, chunk=chunk)
                yield chunk
            if pieces.reply is not None:
                end = AIMessageChunk(content="", chunk_position="last", **_metadata(pieces.reply))
                yield ChatGenerationChunk(message=end)

    def batch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[AIMessage]:
        """Answer in the engine's batches; with `config` or `return_exceptions`, one by one in threads."""
        if config or return_exceptions:
            return super().batch(inputs, config, return_exceptions=return_exceptions, **kwargs)
        stop = kwargs.pop("stop", None)
        conversations = [turns(self._convert_input(i).to_messages()) for i in inputs]
        with self.engine() as engine:
            return [to_message(r) for r in engine.generate(conversations, self._options(stop, kwargs))]

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[LanguageModelInput, AIMessage]:
        """Raise Unsupported: no driver passes tools to a model."""
        raise Unsupported(f"{self.spec.name} cannot call tools here", "model.with_structured_output(schema)")

    def with_structured_output(
        self, schema: dict[str, Any] | type, *, include_raw: bool = False, **kwargs: Any
    ) -> Runnable[LanguageModelInput, Any]:
        """Return a runnable whose answers are objects of a pydantic class, or dicts.

        schema: the pydantic class; or, for dicts, a JSON schema or a TypedDict. The runnable answers as a
        whole, also in a stream, and raises CourseError for an answer that max_output_length cuts; with
        include_raw, it returns this error as `parsing_error`. Raises Unsupported if the driver cannot enforce
        a schema, InputError for another type of schema and for unknown options, SpecError for a bad schema.
        """
        if kwargs:
            what = f"unknown options: {', '.join(kwargs)}; there are schema and include_raw"
            raise InputError(what, "model.with_structured_output(schema, include_raw=True)")
        if "json_schema" not in driver_class(self.spec).capabilities:
            raise Unsupported(
                f"the driver {self.spec.driver} cannot make an answer match a schema",
                f"use a driver that can: {', '.join(drivers_with('json_schema'))}",
            )
        json_schema = _json_schema(schema)
        self.options.replace(json_schema=json_schema)  # raises SpecError
        check_validity(json_schema)
        is_class = isinstance(schema, type) and issubclass(schema, BaseModel)
        parse: Any = PydanticOutputParser(pydantic_object=schema) if is_class else JsonOutputParser()
        parser: Any = RunnableLambda(_check_complete) | parse
        whole = self.model_copy(update={"disable_streaming": True})
        answer = whole.bind(json_schema=json_schema)
        if not include_raw:
            return answer | parser
        parsed = RunnablePassthrough.assign(
            parsed=lambda outputs: parser.invoke(outputs["raw"]), parsing_error=lambda _: None
        )
        failed = RunnablePassthrough.assign(parsed=lambda _: None)
        return (
            answer
            | RunnableLambda(lambda raw: {"raw": raw})
            | parsed.with_fallbacks([failed], exception_key="parsing_error")
        )


class _Managed:
    """The base class of models that a ModelManager loads at their first use."""

    def __init__(self, manager: EngineSource, spec: ModelSpec) -> None:
        self.manager, self.spec = manager, spec

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.spec.name!r}, driver={self.spec.driver!r})"

    def engine(self) -> AbstractContextManager[Engine]:
        """Return a context manager that yields the loaded engine and keeps it loaded in the `with` block."""
        return self.manager.use_resolved(self.spec)


class EmbeddingModel(_Managed, Embeddings):
    """LangChain Embeddings that return unit-length vectors as lists of floats.

    Before each query and each passage it puts the model's prefix, see `query_prefix` of `ModelSpec`.
    """

    def _embed(self, texts: Sequence[str], kind: Kind) -> list[list[float]]:
        with self.engine() as engine:
            vectors: list[list[float]] = engine.embed(texts, kind).tolist()
        return vectors

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return a vector for each passage. Raises CourseError for a lone string and for too long a text."""
        return self._embed(as_list(texts, "texts", "embed_documents([{}])[0]"), "passage")

    def embed_queries(self, texts: list[str]) -> list[list[float]]:
        """Return a vector for each query, computed in one batch."""
        return self._embed(as_list(texts, "texts", "embed_query({})"), "query")

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of one query."""
        return self.embed_queries([as_text(text, "text")])[0]

    def embed_document_tokens(self, texts: list[str]) -> list[NDArray[np.float32]]:
        """Return the unit-length token vectors of each passage, (tokens, dimensions). Any length works."""
        texts = as_list(texts, "texts", "embed_document_tokens([{}])[0]")
        with self.engine() as engine:
            return engine.embed_tokens(texts, "passage")

    def embed_query_tokens(self, text: str) -> NDArray[np.float32]:
        """Return the unit-length token vectors of one query, (tokens, dimensions)."""
        with self.engine() as engine:
            return engine.embed_tokens([as_text(text, "text")], "query")[0]


class RerankerModel(_Managed):
    """A model that scores texts by relevance to a query."""

    def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        """Return a score for each text, in the order of `texts`; higher means more relevant."""
        with self.engine() as engine:
            return engine.rerank(query, texts)
