"""Our engines behind LangChain's interfaces, so that they take the place of any other model there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

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
from course_lib.models.drivers.engine import Unsupported
from course_lib.models.drivers.reply import Reply, Turn
from course_lib.models.schema import Generation, ModelSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from course_lib.models.manager.manager import ModelManager

ROLES = {"system": "system", "human": "user", "ai": "assistant"}


def turns(messages: Sequence[BaseMessage]) -> list[Turn]:
    """LangChain's messages as turns. Raises ValueError for roles and parts of messages that our models do not read."""
    out: list[Turn] = []
    for message in messages:
        if message.type not in ROLES:
            raise ValueError(f"a message of type {message.type!r}; {', '.join(ROLES)} are read")
        parts = [message.content] if isinstance(message.content, str) else message.content
        texts = [p if isinstance(p, str) else p.get("text") for p in parts]
        if not all(isinstance(t, str) for t in texts):
            raise ValueError("a message holds something that is no text; images and files are not read")
        out.append({"role": ROLES[message.type], "content": "".join(cast(list[str], texts))})
    return out


def message(reply: Reply) -> AIMessage:
    """A reply as LangChain's message, with its counts."""
    usage = UsageMetadata(
        input_tokens=reply.prompt_tokens,
        output_tokens=reply.tokens,
        total_tokens=reply.prompt_tokens + reply.tokens,
    )
    return AIMessage(
        content=str(reply), usage_metadata=usage, response_metadata={"finish_reason": reply.finish_reason}
    )


class ChatModel(BaseChatModel):
    """A chat model of a ModelManager: invoke, stream, batch, their async forms, and structured output where the engine can."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    manager: Any
    spec: ModelSpec
    options: Generation

    @property
    def _llm_type(self) -> str:
        return f"course-{self.spec.driver}"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self.spec.name, "driver": self.spec.driver, **self.options.model_dump()}

    def _how(self, stop: list[str] | None, changes: dict[str, Any]) -> Generation:
        return self.options.replace(**changes | ({"stop": stop} if stop else {}))

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        with self.manager.use(self.spec) as engine:
            (reply,) = engine.generate([turns(messages)], self._how(stop, kwargs))
        return ChatResult(generations=[ChatGeneration(message=message(reply))])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        with self.manager.use(self.spec) as engine:
            for piece in engine.stream(turns(messages), self._how(stop, kwargs)):
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
        """Answer all inputs, in the engine's own batches; one by one in threads where callbacks or exceptions are asked for."""
        if config or return_exceptions:
            return super().batch(inputs, config, return_exceptions=return_exceptions, **kwargs)
        stop = kwargs.pop("stop", None)
        conversations = [turns(self._convert_input(i).to_messages()) for i in inputs]
        with self.manager.use(self.spec) as engine:
            return [message(r) for r in engine.generate(conversations, self._how(stop, kwargs))]

    def with_structured_output(
        self, schema: dict[str, Any] | type[BaseModel], *, include_raw: bool = False, **kwargs: Any
    ) -> Runnable[LanguageModelInput, Any]:
        """Answers as a dict of a JSON schema, or as objects of a pydantic class; the engine can write nothing else.

        Raises Unsupported where the driver has no such constraint, ValueError for options that are not known.
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
        asked = self.bind(json_schema=schema.model_json_schema() if isinstance(schema, type) else schema)
        if not include_raw:
            return asked | parser
        parsed = RunnablePassthrough.assign(
            parsed=lambda said: parser.invoke(said["raw"]), parsing_error=lambda _: None
        )
        failed = RunnablePassthrough.assign(parsed=lambda _: None)
        return RunnableMap(raw=asked) | parsed.with_fallbacks([failed], exception_key="parsing_error")


class EmbeddingModel(Embeddings):
    """LangChain Embeddings: lists of floats, each of length 1.

    query_prefix, passage_prefix: what the model was trained to read before each question and each passage.
    """

    def __init__(
        self, manager: ModelManager, spec: ModelSpec, query_prefix: str = "", passage_prefix: str = ""
    ) -> None:
        self.manager, self.spec = manager, spec
        self.query_prefix, self.passage_prefix = query_prefix, passage_prefix

    def _embed(self, texts: Sequence[str], prefix: str) -> list[list[float]]:
        with self.manager.use(self.spec) as engine:
            vectors: list[list[float]] = engine.embed([prefix + text for text in texts]).tolist()
        return vectors

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """A vector for each passage. A text that is too long raises CourseError."""
        return self._embed(texts, self.passage_prefix)

    def embed_queries(self, texts: list[str]) -> list[list[float]]:
        """A vector for each question, all at once."""
        return self._embed(texts, self.query_prefix)

    def embed_query(self, text: str) -> list[float]:
        """The vector of one question."""
        return self.embed_queries([text])[0]

    def embed_document_tokens(self, texts: list[str]) -> list[NDArray[np.float32]]:
        """For each passage, of any length, a vector of length 1 for each of its tokens: (tokens, dimensions)."""
        with self.manager.use(self.spec) as engine:
            return engine.embed_tokens([self.passage_prefix + text for text in texts])

    def embed_query_tokens(self, text: str) -> NDArray[np.float32]:
        """The same of one question."""
        with self.manager.use(self.spec) as engine:
            return engine.embed_tokens([self.query_prefix + text])[0]


class Reranker:
    """Scores of texts for a query; the higher, the better."""

    def __init__(self, manager: ModelManager, spec: ModelSpec) -> None:
        self.manager, self.spec = manager, spec

    def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        """A score for each text, in the order given."""
        with self.manager.use(self.spec) as engine:
            return engine.rerank(query, texts)
