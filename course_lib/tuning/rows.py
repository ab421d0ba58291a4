"""Examples as rows of tokens, of which the answers are learnt, and the order in which they are read."""

from __future__ import annotations

import functools
import hashlib
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from course_lib.errors import CourseError
from course_lib.tuning.recipe import Example

if TYPE_CHECKING:
    from torch import Tensor

    from course_lib.models.drivers.huggingface import HuggingFace

CHUNK = 16  # batches that are sorted by length together: little padding, and still a shuffled order


class Row(NamedTuple):
    """Token ids of a prompt, and of what is to be learnt: the answer with the mark that ends it."""

    prompt: list[int]
    answer: list[int]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


def encoded(engine: HuggingFace, examples: Sequence[Example], longest: int) -> list[Row]:
    """Examples in the form in which the model will read them. Raises CourseError for none, for an empty answer, for an example
    above `longest` tokens, for a chat template in which an answer changes what stands before it, and for a model without a mark
    that ends a text."""
    if not examples:
        raise CourseError(
            "there are no examples to learn from", "train(base, [Example(prompt, answer), ...], folder)"
        )
    if empty := [i for i, e in enumerate(examples) if not e.answer.strip()]:
        raise CourseError(
            f"example {empty[0]} has no answer: {examples[empty[0]].prompt!r:.80}", "leave it out"
        )
    texts = [_texts(engine, example) for example in examples]
    prompts, answers = (
        engine.tokenizer(list(some), add_special_tokens=False)["input_ids"]
        for some in zip(*texts, strict=True)
    )
    begin, ends = engine.ids("") if engine.spec.task == "text-generation" else [], engine.end_ids()
    if not ends:
        raise CourseError(
            f"{engine.name} has no token that ends a text, and would learn no end", "choose another model"
        )
    rows = [
        Row(begin + prompt, _ended(answer, ends)) for prompt, answer in zip(prompts, answers, strict=True)
    ]
    if long := [i for i, row in enumerate(rows) if len(row) > min(longest, engine.context)]:
        raise CourseError(
            f"{len(long)} of {len(rows)} examples are longer than {min(longest, engine.context)} tokens; number {long[0]} has "
            f"{len(rows[long[0]])}: {examples[long[0]].prompt!r:.80}",
            "shorten or leave them out, or raise longest",
        )
    return rows


def _texts(engine: HuggingFace, example: Example) -> tuple[str, str]:
    """The text of the prompt up to where the answer begins, and the rest."""
    tokenizer, prompt = engine.tokenizer, engine._prompt(example.prompt)
    if isinstance(prompt, str):
        return prompt, example.answer
    turns = [dict(turn) for turn in prompt]
    before: str = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    whole: str = tokenizer.apply_chat_template(
        [*turns, {"role": "assistant", "content": example.answer}], tokenize=False
    )
    if not whole.startswith(before):
        raise CourseError(
            f"the chat template of {engine.name} writes a prompt otherwise once it is answered",
            "load the model with task: text-generation, and write prompts out in full",
        )
    return before, whole[len(before) :]


def _ended(answer: list[int], ends: Sequence[int]) -> list[int]:
    """The answer up to its last mark of an end, behind which a template may write more, or with one behind it."""
    marks = [at for at, token in enumerate(answer) if token in ends]
    return answer[: marks[-1] + 1] if marks else [*answer, ends[-1]]


def fingerprint(rows: Sequence[Row]) -> str:
    """The same for the same rows in the same order, and for no others."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(
            np.array([len(row.prompt), len(row.answer), *row.prompt, *row.answer], np.int64).tobytes()
        )
    return digest.hexdigest()


class Order:
    """Which rows a step reads: every row once in an epoch, like lengths together. It depends on the seed and the step alone."""

    def __init__(self, lengths: Sequence[int], size: int, seed: int) -> None:
        self.lengths, self.size, self.seed = lengths, size, seed
        self.batches = functools.lru_cache(2)(self._batches)

    def __getitem__(self, step: int) -> list[int]:
        epoch, at = divmod(step, -(-len(self.lengths) // self.size))
        return self.batches(epoch)[at]

    def _batches(self, epoch: int) -> list[list[int]]:
        rng, size = random.Random(f"{self.seed}/{epoch}"), self.size
        order = rng.sample(range(len(self.lengths)), len(self.lengths))
        chunks = [
            sorted(order[i : i + CHUNK * size], key=self.lengths.__getitem__)
            for i in range(0, len(order), CHUNK * size)
        ]
        batches = [chunk[i : i + size] for chunk in chunks for i in range(0, len(chunk), size)]
        rng.shuffle(batches)
        return batches


def batch(rows: Sequence[Row], device: Any, most: int | None = None) -> tuple[Tensor, Tensor]:
    """ids (rows, length), padded behind, where a causal model does not look; and for each token whether it is learnt.

    The length is the longest row's, made to recur: see `recurring`. most: tokens that the model can read, where it has a limit.
    """
    import torch

    longest = max(map(len, rows))
    length = recurring(longest) if most is None else min(recurring(longest), most)
    ids = [row.prompt + row.answer + [0] * (length - len(row)) for row in rows]
    learn = [
        [False] * len(row.prompt) + [True] * len(row.answer) + [False] * (length - len(row)) for row in rows
    ]
    return torch.tensor(ids, device=device), torch.tensor(learn, device=device)


def recurring(count: int) -> int:
    """A count that is at most an eighth larger, or a multiple of 8: shapes of matrices that come again and again.

    A CPU's library (oneDNN) prepares its kernels for each shape in 16 bits anew and keeps them: with shapes that recur, a step
    took three fifths of the time and training half of the memory (measured).

    >>> [recurring(n) for n in (1, 30, 65, 500)]
    [8, 32, 72, 512]
    """
    part = 1 << max(3, count.bit_length() - 4)
    return -(-count // part) * part
