"""Hybrid search: by words and by meaning at once, and every hit tells where its score comes from.

each leg's best candidates  ->  their scores made comparable  ->  alpha x dense + (1 - alpha) x lexical  ->  the best k
With a reranker: ... the best candidates of both  ->  the reranker's scores  ->  the best k
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import run_in_executor
from pydantic import ConfigDict, PrivateAttr, field_validator

from course_lib.errors import CourseError
from course_lib.retrieval.bm25 import BM25
from course_lib.retrieval.dense import Dense
from course_lib.retrieval.documents import (
    FOUND,
    Asked,
    Filter,
    allowed,
    checked_gone,
    checked_search,
    new_documents,
)
from course_lib.retrieval.fusion import Fused, Fusion, Legs, Place, fuse
from course_lib.retrieval.rerank import Reranker, checked, rerank
from course_lib.retrieval.tokenize import Tokenizer


class DenseLeg(Protocol):
    """Search by meaning: `Dense`, or `vector_store.StoreLeg`. lowest: what a score cannot fall below, if that is known."""

    lowest: float | None

    def __len__(self) -> int: ...
    def add(self, documents: Mapping[str, str]) -> None: ...
    def delete(self, ids: Collection[str]) -> None: ...
    def ask_all(self, queries: Sequence[str]) -> Sequence[Asked]: ...


@dataclass(frozen=True)
class HybridHit(Fused):
    """A document that was found: what it is, and how it came to its place. alpha, fusion: with which it was ranked.

    After reranking, rank is its new place and before its place in the search; score stays that of the search.
    """

    document: Document
    query: str
    alpha: float
    fusion: Fusion
    rerank_score: float | None = None
    before: int | None = None

    def as_document(self) -> Document:
        """The document as LangChain wants it; metadata["retrieval"] has the scores and ranks, ready for JSON."""
        told: dict[str, Any] = {
            "rank": self.rank,
            "score": self.score,
            "alpha": self.alpha,
            "fusion": self.fusion,
        }
        if self.before is not None:
            told |= {"rerank_score": self.rerank_score, "before": self.before}
        legs = {
            name: place and vars(place) for name, place in (("dense", self.dense), ("lexical", self.lexical))
        }
        return Document(
            id=self.id,
            page_content=self.document.page_content,
            metadata={**self.document.metadata, FOUND: told | legs},
        )


class HybridRetriever(BaseRetriever):
    """Search over documents, as a LangChain retriever: invoke, batch, ainvoke, with k=, alpha=, fusion=, rerank= and filter=.

    alpha: weight of meaning, from 0, words alone, to 1. candidates: how many each leg gives; k: how many of them are wanted,
    at most as many. rerank: a reranker, which gives the best candidates of both legs a new order before k are taken.
    Made by `from_documents` or `of_legs`; `search` gives what `invoke` gives, with all that is known of it.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    alpha: float = 0.7
    candidates: int = 25
    k: int = 5
    fusion: Fusion = "theoretical"
    rerank: Any = "none"
    _lexical: BM25 = PrivateAttr(default_factory=BM25)
    _dense: DenseLeg | None = PrivateAttr(default=None)
    _documents: dict[str, Document] = PrivateAttr(default_factory=dict)

    _check_rerank = field_validator("rerank")(checked)

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
        """A retriever of its own index: {id: text}, or LangChain documents that have ids.

        embeddings: any LangChain Embeddings. lexical: an empty BM25, or the tokenizer of one. kind: of the FAISS index.
        settings: alpha, candidates, k, fusion, rerank. Raises CourseError as `add_documents`.
        """
        return cls.of_legs(lexical, Dense(embeddings, kind=kind), documents, **settings)

    @classmethod
    def of_legs(
        cls,
        lexical: BM25 | Tokenizer | None,
        dense: DenseLeg,
        documents: Mapping[str, str] | Iterable[Document] = (),
        **settings: Any,
    ) -> HybridRetriever:
        """A retriever of two legs; documents are added to both. dense: an index, or `StoreLeg(any LangChain VectorStore)`."""
        made = cls.of_whole({}, lexical if isinstance(lexical, BM25) else BM25(lexical), dense, **settings)
        if len(made._lexical) or len(dense):
            raise CourseError(
                f"legs that hold {len(made._lexical)} and {len(dense)} documents already",
                "give empty ones: both legs must hold the same documents",
            )
        made.add_documents(documents)
        return made

    @classmethod
    def of_whole(
        cls, documents: Mapping[str, Document], lexical: BM25, dense: DenseLeg, **settings: Any
    ) -> HybridRetriever:
        """A retriever of legs that hold these documents already, as `storage.load` has them."""
        made = cls(**settings)
        made._documents, made._lexical, made._dense = dict(documents), lexical, dense
        return made

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

    @property
    def lexical(self) -> BM25:
        """The leg of words."""
        return self._lexical

    @property
    def dense(self) -> DenseLeg:
        """The leg of meaning. Raises CourseError for a retriever that was made without one."""
        if self._dense is None:
            raise CourseError(
                "this retriever has no index", "HybridRetriever.from_documents(documents, embeddings)"
            )
        return self._dense

    # -- documents come and go

    def add_documents(self, documents: Mapping[str, str] | Iterable[Document]) -> None:
        """Add documents to both legs: all, or none where one is refused.

        Raises CourseError for a document without an id, an id twice or there already, and as the embedder does.
        """
        new = _with_ids(documents)
        texts = dict(new_documents(((id, document.page_content) for id, document in new), self._documents))
        self._lexical.add(texts)
        try:
            self.dense.add(texts)
        except BaseException:
            self._lexical.delete(texts.keys())
            raise
        self._documents |= dict(new)

    def delete(self, ids: Collection[str]) -> None:
        """Delete documents by id: all, or none where one is not there. Raises CourseError then, and for a lone string."""
        gone = sorted(checked_gone(ids, self._documents))
        self.dense.delete(gone)  # first, for a vector store can fail
        self._lexical.delete(gone)
        for id in gone:
            del self._documents[id]

    # -- files

    def save(self, folder: Path | str) -> None:
        """Write the index to a folder, in place of an older one there; see `storage`. Raises CourseError as it does.

        A reranker is a model and no part of an index; that there was one is written down, and `load` wants to be given it.
        """
        from course_lib.retrieval import storage

        storage.save(self, folder)

    @classmethod
    def load(
        cls,
        folder: Path | str,
        embeddings: Embeddings | None = None,
        rerank: Reranker | Literal["none"] | None = None,
    ) -> HybridRetriever:
        """Read an index that `save` wrote; embeddings, rerank: those with which it was built. Raises CourseError as `storage`."""
        from course_lib.retrieval import storage

        return storage.load(folder, embeddings, rerank)

    # -- questions

    def search(
        self,
        query: str,
        k: int | None = None,
        *,
        alpha: float | None = None,
        fusion: Fusion | None = None,
        filter: Filter | None = None,
        rerank: Reranker | Literal["none"] | None = None,
    ) -> list[HybridHit]:
        """The best k documents, best first; fewer where fewer were found. What is not said is as the retriever has it.

        filter: {field: value, or a list of values} of the metadata, or a function of it; it chooses before the best are taken.
        Raises CourseError for k below 1 or above `candidates`, for a field that no document has, and as `fuse` and `rerank` do.
        """
        (legs,) = self.legs([query], filter)
        return self.hits(legs, k, alpha=alpha, fusion=fusion, rerank=rerank)

    def legs(self, queries: Sequence[str], filter: Filter | None = None) -> list[Legs]:
        """What each leg finds for each question; questions are embedded together. An empty question finds nothing."""
        if isinstance(queries, str):
            raise CourseError(
                f"legs({queries!r}) would ask a question for each letter", f"pass a list: [{queries!r}]"
            )
        checked_search(self.candidates, None)
        chosen = None if filter is None else allowed(self._documents, filter)
        asked = zip(queries, self.dense.ask_all(queries), map(self._lexical.ask, queries), strict=True)
        return [self._found(query, dense, lexical, chosen) for query, dense, lexical in asked]

    def _found(self, query: str, by_meaning: Asked, by_words: Asked, allowed: Collection[str] | None) -> Legs:
        dense, lexical = (tuple(asked.best(self.candidates, allowed)) for asked in (by_meaning, by_words))
        near, worded = {hit.id for hit in dense}, {hit.id for hit in lexical}
        more = by_meaning.of(worded - near), by_words.of(near - worded)
        return Legs(query, dense, lexical, self.dense.lowest, *map(tuple, more))

    def hits(
        self,
        legs: Legs,
        k: int | None = None,
        *,
        alpha: float | None = None,
        fusion: Fusion | None = None,
        rerank: Reranker | Literal["none"] | None = None,
    ) -> list[HybridHit]:
        """The best k of what the legs found. Raises as `search`."""
        k = self.k if k is None else k
        checked_search(k, None)
        if k > self.candidates:
            raise CourseError(
                f"k={k}, but each leg gives {self.candidates} candidates",
                f"HybridRetriever(..., candidates={k})",
            )
        alpha, fusion = self.alpha if alpha is None else alpha, fusion or self.fusion
        reranker = self.rerank if rerank is None else checked(rerank)
        found = [
            HybridHit(
                **vars(hit), document=self._documents[hit.id], query=legs.query, alpha=alpha, fusion=fusion
            )
            for hit in fuse(legs, alpha, fusion)[: k if reranker == "none" else self.candidates]
        ]
        return found if reranker == "none" else _reranked(reranker, found, k)

    def explain(self, hit: HybridHit) -> str:
        """Why a hit has its place, in a sentence. Raises CourseError where the document has been deleted since."""
        lexical = self._lexical.explain(hit.query, hit.id)
        words = ", ".join(f"{part.term!r} {part.score:.2f}" for part in lexical.parts[:4])
        by_words = f"BM25 finds {words}" if words else "No word in common"
        dense = _told(hit, hit.alpha, hit.dense, "meaning", "similarity")
        words_leg = _told(hit, 1 - hit.alpha, hit.lexical, "words", "BM25")
        place = f"{hit.id} is number {hit.rank}"
        if hit.before is not None:
            place += f", by the reranker's {hit.rerank_score:.3g}; the search had it as number {hit.before}"
        return f"{place} with {hit.score:.3g} = {dense} + {words_leg}. {by_words}."

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun | None = None,
        k: int | None = None,
        alpha: float | None = None,
        fusion: Fusion | None = None,
        filter: Filter | None = None,
        rerank: Reranker | Literal["none"] | None = None,
    ) -> list[Document]:
        return [
            hit.as_document()
            for hit in self.search(query, k, alpha=alpha, fusion=fusion, filter=filter, rerank=rerank)
        ]

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun | None = None, **asked: Any
    ) -> list[Document]:  # LangChain's own takes no k=
        return await run_in_executor(None, self._get_relevant_documents, query, **asked)

    def batch(
        self,
        inputs: list[str],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[list[Document]]:
        """Answer all questions, embedded together; one by one in threads where callbacks or exceptions are asked for."""
        if config or return_exceptions:
            return super().batch(inputs, config, return_exceptions=return_exceptions, **kwargs)
        filter = kwargs.pop("filter", None)
        return [
            [hit.as_document() for hit in self.hits(legs, **kwargs)] for legs in self.legs(inputs, filter)
        ]


def _reranked(reranker: Reranker, hits: Sequence[HybridHit], k: int) -> list[HybridHit]:
    """The best k hits by a reranker, which reads a document as it stands, without its metadata."""
    texts, scores = [hit.document.page_content for hit in hits], [hit.score for hit in hits]
    found = rerank(reranker, hits[0].query, texts, k, scores) if hits else []
    return [replace(hits[r.before - 1], **vars(r)) for r in found]


def _with_ids(documents: Mapping[str, str] | Iterable[Document]) -> list[tuple[str, Document]]:
    if isinstance(documents, Mapping):
        return [(id, Document(id=id, page_content=text)) for id, text in new_documents(documents, ())]
    new: list[tuple[str, Document]] = []
    for document in documents:
        if not isinstance(document, Document) or document.id is None:
            raise CourseError(
                f"document {len(new) + 1} is {document!r:.80}, which has no id",
                "Document(id=..., page_content=...)",
            )
        new.append((document.id, document))
    return new


def _told(hit: HybridHit, weight: float, place: Place | None, by: str, what: str) -> str:
    """One leg's part of a score. A leg that has no score for the document gives what the other does not."""
    if place:
        rank = f"number {place.rank}" if place.rank else "beyond its candidates"
        return f"{weight:.3g} x {place.normalised:.3g} for {by} ({rank}, {what} {place.score:.3g})"
    other = hit.lexical if hit.dense is None else hit.dense
    rest = (
        round(hit.score - (1 - weight) * (other.normalised if other else 0), 9) + 0.0
    )  # neither -0 nor 1e-17
    return f"{rest:.3g} for {by} (not found)"
