"""Classify messages by few-shot prompting, with the most similar labelled messages as the examples.

An engine is a loaded model.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from course_lib.data import Message
from course_lib.models.drivers.engine import Engine
from course_lib.rag.prompt import label_prompt


def nearest(embedder: Engine, queries: Sequence[str], texts: Sequence[str], k: int) -> list[list[int]]:
    """Return the indices of the `k` texts most similar to each query (cosine), the most similar one last."""
    scores = embedder.embed(queries, "query") @ embedder.embed(texts, "query").T  # both are messages
    return [np.argsort(-row, kind="stable")[:k][::-1].tolist() for row in scores]


def label_with(
    model: Engine,
    queries: Sequence[Message],
    labelled: Sequence[Message],
    neighbours: Sequence[Sequence[int]],
) -> Sequence[str]:
    """Return the model's answer for each query: usually a label, but a model may also write something else.

    neighbours: For each query, the indices in `labelled` of its examples, as `nearest` returns them.
    """
    examples = [[(labelled[i].message, labelled[i].intent) for i in row] for row in neighbours]
    prompts = [label_prompt(query.message, shots) for query, shots in zip(queries, examples, strict=True)]
    return model.generate(prompts, max_output_length=16)
