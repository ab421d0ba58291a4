"""Late interaction: a question's tokens meet a passage's tokens, which were embedded long before (ColBERT).

A bi-encoder makes one vector of a text and so must say everything at once; a cross-encoder reads both texts together, and can
prepare nothing. Between them: every token keeps its own vector, and the two texts meet only in a sum of best cosines.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

Vectors = NDArray[np.floating]  # (tokens, dimensions), each of length 1


class TokenEmbeddings(Protocol):
    """`ModelManager.get_embedding_model`, or whatever else gives every token a vector."""

    def embed_query_tokens(self, text: str) -> Vectors: ...
    def embed_document_tokens(self, texts: list[str]) -> list[Vectors]: ...


def maxsim(query: Vectors, passage: Vectors) -> float:
    """For each token of the question the cosine of the passage's nearest token, summed.

    Khattab and Zaharia 2020, arXiv:2004.12832. query: (question's tokens, dimensions); passage: (passage's tokens, dimensions);
    at least one token of each.

    >>> maxsim(np.eye(2), np.array([[1.0, 0.0], [0.6, 0.8]]))
    1.8
    """
    return float((query @ passage.T).max(axis=1).sum())


class LateInteraction:
    """A reranker by MaxSim. Passages that were given to `add` cost one product of matrices; others are embedded when they come.

    Vectors are held in 16 bits: 384 numbers a token are 0.77 kB, so a passage of 200 tokens takes 150 kB. Texts of any length are
    read, in overlapping windows. A text without a token has cosine 0 with everything.
    """

    def __init__(self, embeddings: TokenEmbeddings) -> None:
        self.embeddings = embeddings
        self._known: dict[str, NDArray[np.float16]] = {}

    def __len__(self) -> int:
        return len(self._known)

    @property
    def held_bytes(self) -> int:
        """Bytes that the vectors take."""
        return sum(vectors.nbytes for vectors in self._known.values())

    def add(self, texts: Iterable[str]) -> None:
        """Embed the tokens of texts that are not known yet, together."""
        if new := [text for text in dict.fromkeys(texts) if text not in self._known]:
            vectors = self.embeddings.embed_document_tokens(new)
            self._known |= {text: _held(v) for text, v in zip(new, vectors, strict=True)}

    def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        """`maxsim` of each text, in the order given, all in one product."""
        self.add(texts)
        if not texts:
            return []
        asked = np.asarray(self.embeddings.embed_query_tokens(query), np.float32)
        held = [self._known[text] for text in texts]
        starts = np.cumsum([0, *map(len, held[:-1])])
        every = np.concatenate(held).astype(np.float32)
        with _blas().limit(
            limits=1, user_api="blas"
        ):  # else its idle threads keep the cores from the model for a tenth of a second
            cosines = asked @ every.T  # (question's tokens, all passages' tokens)
        scores: list[float] = np.maximum.reduceat(cosines, starts, axis=1).sum(axis=0).tolist()
        return scores


@functools.cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def _held(vectors: Vectors) -> NDArray[np.float16]:
    return np.asarray(vectors if len(vectors) else np.zeros((1, vectors.shape[1])), np.float16)
