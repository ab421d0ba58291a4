"""The documents of a hybrid search, held in two indexes: a lexical one (BM25) and a dense one (vectors).

`HybridIndex` adds and deletes documents in both, and collects the candidates of both for a query.
`hybrid.HybridRetriever` ranks these candidates.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import ConfigDict, Field, PrivateAttr

from course_lib.errors import CourseError
from course_lib.retrieval.bm25 import BM25
from course_lib.retrieval.documents import (
    Filter,
    SearchResult,
    check_deletable,
    matching_ids,
    new_documents,
    string_error,
)
from course_lib.retrieval.fusion import Candidates


@runtime_checkable
class DenseRetriever(Protocol):
    """The interface of a dense index: `Dense`, or `vector_store.StoreRetriever` for a LangChain store.

    min_score: The lowest possible score, None if unknown.
    """

    min_score: float | None

    def __len__(self) -> int: ...
    def add(self, documents: Mapping[str, str]) -> None: ...
    def delete(self, ids: Collection[str]) -> None: ...
    def search_all(
        self, queries: Sequence[str], k: int, allowed: Collection[str] | None = None
    ) -> list[SearchResult]: ...


class HybridIndex(BaseRetriever):
    """Base class of `HybridRetriever`: the same documents in a lexical and in a dense index.

    dense, lexical: The two indexes, both empty at first. candidates: The number of hits taken from each.
    Thread-safe: a search waits while another thread adds or deletes documents, and the reverse. Raises
    CourseError for indexes that already contain documents.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    dense: DenseRetriever
    lexical: BM25 = Field(default_factory=BM25)
    candidates: int = Field(25, ge=1)
    _documents: dict[str, Document] = PrivateAttr(default_factory=dict)
    _lock: Any = PrivateAttr(default_factory=threading.RLock)

    def model_post_init(self, context: Any) -> None:
        """Check that both indexes are empty, because the texts of documents in them would be unknown here."""
        super().model_post_init(context)
        if len(self.lexical) or len(self.dense):
            raise CourseError(
                f"the retrievers hold {len(self.lexical)} (lexical) and {len(self.dense)} (dense) documents",
                "HybridRetriever.from_documents(documents, embeddings)",
            )

    def __len__(self) -> int:
        return len(self._documents)

    @property
    def documents(self) -> list[Document]:
        """The documents, in the order in which they were added."""
        return list(self._documents.values())

    @property
    def ids(self) -> list[str]:
        """The ids of the documents, in the order in which they were added."""
        return list(self._documents)

    def add_documents(self, documents: Mapping[str, str] | Iterable[Document]) -> None:
        """Add documents, {id: text} or LangChain documents, to both indexes. If one fails, none is added.

        Raises CourseError for a document without an id, for an id that exists already or occurs twice, and as
        the embedder does.
        """
        new = _with_ids(documents)
        pairs = [(doc_id, document.page_content) for doc_id, document in new]
        with self._lock:
            texts = dict(new_documents(pairs, self._documents))
            self.lexical.add(texts)
            try:
                self.dense.add(texts)
            except BaseException:
                self.lexical.delete(texts.keys())
                raise
            self._documents |= dict(new)

    def delete(self, ids: Collection[str]) -> None:
        """Delete documents by id. Raises CourseError, and deletes none, if an id is not in the index."""
        with self._lock:
            distinct = sorted(check_deletable(ids, self._documents))
            self.dense.delete(distinct)  # first, because a vector store can fail
            self.lexical.delete(distinct)
            for doc_id in distinct:
                del self._documents[doc_id]

    def retrieve(self, queries: Sequence[str], filter: Filter | None = None) -> list[Candidates]:
        """Return the candidates of both indexes for each query. A blank query has none.

        filter: Search only documents that match it, see `HybridRetriever.search`. Queries are embedded in one
        batch. Raises CourseError for a single string, and for a filter by a field that no document has.
        """
        if isinstance(queries, str):
            raise string_error("queries", queries)
        with self._lock:
            allowed = None if filter is None else matching_ids(self._documents, filter)
            dense = self.dense.search_all(queries, self.candidates, allowed)
            lexical = self.lexical.search_all(queries, self.candidates, allowed)
            return [self._candidates(*results) for results in zip(queries, dense, lexical, strict=True)]

    def _candidates(self, query: str, dense: SearchResult, lexical: SearchResult) -> Candidates:
        """Combine the hits of both indexes, and look up the score of each hit in the other index."""
        dense_ids, lexical_ids = {hit.id for hit in dense.hits}, {hit.id for hit in lexical.hits}
        return Candidates(
            query,
            tuple(dense.hits),
            tuple(lexical.hits),
            self.dense.min_score,
            tuple(dense.scores_of(lexical_ids - dense_ids)),
            tuple(lexical.scores_of(dense_ids - lexical_ids)),
        )


def _with_ids(documents: Mapping[str, str] | Iterable[Document]) -> list[tuple[str, Document]]:
    """Return (id, document) pairs. Raises CourseError for anything but a document with an id."""
    if isinstance(documents, Mapping):
        return [
            (doc_id, Document(id=doc_id, page_content=text)) for doc_id, text in new_documents(documents, ())
        ]
    new: list[tuple[str, Document]] = []
    for document in documents:
        if not isinstance(document, Document) or document.id is None:
            raise CourseError(
                f"document {len(new) + 1} is {document!r:.80}, which has no id",
                "HybridRetriever.from_texts(texts, embeddings)"
                if isinstance(document, str)
                else 'Document(id="id-1", page_content="text")',
            )
        new.append((document.id, document))
    return new
