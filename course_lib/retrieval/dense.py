"""Search by meaning: each text becomes a vector of length 1, and FAISS finds the vectors with the highest
cosine.

Scores are cosines, from -1 to 1. "flat" compares the query with every vector and is exact. "hnsw" walks a
graph of nearest neighbours (Malkov and Yashunin 2018, arXiv:1603.09320): it takes far longer to build, is far
faster for many documents, and may miss some.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from course_lib.errors import CourseError
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
ROUNDING = 1e-6  # equal cosines may differ by this much
HNSW_DEFAULTS = {"m": 32, "ef_construction": 200, "ef_search": 64}


@contextmanager
def one_thread() -> Iterator[None]:
    """Run FAISS on one thread: faster for one query on a busy machine, and HNSW becomes reproducible."""
    import faiss

    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)


class Dense(IndexedById):
    """A dense index: documents by the vectors of their texts.

    embeddings: any LangChain Embeddings. kind: "flat" or "hnsw". m, ef_construction, ef_search: HNSW's links
    of each vector and the widths of its search while building and while searching. Raises CourseError for an
    unknown kind, for HNSW's settings with "flat", and for settings out of range.
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
            raise CourseError(f"a flat index has no settings of HNSW; got {settings}", 'kind="hnsw"')
        if min(settings.values()) < 1 or m < 2:
            raise CourseError(
                f"HNSW needs m of at least 2, and widths of at least 1; got {settings}",
                f"leave them at {HNSW_DEFAULTS}",
            )
        self.embeddings, self.kind, self.hnsw_settings = embeddings, kind, settings
        self._index: Any = None  # FAISS index, created with the first vectors, which give its dimensions
        self._ids: list[str] = []  # row -> id, deleted documents included
        self._rows: dict[str, int] = {}

    def __repr__(self) -> str:
        settings = {"kind": self.kind} | (self.hnsw_settings if self.kind == "hnsw" else {})
        options = ", ".join(f"{name}={value!r}" for name, value in settings.items())
        embedder = type(self.embeddings).__name__
        return f"Dense({embedder}, {len(self)} documents, {self.dimensions} dimensions, {options})"

    @property
    def dimensions(self) -> int | None:
        """Length of each vector; None before the first."""
        return None if self._index is None else int(self._index.d)

    @property
    def vectors(self) -> Vectors:
        """The vectors of the documents, (documents, dimensions), in the order of `ids`."""
        if self._index is None:
            return np.zeros((0, 0), np.float32)
        return self._index.reconstruct_batch(np.fromiter(self._rows.values(), np.int64, len(self)))

    # -- adding, deleting, files

    def add(self, documents: Mapping[str, str] | Iterable[tuple[str, str]]) -> None:
        """Add documents, id and text: all of them, or none if one is refused or the embedder fails.

        Raises CourseError for an id that exists already or occurs twice, for an item that is not a pair of
        strings, as `unit_vectors` does, and as the embedder does.
        """
        new = dict(new_documents(documents, self._rows))
        if new:
            self.add_vectors(list(new), self.embeddings.embed_documents(list(new.values())))

    def add_vectors(self, ids: Sequence[str], vectors: Any) -> None:
        """Add documents with known vectors, (documents, dimensions). Raises CourseError as `add` does."""
        if isinstance(ids, str):
            raise string_error("ids", ids)
        if not list(new_documents(((doc_id, "") for doc_id in ids), self._rows)):
            return
        self._append(ids, unit_vectors(vectors, len(ids), self.dimensions))

    def _append(self, ids: Sequence[str], vectors: Vectors) -> None:
        self._index = self._index or self._empty_index(vectors.shape[1])
        with one_thread():
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
        """Delete documents by id: all of them, or none if one is not in the index. Raises CourseError then.

        Searches skip deleted documents until they are half of the index; then the index is rebuilt without
        them.
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
        """Write the FAISS index to a file, without deleted documents; an empty one with one dimension."""
        import faiss as untyped

        faiss: Any = untyped  # the stubs lack the writer
        if len(self) < len(self._ids):
            self._compact()
        with open(path, "wb") as file:  # FAISS' own file writer does not report a full disk
            faiss.write_index(self._index or self._empty_index(1), faiss.PyCallbackIOWriter(file.write))

    def read(self, path: Path, ids: Sequence[str]) -> None:
        """Read a file of `write`. ids: of its documents. Raises CourseError for another kind or number."""
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
        """The best k documents by cosine, best first, ties by id. A blank query has no hits.

        allowed: ids to choose from. They are compared one by one, exactly, with HNSW too, whose walk could
        get lost among the others. Raises CourseError for k below 1, for a string as `allowed`, and as
        `unit_vectors` does.
        """
        return self.search_all([query], k, allowed)[0].hits

    def search_vector(self, vector: Any, k: int = 10, allowed: Collection[str] | None = None) -> list[Hit]:
        """Hits as of `search`, for the vector of a query, (dimensions,). A vector of zeros has no hits."""
        check_search(k, allowed)
        return self._nearest(unit_vectors(vector, 1, self.dimensions), k, allowed)

    def search_all(
        self, queries: Sequence[str], k: int, allowed: Collection[str] | None = None
    ) -> list[SearchResult]:
        """The results of many queries, embedded together. Raises CourseError as `search` does."""
        check_search(k, allowed)
        if isinstance(queries, str):
            raise string_error("queries", queries)
        results = [SearchResult([], lambda ids: [])] * len(queries)
        if asked := [i for i, query in enumerate(queries) if query.strip()] if self._rows else []:
            embedded = query_vectors(self.embeddings, [queries[i] for i in asked])
            for i, vector in zip(asked, unit_vectors(embedded, len(asked), self.dimensions), strict=True):
                row = vector[None]
                results[i] = SearchResult(self._nearest(row, k, allowed), partial(self._scores_of, row))
        return results

    def _scores_of(self, vector: Vectors, ids: Collection[str]) -> list[Hit]:
        """The cosines of these documents, with the same digits as in a search."""
        if not ids or not vector.any():
            return []
        return self._hits(vector, np.array([self._rows[doc_id] for doc_id in ids], np.int64))

    def _nearest(self, vector: Vectors, k: int, allowed: Collection[str] | None) -> list[Hit]:
        """The best k hits of a query vector, (1, dimensions)."""
        chosen = self._rows.keys() if allowed is None else self._rows.keys() & set(allowed)
        if not chosen or not vector.any():
            return []
        index = self._index if allowed is None or self.kind == "flat" else self._index.storage
        options = self._search_options(chosen, index) if len(chosen) < len(self._ids) else None
        k = min(k, len(chosen))
        # FAISS breaks ties as it likes: ask for more until the last hit wanted is better than the next one
        limit = k + 1
        while True:
            with one_thread():
                scores, rows = index.search(vector, min(limit, len(self._ids)), params=options)
            found = np.ascontiguousarray(rows[0][rows[0] >= 0])
            tied = found.size == limit and scores[0][limit - 1] >= scores[0][k - 1] - ROUNDING
            if limit >= len(chosen) or not tied:
                return self._hits(vector, found)[:k]
            limit *= 2

    def _hits(self, vector: Vectors, rows: NDArray[np.int64]) -> list[Hit]:
        """Hits of a query vector, (1, dimensions), with the documents of some rows, best first.

        Cosines are computed one by one: a FAISS search computes several at once, and then the scores of two
        equal texts can differ in the last digit.
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

    def _search_options(self, ids: Collection[str], index: Any) -> Any:
        """FAISS parameters of a search among these documents."""
        import faiss as untyped

        faiss: Any = untyped  # the stubs lack numpy bitmaps and HNSW's parameters
        bits = np.zeros((len(self._ids) + 7) // 8 * 8, np.uint8)
        bits[[self._rows[doc_id] for doc_id in ids]] = 1
        selector = faiss.IDSelectorBitmap(np.packbits(bits, bitorder="little"))
        if isinstance(index, faiss.IndexHNSW):
            return faiss.SearchParametersHNSW(sel=selector, efSearch=self.hnsw_settings["ef_search"])
        return faiss.SearchParameters(sel=selector)
