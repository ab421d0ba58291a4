"""Complete texts with llama.cpp for the model server: text, token counts, durations, and finish reason.

The store is the server's folder of models. GGUF is the file format of llama.cpp.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, NamedTuple

from course_lib import data
from course_lib.errors import CourseError
from course_lib.models import catalog
from course_lib.models.drivers import register
from course_lib.models.drivers.arguments import InputError
from course_lib.models.drivers.engine import Engine, Unsupported
from course_lib.models.drivers.json_answers import check_validity
from course_lib.models.drivers.llamacpp import LlamaCpp
from course_lib.models.drivers.reply import FinishReason, Prompt, Reply
from course_lib.models.drivers.streaming import INCOMPLETE
from course_lib.models.schema import Generation, ModelSpec
from course_lib.serve.errors import ApiError
from course_lib.serve.limits import MAX_TOKEN_CHARACTERS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

IMPLEMENTATION = "course-serve"
# Sampling options that `Generation` lacks, by Ollama's names -> the value with which each has no effect.
NEUTRAL = {
    "min_p": 0.0,
    "typical_p": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "mirostat": 0,
    "mirostat_tau": 5.0,
    "mirostat_eta": 0.1,
}
SAMPLERS = ["penalties", "top_k", "typ_p", "top_p", "min_p", "temperature"]  # in Ollama's order


@dataclass(frozen=True)
class CompletionRequest:
    """A prompt to complete and its options.

    prompt: The turns of a chat, or a raw text, which the model reads as it is; names of special tokens
    in it become these tokens. sampling: Further sampling options, by Ollama's names. logprobs: The number of
    alternatives to report for each token (None: report no probabilities). num_ctx: The maximum number of
    tokens of prompt and answer together (None: the model's context length). num_predict: The maximum number
    of tokens of the answer (None: limited by num_ctx only). prompt_field, schema_field: The names of the
    prompt and of the JSON schema in error messages.
    """

    prompt: Prompt
    options: Generation
    sampling: dict[str, Any] = field(default_factory=dict)
    logprobs: int | None = None
    num_ctx: int | None = None
    num_predict: int | None = None
    prompt_field: str = "prompt"
    schema_field: str = "format"


class Piece(NamedTuple):
    """Generated text, and for each of its tokens the log probability with alternatives, if requested."""

    text: str
    logprobs: list[dict[str, Any]] | None = None

    @classmethod
    def of(cls, choice: dict[str, Any], alternatives: int | None) -> Piece:
        """Read a choice in llama.cpp's response. alternatives: how many to report for each token."""
        if alternatives is None or choice["logprobs"] is None:
            return cls(choice["text"])
        tokens = choice["logprobs"]["content"]
        others = [[_probability(other) for other in t["top_logprobs"][:alternatives]] for t in tokens]
        pairs = zip(tokens, others, strict=True)
        return cls(choice["text"], [_probability(token) | {"top_logprobs": rest} for token, rest in pairs])


def _probability(token: dict[str, Any]) -> dict[str, Any]:
    return {name: token[name] for name in ("token", "logprob", "bytes")}


OnPiece = Callable[[Piece], object]


@dataclass(frozen=True)
class Completion:
    """A generated text with its token counts and timings.

    tokens: The number of generated tokens.
    prompt_seconds, seconds, load_seconds: Time for the prompt, for the generation, and to load the model.
    """

    piece: Piece
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
        """Load a file of the store. Raises CourseError if its SHA-256 differs from that in its name.

        For a model from a pip package, `resolve` checks it.
        """
        path: Path = spec.source.path  # type: ignore[union-attr]
        if catalog.pulled_entry(path):
            return super().load(spec)
        if not path.is_file() or f"sha256-{_sha256(path, *_stamp(path))}.gguf" != path.name:
            what = f"the file {path.name} in the store is missing or altered"
            raise CourseError(what, "delete the model and pull it again")
        return super().load(spec)

    def complete(
        self, request: CompletionRequest, stop: Event, on_piece: OnPiece | None = None
    ) -> Completion:
        """Complete a prompt.

        stop: Setting it ends the generation, with a CancelledError unless `on_piece` is given. on_piece:
        Called in this thread with each piece. The finish reason is "stop" if the model ended the answer, and
        "length" after num_predict tokens or when the context is full. Raises ApiError for a prompt that fills
        the context, and for a JSON schema that llama.cpp cannot enforce.
        """
        context = min(request.num_ctx or self.context, self.context)  # a larger num_ctx is cut, as in Ollama
        turns = request.prompt
        texts = [turns] if isinstance(turns, str) else [str(turn["content"]) for turn in turns]
        if (characters := sum(map(len, texts))) > context * MAX_TOKEN_CHARACTERS:
            what = f"{characters} characters, too many for the context: num_ctx is {context}"
            raise ApiError(request.prompt_field, what, "shorten it: this server does not truncate prompts")
        prompt: str | list[int] | None = self._text(request)
        room = context
        if prompt is None or context < self.context:
            prompt, room = self._counted(request, context)
        limit = min(room, request.num_predict or room)
        body = self._body(request, limit, stop) | {"prompt": prompt}
        further = {name: request.sampling.get(name, value) for name, value in NEUTRAL.items()}
        body |= further | {"samplers": SAMPLERS}
        if "repeat_last_n" in request.sampling:
            last = request.sampling["repeat_last_n"]
            body["repeat_last_n"] = self.context if last == -1 else last
        if request.logprobs is not None:
            body["n_probs"] = max(request.logprobs, 1)
        started = time.perf_counter()
        try:
            piece, event = self._run(body, stop, on_piece, request.logprobs)
        except CourseError:
            # If the prompt was too long, this raises an error with the numbers.
            self._counted(request, context)
            raise
        # A stopped stream ends without counts; they are not needed, because its client is gone.
        usage, timings = event.get("usage", {}), event.get("timings", {})
        completion = Completion(
            piece=piece,
            prompt_tokens=usage.get("prompt_tokens", 0),
            tokens=usage.get("completion_tokens", 0),
            finish_reason="stop" if event["choices"][0]["finish_reason"] == "stop" else "length",
            prompt_seconds=timings.get("prompt_ms", 0) / 1e3,
            seconds=timings.get("predicted_ms", 0) / 1e3,
        )
        reply = Reply(piece.text, completion.prompt_tokens, completion.tokens, completion.finish_reason)
        self.counters.add([reply], time.perf_counter() - started)
        return completion

    def text_ids(self, texts: list[str]) -> list[list[int]]:
        """Return the token ids of each text to embed, with the special tokens that the file prescribes."""
        before, after = self.server.added_ids
        return [[*before, *row, *after] for row in self._tokenize(texts)]

    @property
    def end_tokens(self) -> int:
        """The number of special tokens after a text to embed."""
        return len(self.server.added_ids[1])

    def embed_ids(self, rows: list[list[int]], *, unit_length: bool = True) -> NDArray[np.float32]:
        """A vector for each text, given as token ids: shape (texts, dimensions)."""
        import numpy as np

        body = {"content": rows, "embd_normalize": 2 if unit_length else -1}  # the Euclidean norm, or none
        found = self.server.request("/embeddings", body)
        return np.array([row["embedding"][0] for row in sorted(found, key=lambda row: row["index"])])

    def _text(self, request: CompletionRequest) -> str | None:
        """Return the prompt as a text that llama.cpp tokenizes to the same ids, which saves a call.

        Returns None if there is no such text: a turn contains a name such as <|im_end|>, which llama.cpp
        would read as the control token.
        """
        try:
            parts = self._parts(request.prompt)
        except CourseError as error:  # the chat template rejects the turns
            raise ApiError(request.prompt_field, error.what) from error
        if len(parts) > 1:
            return None
        text = self._composed(parts[0])
        # If the file says so, llama.cpp puts BOS (the token for "beginning") before a text, even twice.
        has_bos = bool(self.server.added_ids[0])
        return text.removeprefix(str(self.server.props["bos_token"])) if has_bos else text

    def _counted(self, request: CompletionRequest, context: int) -> tuple[list[int], int]:
        """Return the prompt's token ids, and how many tokens are left for the answer.

        Raises ApiError if none are left.
        """
        ids = self.ids(request.prompt)
        if len(ids) >= context:
            what = f"{len(ids)} tokens with system message and template, but num_ctx is {context}"
            raise ApiError(request.prompt_field, what, "shorten it: this server does not truncate prompts")
        return ids, context - len(ids)

    def _body(self, request: CompletionRequest, limit: int, stop: Event) -> dict[str, Any]:
        options = request.options.replace(max_output_length=limit)
        if options.json_schema is not None:
            try:
                self.check_schema(options.json_schema, stop)
            except (Unsupported, InputError) as error:
                raise ApiError(request.schema_field, error.what, error.fix) from error
        return self._request([], options)

    def _check_enforced(self, schema: dict[str, Any], stop: Event | None) -> None:
        check_validity(schema)  # in this thread, because it takes up to 0.2 seconds, and 0.5 the first time
        super()._check_enforced(schema, stop)

    def _run(
        self, body: dict[str, Any], stop: Event, on_piece: OnPiece | None, logprobs: int | None
    ) -> tuple[Piece, dict[str, Any]]:
        """Return the whole answer, and the last event from llama.cpp, which contains the token counts."""
        if on_piece is None:
            response = self._completion(body, stop)
            piece = Piece.of(response["choices"][0], logprobs)
            return piece._replace(text=piece.text.rstrip(INCOMPLETE)), response  # as in a stream
        texts: list[str] = []
        last: dict[str, Any] = {}
        held_back = ""  # an incomplete character: a later piece follows it, or the answer ends before it
        for last in self.server.stream("/v1/completions", body, stop):
            piece = Piece.of(last["choices"][0], logprobs)
            text = held_back + piece.text
            piece = piece._replace(text=text.rstrip(INCOMPLETE))
            held_back = text[len(piece.text) :]
            if piece.text or piece.logprobs:
                texts.append(piece.text)
                on_piece(piece)
            if stop.is_set():
                break
        return Piece("".join(texts)), last


def _stamp(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


@functools.lru_cache(maxsize=256)
def _sha256(path: Path, size: int, modified: int) -> str:
    """The SHA-256 of a file, computed again only if its size or time of modification has changed."""
    return data.sha256(path)


register(IMPLEMENTATION, ServedLlamaCpp)
