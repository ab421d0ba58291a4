"""Use any LangChain vector store (FAISS, Milvus, Qdrant, ...) as the dense index of a hybrid search."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, get_args

from course_lib.errors import CourseError, check_text
from course_lib.retrieval.documents import (
    Hit,
    SearchResult,
    best_first,
    check_choice,
    check_search,
    string_error,
)

if TYPE_CHECKING:
    from langchain_core.documents import Document
    from langchain_core.vectorstores import VectorStore

ScoreType = Literal["relevance", "similarity", "distance"]
ID_FIELD = "id"  # metadata field for a document's id, because some stores do not return ids


class StoreRetriever:
    """Adapts a vector store to `HybridRetriever(dense=StoreRetriever(store))`. The store must be empty at
    first.

    score_type: The meaning of the store's scores. "relevance": The store itself converts them to 0..1.
    "similarity": Higher is better. "distance": Lower is better. min_score: The lowest possible score, by
    which `fusion.theoretical_min_max` scales scores; 0 for relevance. LangChain's FAISS has relevances below
    0: use score_type="distance", min_score=-4 for it, because squared distances of unit vectors are at most
    4.

    id_filter: A function from ids to keyword arguments of the store's search that restrict it to these ids,
    e.g. `lambda ids: {"expr": f"id in {sorted(ids)}"}` for Milvus. Without it a filtered search requests more
    and more hits until enough of them match the filter, which is slow if few documents match; and documents
    that only the lexical index found have no dense score. Raises CourseError for an unknown score type.
    """

    def __init__(
        self,
        store: VectorStore,
        *,
        score_type: ScoreType = "relevance",
        min_score: float | None = None,
        id_filter: Callable[[Collection[str]], Mapping[str, Any]] | None = None,
    ) -> None:
        check_choice("score_type", score_type, get_args(ScoreType))
        self.store, self.score_type, self.id_filter = store, score_type, id_filter
        self.min_score = 0.0 if min_score is None and score_type == "relevance" else min_score
        self._ids: dict[str, None] = {}

    def __repr__(self) -> str:
        settings = f"score_type={self.score_type!r}, min_score={self.min_score}"
        return f"StoreRetriever({type(self.store).__name__}, {len(self)} documents, {settings})"

    def __len__(self) -> int:
        return len(self._ids)

    def prepare(self, documents: Mapping[str, str]) -> Callable[[], None]:
        """Return a function that calls `add`; nothing can be prepared, as a store embeds while it adds."""
        return partial(self.add, documents)

    def add(self, documents: Mapping[str, str]) -> None:
        """Add documents, id -> text, to the store.

        An error of the store is raised as it is; what the store had taken until then is deleted again.
        """
        ids = list(documents)
        if not ids:
            return
        try:
            self.store.add_texts(list(documents.values()), [{ID_FIELD: doc_id} for doc_id in ids], ids=ids)
        except BaseException:
            with suppress(Exception):  # the first error is the one to report
                self.store.delete(ids=ids)
            raise
        self._ids |= dict.fromkeys(ids)

    def delete(self, ids: Collection[str]) -> None:
        """Delete documents from the store. Raises CourseError if the store reports a failure."""
        if ids and self.store.delete(ids=list(ids)) is False:
            raise CourseError(
                f"{type(self.store).__name__} did not delete {len(ids)} documents",
                "delete them with the store's own client",
            )
        for doc_id in ids:
            self._ids.pop(doc_id, None)

    def search_all(
        self, queries: Sequence[str], k: int, allowed: Collection[str] | None = None
    ) -> list[SearchResult]:
        """Return the best k documents for each query, best first, ties by id. A blank query has no hits.

        allowed: Only documents with these ids can be returned; None allows all. Raises CourseError for k
        below 1, and for a string as `queries` or `allowed`.
        """
        check_search(k, allowed)
        if isinstance(queries, str):
            raise string_error("queries", queries)
        for query in queries:
            check_text(query)
        known = None if allowed is None else self._ids.keys() & set(allowed)
        return [SearchResult(self._search(q, k, known), partial(self._scores_of, q)) for q in queries]

    def _scores_of(self, query: str, ids: Collection[str]) -> list[Hit]:
        """Return the scores of these documents, or none without an `id_filter`."""
        return self._search(query, len(ids), set(ids)) if ids and self.id_filter else []

    def _search(self, query: str, k: int, allowed: set[str] | None) -> list[Hit]:
        if not query.strip() or not (self._ids if allowed is None else allowed):
            return []
        options = self.id_filter(allowed) if self.id_filter and allowed is not None else {}
        expected, limit = min(k, len(self._ids if allowed is None else allowed)), k
        while True:
            hits = self._hits(query, min(limit, len(self._ids)), options)
            hits = [hit for hit in hits if allowed is None or hit.id in allowed]
            if len(hits) >= expected or limit >= len(self._ids):
                return best_first(hits)[:k]
            limit *= 2

    def _hits(self, query: str, k: int, options: Mapping[str, Any]) -> list[Hit]:
        if self.score_type == "relevance":
            try:
                pairs = self.store.similarity_search_with_relevance_scores(query, k, **options)
            except NotImplementedError as error:
                raise CourseError(
                    f"{type(self.store).__name__} cannot convert its scores to relevances",
                    'StoreRetriever(store, score_type="similarity")  # "distance" if lower is better',
                ) from error
        else:
            pairs = self.store.similarity_search_with_score(query, k, **options)
        sign = -1.0 if self.score_type == "distance" else 1.0
        return [Hit(self._id(document), sign * float(score)) for document, score in pairs]

    def _id(self, document: Document) -> str:
        if (doc_id := str(document.metadata.get(ID_FIELD))) not in self._ids:
            raise CourseError(
                f"the store returned a document that this retriever did not add, {ID_FIELD} {doc_id!r}: "
                f"{document.page_content!r:.60}",
                "use a store, or a collection in it, without other documents",
            )
        return doc_id
