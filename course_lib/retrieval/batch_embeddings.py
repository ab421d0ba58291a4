"""Embed the documents of a large index batch by batch, in several processes or on several machines."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from course_lib.batch import map_batches, model_function
from course_lib.models.drivers.engine import Kind
from course_lib.models.manager.langchain import EmbeddingModel


class BatchEmbeddings(EmbeddingModel):
    """An embedding model that embeds documents with `course_lib.batch.map_batches`, and queries itself.

    `Dense(BatchEmbeddings(model, address="local"))` builds an index with two processes. model: What
    `ModelManager.get_embedding_model` returns. options: Keyword arguments of `map_batches`, such as
    `address`, `workers` and `output`.
    """

    def __init__(self, model: EmbeddingModel, **options: Any) -> None:
        super().__init__(model.manager, model.spec)
        self.options = options

    def _embed(self, texts: Sequence[str], kind: Kind) -> list[list[float]]:
        if kind == "query":
            return super()._embed(texts, kind)
        load = partial(model_function, self.spec, "embed", kind=kind)
        return map_batches(load, texts, settings=self.spec.key(), **self.options)
