"""Classify messages with a language model that is shown the most similar labelled messages (few-shot)."""

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
    model: Engine,
    queries: Sequence[Message],
    labelled: Sequence[Message],
    neighbours: Sequence[Sequence[int]],
) -> Sequence[str]:
    """The label that the model gives each query after reading its neighbours, which `nearest` returns."""
    examples = [[(labelled[i].message, labelled[i].intent) for i in row] for row in neighbours]
    prompts = [label_prompt(query.message, shots) for query, shots in zip(queries, examples, strict=True)]
    return model.generate(prompts, max_output_length=16)
