"""The models of a ModelManager as LangChain's chat models and embeddings, and as rerankers."""

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
from langchain_core.runnables import Runnable, RunnableConfig, RunnableMap, RunnablePassthrough
from pydantic import BaseModel, ConfigDict

from course_lib.models.drivers import driver_class
from course_lib.models.drivers.capabilities import drivers_with
from course_lib.models.drivers.engine import Engine, Unsupported
from course_lib.models.drivers.reply import Reply, Turn
from course_lib.models.schema import Generation, ModelSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ROLES = {"system": "system", "human": "user", "ai": "assistant"}


class EngineSource(Protocol):
    """What is needed of a ModelManager: a loaded engine for a resolved specification."""

    def use_resolved(self, spec: ModelSpec) -> AbstractContextManager[Engine]: ...


def turns(messages: Sequence[BaseMessage]) -> list[Turn]:
    """LangChain's messages as turns. Raises ValueError for a role that our models do not read, and images."""
    result: list[Turn] = []
    for message in messages:
        if message.type not in ROLES:
            raise ValueError(f"a message of type {message.type!r}; {', '.join(ROLES)} are read")
        parts = [message.content] if isinstance(message.content, str) else message.content
        texts = [part if isinstance(part, str) else part.get("text") for part in parts]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("a message holds something that is no text; images and files are not read")
        result.append({"role": ROLES[message.type], "content": "".join(cast(list[str], texts))})
    return result


def to_message(reply: Reply) -> AIMessage:
    """A reply as LangChain's message, with its numbers of tokens."""
    total = reply.prompt_tokens + reply.tokens
    return AIMessage(
        content=str(reply),
        usage_metadata=UsageMetadata(
            input_tokens=reply.prompt_tokens, output_tokens=reply.tokens, total_tokens=total
        ),
        response_metadata={"finish_reason": reply.finish_reason},
    )


class ChatModel(BaseChatModel):
    """A chat model of a ModelManager, with structured output where the driver has it."""

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
        """The loaded engine, in use until the end of a `with` block."""
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
            for piece in engine.stream(turns(messages), self._options(stop, kwargs)):
                chunk = ChatGenerationChunk(message=AIMessageChunk(content=piece))
                if run_manager:
                    run_manager.on_llm_new_token(piece, chunk=chunk)
                yield chunk

    def batch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[AIMessage]:
        """Answer in the engine's batches; in threads where callbacks or exceptions are asked for."""
        if config or return_exceptions:
            return super().batch(inputs, config, return_exceptions=return_exceptions, **kwargs)
        stop = kwargs.pop("stop", None)
        conversations = [turns(self._convert_input(i).to_messages()) for i in inputs]
        with self.engine() as engine:
            return [to_message(r) for r in engine.generate(conversations, self._options(stop, kwargs))]

    def with_structured_output(
        self, schema: dict[str, Any] | type[BaseModel], *, include_raw: bool = False, **kwargs: Any
    ) -> Runnable[LanguageModelInput, Any]:
        """Answers as a dict that a JSON schema allows, or as objects of a pydantic class.

        Raises Unsupported where the driver has no such constraint, ValueError for unknown options.
        """
        if kwargs:
            raise ValueError(f"options {', '.join(kwargs)} are not known; schema and include_raw are")
        if "json_schema" not in driver_class(self.spec).capabilities:
            raise Unsupported(
                f"the driver {self.spec.driver} cannot hold an answer to a schema",
                f"use a driver that can: {', '.join(drivers_with('json_schema'))}",
            )
        is_class = isinstance(schema, type)
        parser: Any = PydanticOutputParser(pydantic_object=schema) if is_class else JsonOutputParser()
        answer = self.bind(json_schema=schema.model_json_schema() if isinstance(schema, type) else schema)
        if not include_raw:
            return answer | parser
        parsed = RunnablePassthrough.assign(
            parsed=lambda outputs: parser.invoke(outputs["raw"]), parsing_error=lambda _: None
        )
        failed = RunnablePassthrough.assign(parsed=lambda _: None)
        return RunnableMap(raw=answer) | parsed.with_fallbacks([failed], exception_key="parsing_error")


class _Managed:
    """A model of a manager, loaded at its first use."""

    def __init__(self, manager: EngineSource, spec: ModelSpec) -> None:
        self.manager, self.spec = manager, spec

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.spec.name!r}, driver={self.spec.driver!r})"

    def engine(self) -> AbstractContextManager[Engine]:
        """The loaded engine, in use until the end of a `with` block."""
        return self.manager.use_resolved(self.spec)


class EmbeddingModel(_Managed, Embeddings):
    """LangChain Embeddings: lists of floats, each of length 1.

    query_prefix, passage_prefix: the texts that the model was trained to read before each question and each
    passage.
    """

    def __init__(
        self, manager: EngineSource, spec: ModelSpec, query_prefix: str = "", passage_prefix: str = ""
    ) -> None:
        super().__init__(manager, spec)
        self.query_prefix, self.passage_prefix = query_prefix, passage_prefix

    def _embed(self, texts: Sequence[str], prefix: str) -> list[list[float]]:
        with self.engine() as engine:
            vectors: list[list[float]] = engine.embed([prefix + text for text in texts]).tolist()
        return vectors

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """A vector for each passage. A text that is too long raises CourseError."""
        return self._embed(texts, self.passage_prefix)

    def embed_queries(self, texts: list[str]) -> list[list[float]]:
        """A vector for each question, in one batch."""
        return self._embed(texts, self.query_prefix)

    def embed_query(self, text: str) -> list[float]:
        """The vector of one question."""
        return self.embed_queries([text])[0]

    def embed_document_tokens(self, texts: list[str]) -> list[NDArray[np.float32]]:
        """For each passage, of any length, unit vectors of its tokens: (tokens, dimensions)."""
        with self.engine() as engine:
            return engine.embed_tokens([self.passage_prefix + text for text in texts])

    def embed_query_tokens(self, text: str) -> NDArray[np.float32]:
        """Unit vectors of the tokens of one question: (tokens, dimensions)."""
        with self.engine() as engine:
            return engine.embed_tokens([self.query_prefix + text])[0]


class RerankerModel(_Managed):
    """Scores of texts for a query; the higher, the better."""

    def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        """A score for each text, in the order given."""
        with self.engine() as engine:
            return engine.rerank(query, texts)
