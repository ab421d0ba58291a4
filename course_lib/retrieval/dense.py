"""A dense index: search by meaning, with the FAISS library. Scores are the cosines of embedding vectors.

A "flat" index compares the query with every vector and is exact. An "hnsw" index searches a graph of nearest
neighbours (Malkov and Yashunin 2018, arXiv:1603.09320): it takes much longer to build and is much faster for
many documents, but can miss some hits.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from course_lib.errors import CourseError, check_encodable
from course_lib.retrieval.documents import (
    Hit,
    IndexedById,
    SearchResult,
    best_first,
    check_choice,
    check_deletable,
    check_search,
    new_documents,
    string_error,
)
from course_lib.retrieval.fusion import MIN_COSINE
from course_lib.retrieval.vectors import Vectors, query_vectors, unit_vectors

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

KINDS = ("flat", "hnsw")
COSINE_TOLERANCE = 1e-6  # rounding can make equal cosines differ by this much
HNSW_DEFAULTS = {"m": 32, "ef_construction": 200, "ef_search": 64}


@contextmanager
def single_threaded_faiss() -> Iterator[None]:
    """Run FAISS on one thread, for reproducible HNSW graphs and faster single queries on a busy machine."""
    import faiss

    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)


class Dense(IndexedById):
    """A dense index, which finds documents by the vectors of their texts.

    embeddings: Any LangChain Embeddings. kind: "flat" or "hnsw". m: HNSW's number of links per vector.
    ef_construction, ef_search: How many candidates HNSW keeps while it builds and searches the graph. Raises
    CourseError for an unknown kind, for HNSW settings with "flat", and for settings out of range.
    """

    min_score: float | None = MIN_COSINE

    def __init__(
        self,
        embeddings: Embeddings,
        *,
        kind: str = "flat",
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
        self.embeddings, self.kind, self.hnsw_settings = embeddings, kind, settings
        self._index: Any = None  # the FAISS index; None before the first vectors, whose length it needs
        self._ids: list[str] = []  # row -> id; includes deleted documents
        self._rows: dict[str, int] = {}  # id -> row; without deleted documents

    def __repr__(self) -> str:
        settings = {"kind": self.kind} | (self.hnsw_settings if self.kind == "hnsw" else {})
        options = ", ".join(f"{name}={value!r}" for name, value in settings.items())
        embedder = type(self.embeddings).__name__
        return f"Dense({embedder}, {len(self)} documents, {self.dimensions} dimensions, {options})"

    @property
    def dimensions(self) -> int | None:
        """The length of each vector, or None if no vectors have been added."""
        return None if self._index is None else int(self._index.d)

    @property
    def vectors(self) -> Vectors:
        """The vectors of the documents, (documents, dimensions), in the order of `ids`."""
        if self._index is None:
            return np.zeros((0, 0), np.float32)
        return self._index.reconstruct_batch(np.fromiter(self._rows.values(), np.int64, len(self)))

    # -- adding, deleting, saving

    def add(self, documents: Mapping[str, str] | Iterable[tuple[str, str]]) -> None:
        """Add documents, given as {id: text} or (id, text) pairs. If an error is raised, none is added.

        Raises CourseError for an id that exists already or occurs twice, for an item that is not a pair of
        strings, as `unit_vectors` does, and as the embedder does.
        """
        new = dict(new_documents(documents, self._rows))
        if new:
            self.add_vectors(list(new), self.embeddings.embed_documents(list(new.values())))

    def add_vectors(self, ids: Sequence[str], vectors: Any) -> None:
        """Add documents by their vectors, (documents, dimensions). Raises CourseError as `add` does."""
        if isinstance(ids, str):
            raise string_error("ids", ids)
        if not list(new_documents(((doc_id, "") for doc_id in ids), self._rows)):
            return
        self._append(ids, unit_vectors(vectors, len(ids), self.dimensions))

    def _append(self, ids: Sequence[str], vectors: Vectors) -> None:
        self._index = self._index or self._empty_index(vectors.shape[1])
        with single_threaded_faiss():
            self._index.add(vectors)
        self._rows |= {doc_id: row for row, doc_id in enumerate(ids, start=len(self._ids))}
        self._ids += ids

    def _empty_index(self, dimensions: int) -> Any:
        import faiss

        if self.kind == "flat":
            return faiss.IndexFlatIP(dimensions)
        index = faiss.IndexHNSWFlat(dimensions, self.hnsw_settings["m"], faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = self.hnsw_settings["ef_construction"]
        index.hnsw.efSearch = self.hnsw_settings["ef_search"]
        return index

    def delete(self, ids: Collection[str]) -> None:
        """Delete documents by id. Raises CourseError, and deletes none, if an id is not in the index.

        Searches skip deleted documents. The index is rebuilt when more than half of its vectors are deleted.
        """
        for doc_id in check_deletable(ids, self._rows):
            del self._rows[doc_id]
        if 2 * len(self._rows) < len(self._ids):
            self._compact()

    def _compact(self) -> None:
        """Rebuild the index without the deleted documents."""
        ids, vectors = self.ids, self.vectors
        self._index, self._ids, self._rows = None, [], {}
        if ids:
            self._append(ids, vectors)

    def write(self, path: Path) -> None:
        """Write the FAISS index to a file, without deleted documents. An empty index gets one dimension."""
        import faiss as untyped

        faiss: Any = untyped  # the stubs lack the writer
        if len(self) < len(self._ids):
            self._compact()
        with open(path, "wb") as file:  # FAISS' own file writer does not report a full disk
            faiss.write_index(self._index or self._empty_index(1), faiss.PyCallbackIOWriter(file.write))

    def read(self, path: Path, ids: Sequence[str]) -> None:
        """Replace the contents by a file that `write` wrote. ids: The ids of its documents, in order.

        Raises CourseError for another kind of index, or another number of vectors.
        """
        import faiss

        index = faiss.read_index(str(path))
        if type(index) is not type(self._empty_index(1)) or index.ntotal != len(ids):
            raise CourseError(
                f"{path.name} is a {type(index).__name__} of {index.ntotal} vectors; "
                f"expected kind={self.kind!r} with {len(ids)} vectors",
                "rebuild the index and save it again",
            )
        self._index = index if len(ids) else None
        self._ids, self._rows = list(ids), {doc_id: row for row, doc_id in enumerate(ids)}

    # -- searching

    def search(self, query: str, k: int = 10, allowed: Collection[str] | None = None) -> list[Hit]:
        """Return the best k documents by cosine, best first, ties by id. A blank query has no hits.

        allowed: Only documents with these ids can be returned; None allows all. The query is compared with
        every allowed vector, even in an HNSW index, whose graph search could fail to reach them. Raises
        CourseError for k below 1, for a string as `allowed`, and as `unit_vectors` and `check_encodable` do.
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
            check_encodable(query)
        results = [SearchResult([], lambda ids: [])] * len(queries)
        if nonblank := [i for i, query in enumerate(queries) if query.strip()] if self._rows else []:
            embedded = query_vectors(self.embeddings, [queries[i] for i in nonblank])
            vectors = unit_vectors(embedded, len(nonblank), self.dimensions)
            for i, vector in zip(nonblank, vectors, strict=True):
                row = vector[None]
                results[i] = SearchResult(self._nearest(row, k, allowed), partial(self._scores_of, row))
        return results

    def _scores_of(self, vector: Vectors, ids: Collection[str]) -> list[Hit]:
        """Return the cosines of documents with a query vector, (1, dimensions), rounded as in a search."""
        if not ids or not vector.any():
            return []
        return self._hits(vector, np.array([self._rows[doc_id] for doc_id in ids], np.int64))

    def _nearest(self, vector: Vectors, k: int, allowed: Collection[str] | None) -> list[Hit]:
        """Return the best k hits of a query vector, (1, dimensions)."""
        ids = self._rows.keys() if allowed is None else self._rows.keys() & set(allowed)
        if not ids or not vector.any():
            return []
        index = self._index if allowed is None or self.kind == "flat" else self._index.storage
        params = self._search_parameters(ids, index) if len(ids) < len(self._ids) else None
        k = min(k, len(ids))
        # FAISS breaks ties arbitrarily: ask for more hits until the last one of them is worse than the k-th
        limit = k + 1
        while True:
            with single_threaded_faiss():
                scores, rows = index.search(vector, min(limit, len(self._ids)), params=params)
            found_rows = np.ascontiguousarray(rows[0][rows[0] >= 0])
            tied = found_rows.size == limit and scores[0][limit - 1] >= scores[0][k - 1] - COSINE_TOLERANCE
            if limit >= len(ids) or not tied:
                return self._hits(vector, found_rows)[:k]
            limit *= 2

    def _hits(self, vector: Vectors, rows: NDArray[np.int64]) -> list[Hit]:
        """Return the documents in `rows` with their cosines with a query vector, (1, dimensions), best first.

        The cosines are computed again, one by one. A FAISS search computes several together, which can give
        two equal texts scores that differ by rounding.
        """
        import faiss as untyped

        faiss: Any = untyped  # the stubs lack these functions
        flat = self._index if self.kind == "flat" else faiss.downcast_index(self._index.storage)
        cosines = np.empty(rows.size, np.float32)
        flat.compute_distance_subset(
            1, faiss.swig_ptr(vector), rows.size, faiss.swig_ptr(cosines), faiss.swig_ptr(rows)
        )
        scored = zip(rows.tolist(), cosines.clip(-1, 1).tolist(), strict=True)  # rounding can exceed 1
        return best_first(Hit(self._ids[row], cosine) for row, cosine in scored)

    def _search_parameters(self, ids: Collection[str], index: Any) -> Any:
        """Return FAISS parameters that restrict a search to these documents."""
        import faiss as untyped

        faiss: Any = untyped  # the stubs lack numpy bitmaps and HNSW's parameters
        bits = np.zeros((len(self._ids) + 7) // 8 * 8, np.uint8)
        bits[[self._rows[doc_id] for doc_id in ids]] = 1
        selector = faiss.IDSelectorBitmap(np.packbits(bits, bitorder="little"))
        if isinstance(index, faiss.IndexHNSW):
            return faiss.SearchParametersHNSW(sel=selector, efSearch=self.hnsw_settings["ef_search"])
        return faiss.SearchParameters(sel=selector)
