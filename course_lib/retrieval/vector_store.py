"""Any LangChain vector store as the dense leg of hybrid search: FAISS, Milvus (in process or a cluster), Qdrant, ..."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from course_lib.errors import CourseError
from course_lib.retrieval.documents import Hit, best_first, checked_search

if TYPE_CHECKING:
    from langchain_core.documents import Document
    from langchain_core.vectorstores import VectorStore

Scores = Literal["relevance", "similarity", "distance"]
ID = "id"  # the field of the metadata that holds a document's id: not every store gives back the ids it was given


class StoreLeg:
    """An empty vector store, for `HybridRetriever.of_legs`, which adds the documents.

    scores: what the store's numbers mean. "relevance" asks it to say so itself, from 0 to 1; "similarity", the higher the
    better, and "distance", the lower the better, are for one that cannot. lowest: the least score that is possible, for
    theoretical min-max; 0 of relevance. (The relevance of LangChain's FAISS goes below 0. Say scores="distance", lowest=-4
    there: squared distances of vectors of length 1 go up to 4.) only: turns ids into the store's own filter, as keywords of its
    search, e.g. `lambda ids: {"expr": f"id in {sorted(ids)}"}` for Milvus. Without it a filtered search asks the store for ever
    more hits until enough are allowed ones: no hit is lost in any store, but a filter that lets few through takes longer. And
    without it what words alone found counts as not found by meaning, for the store cannot be asked for its score.
    """

    def __init__(
        self,
        store: VectorStore,
        *,
        scores: Scores = "relevance",
        lowest: float | None = None,
        only: Callable[[Collection[str]], Mapping[str, Any]] | None = None,
    ) -> None:
        if scores not in ("relevance", "similarity", "distance"):
            raise CourseError(
                f"there are no scores {scores!r}", 'choose "relevance", "similarity" or "distance"'
            )
        self.store, self.scores, self.only = store, scores, only
        self.lowest = 0.0 if lowest is None and scores == "relevance" else lowest
        self._ids: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, documents: Mapping[str, str]) -> None:
        """Add documents, id and text, to the store. Raises what the store raises."""
        if documents:
            self.store.add_texts(
                list(documents.values()), [{ID: id} for id in documents], ids=list(documents)
            )
            self._ids |= dict.fromkeys(documents)

    def delete(self, ids: Collection[str]) -> None:
        """Delete documents from the store. Raises CourseError where the store says that it did not."""
        if ids and self.store.delete(ids=list(ids)) is False:
            raise CourseError(
                f"{type(self.store).__name__} did not delete {len(ids)} documents", "look at the store itself"
            )
        for id in ids:
            self._ids.pop(id, None)

    def ask_all(self, queries: Sequence[str]) -> list[AskedStore]:
        """Questions to be asked. The store makes a vector of each every time."""
        return [AskedStore(self, query) for query in queries]

    def search_all(
        self, queries: Sequence[str], k: int, allowed: Collection[str] | None = None
    ) -> list[list[Hit]]:
        """The best k documents for each question, best first, ties by id. An empty question has no hits."""
        checked_search(k, allowed)
        return [asked.best(k, allowed) for asked in self.ask_all(queries)]

    def _search(self, query: str, k: int, among: set[str] | None) -> list[Hit]:
        own: Mapping[str, Any] = self.only(among) if self.only and among is not None else {}
        asked = k
        while True:
            found = self._found(query, min(asked, len(self._ids)), own)
            hits = [hit for hit in found if among is None or hit.id in among]
            if len(hits) >= min(k, len(self._ids if among is None else among)) or asked >= len(self._ids):
                return best_first(hits)[:k]
            asked *= 2

    def _found(self, query: str, k: int, own: Mapping[str, Any]) -> list[Hit]:
        if self.scores == "relevance":
            try:
                pairs = self.store.similarity_search_with_relevance_scores(query, k, **own)
            except NotImplementedError as error:
                raise CourseError(
                    f"{type(self.store).__name__} does not say what its scores mean",
                    'say scores="similarity", or "distance" where less is better',
                ) from error
        else:
            pairs = self.store.similarity_search_with_score(query, k, **own)
        sign = -1.0 if self.scores == "distance" else 1.0
        return [Hit(self._id(document), sign * float(score)) for document, score in pairs]

    def _id(self, document: Document) -> str:
        if (id := str(document.metadata.get(ID))) not in self._ids:
            raise CourseError(
                f"the store gave a document that was not added here, {ID} {id!r}: {document.page_content!r:.60}",
                "use a store, or a collection of it, that holds nothing else",
            )
        return id


class AskedStore:
    """A question to a store."""

    def __init__(self, leg: StoreLeg, query: str) -> None:
        self._leg, self._query = leg, query

    def best(self, k: int, allowed: Collection[str] | None = None) -> list[Hit]:
        """As `StoreLeg.search_all`, for one question."""
        checked_search(k, allowed)
        there = self._leg._ids
        among = None if allowed is None else there.keys() & set(allowed)
        some = there if among is None else among
        return self._leg._search(self._query, k, among) if some and self._query.strip() else []

    def of(self, ids: Collection[str]) -> list[Hit]:
        """The scores of these documents, where the store can be asked for them alone (`only`); none where it cannot."""
        return self.best(len(ids), ids) if ids and self._leg.only else []
