"""`RemoteEngine`, the base class for models on a server: turns truncated and broken answers into errors.

A specification (ModelSpec) says which model to load, and how. An engine is a loaded model.
"""

from __future__ import annotations

import json
import os
from abc import abstractmethod
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar

from course_lib.errors import CourseError
from course_lib.models.drivers import http_client
from course_lib.models.drivers.engine import Engine
from course_lib.models.drivers.reply import FinishReason, Prompt, Reply
from course_lib.models.drivers.streaming import INCOMPLETE, before_stop, whole_characters, without_stops
from course_lib.models.schema.generation import Generation
from course_lib.models.schema.sources import ServerSource
from course_lib.models.schema.spec import ModelSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TEXTS_PER_REQUEST = 64  # the most texts to embed in one request
MAX_MESSAGE_LENGTH = 300  # characters of a server's message in an error
FINISH_REASONS: dict[object, FinishReason] = {  # a server's word for why an answer ended -> the course's
    "stop": "stop",
    "length": "length",
    "eos_token": "stop",
    "stop_sequence": "stop",
}
# (prompt tokens, answer tokens, finish reason) as the server reports them, unchecked.
Usage = tuple[object, object, object]
Chunks = Generator[tuple[str, Usage | None], None, None]
# What Python raises for an answer that has not the expected form.
PARSE_ERRORS = (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError)


