"""Reranking: a slower and more accurate model scores a few search results again and reorders them.

For example, a search finds 25 candidates, a reranker scores each of them, and the best 3 are returned. A
reranker is any object with a method `rerank(query, texts) -> scores`: a cross-encoder, which reads query and
text together (`ModelManager.get_reranker`), `LateInteraction`, `LLMReranker` or your own class.
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

from course_lib.errors import CourseError, check_text
from course_lib.retrieval.documents import RETRIEVAL_KEY, check_choice, string_error
from course_lib.retrieval.fusion import convex, min_max

if TYPE_CHECKING:
    from course_lib.models.manager import ModelManager

Kind = Literal["cross-encoder", "late-interaction", "llm"]
KINDS: tuple[Kind, ...] = get_args(Kind)
RERANK_KEY = "rerank"  # key of the scores and ranks in the metadata of a reranked document
RELATIVE_TOLERANCE = 1e-6  # if all scores differ by less, relative to the largest, they count as equal


@runtime_checkable
class Reranker(Protocol):
    """The interface of a reranker: return a score for each text, in order. Higher is better, on any scale."""

    def rerank(self, query: str, texts: Sequence[str]) -> list[float]: ...


@dataclass(frozen=True)
class Weighted:
    """Combine a reranker's scores with those of the search: weight x reranker + (1 - weight) x search.

    Both are first scaled linearly to 0..1 (min-max). This helps if the reranker was trained on texts unlike
    yours: the search and the reranker make different mistakes, and their mean makes fewer than either
    (Akkalyoncu Yilmaz et al. 2019, aclanthology.org/D19-1352). weight: From 0 (only the search) to 1 (only
    the reranker). Raises CourseError for a weight outside 0 to 1, for an object that cannot rerank, and for
    another Weighted.
    """

    reranker: Reranker
    weight: float = 0.5

    def __post_init__(self) -> None:
        if check_reranker(self.reranker) is None or isinstance(self.reranker, Weighted):
            what = f"Weighted needs a reranker of its own; got {self.reranker!r:.80}"
            raise CourseError(what, 'Weighted(make_reranker("cross-encoder"), weight=0.5)')
        if not 0 <= self.weight <= 1:
            raise CourseError(
                f"weight={self.weight}; the reranker's weight must be from 0 to 1",
                "Weighted(reranker, weight=0.5)",
            )

    def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        """Return the scores of the reranker alone. The function `rerank` combines them with the search's."""
        return self.reranker.rerank(query, texts)


class EqualScoresWarning(UserWarning):
    """Warns that a reranker gave different texts the same score, so they keep the order of the search."""


@dataclass(frozen=True)
class Reranked:
    """The new rank of a candidate. rerank_score: None without a reranker. Ranks are from 1."""

    rerank_score: float | None
    rank: int
    previous_rank: int


def rerank(
    reranker: Reranker | None,
    query: str,
    texts: Sequence[str],
    k: int | None = None,
    search_scores: Sequence[float] | None = None,
) -> list[Reranked]:
    """Return the best k candidates (all if k is None), highest score first, ties in the order given.

    reranker: None keeps the order given. search_scores: The search's score for each text, needed by
    `Weighted`. Warns with EqualScoresWarning if all scores are equal but the texts are not. Raises
    CourseError for a k below 1, a query for the reranker without a letter or digit, a text that UTF-8
    cannot write, scores that are not finite, a wrong number of scores, and a string as `texts`.

    >>> class Length:
    ...     def rerank(self, query, texts):
    ...         return [float(len(text)) for text in texts]
    >>> reranked = rerank(Length(), "Which is longest?", ["a", "abc", "ab"], k=2)
    >>> [(r.previous_rank, r.rerank_score) for r in reranked]
    [(2, 3.0), (3, 2.0)]
    """
    if k is not None and k < 1:
        raise CourseError(f"k={k}; k must be at least 1", "k=3")
    if isinstance(texts, str):
        raise string_error("texts", texts)
    for text in (query, *texts):
        check_text(text)
    check_reranker(reranker)
    if not texts:
        return []
    if reranker is None:
        return [Reranked(None, rank, rank) for rank in range(1, len(texts) + 1)][:k]
    if not any(map(str.isalnum, query)):
        raise CourseError(f"the query {query!r} has no letter and no digit", "ask a question in words")
    if isinstance(reranker, Weighted):
        searched = _checked_search_scores(search_scores, len(texts))
        scores = _scores(reranker.reranker, query, texts)
        keys = _weighted_scores(scores, reranker.weight, searched)
    else:
        keys = scores = _scores(reranker, query, texts)
    order = list(range(len(texts)))
    if not _all_equal(keys):
        order.sort(key=lambda i: -keys[i])
    return [Reranked(scores[i], rank, i + 1) for rank, i in enumerate(order, start=1)][:k]


