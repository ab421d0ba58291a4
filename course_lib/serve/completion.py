"""llama.cpp with what a server must tell besides the text: counts, durations, and why an answer ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from course_lib import data
from course_lib.errors import CourseError
from course_lib.models.drivers import register
from course_lib.models.drivers.engine import Engine, Unsupported
from course_lib.models.drivers.llamacpp import LlamaCpp
from course_lib.models.drivers.llamacpp_server import raise_on_error
from course_lib.models.drivers.reply import Prompt, Reply
from course_lib.models.schema import Generation, ModelSpec
from course_lib.serve.errors import ApiError

IMPLEMENTATION = "course-serve"
MAX_RUNNING = 8  # requests in work at once
OnToken = Callable[[str], bool]  # takes a piece of the text, and says whether to stop


@dataclass(frozen=True)
class CompletionRequest:
    """What to write after: turns, or a raw text that is taken as it stands, special tokens and all.

    num_ctx: tokens of prompt and answer, at most; num_predict: of the answer. Where they are None, what the model reads.
    field: where the prompt stands in the request; prefix: where the options stand.
    """

    prompt: Prompt
    how: Generation
    num_ctx: int | None = None
    num_predict: int | None = None
    field: str = "prompt"
    prefix: str = ""


@dataclass(frozen=True)
class Completion:
    """A text and what it took. Seconds: of reading the prompt, of writing the answer, of loading the model before."""

    text: str
    prompt_tokens: int
    tokens: int
    finish: Literal["stop", "length"]
    read: float
    write: float
    load: float = 0.0


class ServedLlamaCpp(LlamaCpp):
    """A GGUF file of the store in llama.cpp."""

    @classmethod
    def load(cls, spec: ModelSpec) -> Engine:
        """Load a file of the store. Raises CourseError where it is not the file that its name says."""
        path: Path = spec.source.path  # type: ignore[union-attr]
        if not path.is_file() or f"sha256-{data.sha256(path)}.gguf" != path.name:
            raise CourseError(
                f"the file {path.name} of the store is missing or altered",
                "delete the model and pull it again",
            )
        return super().load(spec)

    def ids(self, prompt: Prompt) -> list[int]:
        """Token ids of turns by the template in the file, or of a raw text as it stands."""
        if isinstance(prompt, str):
            return self._tokenize([prompt], special=True)[0] if prompt else []
        return super().ids(prompt)

    def write(self, ask: CompletionRequest, each: OnToken | None = None) -> Completion:
        """Complete a prompt. `each` is called with every piece as it is written, in this thread, and stops the work by answering True.

        An answer ends where the model ends it ("stop"), after num_predict tokens, or where the room is full ("length").
        Raises ApiError for a prompt that leaves no room, and for a schema to which llama.cpp cannot hold an answer.
        """
        ids, context = self._prompt_ids(ask), ask.num_ctx or self.context
        if context > self.context:
            raise ApiError(
                f"{ask.prefix}num_ctx",
                f"{context}, but this model reads {self.context} tokens",
                "ask for less",
            )
        if len(ids) >= context:
            what = f"{len(ids)} tokens with system and template, but {context} are read (num_ctx), one at least for the answer"
            raise ApiError(ask.field, what, "shorten it: nothing is cut")
        room = context - len(ids)
        how = ask.how.replace(max_output_length=min(room, ask.num_predict or room))
        if how.json_schema is not None:
            try:
                self.check_schema(how.json_schema)
            except Unsupported as error:
                raise ApiError("format", error.what) from error
        begun = time.perf_counter()
        answer = _answer(*self._complete(self._request(ids, how), each))
        self.counters.add(
            [Reply(answer.text, answer.prompt_tokens, answer.tokens, answer.finish)],
            time.perf_counter() - begun,
        )
        return answer

    def _prompt_ids(self, ask: CompletionRequest) -> list[int]:
        try:
            return self.ids(ask.prompt)
        except CourseError as error:  # the template refuses the turns
            raise ApiError(ask.field, error.what) from error

    def _complete(self, request: dict[str, Any], each: OnToken | None) -> tuple[str, dict[str, Any]]:
        """The text and llama.cpp's last event, in which the counts stand."""
        if each is None:
            said = raise_on_error(self._server().handle_completions(request))
            return said["choices"][0]["text"], said
        pieces: list[str] = []
        last: dict[str, Any] = {}

        def on_event(said: dict[str, Any]) -> bool:
            last.clear()
            last.update(said)
            if "error" in said or not (piece := said["choices"][0]["text"]):
                return False
            pieces.append(piece)
            return each(piece)

        self._server().handle_completions(request | {"stream": True}, on_event)
        return "".join(pieces), raise_on_error(last)


def _answer(text: str, said: dict[str, Any]) -> Completion:
    """A stopped stream ends without counts: nobody is left to read them."""
    usage, times = said.get("usage", {}), said.get("timings", {})
    finish: Literal["stop", "length"] = "stop" if said["choices"][0]["finish_reason"] == "stop" else "length"
    return Completion(
        text,
        usage.get("prompt_tokens", 0),
        usage.get("completion_tokens", 0),
        finish,
        times.get("prompt_ms", 0) / 1e3,
        times.get("predicted_ms", 0) / 1e3,
    )


register(IMPLEMENTATION, ServedLlamaCpp)
