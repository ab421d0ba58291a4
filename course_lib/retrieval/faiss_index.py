"""Store unit vectors in a FAISS index and find those with the highest cosines. Used by `dense`.

FAISS is a library that searches vectors. HNSW is its index that searches a graph of nearest neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from course_lib.errors import CourseError
from course_lib.retrieval.vectors import Vectors

Rows = NDArray[np.int64]


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


class FaissIndex:
    """A FAISS index of a kind, "flat" or "hnsw". Vectors can be added, but not deleted.

    hnsw: The settings m, ef_construction and ef_search; unused by "flat".
    """

    def __init__(self, kind: str, hnsw: Mapping[str, int]) -> None:
        self.kind, self.hnsw = kind, hnsw
        self._index: Any = None  # None before the first vectors, whose length it needs

    def __len__(self) -> int:
        return 0 if self._index is None else int(self._index.ntotal)

    @property
    def dimensions(self) -> int | None:
        """The length of each vector, or None if no vectors have been added."""
        return None if self._index is None else int(self._index.d)

    def _empty(self, dimensions: int) -> Any:
        import faiss

        if self.kind == "flat":
            return faiss.IndexFlatIP(dimensions)
        index = faiss.IndexHNSWFlat(dimensions, self.hnsw["m"], faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = self.hnsw["ef_construction"]
        index.hnsw.efSearch = self.hnsw["ef_search"]
        return index

    def add(self, vectors: Vectors) -> None:
        """Append vectors, (rows, dimensions)."""
        self._index = self._index or self._empty(vectors.shape[1])
        with single_threaded_faiss():
            self._index.add(vectors)

    def vectors(self, rows: Rows) -> Vectors:
        """Return the vectors in `rows`, (rows, dimensions)."""
        return np.zeros((0, 0), np.float32) if self._index is None else self._index.reconstruct_batch(rows)

    def nearest(self, vector: Vectors, limit: int, mask: NDArray[np.bool_] | None, exact: bool) -> Rows:
        """Return the rows with the highest cosines with a vector, (1, dimensions), best first.

        Ties are in any order. mask: The rows that may be returned, all if None. exact: Compare the vector
        with every one of them, even in an HNSW index, whose graph search could fail to reach them.
        """
        import faiss as untyped

        faiss: Any = untyped  # the stubs lack numpy bitmaps and HNSW's parameters
        graph = self.kind == "hnsw" and not exact
        index, params = self._index if graph or self.kind == "flat" else self._index.storage, None
        if mask is not None:
            selector = faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))
            params = (
                faiss.SearchParametersHNSW(sel=selector, efSearch=self.hnsw["ef_search"])
                if graph
                else faiss.SearchParameters(sel=selector)
            )
        with single_threaded_faiss():
            _, rows = index.search(vector, min(limit, len(self)), params=params)
        return np.ascontiguousarray(rows[0][rows[0] >= 0])

    def cosines(self, vector: Vectors, rows: Rows) -> NDArray[np.float32]:
        """Return the cosine of a vector, (1, dimensions), with each of the vectors in `rows`, (rows,).

        They are computed one by one. A FAISS search computes several together, which can give two equal texts
        scores that differ by rounding.
        """
        import faiss as untyped

        faiss: Any = untyped  # the stubs lack these functions
        # An HNSW index keeps the vectors themselves in a flat index, its storage.
        flat = self._index if self.kind == "flat" else faiss.downcast_index(self._index.storage)
        cosines = np.empty(rows.size, np.float32)
        flat.compute_distance_subset(
            1, faiss.swig_ptr(vector), rows.size, faiss.swig_ptr(cosines), faiss.swig_ptr(rows)
        )
        return cosines.clip(-1, 1)  # rounding can exceed 1

    def write(self, path: Path) -> None:
        """Write the index to a file. An empty index gets one dimension."""
        import faiss as untyped

        faiss: Any = untyped  # the stubs lack the writer
        with open(path, "wb") as file:  # FAISS' own file writer does not report a full disk
            faiss.write_index(self._index or self._empty(1), faiss.PyCallbackIOWriter(file.write))

    def read(self, path: Path, count: int) -> None:
        """Replace the contents by a file that `write` wrote.

        Raises CourseError for another kind of index, or another number of vectors.
        """
        import faiss

        index: Any = faiss.read_index(str(path))
        if type(index) is not type(self._empty(1)) or index.ntotal != count:
            raise CourseError(
                f"{path.name} is a {type(index).__name__} of {index.ntotal} vectors; "
                f"expected kind={self.kind!r} with {count} vectors",
                "rebuild the index and save it again",
            )
        if self.kind == "hnsw":
            # A setting of the search, not of the graph in the file.
            index.hnsw.efSearch = self.hnsw["ef_search"]
        self._index = index if count else None
