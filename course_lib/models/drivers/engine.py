"""`Engine`, the base class of loaded models: public methods check their input and call a driver's methods.

A driver is the software that runs a model, such as llama.cpp. A capability is one of the public methods. A
specification (`ModelSpec`) says which model to load, and how.
"""

from __future__ import annotations

import math
import time
from abc import ABC
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from course_lib.errors import CourseError
from course_lib.models.drivers.arguments import InputError, as_list, as_prompt, as_text, as_texts
from course_lib.models.drivers.capabilities import GENERATION_TASKS, TASKS, Capability, drivers_with
from course_lib.models.drivers.fields import Unsupported, non_default_fields, refuse_unsupported, with_driver
from course_lib.models.drivers.reply import Counters, Prompt, Reply, Stream
from course_lib.models.schema.generation import Generation
from course_lib.models.schema.spec import ModelSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Kind = Literal["query", "passage"]  # how a text to embed is used


class Engine(ABC):
    """A loaded model; a `with` block closes it at its end.

    Its methods take a list and return a list; a single string instead is an error.

    supported_fields: The fields of ModelSpec that have an effect; fields of its `generation` have the prefix
    `generation.`. default_batch_size: The maximum number of prompts computed together, unless the
    specification or the call has a batch_size.
    recommended: The options that the model's author recommends; no driver applies them by itself.
    prefixes: The texts that `embed` puts before queries and passages.
    """

    driver: ClassVar[str]
    supported_fields: ClassVar[frozenset[str]]
    capabilities: ClassVar[frozenset[Capability]]
    default_batch_size: ClassVar[int] = 16
    shown: ClassVar[tuple[str, ...]] = ("parameters", "weight_bytes", "device", "context")  # in its repr
    process_id: int | None = None  # the process that has the weights, if not this one
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
        Unsupported for an option that has no effect on the driver, and InputError for any other argument that
        is not as described.
        """
        self._require("generate")
        prompts = self._prompts(prompts, "generate([{}])[0]")
        merged = self._options(options, changes)
        if batch_size is not None and (not isinstance(batch_size, int) or batch_size < 1):
            raise InputError(f"batch_size={batch_size!r} is not a number from 1", "leave batch_size out")
        if not prompts:
            return []
        started = time.perf_counter()
        replies = self._generate(prompts, merged, batch_size or self.spec.batch_size)
        self.counters.add(replies, time.perf_counter() - started)
        return replies

    def stream(self, prompt: Prompt, options: Generation | None = None, **changes: Any) -> Stream:
        """Yield the answer to one prompt in pieces, as the model generates them.

        Joined, the pieces are the answer of `generate`, which strips spaces at its ends for chat-completion;
        after the last piece, the stream's `reply` is that answer. Leaving the loop early stops the model. The
        call raises the errors of `generate`.
        """
        self._require("stream")
        started = time.perf_counter()
        pieces = self._stream(self._prompt(prompt), self._options(options, changes))
        return Stream(pieces, self.counters, started)

    def score(self, prompts: Sequence[Prompt], continuations: Sequence[str]) -> NDArray[np.float64]:
        """The natural log-probability of each continuation after each prompt, summed over its tokens.

        The array has the shape (prompts, continuations).
        """
        self._require("score")
        import numpy as np

        prompts = self._prompts(prompts, "score([{}], continuations)")
        texts = as_texts(continuations, "continuations", "score(prompts, [{}])")
        return np.array(self._score(prompts, [texts] * len(prompts))).reshape(len(prompts), len(texts))

    def score_each(
        self, prompts: Sequence[Prompt], texts: Sequence[Sequence[str]], *, prefix: Any = None
    ) -> list[NDArray[np.float64]]:
        """As `score`, but with other continuations for each prompt: `texts[i]` continue `prompts[i]`.

        prefix: what `read_prefix` returned, so that prompts with that beginning are read from its end.
        """
        self._require("score")
        prompts = self._prompts(prompts, "score_each([{}], texts)")
        if len(texts) != len(prompts):
            raise InputError(f"{len(prompts)} prompts, {len(texts)} lists of texts", "score(prompts, labels)")
        rows = [as_texts(t, f"texts[{i}]", "[{}]") for i, t in enumerate(texts)]
        return self._score(prompts, rows, prefix)

    def log_probabilities(self, text: str) -> list[float]:
        """The natural log-probability of every token of `text`, given the tokens before it."""
        self._require("score")
        return self._log_probabilities(as_text(text, "text"))

    def perplexity(self, texts: Sequence[str]) -> float:
        """exp of the mean negative log-probability per token over all texts (Jelinek et al. 1977).

        It is comparable only between models with the same tokenizer; `bits_per_byte` is between all. Raises
        ValueError if there are no tokens.
        """
        texts = as_texts(texts, "texts", "perplexity([{}])")
        values = [value for text in texts for value in self.log_probabilities(text)]
        if not values:
            raise ValueError("perplexity needs at least one token")
        return math.exp(-sum(values) / len(values))

    def bits_per_byte(self, texts: Sequence[str]) -> float:
        """The mean negative log2-probability per byte of the texts in UTF-8 (Gao et al., arXiv:2101.00027).

        Lower is better, and models with different tokenizers are comparable. The first token of a text is
        not counted if the tokenizer puts no start token before it. Raises ValueError if there are no bytes.
        """
        texts = as_texts(texts, "texts", "bits_per_byte([{}])")
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
        return self._embed(self._prefixed(as_texts(texts, "texts", "embed([{}])[0]"), kind))

    def embed_tokens(self, texts: Sequence[str], kind: Kind | None = None) -> list[NDArray[np.float32]]:
        """A vector of length 1 for each token: for each text an array of shape (tokens, dimensions).

        kind: As for `embed`; the prefix's tokens have vectors, too. A text longer than the context is read in
        overlapping windows; a token in two windows has two vectors.
        """
        self._require("embed_tokens")
        return self._embed_tokens(self._prefixed(as_texts(texts, "texts", "embed_tokens([{}])[0]"), kind))

    def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        """A score for each text; a higher score means that the text is more relevant to the query.

        A text longer than the context is read in overlapping windows, and has the score of the best window.
        Raises CourseError for a query that leaves less than half of the context for the text.
        """
        self._require("rerank")
        return self._rerank(as_text(query, "query"), as_texts(texts, "texts", "rerank(query, [{}])[0]"))

    def classify(self, texts: Sequence[str]) -> list[dict[str, float]]:
        """For each text a dict of label -> probability."""
        self._require("classify")
        return self._classify(as_texts(texts, "texts", "classify([{}])[0]"))

    # -- sizes and files ----------------------------------------------------------------------------------

    @property
    def parameters(self) -> int:
        """The number of weights, shared ones counted once; 0 if a server does not report it."""
        return 0

    @property
    def weight_bytes(self) -> int:
        """The size of the weights in this process, in bytes; 0 if a server has them."""
        return 0

    @property
    def device(self) -> str:
        """Where the model runs: cpu, cuda (NVIDIA's GPUs), mps (Apple's), or the address of a server."""
        return "cpu"

    def count_tokens(self, prompt: Prompt) -> int:
        """The number of tokens of a prompt."""
        what = f"the driver {self.driver} cannot count tokens"
        raise Unsupported(what, with_driver(self.spec, "huggingface"))

    def save(self, folder: Path | str) -> Path:
        """Write the model to a new folder. Loaded from there, it gives the same answers."""
        what = f"the driver {self.driver} does not save models"
        raise Unsupported(what, with_driver(self.spec, "huggingface"))

    def close(self) -> None:  # noqa: B027 - not every driver has resources to free
        """Free the model's memory and connections. Closing it a second time does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # -- for subclasses -----------------------------------------------------------------------------------

    if TYPE_CHECKING:

        def _generate(
            self, prompts: list[Prompt], options: Generation, batch_size: int | None
        ) -> list[Reply]: ...
        def _stream(self, prompt: Prompt, options: Generation) -> Generator[str, None, Reply | None]: ...
        def _score(
            self, prompts: list[Prompt], continuations: list[list[str]], prefix: Any = None
        ) -> list[NDArray[np.float64]]: ...
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

    def _prompts(self, prompts: Sequence[Prompt], call: str) -> list[Prompt]:
        return [self._prompt(p, f"prompts[{i}]") for i, p in enumerate(as_list(prompts, "prompts", call))]

    def _prompt(self, prompt: Prompt, name: str = "prompt") -> Prompt:
        """The prompt as turns for chat-completion, as a text for text-generation. Raises InputError.

        name: The argument's name, for the error.
        """
        prompt = as_prompt(prompt, name)
        if self.spec.task != "text-generation":
            return ({"role": "user", "content": prompt},) if isinstance(prompt, str) else prompt
        if not isinstance(prompt, str):
            what = f"{name} is a conversation, and text-generation, the task of {self.name}, continues a text"
            raise InputError(what, 'load(..., task="chat-completion")')
        return prompt

    def _prefixed(self, texts: list[str], kind: Kind | None) -> list[str]:
        """The texts with the prefix of their kind. Raises InputError for an unknown kind."""
        if kind not in (None, *self.prefixes):
            raise InputError(f"kind={kind!r}; a text is a query or a passage", 'embed(texts, "passage")')
        return [self.prefixes[kind] + text for text in texts] if kind else texts

    def _options(self, options: Generation | None, changes: Mapping[str, Any]) -> Generation:
        """The options of one call. Raises Unsupported for an option that has no effect on the driver."""
        merged = options if options is not None else self.spec.generation
        if not isinstance(merged, Generation):
            raise InputError(
                f"options is {options!r:.80}, no Generation", "generate(prompts, temperature=0.5)"
            )
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
            # A model that does not generate has no task for that.
            language = 'load a language model, such as load("haneul-4m")'
            raise Unsupported(
                what, language if tasks is GENERATION_TASKS else f'load(..., task="{tasks[-1]}")'
            )
