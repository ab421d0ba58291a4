"""Search by meaning: every text is a vector of length 1, and a FAISS index finds those that point the way of the question.

The score is the cosine of the angle between two vectors, from -1 to 1. "flat" compares the question with every vector and is
exact. "hnsw" walks from neighbour to neighbour (Malkov and Yashunin 2018, arXiv:1603.09320): it takes far longer to build, is
far faster for many documents, and may miss some.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from course_lib.errors import CourseError
from course_lib.retrieval.documents import (
    Hit,
    Numbered,
    best_first,
    checked_gone,
    checked_search,
    new_documents,
)
from course_lib.retrieval.fusion import LOWEST_COSINE

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

Vectors = NDArray[Any]  # float32
KINDS = ("flat", "hnsw")
ROUNDING = 1e-6  # by which cosines that are equal may differ
NEIGHBOURS, BUILD_WIDTH, SEARCH_WIDTH = 32, 200, 64  # HNSW's M, efConstruction and efSearch


def unit_vectors(found: Any, texts: int, dimensions: int | None = None) -> Vectors:
    """Vectors of length 1, (texts, dimensions), float32. One of zeros stays: it points nowhere, and has cosine 0 with all.

    Raises CourseError for another number of vectors, other dimensions, NaN and infinity.
    """
    try:
        vectors = np.array(found, np.float32, ndmin=2)
    except (TypeError, ValueError) as error:
        raise CourseError(
            f"an embedder gave no table of numbers: {error}", "every text needs a vector of one length"
        ) from error
    if vectors.shape[0] != texts or vectors.ndim != 2 or not vectors.shape[1]:
        raise CourseError(
            f"{texts} texts, but vectors of shape {vectors.shape}",
            "an embedder gives one vector for each text",
        )
    if dimensions not in (None, vectors.shape[1]):
        raise CourseError(
            f"a vector of {vectors.shape[1]} numbers, and the index holds vectors of {dimensions}",
            "ask with the embedder with which the index was built, or build it anew",
        )
    if not np.isfinite(vectors).all():
        bad = int((~np.isfinite(vectors)).any(axis=1).sum())
        raise CourseError(
            f"{bad} of {texts} vectors hold NaN or infinity",
            "look at the texts; load the embedder in float32",
        )
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))[
        :, None
    ]  # no copy in 64 bits
    return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def query_vectors(embeddings: Embeddings, queries: Sequence[str]) -> Any:
    """A vector for each question: at once where the embedder has `embed_queries`, which is no part of LangChain's interface."""
    if together := getattr(embeddings, "embed_queries", None):
        return together(list(queries)) if queries else []
    return [embeddings.embed_query(query) for query in queries]


@contextmanager
def one_thread() -> Iterator[None]:
    """FAISS on one thread."""
    import faiss

    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)


