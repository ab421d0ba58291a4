"""Tokenize training examples, put them in a reproducible random order, and build padded batches.

Used by `training`. An engine is a loaded model.
"""

from __future__ import annotations

import functools
import hashlib
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from course_lib.errors import CourseError
from course_lib.tuning.config import Example

if TYPE_CHECKING:
    from torch import Tensor

    from course_lib.models.drivers.huggingface import HuggingFace

BUCKET = 16  # batches per group that is sorted by length: little padding, and the order stays nearly random


class TokenizedExample(NamedTuple):
    """The token ids of a prompt, and of its answer including the end token."""

    prompt: list[int]
    answer: list[int]

    @property
    def length(self) -> int:
        """The number of tokens in prompt and answer together."""
        return len(self.prompt) + len(self.answer)


def tokenize(engine: HuggingFace, examples: Sequence[Example], max_length: int) -> list[TokenizedExample]:
    """Convert examples to the token ids that the model is trained on, with prompts as in `generate`.

    Raises CourseError for an empty list, an empty answer, an example longer than `max_length` tokens, a chat
    template that formats a prompt differently when an answer follows, and a model without an end token.
    """
    if not examples:
        raise CourseError(
            "there are no examples to learn from", 'train(base, [Example("fee?", "1")], folder)'
        )
    for i, example in enumerate(examples):
        if not example.answer.strip():
            raise CourseError(f"example {i} has no answer: {example.prompt!r:.80}", f"del examples[{i}]")
    ends = engine.end_ids()
    if not ends:
        message = f"{engine.name} has no token that ends a text, so it cannot learn where an answer ends"
        raise CourseError(message, 'train("haneul-4m", examples, folder)')
    pairs = (engine.answered_ids(example.prompt, example.answer) for example in examples)
    dataset = [TokenizedExample(prompt, _with_end(answer, ends)) for prompt, answer in pairs]
    limit = min(max_length, engine.context)
    if too_long := [i for i, example in enumerate(dataset) if example.length > limit]:
        number, longest = too_long[0], max(example.length for example in dataset)
        fits = longest <= engine.context
        raise CourseError(
            f"{len(too_long)} of {len(dataset)} examples are longer than {limit} tokens; number {number} has "
            f"{dataset[number].length}: {examples[number].prompt!r:.80}",
            f"train(..., max_length={longest})" if fits else "shorten them or leave them out",
        )
    return dataset


def _with_end(answer: list[int], ends: Sequence[int]) -> list[int]:
    """Cut the answer after its last end token (a template may add text after it), or append an end token."""
    end_indices = [i for i, token in enumerate(answer) if token in ends]
    return answer[: end_indices[-1] + 1] if end_indices else [*answer, ends[-1]]


def fingerprint(dataset: Sequence[TokenizedExample]) -> str:
    """Return a SHA-256 hash of the examples and their order."""
    digest = hashlib.sha256()
    for prompt, answer in dataset:
        digest.update(np.array([len(prompt), len(answer), *prompt, *answer], np.int64).tobytes())
    return digest.hexdigest()


class BatchOrder:
    """The batches of a training run: `order[step]` is the list of example indices of that step.

    Each epoch uses every example once, in batches of similar length. The order depends only on the seed and
    the step, so that a resumed run reads the same batches as an uninterrupted one.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self.lengths, self.batch_size, self.seed = lengths, batch_size, seed
        self._cached = functools.lru_cache(2)(self._batches)

    def __repr__(self) -> str:
        return f"BatchOrder({len(self.lengths):,} examples, batch_size={self.batch_size}, seed={self.seed})"

    def __getitem__(self, step: int) -> list[int]:
        epoch, i = divmod(step, -(-len(self.lengths) // self.batch_size))
        return self._cached(epoch)[i]

    def _batches(self, epoch: int) -> list[list[int]]:
        rng, size = random.Random(f"{self.seed}/{epoch}"), self.batch_size
        order = rng.sample(range(len(self.lengths)), len(self.lengths))
        buckets = [
            sorted(order[i : i + BUCKET * size], key=self.lengths.__getitem__)
            for i in range(0, len(order), BUCKET * size)
        ]
        batches = [bucket[i : i + size] for bucket in buckets for i in range(0, len(bucket), size)]
        rng.shuffle(batches)
        return batches


def collate(
    dataset: Sequence[TokenizedExample], device: Any, context: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return the token ids of a batch and a mask of the answer tokens, both of shape (examples, length).

    Padding is at the end: a token attends to earlier ones only, so no answer token sees it. The length is the
    `padded_length` of the longest example, limited to `context` if that is given.
    """
    import torch

    length = padded_length(max(example.length for example in dataset))
    length = length if context is None else min(length, context)
    ids = torch.zeros(len(dataset), length, dtype=torch.long)
    answer_mask = torch.zeros(len(dataset), length, dtype=torch.bool)
    for i, example in enumerate(dataset):
        ids[i, : example.length] = torch.tensor(example.prompt + example.answer)
        answer_mask[i, len(example.prompt) : example.length] = True
    return ids.to(device), answer_mask.to(device)


def padded_length(count: int) -> int:
    """Round `count` up (to a multiple of 8, or by at most 1/8) so that few different tensor shapes occur.

    For 16-bit tensors the CPU library oneDNN compiles and caches kernels for every new shape. With fewer
    shapes a step took 60% of the time and training half of the memory (measured).

    >>> [padded_length(n) for n in (1, 30, 65, 500)]
    [8, 32, 72, 512]
    """
    multiple = 1 << max(3, count.bit_length() - 4)
    return -(-count // multiple) * multiple
