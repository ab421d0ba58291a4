"""Reranking: a slower and better judge reads a question and a few candidates, and puts them in a new order.

search finds 25 candidates  ->  a reranker scores each of them  ->  the best 3

A reranker is whatever has `rerank(query, texts) -> scores`: a cross-encoder (`ModelManager.get_reranker`), `LateInteraction`,
`LLMReranker`, or a function of your own in a class. `rerank="none"` keeps the order of the search.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args, runtime_checkable

from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from pydantic import ConfigDict, Field, field_validator

from course_lib.errors import CourseError
from course_lib.retrieval.documents import FOUND
from course_lib.retrieval.fusion import convex, min_max

if TYPE_CHECKING:
    from course_lib.models.manager import ModelManager

Kind = Literal["none", "cross-encoder", "late-interaction", "llm"]
KINDS: tuple[Kind, ...] = get_args(Kind)
KEY = "rerank"  # in the metadata of a document that was reranked
EQUAL = 1e-6  # scores that differ by less, as a share of the largest, say nothing


@runtime_checkable
class Reranker(Protocol):
    """Scores of texts for a query, in the order given; the higher, the better. What they count in is the reranker's own."""

    def rerank(self, query: str, texts: Sequence[str]) -> list[float]: ...


@dataclass(frozen=True)
class Weighted:
    """A reranker that does not decide alone: weight x its score + (1 - weight) x the search's, each by min-max first.

    A reranker that was trained for other texts than yours errs elsewhere than your search does, and their mean errs less than
    either (Akkalyoncu Yilmaz et al. 2019, aclanthology.org/D19-1352). weight: from 0, the search alone, to 1.
    """

    reranker: Reranker
    weight: float = 0.5

    def __post_init__(self) -> None:
        if checked(self.reranker) == "none":
            raise CourseError("there is no reranker to weigh", "leave Weighted out")
        if not 0 <= self.weight <= 1:
            raise CourseError(
                f"weight={self.weight}: it is the reranker's share, from 0 to 1", "choose e.g. 0.5"
            )

    def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        """The reranker's own scores."""
        return self.reranker.rerank(query, texts)


class NoInformation(UserWarning):
    """A reranker gave different candidates the same score, so that they stay in the order of the search."""


@dataclass(frozen=True)
class Reranked:
    """A candidate after reranking. rerank_score: None under "none"; rank, before: its places, from 1."""

    rerank_score: float | None
    rank: int
    before: int


def rerank(
    reranker: Reranker | Literal["none"],
    query: str,
    texts: Sequence[str],
    k: int | None = None,
    search: Sequence[float] | None = None,
) -> list[Reranked]:
    """The best k candidates, all without a k, the highest score first, ties in the order given.

    search: the scores of the search, which `Weighted` needs. Warns of NoInformation where all scores are equal and the texts are
    not. Raises CourseError for a k below 1, a query without a letter or figure, scores that are not finite, and another number
    of them than of texts.

    >>> class Length:
    ...     def rerank(self, query, texts):
    ...         return [float(len(text)) for text in texts]
    >>> [(r.before, r.rerank_score) for r in rerank(Length(), "Which is longest?", ["a", "abc", "ab"], k=2)]
    [(2, 3.0), (3, 2.0)]
    """
    if k is not None and k < 1:
        raise CourseError(f"k={k}: the best k candidates are kept", "ask for 1 or more")
    if not texts:
        return []
    if checked(reranker) == "none":
        return [Reranked(None, place, place) for place in range(1, len(texts) + 1)][:k]
    if not any(map(str.isalnum, query)):
        raise CourseError(
            f"{query!r} asks nothing: no candidate answers it better than another", "ask a question"
        )
    scores = _scores(reranker, query, texts)  # type: ignore[arg-type]
    deciding = _weighed(scores, reranker.weight, search) if isinstance(reranker, Weighted) else scores
    order = (
        range(len(texts)) if _equal(scores) else sorted(range(len(texts)), key=lambda i: (-deciding[i], i))
    )
    return [Reranked(scores[i], rank, i + 1) for rank, i in enumerate(order, start=1)][:k]