class RemoteEngine(Engine):
    """A model on a server. A subclass implements the server's protocol."""

    url_variable: ClassVar[str]  # the environment variable with the address, if the specification has none
    default_url: ClassVar[str | None] = None  # the address if that variable is not set
    token_variable: ClassVar[str]  # the variable that an error suggests if a server requires a token
    start_fix: ClassVar[str]  # the fix if no server answers
    address_fix: ClassVar[str]  # the fix if another kind of server answers

    def __init__(self, spec: ModelSpec, source: ServerSource, address: str, token: str | None) -> None:
        import httpx

        super().__init__(spec, 0)  # 0: unknown; `_connect` sets it if the server reports its context
        self.model, self.address, self._token, self._token_source = source.model, address, token, source.token
        self._http = httpx.Client(base_url=address, **http_client.client_options(address, token))

    @classmethod
    def load(cls, spec: ModelSpec) -> Engine:
        """Connect to the server and check that it has the model.

        Raises CourseError if no server or another kind of server answers, if it refuses the token or does not
        have the model.
        """
        assert isinstance(spec.source, ServerSource)  # ModelSpec checks it
        url = spec.source.url or os.environ.get(cls.url_variable) or cls.default_url
        if url is None:
            raise CourseError(
                f"driver {cls.driver}: neither source.url nor the variable {cls.url_variable} is set",
                f"export {cls.url_variable}=http://127.0.0.1:8000/v1",
            )
        address = http_client.server_url(cls._complete_url(url))
        token = http_client.token_value(spec.source.token)
        try:
            engine = cls(spec, spec.source, address, token)
        except (ImportError, ValueError) as error:  # httpx reads the proxy settings in the environment
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

    # -- for subclasses -----------------------------------------------------------------------------------

    @abstractmethod
    def _connect(self) -> None:
        """Check the server and the model, and set `context` if the server reports it."""

    @abstractmethod
    def _answer(self, prompt: Prompt, options: Generation) -> tuple[str, Usage]:
        """A complete answer and its Usage."""

    @abstractmethod
    def _chunks(self, prompt: Prompt, options: Generation) -> Chunks:
        """Yield the chunks of an answer; the last one has the Usage. Closing it stops the server."""

    @abstractmethod
    def _vectors(self, texts: list[str]) -> Any:
        """One vector for each text, as the server sends it, unchecked."""

    @classmethod
    def _complete_url(cls, url: str) -> str:
        """Add the parts of an address that the user may omit; here none."""
        return url

    def _request(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The JSON that the server answers."""
        response = self._http.request(method, path, json=body)
        response.raise_for_status()
        return response.json()

    def _events(self, path: str, body: dict[str, Any]) -> Generator[dict[str, Any], None, None]:
        """Yield the JSON of each server-sent event. Raises CourseError for an event that is an error."""
        with self._http.stream("POST", path, json=body) as response:
            if not response.is_success:
                response.read()
                response.raise_for_status()
            for line in http_client.split_lines(response.iter_bytes()):
                data = line.removeprefix("data:").strip()
                if not line.startswith("data:") or data == "[DONE]":
                    continue  # an empty line, a comment that keeps the connection alive, or the end
                event = json.loads(data)
                if event.get("error"):
                    message = self._redact(http_client.error_message(data))
                    raise CourseError(f"{self.address} failed: {message}", "see the server's log")
                yield event

    def _disconnect(self) -> None:
        self._http.close()

    # -- answers ------------------------------------------------------------------------------------------

    def _generate(self, prompts: list[Prompt], options: Generation, batch_size: int | None) -> list[Reply]:
        workers = batch_size or self.default_batch_size
        return http_client.map_concurrently(lambda prompt: self._reply(prompt, options), prompts, workers)

    def _reply(self, prompt: Prompt, options: Generation) -> Reply:
        with self._wrap_errors():
            text, usage = http_client.ask_again_if_closed(lambda: self._answer(prompt, options))
        return self._finished(before_stop(text, options.stop).rstrip(INCOMPLETE), usage, options)

    def _finished(self, text: str, usage: Usage, options: Generation) -> Reply:
        """A whole answer. Raises CourseError if something was truncated, or tokens were not counted."""
        finish_reason = self._check_complete(text, usage, options)
        prompt_tokens, tokens, _ = usage
        if not isinstance(prompt_tokens, int) or not isinstance(tokens, int):
            counts = f"{prompt_tokens!r} for the prompt, {tokens!r} for the answer"
            raise CourseError(f"{self.address} does not report token counts: {counts}", "update the server")
        text = text.strip() if self.spec.task == "chat-completion" else text
        return Reply(text, prompt_tokens, tokens, finish_reason)

    def _stream(self, prompt: Prompt, options: Generation) -> Generator[str, None, Reply | None]:
        pieces = self._pieces(prompt, options)
        next(pieces)  # sends the request, so that the call of `stream` raises its errors
        return pieces

    def _pieces(self, prompt: Prompt, options: Generation) -> Generator[str, None, Reply | None]:
        """Yield an empty text once the first chunk has arrived, then the pieces of the answer; return it."""
        usages: list[Usage] = []

        def texts(chunks: Iterable[tuple[str, Usage | None]]) -> Iterator[str]:
            for text, usage in chunks:
                usages.extend([usage] if usage else [])
                yield text

        def start() -> tuple[Chunks, tuple[str, Usage | None]]:
            chunks = self._chunks(prompt, options)
            return chunks, next(chunks, ("", None))

        answer = ""
        with self._wrap_errors():
            chunks, first = http_client.ask_again_if_closed(start)
            with closing(chunks):
                rest = texts(chain([first], chunks))
                yield ""
                for piece in whole_characters(without_stops(rest, options.stop)):
                    answer += piece
                    yield piece
                for _ in rest:  # a server that continues after the stop text sends the usage at the end
                    pass
        if not usages:
            what = f"the answer of {self.address} broke off after {len(answer)} characters"
            raise self._broken_answer_error(what)
        if all(isinstance(count, int) for count in usages[-1][:2]):
            return self._finished(answer, usages[-1], options)
        self._check_complete(answer, usages[-1], options)
        return None  # the server does not count tokens in streams

    def _check_complete(self, text: str, usage: Usage, options: Generation) -> FinishReason:
        """The finish reason. Raises CourseError if the token counts show that something was truncated.

        A truncated prompt fills the context. An answer that fills the context ends before max_output_length.
        If the beginning of the prompt was dropped to make room for the answer, both are longer than the
        context.
        """
        prompt_tokens, tokens, reason = usage
        if reason not in FINISH_REASONS:
            what = f"{self.address} ended an answer with the unknown finish reason {reason!r}"
            raise CourseError(what, "see the server's log")
        finish_reason = FINISH_REASONS[reason]
        if isinstance(prompt_tokens, int) and isinstance(tokens, int):
            truncated = finish_reason == "length" and tokens < options.max_output_length
            if self.context:
                truncated |= prompt_tokens >= self.context or prompt_tokens + tokens > self.context
            if truncated:
                limit = f" of {self.context} tokens" if self.context else ""
                raise CourseError(
                    f"the context{limit} of {self.name} is full: after {prompt_tokens} tokens of prompt and "
                    f"{tokens} of {options.max_output_length} of answer, the rest was truncated",
                    self._shorten_fix(),
                )
        if options.json_schema is not None and finish_reason == "stop" and not http_client.is_json(text):
            answer = self._redact(text)[:80]
            raise CourseError(
                f"{self.address} ignored the json_schema; its answer is not JSON: {answer!r}",
                'load(..., driver="llamacpp")',
            )
        return finish_reason

    def _embed(self, texts: list[str]) -> NDArray[np.float32]:
        import numpy as np

        def embed(batch: list[str]) -> NDArray[np.float32]:
            with self._wrap_errors():
                vectors = np.array(
                    http_client.ask_again_if_closed(lambda: self._vectors(batch)), dtype=np.float32
                )
                if vectors.ndim != 2 or len(vectors) != len(batch) or not np.isfinite(vectors).all():
                    what = f"{len(batch)} texts, but vectors of shape {vectors.shape}, or not finite"
                    raise ValueError(what)
            return vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)

        if not texts:
            return embed(["."])[:0]  # shape (0, dimensions); only the server knows the number of dimensions
        batches = [texts[i : i + TEXTS_PER_REQUEST] for i in range(0, len(texts), TEXTS_PER_REQUEST)]
        workers = self.spec.batch_size or self.default_batch_size
        return np.concatenate(http_client.map_concurrently(embed, batches, workers))

    # -- errors -------------------------------------------------------------------------------------------

    @contextmanager
    def _wrap_errors(self) -> Iterator[None]:
        """Turn connection errors, and answers that violate the protocol, into a CourseError."""
        import httpx

        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout, ConnectionError) as error:
            what = f"no server answers at {self.address}: {self._redact(str(error))}"
            raise CourseError(what, self.start_fix) from error
        except httpx.TimeoutException as error:
            what = f"{self.address} sent nothing for {http_client.READ_TIMEOUT:g} s"
            raise CourseError(what, "use a smaller max_output_length or batch_size") from error
        except httpx.HTTPStatusError as error:
            raise self._status_error(error.response.status_code, error.response.text) from error
        except httpx.TransportError as error:
            what = f"the connection to {self.address} broke: {self._redact(str(error))}"
            raise self._broken_answer_error(what) from error
        except (httpx.HTTPError, *PARSE_ERRORS) as error:
            raise self._protocol_error(f"{type(error).__name__}: {error}") from error

    def _status_error(self, status: int, body: str) -> CourseError:
        """The error for a response with a status other than success."""
        message = self._redact(http_client.error_message(body))
        if status in (401, 403):
            name = http_client.variable_name(self._token_source or self.token_variable)
            if self._token_source:
                what = f"{self.address} refuses the token in the variable {name} ({status}): {message}"
                return CourseError(what, f"export {name}=...")
            what = f"{self.address} requires a token ({status}): {message}"
            fix = f'export {name}=... and load(source={{..., "token": "${{env.{name}}}"}})'
            return CourseError(what, fix)
        if status in (301, 302, 307, 308, 404, 405) and "model" not in message.lower():
            return self._protocol_error(f"{status}: {message}")
        fix = "load it again" if status == 404 else "see the server's log"
        if status in (429, 503):
            fix = "wait, and try again with a smaller batch_size"
        elif any(word in message.lower() for word in ("context", "tokens", "too long", "too large")):
            fix = self._shorten_fix()
        return CourseError(f"{self.address} refused ({status}): {message}", fix)

    def _missing_model_error(self, names: list[str], fix: str) -> CourseError:
        listed = ", ".join(names[:10]) + ", ..." * (len(names) > 10)
        return CourseError(f"{self.address} has no model {self.model!r}; it has {listed or 'none'}", fix)

    def _protocol_error(self, message: str) -> CourseError:
        what = f"{self.address} does not speak the protocol of {self.driver}: {self._redact(message)}"
        return CourseError(what, self.address_fix)

    def _broken_answer_error(self, what: str) -> CourseError:
        return CourseError(what, "try again; if it happens again, see the server's log")

    def _shorten_fix(self) -> str:
        """The fix for a prompt that does not fit into the context."""
        larger_context = ", or a larger context_length" * ("context_length" in self.supported_fields)
        return f"give fewer or shorter passages, or a smaller max_output_length{larger_context}"

    def _redact(self, text: str) -> str:
        """A server's message on one line of at most MAX_MESSAGE_LENGTH characters, with *** for the token."""
        text = " ".join(text.split())
        text = text.replace(self._token, "***") if self._token else text
        return text if len(text) <= MAX_MESSAGE_LENGTH else f"{text[: MAX_MESSAGE_LENGTH - 3]}..."
