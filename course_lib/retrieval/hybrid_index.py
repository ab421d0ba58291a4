"""The documents of a hybrid search, in two indexes: a lexical one (words, BM25) and a dense one (vectors).

`HybridIndex` adds and deletes documents in both, and collects the candidates of both for a query.
`hybrid.HybridRetriever` ranks these candidates.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever
from pydantic import ConfigDict, Field, PrivateAttr, field_validator

from course_lib.errors import CourseError, check_text
from course_lib.names import nfc
from course_lib.retrieval.bm25 import BM25
from course_lib.retrieval.dense import Dense
from course_lib.retrieval.documents import SearchResult, check_deletable, new_documents, string_error
from course_lib.retrieval.filters import Filter, matching_ids
from course_lib.retrieval.fusion import Candidates


@runtime_checkable
class DenseRetriever(Protocol):
    """The interface of a dense index: `Dense`, or `vector_store.StoreRetriever` for a LangChain store.

    min_score: The lowest possible score, None if unknown.
    """

    min_score: float | None

    def __len__(self) -> int: ...
    def prepare(self, documents: Mapping[str, str]) -> Callable[[], None]: ...
    def delete(self, ids: Collection[str]) -> None: ...
    def search_all(
        self, queries: Sequence[str], k: int, allowed: Collection[str] | None = None
    ) -> list[SearchResult]: ...


class HybridIndex(BaseRetriever):
    """Base class of `HybridRetriever`: the same documents in a lexical and in a dense index.

    dense: An embedder, or an empty `Dense` or `StoreRetriever`. lexical: A tokenizer or an empty `BM25`.
    candidates: The number of hits taken from each index. Thread-safe: a search sees all documents that
    another thread adds in one call, or none of them; it does not wait while they are embedded. Raises
    CourseError for indexes that already contain documents.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    dense: DenseRetriever
    lexical: BM25 = Field(default_factory=BM25)
    candidates: int = Field(25, ge=1)
    _documents: dict[str, Document] = PrivateAttr(default_factory=dict)
    _lock: Any = PrivateAttr(default_factory=threading.RLock)  # held by a search, and while arrays change
    _change_lock: Any = PrivateAttr(default_factory=threading.RLock)  # held for a whole change; taken first

    @field_validator("dense", mode="before")
    @classmethod
    def _dense_index(cls, value: Any) -> Any:
        return Dense(value) if isinstance(value, Embeddings) else value

    @field_validator("lexical", mode="before")
    @classmethod
    def _lexical_index(cls, value: Any) -> Any:
        return BM25(value) if value is None or callable(value) else value

    def model_post_init(self, context: Any) -> None:
        """Check that both indexes are empty, because the texts of documents in them would be unknown here."""
        super().model_post_init(context)
        if len(self.lexical) or len(self.dense):
            raise CourseError(
                f"the indexes hold {len(self.lexical)} (lexical) and {len(self.dense)} (dense) documents",
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
        return [str(document.id) for document in self._documents.values()]

    def add_documents(self, documents: Mapping[str, str] | Iterable[Document]) -> None:
        """Add documents, {id: text} or LangChain documents, to both indexes. If one fails, none is added.

        Raises CourseError for a document without an id, for an id that exists already or occurs twice, and as
        the embedder does.
        """
        new = _with_ids(documents)
        pairs = [(doc_id, document.page_content) for doc_id, document in new]
        with self._change_lock:
            texts = dict(new_documents(pairs, self._documents))
            add_lexical, add_dense = self.lexical.prepare(texts), self.dense.prepare(texts)
            with self._lock:
                add_dense()  # first, because a vector store can fail
                add_lexical()
                # `nfc`: one form of ids that Unicode can write in two, such as "é" (one character or two)
                self._documents |= {nfc(doc_id): document for doc_id, document in new}

    def delete(self, ids: Collection[str]) -> None:
        """Delete documents by id. Raises CourseError, and deletes none, if an id is not in the index."""
        with self._change_lock, self._lock:
            names = sorted(check_deletable(ids, self._documents))
            distinct = [str(self._documents[name].id) for name in names]
            self.dense.delete(distinct)  # first, because a vector store can fail
            self.lexical.delete(distinct)
            for name in names:
                del self._documents[name]

    def retrieve(self, queries: Sequence[str], filter: Filter | None = None) -> list[Candidates]:
        """Return the candidates of both indexes for each query. One without a letter or digit has none.

        filter: Search only documents that match it, see `filters`. Queries are embedded in one batch. Raises
        CourseError for a single string, as `check_text` does, and as `filters.matching_ids` does.
        """
        if isinstance(queries, str):
            raise string_error("queries", queries)
        for query in queries:
            check_text(query)
        texts = [query if any(map(str.isalnum, query)) else "" for query in queries]  # "" finds nothing
        with self._lock:
            allowed = None
            if filter is not None:
                allowed = {str(self._documents[key].id) for key in matching_ids(self._documents, filter)}
            dense = self.dense.search_all(texts, self.candidates, allowed)
            lexical = self.lexical.search_all(texts, self.candidates, allowed)
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
            dense.chunks_of(dense_ids | lexical_ids),
            {doc_id: self._documents[nfc(doc_id)] for doc_id in dense_ids | lexical_ids},
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
