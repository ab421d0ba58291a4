"""The driver huggingface for language models: generate and score texts with transformers in this process.

An engine is a loaded model. BOS is the token for the beginning of a text, a control token marks structure,
such as the end of a turn.
"""

from __future__ import annotations

import copy
import functools
import itertools
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from course_lib.errors import CourseError
from course_lib.models.drivers.adapter_merging import attach, share_weights
from course_lib.models.drivers.adapters import resolve_adapters, sha256_of_weights
from course_lib.models.drivers.arguments import as_prompt, as_text
from course_lib.models.drivers.chat_template import (
    ChatTemplate,
    check_chat,
    has_chat_template,
    token_ids,
    with_bos,
)
from course_lib.models.drivers.context import check_fits, context_length, default_context, trained_length
from course_lib.models.drivers.engine import Engine
from course_lib.models.drivers.pretrained import (
    from_pretrained,
    load_config,
    load_tokenizer,
    refuse_gguf,
    refuse_pictures,
)
from course_lib.models.drivers.recommended import GENERATION_FILE, recommended_options, special_tokens_only
from course_lib.models.drivers.reply import FinishReason, Prompt, Reply
from course_lib.models.drivers.streaming import (
    StopTexts,
    TokenDecoder,
    before_stop,
    stream_tokens,
    without_stops,
)
from course_lib.models.drivers.torch_engine import TorchEngine, batches
from course_lib.models.files.resolution import resolve
from course_lib.models.schema.generation import Generation
from course_lib.models.schema.spec import ModelSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from course_lib.models.drivers.scoring import Prefix