def check_reranker(reranker: Any) -> Any:
    """Return the reranker unchanged. Raises CourseError unless it is None or has a method `rerank`."""
    if reranker is None or (callable(getattr(reranker, "rerank", None)) and not isinstance(reranker, type)):
        return reranker
    raise CourseError(
        f"{reranker!r:.80} cannot rerank: it has no method rerank(query, texts)",
        'rerank=make_reranker("late-interaction")',
    )


def _scores(reranker: Reranker, query: str, texts: Sequence[str]) -> list[float]:
    """Call the reranker and check its scores. Raises and warns as `rerank` does."""
    scores = [float(score) for score in reranker.rerank(query, texts)]
    name = type(reranker).__name__
    if len(scores) != len(texts):
        raise CourseError(
            f"{name} gave {len(scores)} scores for {len(texts)} texts",
            f"return one score for each text from {name}.rerank, in their order",
        )
    if invalid := [i for i, score in enumerate(scores) if not math.isfinite(score)]:
        raise CourseError(
            f"{len(invalid)} of {len(texts)} scores of {name} are not finite: "
            f"{scores[invalid[0]]} for {texts[invalid[0]]!r:.60}",
            "course doctor",
        )
    if _all_equal(scores) and len(set(texts)) > 1:
        warnings.warn(
            EqualScoresWarning(
                f"{name} gave all {len(texts)} candidates the score {scores[0]:.3g}, "
                "so they stay in the order of the search"
            ),
            stacklevel=3,  # the line that called rerank()
        )
    return scores


def _checked_search_scores(search_scores: Sequence[float] | None, count: int) -> Sequence[float]:
    """Return the search's scores. Raises CourseError unless there is a finite one for each text."""
    fix = "rerank(reranker, query, texts, search_scores=[hit.score for hit in hits])"
    if search_scores is None or len(search_scores) != count:
        raise CourseError(f"Weighted needs {count} scores of the search; got {len(search_scores or ())}", fix)
    if not all(map(math.isfinite, search_scores)):
        raise CourseError(f"not all of the search's {count} scores are finite", fix)
    return search_scores


def _weighted_scores(scores: Sequence[float], weight: float, search_scores: Sequence[float]) -> list[float]:
    """Return weight x scores + (1 - weight) x search_scores, both min-max normalized.

    If the reranker's scores are equal, the search's decide: normalization would enlarge rounding errors.
    """
    if _all_equal(scores):
        return list(search_scores)
    new, old = (min_max({str(i): s for i, s in enumerate(values)}) for values in (scores, search_scores))
    return list(convex(new, old, weight).values())


def _all_equal(scores: Sequence[float]) -> bool:
    return max(scores) - min(scores) <= RELATIVE_TOLERANCE * max(map(abs, scores))


def make_reranker(kind: Kind, manager: ModelManager | None = None) -> Reranker:
    """Return a reranker of a kind: "cross-encoder", "late-interaction" or "llm". No model is loaded yet.

    Its model is the one that the current tier (set of models) has for the role (purpose) `rerank`,
    `embed-tokens` or `chat`. manager: By default the shared model manager. Raises CourseError for an unknown
    kind.
    """
    check_choice("kind", kind, KINDS)
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
    """A LangChain document compressor that keeps a reranker's best k documents and adds metadata["rerank"].

    Usage:
    ContextualCompressionRetriever(base_compressor=RerankCompressor(reranker=..., k=3), base_retriever=...)
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    reranker: Any
    k: int = Field(3, ge=1)

    _check_reranker = field_validator("reranker")(check_reranker)

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """Return the best k documents. Raises CourseError as `rerank` does. callbacks: unused."""
        searched = [d.metadata.get(RETRIEVAL_KEY, {}) for d in documents]
        scores = [entry["score"] for entry in searched if "score" in entry]
        reranked = rerank(self.reranker, query, [d.page_content for d in documents], self.k, scores)
        return [_with_rerank_metadata(documents[r.previous_rank - 1], r) for r in reranked]


def _with_rerank_metadata(document: Document, reranked: Reranked) -> Document:
    return document.model_copy(update={"metadata": document.metadata | {RERANK_KEY: vars(reranked)}})
