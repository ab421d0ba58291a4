"""The one interface of all drivers. What an engine cannot do, it says, and names those that can."""

from __future__ import annotations

import math
import statistics
import threading
import time
from abc import ABC
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from course_lib.errors import CourseError
from course_lib.models.schema import Generation, ModelSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Turn = Mapping[str, str]  # {"role": "system" | "user" | "assistant", "content": text}
Prompt = str | Sequence[Turn]  # a text, or the turns of a conversation
Ability = Literal["generate", "stream", "json_schema", "score", "embed", "embed_tokens", "rerank", "classify"]
ROLES = ("system", "user", "assistant")


class Unsupported(CourseError):
    """A capability or an option that a driver does not have."""


class Reply(str):
    """A text that a model wrote, and what it took. `finish`: stop (it ended) or length (max_output_length was reached)."""

    prompt_tokens: int
    tokens: int
    finish: Literal["stop", "length"]

    def __new__(cls, text: str, prompt_tokens: int, tokens: int, finish: Literal["stop", "length"]) -> Reply:
        reply = super().__new__(cls, text)
        reply.prompt_tokens, reply.tokens, reply.finish = prompt_tokens, tokens, finish
        return reply


@dataclass
class Counters:
    """What an engine has done: seconds are of work, from call to return; first pieces are of streams, in seconds."""

    load_seconds: float = 0.0
    requests: int = 0
    prompt_tokens: int = 0
    tokens: int = 0
    seconds: float = 0.0
    first_piece: deque[float] = field(default_factory=lambda: deque(maxlen=100))
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, replies: Sequence[Reply], seconds: float) -> None:
        """Count the replies of one call."""
        with self._lock:
            self.requests += len(replies)
            self.prompt_tokens += sum(r.prompt_tokens for r in replies)
            self.tokens += sum(r.tokens for r in replies)
            self.seconds += seconds

    @property
    def tokens_per_second(self) -> float:
        """Tokens written per second of work, reading included; 0 before the first answer."""
        return self.tokens / self.seconds if self.seconds else 0.0

    @property
    def ttft(self) -> float | None:
        """Median seconds to the first piece of the last hundred streams; None before the first."""
        return statistics.median(self.first_piece) if self.first_piece else None


