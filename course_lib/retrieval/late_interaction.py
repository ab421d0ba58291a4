"""Late interaction (ColBERT): a reranker that compares the token vectors of a query and of a passage.

An embedder represents a text by one vector. A cross-encoder reads the query and the passage together, so it
can compute nothing in advance. Late interaction is in between: each token has its own vector, the vectors of
passages are computed in advance, and only cosines and a sum (`maxsim`) are computed for each query.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from course_lib.errors import check_text
from course_lib.retrieval.documents import string_error

Vectors = NDArray[np.floating]  # (tokens, dimensions), each of length 1


class TokenEmbeddings(Protocol):
    """An embedder with a vector per token, such as `ModelManager.get_embedding_model("embed-tokens")`."""

    def embed_query_tokens(self, text: str) -> Vectors: ...
    def embed_document_tokens(self, texts: list[str]) -> list[Vectors]: ...


def maxsim(query: Vectors, passage: Vectors) -> float:
    """Sum, over the query's tokens, the highest cosine with any token of the passage.

    query: (query tokens, dimensions). passage: (passage tokens, dimensions). Both need at least one token.
    The source is Khattab and Zaharia 2020, arXiv:2004.12832.

    >>> maxsim(np.eye(2), np.array([[1.0, 0.0], [0.6, 0.8]]))
    1.8
    """
    return float((query @ passage.T).max(axis=1).sum())


class LateInteraction:
    """A reranker whose scores are `maxsim`. It caches the token vectors of passages.

    `add` embeds passages in advance; `rerank` embeds those that are not cached yet. Vectors are stored as
    float16: with 384 dimensions, a token takes 0.77 kB and a passage of 200 tokens 150 kB. Long texts are
    embedded completely, in overlapping windows. A text without tokens has the score 0.

    per_token: divide each score by the number of the query's tokens. The order of the texts stays the same,
    and the scores of a long and of a short query can be compared.
    """

    def __init__(self, embeddings: TokenEmbeddings, *, per_token: bool = False) -> None:
        self.embeddings, self.per_token = embeddings, per_token
        self._vectors: dict[str, NDArray[np.float16]] = {}  # text -> (tokens, dimensions)

    def __repr__(self) -> str:
        embedder = type(self.embeddings).__name__
        return f"LateInteraction({embedder}, {len(self)} passages, {self.held_bytes / 1e6:.1f} MB)"

    def __len__(self) -> int:
        return len(self._vectors)

    @property
    def held_bytes(self) -> int:
        """The size of the cached vectors in bytes."""
        return sum(vectors.nbytes for vectors in self._vectors.values())

    def add(self, texts: Iterable[str]) -> None:
        """Embed the texts that are not cached, in one batch.

        Raises CourseError for a single string, and as `check_text` does.
        """
        if isinstance(texts, str):
            raise string_error("texts", texts)
        texts = list(texts)
        for text in texts:
            check_text(text)
        if new := [text for text in dict.fromkeys(texts) if text not in self._vectors]:
            vectors = self.embeddings.embed_document_tokens(new)
            self._vectors |= {text: _compressed(v) for text, v in zip(new, vectors, strict=True)}

    def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        """Return `maxsim` of the query and each text, or with `per_token` its mean, in the order given."""
        check_text(query)
        self.add(texts)
        if not texts:
            return []
        query_vectors = np.asarray(self.embeddings.embed_query_tokens(query), np.float32)
        passages = [self._vectors[text] for text in texts]
        starts = np.cumsum([0, *map(len, passages[:-1])])
        tokens = np.concatenate(passages).astype(np.float32)
        # One thread: those of BLAS, numpy's matrix library, stay busy for 0.1 s and slow down the model.
        with _blas().limit(limits=1, user_api="blas"):
            cosines = query_vectors @ tokens.T  # (query tokens, tokens of all passages)
        highest = np.maximum.reduceat(cosines, starts, axis=1)  # (query tokens, passages)
        scores: list[float] = (highest.sum(axis=0) / (max(1, len(highest)) if self.per_token else 1)).tolist()
        return scores


@functools.cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def _compressed(vectors: Vectors) -> NDArray[np.float16]:
    """Convert token vectors to float16; a text without tokens gets one vector of zeros."""
    return np.asarray(vectors if len(vectors) else np.zeros((1, vectors.shape[1])), np.float16)
