"""The driver huggingface for language models: generate and score texts with transformers in this process."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from course_lib.errors import CourseError
from course_lib.models.drivers import adapters
from course_lib.models.drivers.context import check_fits, context_length
from course_lib.models.drivers.engine import Engine
from course_lib.models.drivers.pretrained import from_pretrained, load_tokenizer
from course_lib.models.drivers.reply import Prompt, Reply
from course_lib.models.drivers.streaming import before_stop, stream_tokens, without_stops
from course_lib.models.drivers.torch_engine import TorchEngine
from course_lib.models.files.resolution import resolve
from course_lib.models.schema.generation import Generation
from course_lib.models.schema.spec import ModelSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CONTINUATIONS_PER_PASS = 64  # a limit on memory: each continuation has its own copy of its prompt's KV cache


def template_ids(tokenizer: Any, turns: Sequence[Any], name: str) -> list[int]:
    """The token ids of a conversation, up to the beginning of the answer.

    Raises CourseError if the tokenizer has no chat template.
    """
    if not tokenizer.chat_template:
        what = f"{name} has no chat template: it is not a chat model"
        raise CourseError(what, 'load(..., task="text-generation")')
    messages = [dict(turn) for turn in turns]
    ids: list[int] = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    return ids


class HuggingFace(TorchEngine):
    """A causal language model with its tokenizer."""

    def __init__(self, spec: ModelSpec, model: Any, tokenizer: Any, context: int) -> None:
        super().__init__(spec, context)
        self.model, self.tokenizer = model, tokenizer
        # Cached, because hashing the weights of a large model takes as long as loading it.
        self._sha256_of_weights = functools.cache(adapters.sha256_of_weights)

    @classmethod
    def load(cls, spec: ModelSpec) -> Engine:
        """Load a language model. Raises CourseError for missing or damaged files."""
        from transformers import AutoModelForCausalLM

        folder = resolve(spec.source)
        model = from_pretrained(AutoModelForCausalLM, spec, folder)
        context = context_length(spec, int(model.config.max_position_embeddings))
        return cls(spec, model, load_tokenizer(folder), context)

    def with_adapters(self, spec: ModelSpec) -> Engine:
        """A second engine that shares the weights of this one and has the adapters of `spec`.

        Only the adapters are loaded. Both engines can be used at the same time, and closing one does not
        affect the other. Raises the errors of `load`.
        """
        resolved = adapters.resolve_adapters(spec.adapters, resolve(spec.source), self._sha256_of_weights)
        model = adapters.attach(adapters.share_weights(self.model), resolved, spec.combination_type)
        return HuggingFace(spec, model.eval(), self.tokenizer, self.context)

    def ids(self, prompt: Prompt) -> list[int]:
        """The token ids of a conversation up to the beginning of the answer, or of a text after <bos>."""
        if not isinstance(prompt, str):
            return template_ids(self.tokenizer, prompt, self.name)
        bos = self.tokenizer.bos_token_id
        return [*([] if bos is None else [bos]), *self.tokenizer.encode(prompt, add_special_tokens=False)]

    def count_tokens(self, prompt: Prompt) -> int:
        return len(self.ids(self._prompt(prompt)))

    def _generate(self, prompts: list[Prompt], options: Generation, batch_size: int) -> list[Reply]:
        ids = [self.ids(p) for p in prompts]
        check_fits(self.name, max(map(len, ids)) + options.max_output_length, self.context)
        replies: list[Any] = [None] * len(ids)
        order = sorted(
            range(len(ids)), key=lambda i: len(ids[i])
        )  # prompts of similar length need less padding
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            for i, answer in zip(batch, self._complete([ids[i] for i in batch], options), strict=True):
                replies[i] = self._reply(answer, len(ids[i]), options)
        return replies

    def _complete(self, ids: list[list[int]], options: Generation, **kwargs: Any) -> list[list[int]]:
        """Generate an answer to each row of token ids; return its token ids, including the end token."""
        import torch

        from course_lib.models.drivers.sampling import logits_processors

        pad = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.end_ids()[0]
        length, device = max(map(len, ids)), self.model.device
        rows = torch.tensor([[pad] * (length - len(row)) + row for row in ids], device=device)
        mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in ids], device=device)
        kwargs |= {
            "max_new_tokens": options.max_output_length,
            "do_sample": False,  # the logits processors add the random noise
            "temperature": None,
            "top_p": None,
            "top_k": None,
            "pad_token_id": pad,
            "logits_processor": logits_processors(options, len(ids)),
        }
        if options.min_output_length:
            kwargs["min_new_tokens"] = options.min_output_length
        if options.stop:
            kwargs |= {"stop_strings": list(options.stop), "tokenizer": self.tokenizer}
        with torch.inference_mode():
            output = self.model.generate(rows, attention_mask=mask, **kwargs)
        return [self._until_end(row) for row in output[:, length:].tolist()]

    def end_ids(self) -> list[int]:
        """The tokens that end an answer."""
        configured = self.model.generation_config.eos_token_id
        ends = configured if isinstance(configured, list) else [configured]
        return [end for end in [*ends, self.tokenizer.eos_token_id] if end is not None]

    def _until_end(self, row: list[int]) -> list[int]:
        """The token ids of a row up to and including its first end token."""
        ends = set(self.end_ids())
        end = next((i for i, token in enumerate(row) if token in ends), len(row))
        return row[: end + 1]

    def _reply(self, answer: list[int], prompt_tokens: int, options: Generation) -> Reply:
        decoded = self.tokenizer.decode(answer, skip_special_tokens=True)
        text = before_stop(decoded, options.stop)
        ended = text != decoded or (bool(answer) and answer[-1] in self.end_ids())
        text = text.strip() if self.spec.task == "chat-completion" else text
        return Reply(text, prompt_tokens, len(answer), "stop" if ended else "length")

    def _stream(self, prompt: Prompt, options: Generation) -> Iterator[str]:
        ids = self.ids(prompt)
        check_fits(self.name, len(ids) + options.max_output_length, self.context)
        pieces = stream_tokens(self.tokenizer, lambda **kwargs: self._complete([ids], options, **kwargs))
        return (piece for piece in without_stops(pieces, options.stop) if piece)

    def _score(self, prompts: list[Prompt], continuations: list[str]) -> NDArray[np.float64]:
        from course_lib.models.drivers.scoring import score

        ids = [self.ids(p) for p in prompts]
        tails = [self.tokenizer.encode(c, add_special_tokens=False) for c in continuations]
        check_fits(self.name, max(map(len, ids), default=0) + max(map(len, tails), default=0), self.context)
        return score(self.model, ids, tails, CONTINUATIONS_PER_PASS)

    def _log_probabilities(self, text: str) -> list[float]:
        from course_lib.models.drivers.scoring import log_probabilities

        ids = self.ids(text)
        check_fits(self.name, len(ids), self.context)
        return log_probabilities(self.model, ids)
