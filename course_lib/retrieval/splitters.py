"""Make the function that splits texts into chunks as long as an embedding model reads. Used by `dense`.

An engine is a loaded model.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from course_lib.errors import CourseError
from course_lib.retrieval.chunk import Chunk, split_text, token_spans

Splitter = Callable[[str], list[Chunk]]


def splitter_for(embeddings: Any) -> Splitter:
    """Return a function that splits a text into chunks as long as the embedder reads, which overlap by 1/8.

    embeddings: What `ModelManager.get_embedding_model` returned. The model is loaded. Raises CourseError for
    an embedder whose tokenizer and length are unknown here.
    """
    if not hasattr(embeddings, "engine"):
        raise CourseError(
            f"split=True needs an embedding model of the course, whose tokenizer and length are known; "
            f"got {type(embeddings).__name__}",
            "split=lambda text: split_text(text, token_spans(tokenizer), max_tokens=512)",
        )
    with embeddings.engine() as engine:
        spans = token_spans(engine.tokenizer)
        prefix = max((spans.count(text) for text in engine.prefixes.values()), default=0)
        max_tokens = engine.context - prefix
    return partial(split_text, tokenizer=spans, max_tokens=max_tokens, overlap=max_tokens // 8)
