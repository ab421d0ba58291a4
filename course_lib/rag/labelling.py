"""Classify a message with a language model that is shown the nearest labelled messages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from course_lib.data import Message
from course_lib.models.drivers.engine import Engine
from course_lib.rag.prompt import label_prompt


def nearest(embedder: Engine, queries: Sequence[str], texts: Sequence[str], k: int) -> list[list[int]]:
    """Indices of the `k` texts nearest to each query by cosine, the nearest last (next to the question)."""
    scores = embedder.embed(queries) @ embedder.embed(texts).T
    return [list(np.argsort(-row, kind="stable")[:k][::-1]) for row in scores]


def label_with(
    model: Engine, queries: Sequence[Message], labelled: Sequence[Message], found: Sequence[Sequence[int]]
) -> Sequence[str]:
    """The label that the model gives each query after reading the labelled messages whose indices `nearest` found."""
    examples = [[(labelled[i].message, labelled[i].intent) for i in row] for row in found]
    return model.generate(
        [label_prompt(q.message, e) for q, e in zip(queries, examples, strict=True)], max_output_length=16
    )
