"""`Engine`, the base class of loaded models: public methods check their input and call a driver's methods.

A driver is the software that runs a model, such as llama.cpp. A capability is one of the public methods.
"""

from __future__ import annotations

import math
import time
from abc import ABC
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from course_lib.errors import CourseError, check_text
from course_lib.models.drivers.capabilities import GENERATION_TASKS, TASKS, Capability, drivers_with
from course_lib.models.drivers.fields import Unsupported, non_default_fields, refuse_unsupported, with_driver
from course_lib.models.drivers.inputs import as_list, text_list
from course_lib.models.drivers.reply import Counters, Prompt, Reply
from course_lib.models.schema.generation import Generation
from course_lib.models.schema.spec import ModelSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ROLES = ("system", "user", "assistant")
Kind = Literal["query", "passage"]  # of a text to embed


class Engine(ABC):
    """A loaded model. Its methods take a list and return a list; a single string instead is an error.

    supported_fields: the fields of ModelSpec that have an effect; those of its `generation` have the prefix
    `generation.`. default_batch_size: prompts computed together, unless the specification has a batch_size.
    recommended: the model's author recommends these options; no driver applies them by itself.
    prefixes: the texts that `embed` puts before queries and passages.
    """

    driver: ClassVar[str]
    supported_fields: ClassVar[frozenset[str]]
    capabilities: ClassVar[frozenset[Capability]]
    default_batch_size: ClassVar[int] = 16
    shown: ClassVar[tuple[str, ...]] = ("parameters", "weight_bytes", "device", "context")  # in its repr
    process_id: int | None = None  # of the process with the weights, if it is not this one
    recommended: Mapping[str, float] = MappingProxyType({})

    def __init__(self, spec: ModelSpec, context: int) -> None:
        self.spec, self.name, self.context = spec, spec.name, context
        self.counters = Counters()
        self.prefixes: dict[Kind, str] = {
            "query": spec.query_prefix or "",
            "passage": spec.passage_prefix or "",
        }

    @classmethod
    def load(cls, spec: ModelSpec) -> Engine:
        """Load the model. Raises CourseError for missing or damaged files."""
        raise NotImplementedError

    def __repr__(self) -> str:
        settings: dict[str, Any] = {"driver": self.driver, "task": self.spec.task}
        if self._is_closed():
            settings["closed"] = True
        else:
            settings |= {name: getattr(self, name) for name in self.shown}
            settings |= {"recommended": dict(self.recommended)} if self.recommended else {}
        return f"{type(self).__name__}({self.name!r}, {', '.join(f'{k}={v!r}' for k, v in settings.items())})"

    # -- capabilities -------------------------------------------------------------------------------------

    def generate(
        self,
        prompts: Sequence[Prompt],
        options: Generation | None = None,
        *,
        batch_size: int | None = None,
        **changes: Any,
    ) -> list[Reply]:
        """Return the answer to each prompt.

        With the task chat-completion, a text is a user's message. With text-generation, the model continues
        the text without a chat template. `options` replaces the options of the specification, and `changes`
        replaces single options. Raises CourseError if a prompt and its answer do not fit into the context,
        Unsupported for an option that has no effect on the driver, and ValueError for an invalid option.
        """
        self._require("generate")
        prompts = as_list(prompts, "generate([{}])[0]")
        merged = self._options(options, changes)
        if not prompts:
            return []
        started = time.perf_counter()
        size = batch_size or self.spec.batch_size or self.default_batch_size
        replies = self._generate([self._prompt(p) for p in prompts], merged, size)
        self.counters.add(replies, time.perf_counter() - started)
        return replies

    def stream(self, prompt: Prompt, options: Generation | None = None, **changes: Any) -> Iterator[str]:
        """Yield the answer to one prompt in pieces, as the model generates them.

        Joined, the pieces are the answer of `generate`, which strips spaces at its ends for chat-completion.
        Leaving the loop early stops the model. The call raises the errors of `generate`.
        """
        self._require("stream")
        started = time.perf_counter()
        pieces = self._stream(self._prompt(prompt), self._options(options, changes))
        return self._time_first_piece(pieces, started)

    def _time_first_piece(self, pieces: Iterator[str], started: float) -> Iterator[str]:
        for i, piece in enumerate(pieces):
            if i == 0:
                self.counters.first_piece_seconds.append(time.perf_counter() - started)
            yield piece

    def score(self, prompts: Sequence[Prompt], continuations: Sequence[str]) -> NDArray[np.float64]:
        """The natural log-probability of each continuation after each prompt, summed over its tokens.

        The array has the shape (prompts, continuations).
        """
        self._require("score")
        prompts = as_list(prompts, "score([{}], continuations)")
        return self._score(
            [self._prompt(p) for p in prompts], text_list(continuations, "score(prompts, [{}])")
        )

    def log_probabilities(self, text: str) -> list[float]:
        """The natural log-probability of every token of `text`, given the tokens before it."""
        self._require("score")
        check_text(text)
        return self._log_probabilities(text)

    def perplexity(self, texts: Sequence[str]) -> float:
        """exp of the mean negative log-probability per token over all texts (Jelinek et al. 1977).

        It is comparable only between models with the same tokenizer; `bits_per_byte` is between all. Raises
        ValueError if there are no tokens.
        """
        texts = text_list(texts, "perplexity([{}])")
        values = [value for text in texts for value in self.log_probabilities(text)]
        if not values:
            raise ValueError("perplexity needs at least one token")
        return math.exp(-sum(values) / len(values))

    def bits_per_byte(self, texts: Sequence[str]) -> float:
        """The mean negative log2-probability per byte of the texts in UTF-8 (Gao et al., arXiv:2101.00027).

        Lower is better, and models with different tokenizers are comparable. The first token of a text is
        not counted if the tokenizer puts no start token before it. Raises ValueError if there are no bytes.
        """
        texts = text_list(texts, "bits_per_byte([{}])")
        size = sum(len(text.encode()) for text in texts)
        if not size:
            raise ValueError("bits_per_byte needs at least one byte")
        return -sum(value for text in texts for value in self.log_probabilities(text)) / size / math.log(2)

    def embed(self, texts: Sequence[str], kind: Kind | None = None) -> NDArray[np.float32]:
        """Vectors of length 1: shape (texts, dimensions). A text that is too long raises CourseError.

        kind: "query" or "passage" puts the prefix before each text with which the model was trained, see
        `prefixes`; None embeds the texts as they are.
        """
        self._require("embed")
        return self._embed(self._prefixed(text_list(texts, "embed([{}])[0]"), kind))

    def embed_tokens(self, texts: Sequence[str], kind: Kind | None = None) -> list[NDArray[np.float32]]:
        """A vector of length 1 for each token: for each text an array of shape (tokens, dimensions).

        kind: As for `embed`; the prefix's tokens have vectors, too. A text longer than the context is read in
        overlapping windows; a token in two windows has two vectors.
        """
        self._require("embed_tokens")
        return self._embed_tokens(self._prefixed(text_list(texts, "embed_tokens([{}])[0]"), kind))

    def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        """A score for each text; a higher score means that the text is more relevant to the query.

        A text longer than the context is read in overlapping windows, and has the score of the best window.
        Raises CourseError for a query that leaves less than half of the context for the text.
        """
        self._require("rerank")
        check_text(query)
        return self._rerank(query, text_list(texts, "rerank(query, [{}])[0]"))

    def classify(self, texts: Sequence[str]) -> list[dict[str, float]]:
        """For each text a dict of label -> probability."""
        self._require("classify")
        return self._classify(text_list(texts, "classify([{}])[0]"))

    # -- sizes and files ----------------------------------------------------------------------------------

    @property
    def parameters(self) -> int:
        """The number of weights, shared ones counted once; 0 if a server does not report it."""
        return 0

    @property
    def weight_bytes(self) -> int:
        """The size of the weights in this process, in bytes; 0 if a server holds them."""
        return 0

    @property
    def device(self) -> str:
        """Where the model runs: cpu, cuda, mps, or the address of a server."""
        return "cpu"

    def count_tokens(self, prompt: Prompt) -> int:
        """The number of tokens of a prompt."""
        raise Unsupported(f"the driver {self.driver} cannot count tokens", 'load(..., driver="huggingface")')

    def save(self, folder: Path | str) -> Path:
        """Write the model to a new folder. Loaded from there, it gives the same answers."""
        raise Unsupported(f"the driver {self.driver} does not save models", 'load(..., driver="huggingface")')

    def close(self) -> None:  # noqa: B027 - not every driver has resources to free
        """Free the model's memory and connections. Closing it a second time does nothing."""

    # -- for subclasses -----------------------------------------------------------------------------------

    if TYPE_CHECKING:

        def _generate(self, prompts: list[Prompt], options: Generation, batch_size: int) -> list[Reply]: ...
        def _stream(self, prompt: Prompt, options: Generation) -> Iterator[str]: ...
        def _score(self, prompts: list[Prompt], continuations: list[str]) -> NDArray[np.float64]: ...
        def _log_probabilities(self, text: str) -> list[float]: ...
        def _embed(self, texts: list[str]) -> NDArray[np.float32]: ...
        def _embed_tokens(self, texts: list[str]) -> list[NDArray[np.float32]]: ...
        def _rerank(self, query: str, texts: list[str]) -> list[float]: ...
        def _classify(self, texts: list[str]) -> list[dict[str, float]]: ...

    def _is_closed(self) -> bool:
        return False

    def _check_open(self) -> None:
        if self._is_closed():
            raise CourseError(f"{self.name} has been closed", "load it again")

    def _prompt(self, prompt: Prompt) -> Prompt:
        """The prompt as turns for chat-completion, as a text for text-generation. Raises ValueError."""
        continues_text = self.spec.task == "text-generation"
        if isinstance(prompt, str):
            check_text(prompt)
            return prompt if continues_text else ({"role": "user", "content": prompt},)
        if not (hasattr(prompt, "__iter__") and all(isinstance(turn, Mapping) for turn in prompt)):
            raise TypeError(f"a prompt is a text or a list of turns, not {prompt!r}"[:300])
        if continues_text:
            raise ValueError("text-generation continues a text; for turns, load(..., task='chat-completion')")
        for turn in prompt:
            if turn.get("role") not in ROLES or not isinstance(turn.get("content"), str):
                raise ValueError(
                    f"a turn is {{'role': one of {ROLES}, 'content': a text}}, not {turn!r}"[:300]
                )
            check_text(turn["content"])
        if not prompt:
            raise ValueError("a conversation needs at least one turn")
        return prompt

    def _prefixed(self, texts: list[str], kind: Kind | None) -> list[str]:
        """The texts with the prefix of their kind. Raises CourseError for an unknown kind."""
        if kind not in (None, *self.prefixes):
            raise CourseError(f"kind={kind!r}; a text is a query or a passage", 'embed(texts, "passage")')
        return [self.prefixes[kind] + text for text in texts] if kind else texts

    def _options(self, options: Generation | None, changes: Mapping[str, Any]) -> Generation:
        """The options of one call. Raises Unsupported for an option that has no effect on the driver."""
        merged = options if options is not None else self.spec.generation
        merged = merged.replace(**changes) if changes else merged
        refuse_unsupported(type(self), non_default_fields(merged, "generation."))
        if merged.json_schema is not None:
            self._require("json_schema")
        return merged

    def _require(self, capability: Capability) -> None:
        """Raise CourseError if the engine is closed, Unsupported if driver or task lacks a capability."""
        self._check_open()
        if capability not in self.capabilities:
            drivers = drivers_with(capability)
            what = f"the driver {self.driver} cannot {capability}; {', '.join(drivers)} can"
            raise Unsupported(what, with_driver(self.spec, drivers[0]))
        if self.spec.task not in (tasks := TASKS[capability]):
            what = f"{self.name} was loaded for {self.spec.task} and cannot {capability}"
            language = 'load a language model, such as load("haneul-4m")'  # an encoder has no task for that
            raise Unsupported(
                what, language if tasks is GENERATION_TASKS else f'load(..., task="{tasks[-1]}")'
            )