def checked(reranker: Any) -> Any:
    """`reranker`. Raises CourseError for what is neither "none" nor has a method `rerank`."""
    if reranker == "none" or (callable(getattr(reranker, "rerank", None)) and not isinstance(reranker, type)):
        return reranker
    raise CourseError(
        f"{reranker!r:.80} cannot rerank: it has no method rerank(query, texts)",
        f"by_kind(...) makes one of {', '.join(KINDS)}",
    )


def _scores(reranker: Reranker, query: str, texts: Sequence[str]) -> list[float]:
    scores = [float(score) for score in reranker.rerank(query, texts)]
    name = type(reranker).__name__
    if len(scores) != len(texts):
        raise CourseError(
            f"{name} gave {len(scores)} scores for {len(texts)} candidates",
            "give one for each, in their order",
        )
    if odd := [i for i, score in enumerate(scores) if not math.isfinite(score)]:
        raise CourseError(
            f"{name} gave {len(odd)} of {len(texts)} candidates no finite score: {scores[odd[0]]} for {texts[odd[0]]!r:.60}",
            "check the model's files: course doctor; until then rerank='none'",
        )
    if _equal(scores) and len(set(texts)) > 1:
        warnings.warn(
            NoInformation(
                f"{name} gave all {len(texts)} candidates the score {scores[0]:.3g}: that is no "
                "information, and they stay in the order of the search"
            ),
            stacklevel=4,
        )
    return scores


def _weighed(scores: Sequence[float], weight: float, search: Sequence[float] | None) -> list[float]:
    if search is None or len(search) != len(scores):
        raise CourseError(
            f"{len(search or ())} scores of the search for {len(scores)} candidates: Weighted mixes both",
            "HybridRetriever(rerank=Weighted(...)) has them; else rerank(..., search=scores)",
        )
    ids = [str(i) for i in range(len(scores))]
    own, found = (min_max(dict(zip(ids, of, strict=True))) for of in (scores, search))
    mixed = convex(own, found, weight)
    return [mixed[id] for id in ids]


def _equal(scores: Sequence[float]) -> bool:
    return max(scores) - min(scores) <= EQUAL * max(map(abs, scores))


def by_kind(kind: Kind, manager: ModelManager | None = None) -> Reranker | Literal["none"]:
    """A reranker of the models that play the roles `rerank`, `embed-tokens` or `chat` in this tier.

    manager: the shared one where none is given. Raises CourseError for another kind.
    """
    if kind not in KINDS:
        raise CourseError(f"there is no kind of reranker {kind!r}", f"choose one of {', '.join(KINDS)}")
    if kind == "none":
        return "none"
    from course_lib.models.manager import ModelManager

    models = manager or ModelManager.shared()
    if kind == "cross-encoder":
        return models.get_reranker()
    if kind == "late-interaction":
        from course_lib.retrieval.late_interaction import LateInteraction

        return LateInteraction(models.get_embedding_model("embed-tokens"))
    from course_lib.retrieval.llm_rerank import LLMReranker

    return LLMReranker(models.get_chat_model("chat"))


class RerankCompressor(BaseDocumentCompressor):
    """A reranker as LangChain's document compressor: the best k documents, with metadata["rerank"] of score and places.

    ContextualCompressionRetriever(base_compressor=RerankCompressor(reranker=..., k=3), base_retriever=...)
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    reranker: Any
    k: int = Field(3, ge=1)

    _check = field_validator("reranker")(checked)

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """The best k documents. Raises as `rerank`. callbacks: of the caller; a reranker has no steps to tell them of."""
        searched = [document.metadata[FOUND]["score"] for document in documents if FOUND in document.metadata]
        found = rerank(
            self.reranker, query, [document.page_content for document in documents], self.k, searched
        )
        return [_told(documents[r.before - 1], r) for r in found]


def _told(document: Document, found: Reranked) -> Document:
    return document.model_copy(update={"metadata": document.metadata | {KEY: vars(found)}})
