"""Text completion by llama.cpp for the model server: text, token counts, seconds, and finish reason."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

from course_lib import data
from course_lib.errors import CourseError
from course_lib.models.drivers import register
from course_lib.models.drivers.engine import Engine, Unsupported
from course_lib.models.drivers.llamacpp import LlamaCpp
from course_lib.models.drivers.reply import FinishReason, Prompt, Reply
from course_lib.models.schema import Generation, ModelSpec
from course_lib.serve.errors import ApiError

IMPLEMENTATION = "course-serve"
OnToken = Callable[[str], object]  # receives each piece of text


@dataclass(frozen=True)
class CompletionRequest:
    """A prompt to complete and its options.

    prompt: The turns of a chat, or raw text, used without a chat template; special tokens in it are parsed.
    num_ctx: The maximum number of tokens of prompt and answer together (None: the model's context length).
    num_predict: The maximum number of tokens of the answer (None: limited by num_ctx only).
    prompt_field, options_prefix: The names of the prompt and of the options in error messages.
    """

    prompt: Prompt
    options: Generation
    num_ctx: int | None = None
    num_predict: int | None = None
    prompt_field: str = "prompt"
    options_prefix: str = ""


@dataclass(frozen=True)
class Completion:
    """A generated text with its token counts and timings.

    tokens: The number of generated tokens.
    prompt_seconds, seconds, load_seconds: Time for the prompt, for the generation, and to load the model.
    """

    text: str
    prompt_tokens: int
    tokens: int
    finish_reason: FinishReason
    prompt_seconds: float
    seconds: float
    load_seconds: float = 0.0


class ServedLlamaCpp(LlamaCpp):
    """The engine (a loaded model) for a GGUF file of the server's store, run by llama.cpp."""

    @classmethod
    def load(cls, spec: ModelSpec) -> Engine:
        """Load a file of the store. Raises CourseError if its SHA-256 differs from that in its name."""
        path: Path = spec.source.path  # type: ignore[union-attr]
        if not path.is_file() or f"sha256-{data.sha256(path)}.gguf" != path.name:
            what = f"the file {path.name} in the store is missing or altered"
            raise CourseError(what, "delete the model and pull it again")
        return super().load(spec)

    def ids(self, prompt: Prompt) -> list[int]:
        """Return the token ids of turns (by the chat template in the file), or of a raw text."""
        if isinstance(prompt, str):
            return self._tokenize([prompt], special=True)[0] if prompt else []
        return super().ids(prompt)

    def complete(
        self, request: CompletionRequest, stop: Event, on_token: OnToken | None = None
    ) -> Completion:
        """Complete a prompt.

        stop: Setting it ends the generation, without on_token by a CancelledError.
        on_token: Called in this thread with each piece of text.
        The finish reason is "stop" if the model ended the answer, and "length" after num_predict tokens or
        when the context is full. Raises ApiError for a prompt that leaves no room for an answer, and for a
        JSON schema that llama.cpp cannot enforce.
        """
        context = request.num_ctx or self.context
        if context > self.context:
            what = f"{context}, but the context length of this model is {self.context}"
            raise ApiError(f"{request.options_prefix}num_ctx", what, "use a smaller num_ctx")
        ids = self._prompt_ids(request)
        room = context - len(ids)
        if room < 1:
            what = f"{len(ids)} tokens with system message and template, but num_ctx is {context}"
            raise ApiError(request.prompt_field, what, "shorten it: this server does not truncate prompts")
        limit = min(room, request.num_predict or room)
        body = self._body(ids, request.options.replace(max_output_length=limit))
        started = time.perf_counter()
        text, event = self._run(body, stop, on_token)
        # A stopped stream ends without counts; they are not needed, because its client is gone.
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
        except CourseError as error:  # the chat template rejects the turns
            raise ApiError(request.prompt_field, error.what) from error

    def _body(self, ids: list[int], options: Generation) -> dict[str, Any]:
        if options.json_schema is not None:
            try:
                self.check_schema(options.json_schema)
            except Unsupported as error:
                raise ApiError("format", error.what) from error
        return self._request(ids, options)

    def _run(self, body: dict[str, Any], stop: Event, on_token: OnToken | None) -> tuple[str, dict[str, Any]]:
        """Return the text, and the last event from llama.cpp, which contains the token counts."""
        if on_token is None:
            response = self._completion(body, stop)
            return response["choices"][0]["text"], response
        pieces: list[str] = []
        last: dict[str, Any] = {}
        for last in self.server.stream("/v1/completions", body, stop):
            if piece := last["choices"][0]["text"]:
                pieces.append(piece)
                on_token(piece)
            if stop.is_set():
                break
        return "".join(pieces), last


register(IMPLEMENTATION, ServedLlamaCpp)
