"""`RemoteEngine`: what the drivers ollama and openai share. It turns cut and broken answers into errors."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar

from course_lib.errors import CourseError
from course_lib.models.drivers import http_client
from course_lib.models.drivers.engine import Engine
from course_lib.models.drivers.reply import FinishReason, Prompt, Reply
from course_lib.models.drivers.streaming import before_stop, without_stops
from course_lib.models.schema.generation import Generation
from course_lib.models.schema.sources import ServerSource
from course_lib.models.schema.spec import ModelSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TEXTS_PER_REQUEST = 64  # of an embedding request
FINISH_REASONS: dict[object, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "eos_token": "stop",
    "stop_sequence": "stop",
}
# Tokens of the prompt, tokens of the answer, and the finish reason: as the server reports them, unchecked.
Usage = tuple[object, object, object]
Chunks = Generator[tuple[str, Usage | None], None, None]
PARSE_ERRORS = (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError)


class RemoteEngine(Engine):
    """A model on a server. Subclasses speak the server's protocol."""

    url_variable: ClassVar[str]  # the environment variable with the address, where the specification has none
    default_url: ClassVar[str | None] = None  # the address where the variable is not set either
    token_variable: ClassVar[str]  # proposed where a server asks for a token
    start_fix: ClassVar[str]  # what to do where no server answers
    address_fix: ClassVar[str]  # what to do where another kind of server answers

    def __init__(self, spec: ModelSpec, source: ServerSource, address: str, token: str | None) -> None:
        import httpx

        super().__init__(spec, 0)  # 0: unknown, where the server does not report its context
        self.model, self.address, self._token, self._token_source = source.model, address, token, source.token
        self._http = httpx.Client(base_url=address, **http_client.client_options(address, token))

    @classmethod
    def load(cls, spec: ModelSpec) -> Engine:
        """Connect to the server and find the model there.

        Raises CourseError where no server or another kind of server answers, where it refuses the token or
        does not have the model.
        """
        assert isinstance(spec.source, ServerSource)  # ModelSpec checks it
        url = spec.source.url or os.environ.get(cls.url_variable) or cls.default_url
        if url is None:
            raise CourseError(
                f"driver {cls.driver}: neither source.url nor the variable {cls.url_variable} names a server",
                f"export {cls.url_variable}=http://127.0.0.1:8000/v1",
            )
        address = http_client.server_url(cls._complete_url(url))
        token = http_client.token_value(spec.source.token)
        try:
            engine = cls(spec, spec.source, address, token)
        except (ImportError, ValueError) as error:  # httpx reads the proxies in the environment
            what = f"a proxy in the environment cannot be used: {error}"
            raise CourseError(what, "unset ALL_PROXY HTTP_PROXY") from error
        try:
            with engine._wrap_errors():
                engine._connect()
        except BaseException:
            engine._disconnect()
            raise
        return engine

    @property
    def device(self) -> str:
        return self.address

    def close(self) -> None:
        self._disconnect()

    def _is_closed(self) -> bool:
        return self._http.is_closed

    # -- for a protocol -----------------------------------------------------------------------------------

    @abstractmethod
    def _connect(self) -> None:
        """Check the server and the model, and set `context` where the server reports it."""

    @abstractmethod
    def _answer(self, prompt: Prompt, options: Generation) -> tuple[str, Usage]:
        """A complete answer."""

    @abstractmethod
    def _chunks(self, prompt: Prompt, options: Generation) -> Chunks:
        """A streamed answer; its last chunk has the Usage. Closing it stops the server."""

    @abstractmethod
    def _vectors(self, texts: list[str]) -> Any:
        """One vector for each text, unchecked."""

    @classmethod
    def _complete_url(cls, url: str) -> str:
        """The address with the parts that may be left out."""
        return url

    def _disconnect(self) -> None:
        self._http.close()

    # -- answers ------------------------------------------------------------------------------------------

    def _generate(self, prompts: list[Prompt], options: Generation, batch_size: int) -> list[Reply]:
        return http_client.map_concurrently(lambda prompt: self._reply(prompt, options), prompts, batch_size)

    def _reply(self, prompt: Prompt, options: Generation) -> Reply:
        with self._wrap_errors():
            text, usage = self._answer(prompt, options)
        text = before_stop(text, options.stop)
        finish_reason = self._check_complete(text, usage, options)
        prompt_tokens, tokens, _ = usage
        if not isinstance(prompt_tokens, int) or not isinstance(tokens, int):
            counts = f"{prompt_tokens!r} in the prompt, {tokens!r} in the answer"
            raise CourseError(f"{self.address} does not count tokens: {counts}", "update the server")
        text = text.strip() if self.spec.task == "chat-completion" else text
        return Reply(text, prompt_tokens, tokens, finish_reason)

    def _stream(self, prompt: Prompt, options: Generation) -> Iterator[str]:
        pieces = self._pieces(prompt, options)
        next(pieces)  # sends the request, so that its errors are raised by the call
        return pieces

    def _pieces(self, prompt: Prompt, options: Generation) -> Iterator[str]:
        usages: list[Usage] = []

        def texts(chunks: Chunks) -> Iterator[str]:
            for text, usage in chunks:
                usages.extend([usage] if usage else [])
                yield text

        answer = ""
        with self._wrap_errors(), closing(self._chunks(prompt, options)) as chunks:
            arriving = texts(chunks)
            first = next(arriving, "")
            yield ""
            for piece in without_stops(chain([first], arriving), options.stop):
                if piece:
                    answer += piece
                    yield piece
            for _ in arriving:  # a server that does not cut at the stop text sends the usage after it
                pass
        if not usages:
            what = f"the answer of {self.address} broke off after {len(answer)} characters"
            raise self._connection_broken(f"{what}, without an end")
        self._check_complete(answer, usages[-1], options)

    def _check_complete(self, text: str, usage: Usage, options: Generation) -> FinishReason:
        """The finish reason. Raises CourseError where the counts show that prompt or answer were cut.

        A prompt that was cut fills the context. An answer without room ends before max_output_length. Where
        the beginning of the prompt was dropped for the answer, both are longer than the context.
        """
        prompt_tokens, tokens, reason = usage
        if reason not in FINISH_REASONS:
            what = f"{self.address} ended an answer for the reason {reason!r}"
            raise CourseError(what, "see the server's log")
        finish_reason = FINISH_REASONS[reason]
        if isinstance(prompt_tokens, int) and isinstance(tokens, int):
            cut = finish_reason == "length" and tokens < options.max_output_length
            if self.context:
                cut |= prompt_tokens >= self.context or prompt_tokens + tokens > self.context
            if cut:
                reads = f"{self.name} reads {self.context} tokens" if self.context else self.name
                raise CourseError(
                    f"{reads}, and had no room: after {prompt_tokens} tokens of prompt and {tokens} of "
                    f"{options.max_output_length} of answer, the rest was cut",
                    self._shorten_fix(),
                )
        if options.json_schema is not None and finish_reason == "stop" and not http_client.is_json(text):
            raise CourseError(
                f"{self.address} ignored the json_schema; its answer is no JSON: {self._redact(text)[:80]!r}",
                'load(..., driver="llamacpp")',
            )
        return finish_reason

    def _embed(self, texts: list[str]) -> NDArray[np.float32]:
        import numpy as np

        def embed(batch: list[str]) -> NDArray[np.float32]:
            with self._wrap_errors():
                vectors = np.array(self._vectors(batch), dtype=np.float32)
                if vectors.ndim != 2 or len(vectors) != len(batch) or not np.isfinite(vectors).all():
                    raise ValueError(
                        f"{len(batch)} texts have vectors of shape {vectors.shape}, or not finite"
                    )
            return vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)

        if not texts:
            return embed(["."])[:0]  # only the server knows the number of dimensions
        batches = [texts[i : i + TEXTS_PER_REQUEST] for i in range(0, len(texts), TEXTS_PER_REQUEST)]
        workers = self.spec.batch_size or self.default_batch_size
        return np.concatenate(http_client.map_concurrently(embed, batches, workers))

    # -- errors -------------------------------------------------------------------------------------------

    @contextmanager
    def _wrap_errors(self) -> Iterator[None]:
        """Turn errors of the connection, and answers that break the protocol, into CourseErrors."""
        import httpx

        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout, ConnectionError) as error:
            what = f"no server answers at {self.address}: {self._redact(str(error))}"
            raise CourseError(what, self.start_fix) from error
        except httpx.TimeoutException as error:
            what = f"{self.address} was silent for {http_client.READ_TIMEOUT:g} s"
            raise CourseError(what, "use a smaller max_output_length or batch_size") from error
        except httpx.HTTPStatusError as error:
            raise self._status_error(error.response.status_code, error.response.text) from error
        except httpx.TransportError as error:
            what = f"the connection to {self.address} broke: {self._redact(str(error))}"
            raise self._connection_broken(what) from error
        except (httpx.HTTPError, *PARSE_ERRORS) as error:
            raise self._protocol_error(f"{type(error).__name__}: {error}") from error

    def _status_error(self, status: int, body: str) -> CourseError:
        """The error for an HTTP status that is not a success."""
        message = self._redact(http_client.error_message(body))
        if status in (401, 403):
            name = http_client.variable_name(self._token_source or self.token_variable)
            if self._token_source:
                what = f"{self.address} refuses the token in the variable {name} ({status}): {message}"
                return CourseError(what, f"export {name}=...")
            what = f"{self.address} asks for a token ({status}): {message}"
            return CourseError(
                what, f'export {name}=... and load(source={{..., "token": "${{env.{name}}}"}})'
            )
        if status in (301, 302, 307, 308, 404, 405) and "model" not in message.lower():
            return self._protocol_error(f"{status}: {message}")
        fix = "load it again" if status == 404 else "see the server's log"
        if status in (429, 503):
            fix = "wait, and ask again with a smaller batch_size"
        elif any(word in message.lower() for word in ("context", "tokens", "too long", "too large")):
            fix = self._shorten_fix()
        return CourseError(f"{self.address} refused ({status}): {message}", fix)

    def _missing_model(self, names: list[str], fix: str) -> CourseError:
        listed = ", ".join(names[:10]) + ", ..." * (len(names) > 10)
        return CourseError(f"{self.address} has no model {self.model!r}; it has {listed or 'none'}", fix)

    def _protocol_error(self, message: str) -> CourseError:
        what = f"{self.address} does not speak the protocol of {self.driver}: {self._redact(message)}"
        return CourseError(what, self.address_fix)

    def _connection_broken(self, what: str) -> CourseError:
        return CourseError(what, "ask again; if it happens again, see the server's log")

    def _shorten_fix(self) -> str:
        longer = ", or a larger context_length" * ("context_length" in self.supported_fields)
        return f"give fewer or shorter passages, or a smaller max_output_length{longer}"

    def _redact(self, text: str) -> str:
        """A server's text, at most 300 characters, without the token that it may repeat."""
        text = " ".join(text.split())
        text = text.replace(self._token, "***") if self._token else text
        return text if len(text) <= 300 else f"{text[:297]}..."