class Dense(Numbered):
    """An index of documents by their vectors.

    embeddings: any LangChain Embeddings. kind: "flat" or "hnsw", of which neighbours, build_width and search_width are M,
    efConstruction and efSearch. Raises CourseError for an unknown kind and widths below 1.
    """

    lowest: float | None = LOWEST_COSINE

    def __init__(
        self,
        embeddings: Embeddings,
        *,
        kind: str = "flat",
        neighbours: int = NEIGHBOURS,
        build_width: int = BUILD_WIDTH,
        search_width: int = SEARCH_WIDTH,
    ) -> None:
        widths = {"neighbours": neighbours, "build_width": build_width, "search_width": search_width}
        if kind not in KINDS:
            raise CourseError(f"there is no index of kind {kind!r}", f"choose one of {', '.join(KINDS)}")
        if kind == "flat" and widths != {
            "neighbours": NEIGHBOURS,
            "build_width": BUILD_WIDTH,
            "search_width": SEARCH_WIDTH,
        }:
            raise CourseError(
                f"{widths} are of HNSW alone; a flat index compares all",
                'leave them out, or choose kind="hnsw"',
            )
        if min(widths.values()) < 1 or neighbours < 2:
            raise CourseError(
                f"{widths}: HNSW needs 2 neighbours and widths of 1 at least", "leave them as they are"
            )
        self.embeddings, self.kind, self.widths = embeddings, kind, widths
        self._index: Any = None  # FAISS; made when the first vectors tell their dimensions
        self._ids: list[str] = []  # number -> id
        self._numbers: dict[str, int] = {}  # id -> number, of living documents

    @property
    def dimensions(self) -> int | None:
        """Numbers of a vector; None before the first."""
        return None if self._index is None else int(self._index.d)

    @property
    def vectors(self) -> Vectors:
        """The vectors of living documents, (documents, dimensions), in the order of `ids`."""
        if self._index is None:
            return np.zeros((0, 0), np.float32)
        return self._index.reconstruct_batch(np.fromiter(self._numbers.values(), np.int64, len(self)))

    # -- documents come and go

    def add(self, documents: Mapping[str, str] | Iterable[tuple[str, str]]) -> None:
        """Add documents, id and text. All are added, or none where one is refused or its text is too long to be embedded.

        Raises CourseError for an id that is there already or twice, for what is no pair of two strings, as `unit_vectors`
        does, and as the embedder does.
        """
        new = dict(new_documents(documents, self._numbers))
        if new:
            self.add_vectors(list(new), self.embeddings.embed_documents(list(new.values())))

    def add_vectors(self, ids: Sequence[str], vectors: Any) -> None:
        """Add documents whose vectors are known, (documents, dimensions). Raises CourseError as `add`."""
        if not list(new_documents(((id, "") for id in ids), self._numbers)):
            return
        rows = unit_vectors(vectors, len(ids), self.dimensions)
        self._index = self._index or self._made(rows.shape[1])
        self._insert(rows)
        self._numbers |= {id: number for number, id in enumerate(ids, start=len(self._ids))}
        self._ids += ids

    def _made(self, dimensions: int) -> Any:
        import faiss

        if self.kind == "flat":
            return faiss.IndexFlatIP(dimensions)
        index = faiss.IndexHNSWFlat(dimensions, self.widths["neighbours"], faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction, index.hnsw.efSearch = (
            self.widths["build_width"],
            self.widths["search_width"],
        )
        return index

    def _insert(self, rows: Vectors) -> None:
        with (
            one_thread()
        ):  # several would link HNSW's neighbours in another order each time, and find other hits
            self._index.add(rows)

    def delete(self, ids: Collection[str]) -> None:
        """Delete documents by id: all, or none where one is not there. Raises CourseError then, and for a lone string.

        They are passed over by searches until half of the index is such; then it is built anew from the others.
        """
        for id in checked_gone(ids, self._numbers):
            del self._numbers[id]
        if 2 * len(self) < len(self._ids):
            self._compact()

    def _compact(self) -> None:
        """Forget what was deleted."""
        ids, rows = self.ids, self.vectors
        self._index, self._ids, self._numbers = None, [], {}
        if ids:
            self._index = self._made(rows.shape[1])
            self._insert(rows)
            self._ids, self._numbers = ids, {id: number for number, id in enumerate(ids)}

    def write(self, path: Path) -> None:
        """Write FAISS' index, without what was deleted. An empty one has one dimension."""
        import faiss as untyped

        faiss: Any = untyped  # whose stubs do not know the writer
        if len(self) < len(self._ids):
            self._compact()
        with open(
            path, "wb"
        ) as file:  # FAISS' own file says nothing where a disk is too full for its last bytes
            faiss.write_index(self._index or self._made(1), faiss.PyCallbackIOWriter(file.write))

    def read(self, path: Path, ids: Sequence[str]) -> None:
        """Read what `write` wrote for these documents. Raises CourseError for an index of another kind or of other documents."""
        import faiss

        index = faiss.read_index(str(path))
        if type(index) is not type(self._made(1)) or index.ntotal != len(ids):
            raise CourseError(
                f"{type(index).__name__} of {index.ntotal} vectors for {len(ids)} documents and kind={self.kind!r}",
                "build the index anew",
            )
        self._index = index if len(ids) else None
        self._ids, self._numbers = list(ids), {id: number for number, id in enumerate(ids)}

    # -- questions

    def search(self, query: str, k: int = 10, allowed: Collection[str] | None = None) -> list[Hit]:
        """The best k documents by the cosine of their vectors with the query's, best first, ties by id.

        allowed: ids among which to search; they are compared one by one, exactly, by HNSW too, which could get lost among
        the others. An empty question has no meaning, and no hits. Raises CourseError for k below 1, for a lone string as
        `allowed`, and as `unit_vectors`.
        """
        (hits,) = self.search_all([query], k, allowed)
        return hits

    def search_all(
        self, queries: Sequence[str], k: int, allowed: Collection[str] | None = None
    ) -> list[list[Hit]]:
        """As `search`, for many questions, which are embedded together."""
        checked_search(k, allowed)
        return [asked.best(k, allowed) for asked in self.ask_all(queries)]

    def ask_all(self, queries: Sequence[str]) -> list[AskedMeaning]:
        """Questions with their vectors, which are made together and once: `best(k)` as `search` has it, and `of(ids)`."""
        rows: list[Vectors | None] = [None] * len(queries)
        if some := [place for place, query in enumerate(queries) if query.strip()] if len(self) else []:
            vectors = query_vectors(self.embeddings, [queries[place] for place in some])
            for place, row in zip(some, unit_vectors(vectors, len(some), self.dimensions), strict=True):
                rows[place] = row[None]
        return [AskedMeaning(self, row) for row in rows]

    def search_vector(self, vector: Any, k: int = 10, allowed: Collection[str] | None = None) -> list[Hit]:
        """As `search`, for the vector of a question, (dimensions,). One of zeros has no hits."""
        checked_search(k, allowed)
        return self._nearest(unit_vectors(vector, 1, self.dimensions), k, allowed)

    def _nearest(self, row: Vectors, k: int, allowed: Collection[str] | None) -> list[Hit]:
        among = (
            self._numbers
            if allowed is None
            else {id: self._numbers[id] for id in allowed if id in self._numbers}
        )
        if not among or not row.any():
            return []
        index = self._index if allowed is None or self.kind == "flat" else self._index.storage
        choice = self._only(among, index) if len(among) < len(self._ids) else None
        wanted = min(k, len(among))
        # FAISS breaks ties as it likes, so it is asked for one more until the last that is wanted stands clear of the next
        asked = wanted + 1
        while True:
            with (
                one_thread()
            ):  # for one question several wait for each other longer than they work, on a busy machine
                scores, numbers = index.search(row, min(asked, len(self._ids)), params=choice)
            found = np.ascontiguousarray(numbers[0][numbers[0] >= 0])
            if (
                asked >= len(among)
                or found.size < asked
                or scores[0][asked - 1] < scores[0][wanted - 1] - ROUNDING
            ):
                break
            asked *= 2
        return self._hits(row, found)[:wanted]

    def _hits(self, row: Vectors, numbers: NDArray[np.int64]) -> list[Hit]:
        """A question, (1, dimensions), with documents by their numbers, best first, ties by id. Cosines are computed one by
        one: a search computes several at once, and then two equal texts may differ in the last digit."""
        import faiss as untyped

        faiss: Any = untyped  # whose stubs do not know this
        flat = self._index if self.kind == "flat" else faiss.downcast_index(self._index.storage)
        cosines = np.empty(numbers.size, np.float32)
        flat.compute_distance_subset(
            1, faiss.swig_ptr(row), numbers.size, faiss.swig_ptr(cosines), faiss.swig_ptr(numbers)
        )
        found = zip(numbers.tolist(), cosines.clip(-1, 1).tolist(), strict=True)  # rounding can go beyond
        return best_first(Hit(self._ids[n], cosine) for n, cosine in found)

    def _only(self, among: Mapping[str, int], index: Any) -> Any:
        """FAISS' parameters for a search among some documents."""
        import faiss as untyped

        faiss: Any = untyped  # whose stubs know neither the bitmap of numpy nor HNSW's parameters
        chosen = np.zeros((len(self._ids) + 7) // 8 * 8, np.uint8)
        chosen[list(among.values())] = 1
        selector = faiss.IDSelectorBitmap(np.packbits(chosen, bitorder="little"))
        if isinstance(index, faiss.IndexHNSW):
            return faiss.SearchParametersHNSW(sel=selector, efSearch=self.widths["search_width"])
        return faiss.SearchParameters(sel=selector)


class AskedMeaning:
    """A question that an index was asked: its vector, (1, dimensions), or None for an empty question."""

    def __init__(self, index: Dense, row: Vectors | None) -> None:
        self._index, self._row = index, row

    def best(self, k: int, allowed: Collection[str] | None = None) -> list[Hit]:
        """As `Dense.search`."""
        checked_search(k, allowed)
        return [] if self._row is None else self._index._nearest(self._row, k, allowed)

    def of(self, ids: Collection[str]) -> list[Hit]:
        """The cosines of these documents, to the last digit as `best` has them: the same text must have the same score."""
        if self._row is None or not self._row.any() or not ids:
            return []
        return self._index._hits(self._row, np.array([self._index._numbers[id] for id in ids], np.int64))
