"""Late interaction (ColBERT): score a passage by comparing its token vectors, computed in advance, with the
query's.

An embedder turns each text into one vector; a cross-encoder reads both texts together and can prepare
nothing. Late interaction is between them: each token keeps its own vector, and the two texts meet only in a
sum of the best cosines.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from course_lib.retrieval.documents import string_error

Vectors = NDArray[np.floating]  # (tokens, dimensions), each of length 1


class TokenEmbeddings(Protocol):
    """An embedder with a vector for each token, such as `ModelManager.get_embedding_model` returns."""

    def embed_query_tokens(self, text: str) -> Vectors: ...
    def embed_document_tokens(self, texts: list[str]) -> list[Vectors]: ...


def maxsim(query: Vectors, passage: Vectors) -> float:
    """For each token of the query the highest cosine with any token of the passage, summed.

    Khattab and Zaharia 2020, arXiv:2004.12832. query: (query tokens, dimensions); passage: (passage tokens,
    dimensions); both have at least one token.

    >>> maxsim(np.eye(2), np.array([[1.0, 0.0], [0.6, 0.8]]))
    1.8
    """
    return float((query @ passage.T).max(axis=1).sum())


class LateInteraction:
    """A reranker by MaxSim. Passages given to `add` cost one matrix product; others are embedded when they
    are first scored.

    Vectors are kept in 16 bits: with 384 dimensions a token takes 0.77 kB, and a passage of 200 tokens 150
    kB. Texts of any length are read, in overlapping windows. A text without a token has cosine 0 with every
    query.
    """

    def __init__(self, embeddings: TokenEmbeddings) -> None:
        self.embeddings = embeddings
        self._vectors: dict[str, NDArray[np.float16]] = {}  # text -> (tokens, dimensions)

    def __repr__(self) -> str:
        embedder = type(self.embeddings).__name__
        return f"LateInteraction({embedder}, {len(self)} passages, {self.held_bytes / 1e6:.1f} MB)"

    def __len__(self) -> int:
        return len(self._vectors)

    @property
    def held_bytes(self) -> int:
        """Bytes of the vectors that are kept."""
        return sum(vectors.nbytes for vectors in self._vectors.values())

    def add(self, texts: Iterable[str]) -> None:
        """Embed the tokens of texts that are new, all together. Raises CourseError for a single string."""
        if isinstance(texts, str):
            raise string_error("texts", texts)
        if new := [text for text in dict.fromkeys(texts) if text not in self._vectors]:
            vectors = self.embeddings.embed_document_tokens(new)
            self._vectors |= {text: _compressed(v) for text, v in zip(new, vectors, strict=True)}

    def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        """`maxsim` of each text, in the order given, all in one matrix product."""
        self.add(texts)
        if not texts:
            return []
        query_vectors = np.asarray(self.embeddings.embed_query_tokens(query), np.float32)
        passages = [self._vectors[text] for text in texts]
        starts = np.cumsum([0, *map(len, passages[:-1])])
        tokens = np.concatenate(passages).astype(np.float32)
        with _blas().limit(
            limits=1, user_api="blas"
        ):  # idle BLAS threads would keep the cores from the model for 0.1 s
            cosines = query_vectors @ tokens.T  # (query tokens, tokens of all passages)
        scores: list[float] = np.maximum.reduceat(cosines, starts, axis=1).sum(axis=0).tolist()
        return scores


@functools.cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def _compressed(vectors: Vectors) -> NDArray[np.float16]:
    """Token vectors in 16 bits; a vector of zeros for a text without a token."""
    return np.asarray(vectors if len(vectors) else np.zeros((1, vectors.shape[1])), np.float16)