class HuggingFace(TorchEngine):
    """A causal language model (one that predicts the next token) with its tokenizer. `ids` are token ids."""

    def __init__(self, spec: ModelSpec, model: Any, tokenizer: Any, context: int, folder: Path) -> None:
        super().__init__(spec, context)
        self.model, self.tokenizer, self.folder = model, tokenizer, folder
        model.generation_config = special_tokens_only(model.generation_config)
        self.recommended = recommended_options(folder)
        if (folder / GENERATION_FILE).is_file():
            self.sidecar_files = {GENERATION_FILE: (folder / GENERATION_FILE).read_bytes()}
        # Cached, because hashing the weights of a large model takes as long as loading it.
        self._sha256_of_weights = functools.cache(sha256_of_weights)

    @classmethod
    def load(cls, spec: ModelSpec) -> Engine:
        """Load a language model. Raises CourseError for missing or damaged files."""
        from transformers import AutoModelForCausalLM

        folder = resolve(spec.source)
        refuse_gguf(folder)
        refuse_pictures(folder)
        if spec.task == "chat-completion":
            check_chat(spec.name, has_chat_template(folder))
        tokenizer = load_tokenizer(folder)
        trained = trained_length(spec.name, load_config(folder))
        context = context_length(spec, trained, default_context(spec, folder))  # refused before it is loaded
        model = from_pretrained(AutoModelForCausalLM, spec, folder)
        return cls(spec, model, tokenizer, context, folder)

    def with_adapters(self, spec: ModelSpec) -> Engine:
        """A second engine that shares the weights of this one and has the adapters of `spec`.

        Only the adapters are loaded. Both engines can be used at the same time, and closing one does not
        affect the other. Raises the errors of `load`.
        """
        resolved = resolve_adapters(spec.adapters, self.folder, self._sha256_of_weights)
        model = attach(share_weights(self.model), resolved, spec.combination_type)
        return HuggingFace(spec, model.eval(), self.tokenizer, self.context, self.folder)

    def ids(self, prompt: Prompt) -> list[int]:
        """The token ids of a conversation up to the beginning of the answer, or of a text."""
        prompt = as_prompt(prompt, "prompt")
        if isinstance(prompt, str):
            ids = self._tokenize([prompt])[0]
        else:
            ids = token_ids(self._chat_template.render(prompt), self._tokenize)
        return with_bos(ids, self._bos_ids)

    def answered_ids(self, prompt: Prompt, answer: str) -> tuple[list[int], list[int]]:
        """Return the token ids of a prompt, as `generate` reads it, and of its answer, for training.

        In a conversation the template adds the end of the answer. Raises CourseError for a template that
        writes the prompt in another way once it is answered.
        """
        prompt = self._prompt(prompt)
        if isinstance(prompt, str):
            return self.ids(prompt), self._tokenize([as_text(answer, "answer")])[0]
        before = self._chat_template.render(prompt)  # text, control token, text, ...
        turns = [*prompt, {"role": "assistant", "content": as_text(answer, "answer")}]
        whole, last = self._chat_template.render(turns, answered=True), len(before) - 1
        begins_alike = len(whole) > last and whole[:last] == before[:last]
        if not begins_alike or not whole[last].startswith(before[last]):
            raise CourseError(
                f"the chat template of {self.name} changes a prompt once it is answered",
                'train({"source": ..., "task": "text-generation"}, examples, folder)  # whole prompts',
            )
        rest = [whole[last].removeprefix(before[last]), *whole[last + 1 :]]
        return self.ids(prompt), token_ids(rest, self._tokenize)

    @functools.cached_property
    def _bos_ids(self) -> list[int]:
        """[BOS] if the tokenizer puts it before a text, or []."""
        added: list[int] = self.tokenizer.encode("")
        return [id_ for id_ in added[:1] if id_ == self.tokenizer.bos_token_id]

    @functools.cached_property
    def _chat_template(self) -> ChatTemplate:
        check_chat(self.name, bool(self.tokenizer.chat_template))
        special = [t.content for t in self.tokenizer.added_tokens_decoder.values() if t.special]
        template = self.tokenizer.get_chat_template()
        return ChatTemplate(template, self.name, self.tokenizer.special_tokens_map, special)

    def _tokenize(self, texts: Sequence[str], special: bool = True) -> list[list[int]]:
        """The token ids of each text. special: Whether "<s>" in a text becomes that token."""
        tokenizer = self.tokenizer if special else self._plain_tokenizer
        rows: list[list[int]] = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
        return rows

    @functools.cached_property
    def _plain_tokenizer(self) -> Any:
        """A tokenizer that makes no control tokens: a copy, because that is a setting of the tokenizer."""
        plain = copy.deepcopy(self.tokenizer)
        plain.split_special_tokens = True
        return plain

    def count_tokens(self, prompt: Prompt) -> int:
        return len(self.ids(self._prompt(prompt)))

    def _check_fits(self, tokens: int) -> None:
        check_fits(self.name, tokens, self.context, trained_length(self.name, self.model.config))

    def _generate(self, prompts: list[Prompt], options: Generation, batch_size: int | None) -> list[Reply]:
        ids = [self.ids(p) for p in prompts]
        lengths = list(map(len, ids))
        self._check_fits(max(lengths) + options.max_output_length)
        # Long prompts are read faster one by one, where nothing is padded: attention then skips what a
        # causal model does not see. Short ones are faster together (measured). If the caller chose a batch
        # size, the number of tokens is not limited: the limit is then more than all prompts together have.
        tokens = sum(lengths) * len(ids) if batch_size else self.batch_tokens
        replies: list[Any] = [None] * len(ids)
        for batch in batches(lengths, tokens, batch_size or self.default_batch_size):
            for i, answer in zip(batch, self._complete([ids[i] for i in batch], options), strict=True):
                replies[i] = self._reply(ids[i], answer, options)
        return replies

    def _complete(self, ids: list[list[int]], options: Generation, **kwargs: Any) -> list[list[int]]:
        """Generate an answer to each row of token ids; return its token ids, including the end token."""
        import torch

        from course_lib.models.drivers.sampling import logits_processors

        pad = self.tokenizer.pad_token_id
        if pad is None:
            pad = next(iter(self.end_ids()), 0)  # any token does: the mask hides it
        length, device = max(map(len, ids)), self.model.device
        rows = torch.tensor([[pad] * (length - len(row)) + row for row in ids], device=device)
        mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in ids], device=device)
        kwargs |= {
            "max_new_tokens": options.max_output_length,
            "do_sample": False,  # the logits processors add Gumbel noise: the largest sum is then a sample
            "temperature": None,
            "top_p": None,
            "top_k": None,
            "pad_token_id": pad,
            "logits_processor": logits_processors(options, len(ids)),
        }
        if options.min_output_length:
            kwargs["min_new_tokens"] = options.min_output_length
        lengths = [options.max_output_length] * len(ids)
        if options.stop:
            decoders = [TokenDecoder(self.tokenizer, row) for row in ids]
            stop_texts = StopTexts(decoders, self.end_ids(), options.stop)
            kwargs["stopping_criteria"] = [*kwargs.get("stopping_criteria", ()), stop_texts]
            lengths = stop_texts.lengths
        with torch.inference_mode():
            output = self.model.generate(rows, attention_mask=mask, **kwargs)
        answers = zip(output[:, length:].tolist(), lengths, strict=True)
        return [self._until_end(row[:n]) for row, n in answers]

    def end_ids(self) -> list[int]:
        """The tokens that end an answer."""
        configured = self.model.generation_config.eos_token_id
        ends = configured if isinstance(configured, list) else [configured]
        return [end for end in [*ends, self.tokenizer.eos_token_id] if end is not None]

    def _until_end(self, row: list[int]) -> list[int]:
        """The token ids of a row up to and including its first end token."""
        ends = set(self.end_ids())
        return row[: next((i for i, token in enumerate(row) if token in ends), len(row)) + 1]

    def _reply(self, prompt: list[int], answer: list[int], options: Generation) -> Reply:
        ended = bool(answer) and answer[-1] in self.end_ids()
        decoded = TokenDecoder(self.tokenizer, prompt).decode(answer[:-1] if ended else answer)
        text = before_stop(decoded, options.stop)
        finish_reason: FinishReason = "stop" if ended or text != decoded else "length"
        text = text.strip() if self.spec.task == "chat-completion" else text
        return Reply(text, len(prompt), len(answer), finish_reason)

    def _stream(self, prompt: Prompt, options: Generation) -> Generator[str, None, Reply]:
        ids = self.ids(prompt)
        self._check_fits(len(ids) + options.max_output_length)
        return self._pieces(ids, options)

    def _pieces(self, ids: list[int], options: Generation) -> Generator[str, None, Reply]:
        """Yield the pieces of the answer to a prompt of token ids, and return the whole answer."""
        answer: list[int] = []
        complete = functools.partial(self._complete, [ids], options)
        pieces = stream_tokens(TokenDecoder(self.tokenizer, ids), self.end_ids(), complete, answer)
        yield from filter(None, without_stops(pieces, options.stop))
        return self._reply(ids, answer, options)

    def _score(
        self, prompts: list[Prompt], continuations: list[list[str]], prefix: Any = None
    ) -> list[NDArray[np.float64]]:
        from course_lib.models.drivers.scoring import score

        ids = [self.ids(p) for p in prompts]
        tokens = {
            text: self.tokenizer.encode(text, add_special_tokens=False)
            for text in set(itertools.chain.from_iterable(continuations))
        }
        endings = [[tokens[text] for text in texts] for texts in continuations]
        longest = [len(p) + max(map(len, e), default=0) for p, e in zip(ids, endings, strict=True)]
        self._check_fits(max(longest, default=0))
        return score(self.model, ids, endings, prefix)

    def read_prefix(self, prompts: Sequence[Prompt]) -> Prefix:
        """Read the beginning that prompts have in common once, for later calls of `score_each`.

        It holds for this engine with the weights that it has now.
        """
        from course_lib.models.drivers.scoring import Prefix

        self._require("score")
        return Prefix.of(self.model, [self.ids(p) for p in self._prompts(prompts, "read_prefix([{}])")])

    def _log_probabilities(self, text: str) -> list[float]:
        from course_lib.models.drivers.scoring import log_probabilities

        ids = self.ids(text)
        self._check_fits(len(ids))
        return log_probabilities(self.model, ids)
