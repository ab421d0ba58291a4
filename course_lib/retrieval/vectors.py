"""Check embedding vectors and scale them to length 1, so that their dot product is the cosine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from course_lib.errors import CourseError

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

Vectors = NDArray[Any]  # float32


def unit_vectors(vectors: Any, count: int, dimensions: int | None = None) -> Vectors:
    """Return the vectors scaled to length 1, (count, dimensions), float32. Vectors of zeros are unchanged.

    count: The expected number of vectors. dimensions: The expected length of each, if known.
    Raises CourseError for another shape, NaN and infinity.
    """
    try:
        rows = np.array(vectors, np.float32, ndmin=2)
    except (TypeError, ValueError) as error:
        raise CourseError(
            f"the embedder did not return an array of numbers: {error}",
            "return vectors of equal length, one for each text",
        ) from error
    if rows.shape[0] != count or rows.ndim != 2 or not rows.shape[1]:
        raise CourseError(
            f"expected one vector for each of {count} texts; got an array of shape {rows.shape}",
            "return vectors of equal length, one for each text",
        )
    if dimensions not in (None, rows.shape[1]):
        raise CourseError(
            f"expected vectors of {dimensions} dimensions, as in the index; got {rows.shape[1]}",
            "use the embedder that built the index, or rebuild the index",
        )
    if not np.isfinite(rows).all():
        invalid = int((~np.isfinite(rows)).any(axis=1).sum())
        raise CourseError(
            f"{invalid} of {count} vectors contain NaN or infinity", 'load(..., compute_dtype="float32")'
        )
    # einsum sums each row's squares in float64, without a float64 copy of the vectors
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))[:, None]
    return (rows / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def query_vectors(embeddings: Embeddings, queries: Sequence[str]) -> Any:
    """Return the embedder's output for the queries, in one call where it has `embed_queries`."""
    if embed_queries := getattr(embeddings, "embed_queries", None):
        return embed_queries(list(queries)) if queries else []
    return [embeddings.embed_query(query) for query in queries]
