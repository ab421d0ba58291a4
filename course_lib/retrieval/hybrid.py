"""Hybrid search: find documents both by words and by meaning, and explain the rank of each hit.

The best candidates of a lexical index (BM25) and of a dense index (vectors) get scores on a common scale.
Their weighted sum ranks them: alpha x dense + (1 - alpha) x lexical. A reranker, if there is one, then
reorders the best candidates.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from types import EllipsisType
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import run_in_executor
from pydantic import Field, field_validator

from course_lib.errors import CourseError
from course_lib.names import nfc
from course_lib.retrieval import storage
from course_lib.retrieval.dense import Dense
from course_lib.retrieval.documents import string_error
from course_lib.retrieval.filters import Filter
from course_lib.retrieval.fusion import Candidates, Fusion, fuse
from course_lib.retrieval.hits import HybridHit
from course_lib.retrieval.hybrid_index import HybridIndex
from course_lib.retrieval.rerank import Reranker, check_reranker, rerank
from course_lib.retrieval.splitters import Splitter

SETTINGS = ("alpha", "candidates", "k", "fusion", "rerank")


class HybridRetriever(HybridIndex):
    """A LangChain retriever that searches by words and by meaning.

    dense, lexical: See `HybridIndex`; `add_documents` fills both, and `from_documents` and `from_texts` do so
    in one call. alpha: The weight of the dense index, 0 to 1; if None, the `default_alpha` of the embedder
    (0.5 for LSA), or else 0.7. candidates: The number of hits taken from each index. k: The number of hits
    returned, at most `candidates`. fusion: See `fusion.fuse`. rerank: A reranker that reorders the best
    candidates, or None. `invoke`, `batch` and `ainvoke` accept k=, alpha=, fusion=, rerank= and filter=,
    which override the settings for that call. Raises CourseError for indexes that already contain documents
    and for an object that cannot rerank, and pydantic's ValidationError for unknown settings.
    """

    alpha: float = None  # type: ignore[assignment]  # a number after construction
    k: int = Field(5, ge=1)
    fusion: Fusion = "theoretical"
    rerank: Any = None

    _check_rerank = field_validator("rerank")(check_reranker)

    def model_post_init(self, context: Any) -> None:
        """Choose the default alpha."""
        super().model_post_init(context)
        if self.alpha is None:
            self.alpha = getattr(getattr(self.dense, "embeddings", None), "default_alpha", 0.7)

    @classmethod
    def from_texts(
        cls,
        texts: Sequence[str],
        embedding: Embeddings,
        metadatas: Sequence[Mapping[str, Any]] | None = None,
        *,
        ids: Sequence[str] | None = None,
        **options: Any,
    ) -> HybridRetriever:
        """Build a retriever from texts.

        metadatas, ids: One for each text; the default ids are "0", "1", .... options: Other arguments of
        `from_documents`. Raises CourseError as `add_documents` does, for a single string, and for lists of
        different lengths.
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
        return cls.from_documents(documents, embedding, **options)

    @classmethod
    def from_documents(
        cls,
        documents: Mapping[str, str] | Iterable[Document],
        embedding: Embeddings,
        *,
        kind: str = "flat",
        split: bool | Splitter = False,
        **settings: Any,
    ) -> HybridRetriever:
        """Build a retriever from documents: {id: text}, or LangChain documents that have ids.

        embedding: Any LangChain Embeddings. kind, split: Those of the `Dense` index; with split=True,
        documents may be longer than the embedder reads. settings: Other arguments of the constructor. Raises
        CourseError as `Dense`, the constructor and `add_documents` do.
        """
        retriever = cls(dense=Dense(embedding, kind=kind, split=split), **settings)
        retriever.add_documents(documents)
        return retriever

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={getattr(self, name)!r}" for name in SETTINGS)
        return (
            f"HybridRetriever({len(self)} documents, {settings}, lexical={self.lexical}, dense={self.dense})"
        )

    __str__ = __repr__

    def save(self, folder: Path | str) -> None:
        """Save the index to a folder, replacing an older index there.

        Of a reranker only the class name is saved, so pass the reranker (or None) to `load`. Raises
        CourseError as `storage.save` does.
        """
        settings = {name: getattr(self, name) for name in SETTINGS if name != "rerank"}
        reranker = None if self.rerank is None else type(self.rerank).__name__
        with self._change_lock, self._lock:
            index = storage.SavedIndex(self._documents, self.lexical, self.dense, settings, reranker)
            storage.save(index, folder)

    @classmethod
    def load(
        cls,
        folder: Path | str,
        embeddings: Embeddings | None = None,
        rerank: Reranker | EllipsisType | None = ...,
    ) -> HybridRetriever:
        """Load an index that `save` wrote.

        embeddings: The embedder that built it; omit it for LSA, which is saved with the index. rerank: A
        reranker or None; required if the saved retriever had a reranker. Raises CourseError as `storage.load`
        does.
        """
        index = storage.load(folder, embeddings)
        if rerank is ... and index.reranker is not None:
            raise CourseError(
                f"the reranker of this index, a {index.reranker}, is not saved with it",
                "HybridRetriever.load(folder, embeddings, rerank=None)",
            )
        with storage.wrap_read_errors(Path(folder)):
            retriever = cls(
                dense=index.dense.embeddings, rerank=None if rerank is ... else rerank, **index.settings
            )
        retriever.lexical, retriever.dense = index.lexical, index.dense
        retriever._documents = {nfc(doc_id): document for doc_id, document in index.documents.items()}
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
        """Return the best k documents, best first. Omitted arguments default to the retriever's settings.

        A query without a letter or digit has no hits. filter: {metadata field: value or list of values}, or a
        function from the metadata to bool, see `filters`; only matching documents are searched. rerank: A
        reranker for this query, or None for no reranking. Raises CourseError for k below 1 or above
        `candidates`, and as `retrieve`, `fuse` and `rerank.rerank` do.
        """
        (candidates,) = self.retrieve([query], filter)
        return self.rank(candidates, k, alpha=alpha, fusion=fusion, rerank=rerank)

    def rank(
        self,
        candidates: Candidates,
        k: int | None = None,
        *,
        alpha: float | None = None,
        fusion: Fusion | None = None,
        rerank: Reranker | EllipsisType | None = ...,
    ) -> list[HybridHit]:
        """Return the best k of the candidates of one query. Arguments and errors are those of `search`."""
        k = self.k if k is None else k
        if not isinstance(k, Integral) or not 1 <= k <= self.candidates:
            raise CourseError(
                f"k={k!r}; k must be a whole number from 1 to the {self.candidates} candidates",
                f"HybridRetriever.from_documents(documents, embedding, candidates={k})"
                if isinstance(k, Integral) and k > 0
                else "search(query, k=5)",
            )
        alpha, fusion = self.alpha if alpha is None else alpha, fusion or self.fusion
        reranker = self.rerank if rerank is ... else rerank
        hits = [
            HybridHit(
                **vars(hit),
                document=candidates.documents[hit.id],
                query=candidates.query,
                alpha=alpha,
                fusion=fusion,
                chunk=candidates.chunks.get(hit.id),
            )
            for hit in fuse(candidates, alpha, fusion)[: k if reranker is None else self.candidates]
        ]
        return hits if reranker is None else _reranked(reranker, candidates.query, hits, k)

    def explain(self, hit: HybridHit) -> str:
        """Explain a hit's rank in a sentence. Raises CourseError if its document has been deleted."""
        return hit.explain(self.lexical.explain(hit.query, hit.id))

    # -- LangChain's interface

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun | None = None, **options: Any
    ) -> list[Document]:
        return [hit.as_document() for hit in self.search(query, **options)]

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun | None = None, **options: Any
    ) -> list[Document]:  # LangChain's own method does not accept k=
        return await run_in_executor(None, self._get_relevant_documents, query, **options)

    def batch(
        self,
        inputs: list[str],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[list[Document]]:
        """Search for many queries, embedded in one batch unless `config` or `return_exceptions` is given."""
        if config or return_exceptions:
            return super().batch(inputs, config, return_exceptions=return_exceptions, **kwargs)
        candidates = self.retrieve(inputs, kwargs.pop("filter", None))
        return [[hit.as_document() for hit in self.rank(c, **kwargs)] for c in candidates]


def _reranked(reranker: Reranker, query: str, hits: Sequence[HybridHit], k: int) -> list[HybridHit]:
    """Return the best k hits by a reranker, which reads the documents' texts but not their metadata."""
    texts, scores = [hit.document.page_content for hit in hits], [hit.score for hit in hits]
    return [replace(hits[r.previous_rank - 1], **vars(r)) for r in rerank(reranker, query, texts, k, scores)]
