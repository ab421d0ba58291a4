"""Completions by llama.cpp with what a server reports beside the text: tokens, seconds, finish reason."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from course_lib import data
from course_lib.errors import CourseError
from course_lib.models.drivers import register
from course_lib.models.drivers.engine import Engine, Unsupported
from course_lib.models.drivers.llamacpp import LlamaCpp
from course_lib.models.drivers.llamacpp_server import raise_on_error
from course_lib.models.drivers.reply import FinishReason, Prompt, Reply
from course_lib.models.schema import Generation, ModelSpec
from course_lib.serve.errors import ApiError

IMPLEMENTATION = "course-serve"
MAX_RUNNING = 8  # requests that are answered at the same time
OnToken = Callable[[str], bool]  # takes a piece of the text, and returns whether to stop


@dataclass(frozen=True)
class CompletionRequest:
    """What to complete: turns, or a text that is taken as it is, with the special tokens it names.

    num_ctx: most tokens of prompt and answer; num_predict: of the answer. None: as many as the model allows.
    prompt_field, options_prefix: how errors name the prompt and the options.
    """

    prompt: Prompt
    options: Generation
    num_ctx: int | None = None
    num_predict: int | None = None
    prompt_field: str = "prompt"
    options_prefix: str = ""


@dataclass(frozen=True)
class Completion:
    """A text, its token counts, and the seconds for the prompt, for writing, and for loading the model."""

    text: str
    prompt_tokens: int
    tokens: int
    finish_reason: FinishReason
    prompt_seconds: float
    seconds: float
    load_seconds: float = 0.0


class ServedLlamaCpp(LlamaCpp):
    """A GGUF file of the store in llama.cpp."""

    @classmethod
    def load(cls, spec: ModelSpec) -> Engine:
        """Load a file of the store. Raises CourseError where its content is not that of its name."""
        path: Path = spec.source.path  # type: ignore[union-attr]
        if not path.is_file() or f"sha256-{data.sha256(path)}.gguf" != path.name:
            what = f"the file {path.name} of the store is missing or altered"
            raise CourseError(what, "delete the model and pull it again")
        return super().load(spec)

    def ids(self, prompt: Prompt) -> list[int]:
        """Token ids of turns by the template in the file, or of a text as it is."""
        if isinstance(prompt, str):
            return self._tokenize([prompt], special=True)[0] if prompt else []
        return super().ids(prompt)

    def complete(self, request: CompletionRequest, on_token: OnToken | None = None) -> Completion:
        """Complete a prompt. `on_token` is called with each piece in this thread, and may stop the work.

        The finish reason is "stop" where the model ended the answer, and "length" after num_predict tokens or
        where the context is full. Raises ApiError for a prompt that leaves no room for an answer, and for a
        JSON schema that llama.cpp does not enforce.
        """
        context = request.num_ctx or self.context
        if context > self.context:
            what = f"{context}, but this model reads {self.context} tokens"
            raise ApiError(f"{request.options_prefix}num_ctx", what, "ask for less")
        ids = self._prompt_ids(request)
        room = context - len(ids)
        if room < 1:
            what = f"{len(ids)} tokens with system and template, but {context} are read (num_ctx)"
            raise ApiError(request.prompt_field, what, "shorten it: nothing is cut")
        limit = min(room, request.num_predict or room)
        body = self._body(ids, request.options.replace(max_output_length=limit))
        started = time.perf_counter()
        text, event = self._run(body, on_token)
        # A stream that was stopped ends without counts: nobody is left to read them.
        usage, timings = event.get("usage", {}), event.get("timings", {})
        completion = Completion(
            text=text,
            prompt_tokens=usage.get("prompt_tokens", 0),
            tokens=usage.get("completion_tokens", 0),
            finish_reason="stop" if event["choices"][0]["finish_reason"] == "stop" else "length",
            prompt_seconds=timings.get("prompt_ms", 0) / 1e3,
            seconds=timings.get("predicted_ms", 0) / 1e3,
        )
        reply = Reply(text, completion.prompt_tokens, completion.tokens, completion.finish_reason)
        self.counters.add([reply], time.perf_counter() - started)
        return completion

    def _prompt_ids(self, request: CompletionRequest) -> list[int]:
        try:
            return self.ids(request.prompt)
        except CourseError as error:  # the chat template refuses the turns
            raise ApiError(request.prompt_field, error.what) from error

    def _body(self, ids: list[int], options: Generation) -> dict[str, Any]:
        if options.json_schema is not None:
            try:
                self.check_schema(options.json_schema)
            except Unsupported as error:
                raise ApiError("format", error.what) from error
        return self._request(ids, options)

    def _run(self, body: dict[str, Any], on_token: OnToken | None) -> tuple[str, dict[str, Any]]:
        """The text, and llama.cpp's last event, which has the counts."""
        if on_token is None:
            response = self._completion(body)
            return response["choices"][0]["text"], response
        pieces: list[str] = []
        last: dict[str, Any] = {}

        def on_event(event: dict[str, Any]) -> bool:
            last.clear()
            last.update(event)
            if "error" in event or not (piece := event["choices"][0]["text"]):
                return False
            pieces.append(piece)
            return on_token(piece)

        self._next_server().handle_completions(body | {"stream": True}, on_event)
        return "".join(pieces), raise_on_error(last)


register(IMPLEMENTATION, ServedLlamaCpp)