class Engine(ABC):
    """A loaded model. Subclasses set `driver`, `acts`, `can` and fill in the methods with a leading underscore.

    acts: the fields of ModelSpec, and of its `generation` with the prefix `generation.`, on which the driver acts.
    can: its abilities.
    """

    driver: ClassVar[str]
    acts: ClassVar[frozenset[str]]
    can: ClassVar[frozenset[Ability]]
    at_once: ClassVar[int] = 16  # prompts in work at once where the specification names no batch_size

    def __init__(self, spec: ModelSpec, context: int) -> None:
        self.spec, self.name, self.context = spec, spec.name, context
        self.counters = Counters()

    @classmethod
    def load(cls, spec: ModelSpec) -> Engine:
        """Load the model. Raises CourseError for what is missing or cannot be done."""
        raise NotImplementedError

    # -- what it can do ---------------------------------------------------------------------------------------------

    def generate(
        self,
        prompts: Sequence[Prompt],
        options: Generation | None = None,
        *,
        batch_size: int | None = None,
        **changes: Any,
    ) -> list[Reply]:
        """Answer every prompt, in order.

        A text is one turn of the user under the task chat-completion, and is continued as it stands under
        text-generation. `options`: the specification's own where none are given; `changes` replace single ones.
        Raises CourseError, with the numbers, where a prompt and its answer do not fit into the context; Unsupported for an
        option on which the driver does not act; ValueError for an option that cannot be.
        """
        self._need("generate")
        how = self._options(options, changes)
        if not len(prompts):
            return []
        begun = time.perf_counter()
        replies = self._generate(
            [self._prompt(p) for p in prompts], how, batch_size or self.spec.batch_size or self.at_once
        )
        self.counters.add(replies, time.perf_counter() - begun)
        return replies

    def stream(self, prompt: Prompt, options: Generation | None = None, **changes: Any) -> Iterator[str]:
        """The pieces of one answer as they are written; together they are what `generate` returns, but for outer spaces.

        Leaving the loop early stops the model. Errors are as in `generate`, and come with the call.
        """
        self._need("stream")
        begun = time.perf_counter()
        return self._timed(self._stream(self._prompt(prompt), self._options(options, changes)), begun)

    def _timed(self, pieces: Iterator[str], begun: float) -> Iterator[str]:
        first = True
        for piece in pieces:
            if first:
                self.counters.first_piece.append(time.perf_counter() - begun)
            first = False
            yield piece

    def score(self, prompts: Sequence[Prompt], continuations: Sequence[str]) -> NDArray[np.float64]:
        """Natural log-probability of each continuation after each prompt: shape (prompts, continuations), summed over tokens."""
        self._need("score")
        return self._score([self._prompt(p) for p in prompts], list(continuations))

    def log_probabilities(self, text: str) -> list[float]:
        """Natural log-probability of every token of `text`, each given all before it."""
        self._need("score")
        return self._log_probabilities(text)

    def perplexity(self, texts: Sequence[str]) -> float:
        """exp of the mean negative log-probability of a token over all texts (Jelinek et al. 1977).

        Only models with the same tokenizer can be compared by it. Raises ValueError for no text.
        """
        logs = [p for text in texts for p in self.log_probabilities(text)]
        if not logs:
            raise ValueError("no tokens to take the perplexity of")
        return math.exp(-sum(logs) / len(logs))

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of shape (texts, dimensions), each of length 1. A text that is too long raises CourseError."""
        self._need("embed")
        return self._embed(list(texts))

    def embed_tokens(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        """For each text a vector of length 1 for each of its tokens: shape (tokens, dimensions), none for an empty text.

        A text that is too long is read in overlapping windows, and tokens in two of them have two vectors.
        """
        self._need("embed_tokens")
        return self._embed_tokens(list(texts))

    def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        """A score for each text, the higher the better it answers the query.

        A text that is too long is read in overlapping windows, of which the best counts. A question that leaves less than half
        of the context to the text raises CourseError.
        """
        self._need("rerank")
        return self._rerank(query, list(texts))

    def classify(self, texts: Sequence[str]) -> list[dict[str, float]]:
        """For each text, label -> probability."""
        self._need("classify")
        return self._classify(list(texts))

    # -- what it takes ----------------------------------------------------------------------------------------------

    @property
    def parameters(self) -> int:
        """Number of weights, shared ones counted once; 0 where a server does not say."""
        return 0

    @property
    def weight_bytes(self) -> int:
        """Bytes that the weights take in this process; 0 where a server holds them."""
        return 0

    @property
    def device(self) -> str:
        """Where it runs: cpu, cuda, mps, or the address of a server."""
        return "cpu"

    def count_tokens(self, prompt: Prompt) -> int:
        """Number of tokens that a prompt takes."""
        raise Unsupported(f"{self.driver} cannot count tokens", "use the driver huggingface or llamacpp")

    def save(self, folder: Path | str) -> Path:
        """Write the model as a new folder that loads again to the same answers."""
        raise Unsupported(
            f"the driver {self.driver} does not save models", "load it with driver: huggingface"
        )

    def close(self) -> None:  # noqa: B027 - most have nothing to give back
        """Give back what the model holds. Calling it again does nothing."""

    # -- for drivers ------------------------------------------------------------------------------------------------

    def _generate(self, prompts: list[Prompt], how: Generation, batch_size: int) -> list[Reply]:
        raise NotImplementedError

    def _stream(self, prompt: Prompt, how: Generation) -> Iterator[str]:
        raise NotImplementedError

    def _score(self, prompts: list[Prompt], continuations: list[str]) -> NDArray[np.float64]:
        raise NotImplementedError

    def _log_probabilities(self, text: str) -> list[float]:
        raise NotImplementedError

    def _embed(self, texts: list[str]) -> NDArray[np.float32]:
        raise NotImplementedError

    def _embed_tokens(self, texts: list[str]) -> list[NDArray[np.float32]]:
        raise NotImplementedError

    def _rerank(self, query: str, texts: list[str]) -> list[float]:
        raise NotImplementedError

    def _classify(self, texts: list[str]) -> list[dict[str, float]]:
        raise NotImplementedError

    def _prompt(self, prompt: Prompt) -> Prompt:
        """The prompt as the task wants it: turns for chat-completion, a text for text-generation. Raises ValueError."""
        if isinstance(prompt, str):
            return prompt if self.spec.task == "text-generation" else ({"role": "user", "content": prompt},)
        if self.spec.task == "text-generation":
            raise ValueError(
                "task text-generation continues a text; for a conversation load the model for chat-completion"
            )
        for turn in prompt:
            if turn.get("role") not in ROLES or not isinstance(turn.get("content"), str):
                raise ValueError(
                    f"a turn is {{'role': one of {', '.join(ROLES)}, 'content': a text}}, not {turn!r}"[:300]
                )
        if not prompt:
            raise ValueError("a conversation of no turns")
        return prompt

    def _options(self, options: Generation | None, changes: Mapping[str, Any]) -> Generation:
        how = options if options is not None else self.spec.generation
        how = how.replace(**changes) if changes else how
        refuse_unused(type(self), {f"generation.{k}": v for k, v in changed(how).items()})
        if how.json_schema is not None:
            self._need("json_schema")
        return how

    def _need(self, ability: Ability) -> None:
        from course_lib.models.drivers import able, driver_class

        if ability not in driver_class(self.spec.driver, self.spec.implementation).can:
            others = ", ".join(able(ability)) or "none yet"
            raise Unsupported(
                f"the driver {self.driver} cannot {ability}", f"use a driver that can: {others}"
            )
        wanted = NEEDS.get(ability, ("text-generation", "chat-completion"))
        if self.spec.task not in wanted:
            raise Unsupported(
                f"{self.name} was loaded for {self.spec.task}, and cannot {ability}",
                f"load it with task={wanted[-1]!r}",
            )


NEEDS: dict[str, tuple[str, ...]] = {
    "embed": ("text-embedding",),
    "embed_tokens": ("text-embedding",),
    "rerank": ("rerank",),
    "classify": ("text-classification",),
}


def changed(part: Any) -> dict[str, Any]:
    """The fields of a pydantic model that were set to something other than their default."""
    defaults = {k: f.get_default(call_default_factory=True) for k, f in type(part).model_fields.items()}
    return {k: v for k in part.model_fields_set if (v := getattr(part, k)) != defaults[k]}


def refuse_unused(driver: type[Engine], fields: Mapping[str, Any]) -> None:
    """Raise Unsupported for the first field on which the driver does not act, naming drivers that do."""
    from course_lib.models.drivers import acting

    for name, value in fields.items():
        if name not in driver.acts:
            others = ", ".join(acting(name)) or "none"
            raise Unsupported(
                f"the driver {driver.driver} does not act on {name}={value!r}"[:300],
                f"leave it out, or use: {others}",
            )


def check_fits(name: str, tokens: int, context: int) -> None:
    """Raise CourseError, with the numbers, where a prompt and its answer are longer than the model reads."""
    if tokens > context:
        raise CourseError(
            f"{tokens} tokens with the answer, but {name} reads {context}",
            "give fewer or shorter passages, or a smaller max_output_length",
        )


def context_of(spec: ModelSpec, longest: int) -> int:
    """The context in force. Raises CourseError where more is asked for than the model was made to read."""
    if spec.context_length is not None and spec.context_length > longest:
        raise CourseError(
            f"context_length={spec.context_length}, but {spec.name} reads {longest}",
            "ask for less, or leave it out",
        )
    return spec.context_length or longest
