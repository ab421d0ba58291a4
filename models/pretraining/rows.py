"""Make training batches: rows of token ids, with a mask of the tokens that the model learns to predict.

A row holds several documents, drawn at random from the seed, the stage of the training, and the row's number.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
from bankworld.contexts import prose
from transformers import PreTrainedTokenizerFast

from pretraining import documents
from pretraining.tokenizer import ASSISTANT, BOS, END, USER

# Kind of document -> the length in tokens of the shortest rows in which it is used.
MIN_LENGTHS = {"qa3": 640, "qa5": 1024, "qa8": 1536}
LEARNED_SHARE = 0.1  # of the tokens outside answers: on average as if these counted a tenth in the loss


@dataclass(frozen=True)
class Stage:
    """A stage of the training. mixture: kind of document (see `Writer.document`) -> relative frequency."""

    name: str
    steps: int
    mixture: dict[str, float]
    shapes: dict[tuple[int, int], float]  # (row length, rows) -> probability


class Writer:
    """Turns documents into token ids. Its methods return ids, and for each token whether it is learned."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, seed: int) -> None:
        self.seed = seed
        self.encode = lambda text: tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
        self.bos, self.end, self.user, self.assistant = tokenizer.convert_tokens_to_ids(
            [BOS, END, USER, ASSISTANT]
        )
        self.size = len(tokenizer)
        self.special = len(tokenizer.all_special_ids)

    def chat(self, turns: list[documents.Turn], rng: random.Random) -> tuple[list[int], list[bool]]:
        """Return a conversation; answers are learned, and a small share of the other tokens."""
        ids, learn = [self.bos], [False]
        for user, answer in turns:
            prompt = [self.user, *self.encode(user), self.end, self.assistant]
            answered = [*self.encode(answer), self.end]
            ids += prompt + answered
            learn += [rng.random() < LEARNED_SHARE for _ in prompt] + [True] * len(answered)
        return ids, learn

    def prose(self, rng: random.Random) -> tuple[list[int], list[bool]]:
        """Return a handbook text, of which half of the tokens are learned."""
        ids = [self.bos, *self.encode(prose(rng)), self.end]
        return ids, [rng.random() < 0.5 for _ in ids]

    def repeat(self, rng: random.Random, length: int) -> tuple[list[int], list[bool]]:
        """Return random tokens twice; only the second half can be predicted, and is learned."""
        half = [rng.randrange(self.special, self.size) for _ in range(rng.randrange(8, length // 2))]
        return [self.bos, *half, *half], [False] * (len(half) + 1) + [True] * len(half)

    def recall(self, rng: random.Random, length: int) -> tuple[list[int], list[bool]]:
        """Return random key-value pairs, then the same in another order; the values there are learned."""
        width, n = rng.choice((1, 2, 3)), rng.randrange(4, length // 10)
        pairs = [[rng.randrange(self.special, self.size) for _ in range(1 + width)] for _ in range(n)]
        ids, learn = [self.bos, *(t for p in pairs for t in p)], [False] * (1 + n * (1 + width))
        for pair in rng.sample(pairs, n):
            ids += pair
            learn += [False] + [True] * width
        return ids, learn

    def document(self, name: str, rng: random.Random, length: int) -> tuple[list[int], list[bool]]:
        """Return a document of this kind.

        The kinds are prose, repeat, recall, copy (repeat a passage), label (labelling messages), talk (small
        talk), closed (a question without a passage), and qa1, qa3, qa5 and qa8 (question answering with about
        as many passages).
        """
        if name in ("repeat", "recall"):
            return getattr(self, name)(rng, length)
        if name == "prose":
            return self.prose(rng)
        if name.startswith("qa"):
            n = rng.randint(*{"qa1": (1, 1), "qa3": (2, 3), "qa5": (4, 5), "qa8": (6, 8)}[name])
            return self.chat(
                documents.question_answering(rng, n, rng.choice((6, 8, 10)), rng.choice((0.4, 0.8))), rng
            )
        make = {
            "copy": documents.repeat_text,
            "label": documents.labelling,
            "talk": documents.small_talk,
            "closed": documents.closed_book,
        }[name]
        return self.chat(make(rng), rng)

    def row(self, stage: Stage, index: tuple[int, int], length: int) -> tuple[list[int], list[bool]]:
        """Return documents in sequence until the row is full; the last one is cut off."""
        rng = random.Random(f"{self.seed}/{stage.name}/{index}")
        ids: list[int] = []
        learn: list[bool] = []
        mixture = {name: w for name, w in stage.mixture.items() if MIN_LENGTHS.get(name, 0) <= length}
        while len(ids) <= length:
            room = length - len(ids)
            fitting = {n: w for n, w in mixture.items() if MIN_LENGTHS.get(n, 0) <= room} or mixture
            name = rng.choices(list(fitting), list(fitting.values()))[0]
            more = self.document(name, rng, length)
            ids += more[0]
            learn += more[1]
        return ids[: length + 1], learn[: length + 1]

    def batch(self, stage: Stage, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Return a step's ids (int64) and learned tokens (bool), both of shape (rows, length + 1)."""
        shapes = list(stage.shapes)
        length, rows = random.Random(f"{self.seed}/{step}").choices(shapes, list(stage.shapes.values()))[0]
        pairs = [self.row(stage, (step, r), length) for r in range(rows)]
        return np.array([p[0] for p in pairs], dtype=np.int64), np.array([p[1] for p in pairs], dtype=bool)
