"""Hybrid search: find documents by words and by meaning at once, and explain the score of each hit.

The best candidates of a lexical and of a dense retriever get scores on a common scale, which are added with
weights: alpha x dense + (1 - alpha) x lexical. A reranker, if there is one, then puts the best candidates in
a new order.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from types import EllipsisType
from typing import Any, Protocol, runtime_checkable

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import run_in_executor
from pydantic import ConfigDict, Field, PrivateAttr, field_validator

from course_lib.errors import CourseError
from course_lib.retrieval import storage
from course_lib.retrieval.bm25 import BM25
from course_lib.retrieval.dense import Dense
from course_lib.retrieval.documents import (
    Filter,
    SearchResult,
    check_deletable,
    matching_ids,
    new_documents,
    string_error,
)
from course_lib.retrieval.fusion import Candidates, Fusion, fuse
from course_lib.retrieval.hits import HybridHit
from course_lib.retrieval.rerank import Reranker, check_reranker, rerank
from course_lib.retrieval.tokenize import Tokenizer

SETTINGS = ("alpha", "candidates", "k", "fusion", "rerank")


@runtime_checkable
class DenseRetriever(Protocol):
    """`Dense` or `vector_store.StoreRetriever`. min_score: the lowest possible score, None if unknown."""

    min_score: float | None

    def __len__(self) -> int: ...
    def add(self, documents: Mapping[str, str]) -> None: ...
    def delete(self, ids: Collection[str]) -> None: ...
    def search_all(
        self, queries: Sequence[str], k: int, allowed: Collection[str] | None = None
    ) -> list[SearchResult]: ...


class HybridRetriever(BaseRetriever):
    """A LangChain retriever that searches by words and by meaning.

    dense, lexical: the two retrievers, both without documents; add documents with `add_documents`, or use
    `from_texts`, `from_documents` or `load`. alpha: weight of the dense retriever, 0 to 1. candidates: hits
    taken from each retriever. k: hits returned, at most as many as candidates. fusion: see `fusion.fuse`.
    rerank: a reranker that puts the best candidates in a new order, or None. invoke, batch and ainvoke accept
    k=, alpha=, fusion=, rerank= and filter= for single queries.
    Raises CourseError for retrievers that hold documents already and for something that cannot rerank, and
    pydantic's ValidationError for unknown settings.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    dense: DenseRetriever
    lexical: BM25 = Field(default_factory=BM25)
    alpha: float = 0.7
    candidates: int = Field(25, ge=1)
    k: int = Field(5, ge=1)
    fusion: Fusion = "theoretical"
    rerank: Any = None
    _documents: dict[str, Document] = PrivateAttr(default_factory=dict)

    _check_rerank = field_validator("rerank")(check_reranker)

    def model_post_init(self, context: Any) -> None:
        """Refuse retrievers with documents, whose texts and metadata the new object would not know."""
        super().model_post_init(context)
        if len(self.lexical) or len(self.dense):
            raise CourseError(
                f"the retrievers hold {len(self.lexical)} (lexical) and {len(self.dense)} (dense) documents",
                "HybridRetriever.from_documents(documents, embeddings)",
            )

    @classmethod
    def from_texts(
        cls,
        texts: Sequence[str],
        embeddings: Embeddings,
        metadatas: Sequence[Mapping[str, Any]] | None = None,
        *,
        ids: Sequence[str] | None = None,
        **options: Any,
    ) -> HybridRetriever:
        """A retriever with an index of texts.

        metadatas, ids: one for each text; by default ids are "0", "1", .... options: as of from_documents.
        Raises CourseError as it does, for a single string, and for lists of different lengths.
        """
        if isinstance(texts, str):
            raise string_error("texts", texts)
        ids = [str(i) for i in range(len(texts))] if ids is None else ids
        metadatas = [{} for _ in texts] if metadatas is None else metadatas
        if not len(texts) == len(metadatas) == len(ids):
            raise CourseError(
                f"{len(texts)} texts, {len(metadatas)} metadatas and {len(ids)} ids",
                "give one id and one metadata dict for each text",
            )
        documents = [
            Document(id=doc_id, page_content=text, metadata=dict(metadata))
            for doc_id, text, metadata in zip(ids, texts, metadatas, strict=True)
        ]
        return cls.from_documents(documents, embeddings, **options)

    @classmethod
    def from_documents(
        cls,
        documents: Mapping[str, str] | Iterable[Document],
        embeddings: Embeddings,
        *,
        lexical: BM25 | Tokenizer | None = None,
        kind: str = "flat",
        **settings: Any,
    ) -> HybridRetriever:
        """A retriever with an index of documents: {id: text}, or LangChain documents that have ids.

        embeddings: any LangChain Embeddings. lexical: an empty BM25, or a tokenizer for it. kind: "flat" or
        "hnsw", of the dense index. settings: alpha, candidates, k, fusion, rerank. Raises CourseError as
        `add_documents` does.
        """
        return cls.from_retrievers(lexical, Dense(embeddings, kind=kind), documents, **settings)

    @classmethod
    def from_retrievers(
        cls,
        lexical: BM25 | Tokenizer | None,
        dense: DenseRetriever,
        documents: Mapping[str, str] | Iterable[Document] = (),
        **settings: Any,
    ) -> HybridRetriever:
        """Add documents to two empty retrievers. dense: a `Dense`, or `StoreRetriever(vector_store)`."""
        lexical = lexical if isinstance(lexical, BM25) else BM25(lexical)
        retriever = cls(lexical=lexical, dense=dense, **settings)
        retriever.add_documents(documents)
        return retriever

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={getattr(self, name)!r}" for name in SETTINGS)
        return (
            f"HybridRetriever({len(self)} documents, {settings}, lexical={self.lexical}, dense={self.dense})"
        )

    __str__ = __repr__

    def __len__(self) -> int:
        return len(self._documents)

    @property
    def documents(self) -> list[Document]:
        """The documents, in the order in which they were added."""
        return list(self._documents.values())

    @property
    def ids(self) -> list[str]:
        """Ids of the documents, in the order in which they were added."""
        return list(self._documents)

    # -- adding, deleting, files

    def add_documents(self, documents: Mapping[str, str] | Iterable[Document]) -> None:
        """Add documents to both retrievers: all of them, or none if one is refused.

        Raises CourseError for a document without an id, for an id that exists already or occurs twice, and as
        the embedder does.
        """
        new = _with_ids(documents)
        texts = dict(
            new_documents(((doc_id, document.page_content) for doc_id, document in new), self._documents)
        )
        self.lexical.add(texts)
        try:
            self.dense.add(texts)
        except BaseException:
            self.lexical.delete(texts.keys())
            raise
        self._documents |= dict(new)

    def delete(self, ids: Collection[str]) -> None:
        """Delete documents by id: all, or none if one is not in the index. Raises CourseError then."""
        distinct = sorted(check_deletable(ids, self._documents))
        self.dense.delete(distinct)  # first, because a vector store can fail
        self.lexical.delete(distinct)
        for doc_id in distinct:
            del self._documents[doc_id]

    def save(self, folder: Path | str) -> None:
        """Write the index to a folder, replacing an older index there. Raises CourseError as `storage.save`
        does.

        A reranker is not saved, only the name of its class; `load` must be given one, or None.
        """
        settings = {name: getattr(self, name) for name in SETTINGS if name != "rerank"}
        reranker = None if self.rerank is None else type(self.rerank).__name__
        index = storage.SavedIndex(self._documents, self.lexical, self.dense, settings, reranker)
        storage.save(index, folder)

    @classmethod
    def load(
        cls,
        folder: Path | str,
        embeddings: Embeddings | None = None,
        rerank: Reranker | EllipsisType | None = ...,
    ) -> HybridRetriever:
        """Read an index that `save` wrote.

        embeddings: the embedder that built it; leave it out for LSA, which is saved with the index. rerank:
        required (a reranker or None) if the saved retriever had a reranker. Raises CourseError as
        `storage.load` does.
        """
        index = storage.load(folder, embeddings)
        if rerank is ... and index.reranker is not None:
            raise CourseError(
                f"the reranker of this index, a {index.reranker}, is not saved with it",
                "HybridRetriever.load(folder, embeddings, rerank=None)",
            )
        with storage.reading(Path(folder)):
            retriever = cls(
                dense=Dense(index.dense.embeddings),
                rerank=None if rerank is ... else rerank,
                **index.settings,
            )
        retriever.lexical, retriever.dense = index.lexical, index.dense
        retriever._documents = index.documents
        return retriever

    # -- searching

    def search(
        self,
        query: str,
        k: int | None = None,
        *,
        alpha: float | None = None,
        fusion: Fusion | None = None,
        filter: Filter | None = None,
        rerank: Reranker | EllipsisType | None = ...,
    ) -> list[HybridHit]:
        """The best k documents, best first. Arguments that are left out have the value of the retriever's
        setting.

        filter: {metadata field: value or list of values}, or a function of the metadata; it is applied before
        the best k are taken. rerank: a reranker for this query, or None for no reranking. Raises CourseError
        for k below 1 or above `candidates`, for a field that no document has, and as `fuse` and
        `rerank.rerank` do.
        """
        (candidates,) = self.retrieve([query], filter)
        return self.rank(candidates, k, alpha=alpha, fusion=fusion, rerank=rerank)

    def retrieve(self, queries: Sequence[str], filter: Filter | None = None) -> list[Candidates]:
        """The candidates of both retrievers for each query; queries are embedded together. Blank queries find
        nothing.

        Raises CourseError for a single string, and for a filter as `search` does.
        """
        if isinstance(queries, str):
            raise string_error("queries", queries)
        allowed = None if filter is None else matching_ids(self._documents, filter)
        dense = self.dense.search_all(queries, self.candidates, allowed)
        lexical = self.lexical.search_all(queries, self.candidates, allowed)
        return [self._candidates(*found) for found in zip(queries, dense, lexical, strict=True)]

    def _candidates(self, query: str, dense: SearchResult, lexical: SearchResult) -> Candidates:
        """The hits of both, and the score of each hit in the other."""
        dense_ids, lexical_ids = {hit.id for hit in dense.hits}, {hit.id for hit in lexical.hits}
        return Candidates(
            query,
            tuple(dense.hits),
            tuple(lexical.hits),
            self.dense.min_score,
            tuple(dense.scores_of(lexical_ids - dense_ids)),
            tuple(lexical.scores_of(dense_ids - lexical_ids)),
        )

    def rank(
        self,
        candidates: Candidates,
        k: int | None = None,
        *,
        alpha: float | None = None,
        fusion: Fusion | None = None,
        rerank: Reranker | EllipsisType | None = ...,
    ) -> list[HybridHit]:
        """The best k of the candidates of one query. Arguments and errors are those of `search`."""
        k = self.k if k is None else k
        if not isinstance(k, Integral) or not 1 <= k <= self.candidates:
            raise CourseError(
                f"k={k!r}; k must be a whole number from 1 to the {self.candidates} candidates",
                f"HybridRetriever.from_documents(documents, embeddings, candidates={k})"
                if isinstance(k, Integral) and k > 0
                else "search(query, k=5)",
            )
        alpha, fusion = self.alpha if alpha is None else alpha, fusion or self.fusion
        reranker = self.rerank if rerank is ... else rerank
        fused = fuse(candidates, alpha, fusion)[: k if reranker is None else self.candidates]
        hits = [
            HybridHit(
                **vars(hit),
                document=self._documents[hit.id],
                query=candidates.query,
                alpha=alpha,
                fusion=fusion,
            )
            for hit in fused
        ]
        return hits if reranker is None else _reranked(reranker, candidates.query, hits, k)

    def explain(self, hit: HybridHit) -> str:
        """Why a hit has its rank, in a sentence. Raises CourseError if its document has been deleted."""
        return hit.explain(self.lexical.explain(hit.query, hit.id))

    # -- LangChain's interface

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun | None = None, **options: Any
    ) -> list[Document]:
        return [hit.as_document() for hit in self.search(query, **options)]

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun | None = None, **options: Any
    ) -> list[Document]:  # LangChain's own method takes no k=
        return await run_in_executor(None, self._get_relevant_documents, query, **options)

    def batch(
        self,
        inputs: list[str],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[list[Document]]:
        """Documents for many queries, embedded together; one by one with `config` or `return_exceptions`."""
        if config or return_exceptions:
            return super().batch(inputs, config, return_exceptions=return_exceptions, **kwargs)
        candidates = self.retrieve(inputs, kwargs.pop("filter", None))
        return [[hit.as_document() for hit in self.rank(each, **kwargs)] for each in candidates]


def _reranked(reranker: Reranker, query: str, hits: Sequence[HybridHit], k: int) -> list[HybridHit]:
    """The best k hits by a reranker, which reads the documents' texts without their metadata."""
    texts, scores = [hit.document.page_content for hit in hits], [hit.score for hit in hits]
    return [replace(hits[r.previous_rank - 1], **vars(r)) for r in rerank(reranker, query, texts, k, scores)]


def _with_ids(documents: Mapping[str, str] | Iterable[Document]) -> list[tuple[str, Document]]:
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
