"""A dense index: search by meaning, with the FAISS library. Scores are the cosines of embedding vectors.

A "flat" index compares the query with every vector and is exact. An "hnsw" index (HNSW) searches a graph of
nearest neighbours (Malkov and Yashunin 2018, arXiv:1603.09320): it takes much longer to build and is much
faster for many documents, but can miss some hits.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from course_lib.errors import CourseError, check_text
from course_lib.retrieval.chunk import Chunk
from course_lib.retrieval.documents import (
    Hit,
    IndexedById,
    SearchResult,
    Span,
    best_first,
    check_choice,
    check_deletable,
    check_search,
    new_documents,
    string_error,
)
from course_lib.retrieval.faiss_index import FaissIndex, Rows
from course_lib.retrieval.fusion import MIN_COSINE
from course_lib.retrieval.splitters import Splitter, splitter_for
from course_lib.retrieval.vectors import Vectors, query_vectors, unit_vectors

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

KINDS = ("flat", "hnsw")
COSINE_TOLERANCE = 1e-6  # rounding can make equal cosines differ by this much
HNSW_DEFAULTS = {"m": 32, "ef_construction": 200, "ef_search": 64}


class Dense(IndexedById):
    """A dense index, which finds documents by the vectors of their texts.

    embeddings: Any LangChain Embeddings. kind: "flat" or "hnsw". split: Whether to split documents into
    chunks with a vector each, for texts that are longer than the embedder reads; a document has the score of
    its best chunk. True splits to the length that the embedder reads (`splitters.splitter_for`); a function
    from a text to its chunks replaces that. m: HNSW's number of links per vector. ef_construction, ef_search:
    How many candidates HNSW keeps while it builds and searches the graph. Do not search while another thread
    adds or deletes documents; `HybridRetriever` locks for you. Raises CourseError for an unknown kind, for
    HNSW settings with "flat", for settings out of range, and as `splitter_for` does.
    """

    min_score: float | None = MIN_COSINE

    def __init__(
        self,
        embeddings: Embeddings,
        *,
        kind: str = "flat",
        split: bool | Splitter = False,
        m: int = HNSW_DEFAULTS["m"],
        ef_construction: int = HNSW_DEFAULTS["ef_construction"],
        ef_search: int = HNSW_DEFAULTS["ef_search"],
    ) -> None:
        settings = {"m": m, "ef_construction": ef_construction, "ef_search": ef_search}
        check_choice("kind", kind, KINDS)
        if kind == "flat" and settings != HNSW_DEFAULTS:
            raise CourseError(f"a flat index has no HNSW settings; got {settings}", 'kind="hnsw"')
        if min(settings.values()) < 1 or m < 2:
            raise CourseError(
                f"HNSW needs m >= 2, ef_construction >= 1 and ef_search >= 1; got {settings}",
                f"use the defaults, {HNSW_DEFAULTS}",
            )
        if not (isinstance(split, bool) or callable(split)):
            raise CourseError(f"split={split!r:.60} is neither a bool nor a function", "split=True")
        self.embeddings, self.kind, self.split, self.hnsw_settings = embeddings, kind, split, settings
        self._splitter = splitter_for(embeddings) if split is True else split or None
        self._clear()

    def _clear(self) -> None:
        self._ids, self._rows = [], {}  # see IndexedById
        self._index = FaissIndex(self.kind, self.hnsw_settings)
        self._starts = np.zeros(1, np.int64)  # the vectors of row i are starts[i]:starts[i + 1], (rows + 1,)
        self._spans = np.zeros((0, 2), np.int64)  # start and end of each vector's chunk in its text

    def __repr__(self) -> str:
        settings = {"kind": self.kind} | (self.hnsw_settings if self.kind == "hnsw" else {})
        options = ", ".join(f"{name}={value!r}" for name, value in settings.items())
        chunks = f"{len(self._vector_rows(self._rows.values()))} chunks, " if self._splitter else ""
        embedder = type(self.embeddings).__name__
        return f"Dense({embedder}, {len(self)} documents, {chunks}{self.dimensions} dimensions, {options})"

    @property
    def dimensions(self) -> int | None:
        """The length of each vector, or None if no vectors have been added."""
        return self._index.dimensions

    @property
    def vectors(self) -> Vectors:
        """The vectors of the documents or chunks, (vectors, dimensions), in the order of `ids`."""
        return self._index.vectors(self._vector_rows(self._rows.values()))

    def _vector_rows(self, rows: Iterable[int]) -> Rows:
        """Return the rows in the FAISS index of the vectors of these documents' rows."""
        parts = (
            [np.arange(self._starts[row], self._starts[row + 1]) for row in rows] if self._splitter else []
        )
        return (
            np.concatenate([np.zeros(0, np.int64), *parts]) if self._splitter else np.array([*rows], np.int64)
        )

    # -- adding, deleting, saving

    def add(self, documents: Mapping[str, str] | Iterable[tuple[str, str]]) -> None:
        """Add documents, given as {id: text} or (id, text) pairs. If an error is raised, none is added.

        Raises CourseError for an id that exists already or occurs twice, for an item that is not a pair of
        strings, as `unit_vectors` does, and as the embedder and the splitter do.
        """
        self.prepare(documents)()

    def prepare(self, documents: Mapping[str, str] | Iterable[tuple[str, str]]) -> Callable[[], None]:
        """Embed documents, and return a function that adds them. Raises CourseError as `add` does."""
        new = dict(new_documents(documents, self._rows))
        if not new:
            return lambda: None
        texts, starts, spans = list(new.values()), np.arange(len(new) + 1), np.zeros((0, 2), np.int64)
        if self._splitter:
            chunks = [self._splitter(text) or [Chunk(text, 0, len(text), 0)] for text in texts]
            starts = np.cumsum([0, *map(len, chunks)])
            spans = np.array([(chunk.start, chunk.end) for part in chunks for chunk in part], np.int64)
            texts = [chunk.for_embedding for part in chunks for chunk in part]
        vectors = unit_vectors(self.embeddings.embed_documents(texts), len(texts), self.dimensions)
        return partial(self._append, list(new), vectors, starts, spans)

    def add_vectors(self, ids: Sequence[str], vectors: Any) -> None:
        """Add documents by their vectors, (documents, dimensions). Raises CourseError as `add` does."""
        if isinstance(ids, str):
            raise string_error("ids", ids)
        if self._splitter:
            raise CourseError("this index cuts texts into chunks, so it needs the texts", "add(documents)")
        if list(new_documents(((doc_id, "") for doc_id in ids), self._rows)):
            vectors = unit_vectors(vectors, len(ids), self.dimensions)
            self._append(ids, vectors, np.arange(len(ids) + 1), self._spans)

    def _append(self, ids: Sequence[str], vectors: Vectors, starts: Rows, spans: Rows) -> None:
        """Append documents with their vectors, (vectors, dimensions).

        starts: The vectors of document i are starts[i]:starts[i + 1], (documents + 1,). spans: Start and end
        of each vector's chunk in its text, (vectors, 2); empty without chunks.
        """
        list(new_documents(((doc_id, "") for doc_id in ids), self._rows))  # raises for an id added meanwhile
        self._index.add(vectors)
        self._starts = np.concatenate([self._starts, self._starts[-1] + starts[1:]])
        self._spans = np.concatenate([self._spans, spans])
        self._add_rows(ids)

    def delete(self, ids: Collection[str]) -> None:
        """Delete documents by id. Raises CourseError, and deletes none, if an id is not in the index.

        Searches skip deleted documents. The index is rebuilt when more than half of its vectors are deleted.
        """
        for name in check_deletable(ids, self._rows):
            del self._rows[name]
        if 2 * len(self._rows) < len(self._ids):
            self._compact()

    def _compact(self) -> None:
        """Rebuild the index without the deleted documents."""
        ids, vectors, rows = self.ids, self.vectors, list(self._rows.values())
        spans = self._spans[self._vector_rows(rows)] if self._splitter else self._spans
        starts = np.cumsum([0, *np.diff(self._starts)[rows]])
        self._clear()
        if ids:
            self._append(ids, vectors, starts, spans)

    def write(self, path: Path) -> dict[str, Rows]:
        """Write the vectors to a file, without deleted documents. Returns the `arrays` that `read` needs."""
        if len(self) < len(self._ids):
            self._compact()
        self._index.write(path)
        return {"chunk_starts": self._starts, "chunk_spans": self._spans.ravel()} if self._splitter else {}

    def read(self, path: Path, ids: Sequence[str], arrays: Mapping[str, Rows] = MappingProxyType({})) -> None:
        """Replace the contents by what `write` wrote and returned. ids: The ids of its documents, in order.

        Raises CourseError for another kind of index, or if sizes do not match.
        """
        self._clear()
        starts = arrays["chunk_starts"] if self._splitter else np.arange(len(ids) + 1)
        spans = arrays["chunk_spans"].reshape(-1, 2) if self._splitter else self._spans
        if starts.size != len(ids) + 1 or (np.diff(starts) < 1).any() or len(spans) not in (0, starts[-1]):
            raise CourseError(
                f"{len(ids)} documents, {starts.size - 1} of them with chunks, do not match",
                "rebuild the index and save it again",
            )
        self._index.read(path, int(starts[-1]))
        self._starts, self._spans = starts, spans
        self._add_rows(ids)

    # -- searching

    def search(self, query: str, k: int = 10, allowed: Collection[str] | None = None) -> list[Hit]:
        """Return the best k documents by cosine, best first, ties by id. A blank query has no hits.

        allowed: Only documents with these ids can be returned; None allows all. The query is compared with
        every allowed vector, even in an HNSW index, whose graph search could fail to reach them. Raises
        CourseError for k below 1, for a string as `allowed`, and as `unit_vectors` and `check_text` do.
        """
        return self.search_all([query], k, allowed)[0].hits

    def search_vector(self, vector: Any, k: int = 10, allowed: Collection[str] | None = None) -> list[Hit]:
        """Search with the vector of a query, (dimensions,). A vector of zeros has no hits."""
        check_search(k, allowed)
        return self._nearest(unit_vectors(vector, 1, self.dimensions), k, allowed)

    def search_all(
        self, queries: Sequence[str], k: int, allowed: Collection[str] | None = None
    ) -> list[SearchResult]:
        """Search for several queries, embedded in one batch. Raises CourseError as `search` does."""
        check_search(k, allowed)
        if isinstance(queries, str):
            raise string_error("queries", queries)
        for query in queries:
            check_text(query)
        results = [SearchResult([], lambda ids: [])] * len(queries)  # no hits, until one is found
        if nonblank := [i for i, query in enumerate(queries) if query.strip()] if self._rows else []:
            embedded = query_vectors(self.embeddings, [queries[i] for i in nonblank])
            vectors = unit_vectors(embedded, len(nonblank), self.dimensions)
            for i, vector in zip(nonblank, vectors, strict=True):
                row = vector[None]
                results[i] = SearchResult(
                    self._nearest(row, k, allowed),
                    partial(self._scores_of, row),
                    partial(self._chunks_of, row),
                )
        return results

    def _scores_of(self, vector: Vectors, ids: Collection[str]) -> list[Hit]:
        """Return the cosines of documents with a query vector, (1, dimensions), rounded as in a search."""
        return self._hits(vector, self._vector_rows(self._rows_of(ids))) if ids and vector.any() else []

    def _chunks_of(self, vector: Vectors, ids: Collection[str]) -> dict[str, Span]:
        """Return id -> span of the chunk with the highest cosine; empty for an index without chunks."""
        if not self._splitter or not ids or not vector.any():
            return {}
        best = self._best_vectors(vector, self._vector_rows(self._rows_of(ids)))
        return {self._ids[row]: tuple(self._spans[v].tolist()) for row, (_, v) in best.items()}

    def _nearest(self, vector: Vectors, k: int, allowed: Collection[str] | None) -> list[Hit]:
        """Return the best k hits of a query vector, (1, dimensions)."""
        count, mask, k = len(self._index), None, min(k, len(self))
        if allowed is not None or len(self) < len(self._ids):
            rows = self._rows_of(self._rows if allowed is None else allowed)
            mask = np.zeros(count, np.bool_)
            mask[self._vector_rows(rows)] = True
            count, k = int(mask.sum()), min(k, len(rows))
        if not count or not vector.any():
            return []
        # FAISS breaks ties arbitrarily: ask for more vectors until the last one is worse than the k-th
        # document.
        limit = k + 1
        while True:
            found = self._index.nearest(vector, limit, mask, exact=allowed is not None)
            hits = self._hits(vector, found)
            if limit >= count or found.size < limit:
                return hits[:k]
            if (
                len(hits) >= k
                and self._index.cosines(vector, found[-1:])[0] < hits[k - 1].score - COSINE_TOLERANCE
            ):
                return hits[:k]
            limit *= 2

    def _hits(self, vector: Vectors, found: Rows) -> list[Hit]:
        """Return the documents of the vectors in the rows `found`, best first, with their highest cosines."""
        best = self._best_vectors(vector, found)
        return best_first(Hit(self._ids[row], cosine) for row, (cosine, _) in best.items())

    def _best_vectors(self, vector: Vectors, found: Rows) -> dict[int, tuple[float, int]]:
        """Return document row -> (highest cosine of its vectors in `found` with the query, that vector)."""
        rows = (np.searchsorted(self._starts, found, side="right") - 1).tolist()
        scored = zip(rows, self._index.cosines(vector, found).tolist(), found.tolist(), strict=True)
        best: dict[int, tuple[float, int]] = {}
        for row, cosine, found_vector in scored:
            best[row] = max(best.get(row, (-2.0, 0)), (cosine, -found_vector))  # the first of equal chunks
        return {row: (cosine, -negative) for row, (cosine, negative) in best.items()}
