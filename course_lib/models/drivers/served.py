"""What the drivers of servers share: loading, many requests at once, and no answer taken that the server's counts belie."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from course_lib.errors import CourseError
from course_lib.models.drivers import wire
from course_lib.models.drivers.engine import Ability, Engine, Prompt, Reply, Unsupported
from course_lib.models.schema import Generation, ModelSpec, ServerSource

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TEXTS = 64  # texts embedded by one request
ENDS: dict[object, Literal["stop", "length"]] = {
    "stop": "stop",
    "length": "length",
    "eos_token": "stop",
    "stop_sequence": "stop",
}
End = tuple[
    object, object, object
]  # tokens of the prompt, tokens written, why it ended: as the server says them
Parts = Generator[tuple[str, End | None], None, None]


class Served(Engine):
    """A model that a server holds. Subclasses speak its protocol."""

    can: ClassVar[frozenset[Ability]] = frozenset({"generate", "stream", "json_schema", "embed"})
    variable: ClassVar[str]  # of the environment: the address, where the specification has none
    default: ClassVar[str | None] = None  # the address, where the variable is not set either
    token_variable: ClassVar[str]  # proposed where a server asks for a token
    start: ClassVar[str]  # the cure where no server answers
    form: ClassVar[str]  # the cure where another kind of server answers

    def __init__(self, spec: ModelSpec, source: ServerSource, address: str, token: str | None) -> None:
        import httpx

        super().__init__(spec, 0)  # 0: the server does not say how much it reads
        self.model, self.address, self._token, self._token_from = source.model, address, token, source.token
        self._http = httpx.Client(base_url=address, **wire.http_options(address, token))

    @classmethod
    def load(cls, spec: ModelSpec) -> Engine:
        """Reach the server and find the model there.

        Raises CourseError where none answers, or one of another kind, where it refuses the token or has no such model;
        Unsupported for a task that it has not.
        """
        if spec.task in ("rerank", "text-classification"):
            raise Unsupported(f"the driver {cls.driver} has no task {spec.task}", "use driver: huggingface")
        assert isinstance(spec.source, ServerSource)  # the specification sees to it
        said = spec.source.url or os.environ.get(cls.variable) or cls.default
        if said is None:
            raise CourseError(
                f"driver {cls.driver}: neither source.url nor the variable {cls.variable} says where the server is",
                f"export {cls.variable}=http://127.0.0.1:8000/v1",
            )
        address, token = wire.address_of(cls._completed(said)), wire.header_token(spec.source.token)
        try:
            engine = cls(spec, spec.source, address, token)
        except (ImportError, ValueError) as error:  # httpx reads the proxies in the environment
            raise CourseError(
                f"a proxy in the environment cannot be used: {error}", "unset ALL_PROXY HTTP_PROXY"
            ) from error
        try:
            with engine._told():
                engine._connect()
        except BaseException:
            engine._hang_up()
            raise
        return engine

    @property
    def device(self) -> str:
        return self.address

    def close(self) -> None:
        self._hang_up()

    # -- for a protocol ---------------------------------------------------------------------------------------------

    @abstractmethod
    def _connect(self) -> None:
        """Check the server and the model, and set `context` where the server says it."""

    @abstractmethod
    def _answer(self, prompt: Prompt, how: Generation) -> tuple[str, End]:
        """A whole answer."""

    @abstractmethod
    def _parts(self, prompt: Prompt, how: Generation) -> Parts:
        """An answer as it is written; the last part has an End. Closing it closes the connection, which stops the server."""

    @abstractmethod
    def _vectors(self, texts: list[str]) -> Any:
        """One vector for each text."""

    @classmethod
    def _completed(cls, address: str) -> str:
        """The address with what may be left out of it."""
        return address

    def _hang_up(self) -> None:
        self._http.close()

    # -- answers ----------------------------------------------------------------------------------------------------

    def _generate(self, prompts: list[Prompt], how: Generation, batch_size: int) -> list[Reply]:
        self._check_open()
        return wire.at_once(lambda prompt: self._reply(prompt, how), prompts, batch_size)

    def _reply(self, prompt: Prompt, how: Generation) -> Reply:
        from course_lib.models.drivers.huggingface import before_stop

        with self._told():
            text, (read, written, why) = self._answer(prompt, how)
        text = before_stop(text, how.stop)
        finish = self._check_whole(text, read, written, why, how)
        if not isinstance(read, int) or not isinstance(written, int):
            raise CourseError(
                f"{self.address} does not count tokens: {read!r} in the prompt, {written!r} in the answer",
                "update the server",
            )
        return Reply(text.strip() if self.spec.task == "chat-completion" else text, read, written, finish)

    def _stream(self, prompt: Prompt, how: Generation) -> Iterator[str]:
        self._check_open()
        pieces = self._pieces(prompt, how)
        next(pieces)  # the request is sent, so that its errors come with the call
        return pieces

    def _pieces(self, prompt: Prompt, how: Generation) -> Iterator[str]:
        from course_lib.models.drivers.huggingface import without_stops

        ends: list[End] = []

        def texts(parts: Parts) -> Iterator[str]:
            for text, end in parts:
                ends.extend([end] if end else [])
                yield text

        written = ""
        with self._told(), closing(self._parts(prompt, how)) as parts:
            arriving = texts(parts)
            first = next(arriving, "")
            yield ""
            for piece in without_stops(chain([first], arriving), how.stop):
                if piece:
                    written += piece
                    yield piece
            for _ in arriving:  # a server that leaves the stop text in goes on to say how it ended
                pass
        if not ends:
            raise self._broke_off(
                f"the answer of {self.address} broke off after {len(written)} characters, without an end"
            )
        self._check_whole(written, *ends[-1], how)

    def _check_whole(
        self, text: str, read: object, written: object, why: object, how: Generation
    ) -> Literal["stop", "length"]:
        """Why an answer ended. Raises CourseError where something was lost, as far as the server's counts tell.

        A prompt that was cut fills the context; an answer that had no room ends before it reached max_output_length;
        where the beginning was dropped for the answer, both together are longer than the context.
        """
        if why not in ENDS:
            raise CourseError(
                f"{self.address} ended an answer for the reason {why!r}", "see the server's log"
            )
        if isinstance(read, int) and isinstance(written, int):
            no_room = ENDS[why] == "length" and written < how.max_output_length
            if no_room or (self.context and (read >= self.context or read + written > self.context)):
                reads = f"{self.name} reads {self.context} tokens" if self.context else self.name
                raise CourseError(
                    f"{reads}, and had no room: after {read} tokens of prompt and {written} of "
                    f"{how.max_output_length} of answer, the rest was cut",
                    self._shorter(),
                )
        if how.json_schema is not None and ENDS[why] == "stop" and not wire.is_json(text):
            raise CourseError(
                f"{self.address} was given a json_schema and answered what is no JSON: {self._shown(text)[:80]!r}",
                "use a server that knows schemas, or driver: llamacpp",
            )
        return ENDS[why]

    def _embed(self, texts: list[str]) -> NDArray[np.float32]:
        import numpy as np

        def embed(some: list[str]) -> NDArray[np.float32]:
            with self._told():
                vectors = np.array(self._vectors(some), dtype=np.float32)
                if vectors.ndim != 2 or len(vectors) != len(some) or not np.isfinite(vectors).all():
                    raise ValueError(
                        f"for {len(some)} texts, numbers of shape {vectors.shape}, or not finite"
                    )
            return vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)

        self._check_open()
        if not texts:
            return embed(["."])[:0]  # the server alone knows the number of dimensions
        rows = [texts[i : i + TEXTS] for i in range(0, len(texts), TEXTS)]
        return np.concatenate(wire.at_once(embed, rows, self.spec.batch_size or self.at_once))

    # -- failures ---------------------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._http.is_closed:
            raise CourseError(f"{self.name} has been closed", "load it again")

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What can go wrong between here and a server, as a CourseError."""
        import httpx

        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout, ConnectionError) as error:
            raise CourseError(
                f"no server answers at {self.address}: {self._shown(str(error))}", self.start
            ) from error
        except httpx.TimeoutException as error:
            raise CourseError(
                f"{self.address} was silent for {wire.SILENCE:g} s",
                "ask for less (max_output_length, batch_size), or see the server's log",
            ) from error
        except httpx.HTTPStatusError as error:
            raise self._refused(error.response.status_code, error.response.text) from error
        except httpx.TransportError as error:
            raise self._broke_off(
                f"the connection to {self.address} broke: {self._shown(str(error))}"
            ) from error
        except (
            httpx.HTTPError,
            ValueError,
            KeyError,
            IndexError,
            TypeError,
            AttributeError,
            RecursionError,
        ) as error:
            raise self._another_kind(f"{type(error).__name__}: {error}") from error

    def _refused(self, status: int, body: str) -> CourseError:
        """The error for a status that is no success."""
        said = self._shown(wire.said_by(body))
        if status in (401, 403):
            name = wire.variable_of(self._token_from or self.token_variable)
            return CourseError(
                f"{self.address} refuses the token in the variable {name} ({status}): {said}"
                if self._token_from
                else f"{self.address} asks for a token ({status}): {said}",
                f"export {name}=..." + f"   and say source.token: ${{env.{name}}}" * (not self._token_from),
            )
        if status in (301, 302, 307, 308, 404, 405) and "model" not in said.lower():
            return self._another_kind(f"{status}: {said}")
        cure = "load it again" if status == 404 else "see the server's log"
        if status in (429, 503):
            cure = "wait, and ask again with a smaller batch_size"
        elif any(word in said.lower() for word in ("context", "tokens", "too long", "too large")):
            cure = self._shorter()
        return CourseError(f"{self.address} refused ({status}): {said}", cure)

    def _no_model(self, there: list[str], fix: str) -> CourseError:
        listed = ", ".join(there[:10]) + ", ..." * (len(there) > 10)
        return CourseError(f"{self.address} has no model {self.model!r}; it has {listed or 'none'}", fix)

    def _another_kind(self, said: str) -> CourseError:
        return CourseError(
            f"{self.address} does not speak the protocol of {self.driver}: {self._shown(said)}", self.form
        )

    def _broke_off(self, what: str) -> CourseError:
        return CourseError(what, "ask again; if it happens again, see the server's log")

    def _shorter(self) -> str:
        longer = ", or a larger context_length" * ("context_length" in self.acts)
        return f"give fewer or shorter passages, or a smaller max_output_length{longer}"

    def _shown(self, text: str) -> str:
        """A server's text, shortened, without the token that it may repeat."""
        text = " ".join(text.split())
        text = text.replace(self._token, "***") if self._token else text
        return text if len(text) <= 300 else f"{text[:297]}..."
