"""The result type of hybrid search: a document with its scores, its ranks and an explanation."""

from __future__ import annotations

from dataclasses import dataclass

from langchain_core.documents import Document

from course_lib.retrieval.documents import RETRIEVAL_KEY, Span
from course_lib.retrieval.fusion import FusedHit, Fusion, RetrieverScore
from course_lib.retrieval.scores import Explanation


@dataclass(frozen=True)
class HybridHit(FusedHit):
    """A document that hybrid search found. alpha, fusion: The settings with which it was ranked.

    chunk: Start and end of the part of the document's text that is closest to the query, for an index that
    splits documents; its text is `chunk_text`. After reranking, `rank` is the new rank, `previous_rank` the
    rank before; `score` is not changed.
    """

    document: Document
    query: str
    alpha: float
    fusion: Fusion
    chunk: Span | None = None
    rerank_score: float | None = None
    previous_rank: int | None = None

    @property
    def chunk_text(self) -> str | None:
        """The text of `chunk`."""
        return None if self.chunk is None else self.document.page_content[slice(*self.chunk)]

    def as_document(self) -> Document:
        """Return a LangChain document whose metadata["retrieval"] has the scores and ranks as JSON values."""
        fields = ["rank", "score", "alpha", "fusion"]
        if self.previous_rank is not None:
            fields += ["rerank_score", "previous_rank"]
        scores = {field: getattr(self, field) for field in fields}
        scores |= {"chunk": list(self.chunk)} if self.chunk else {}
        for name, score in (("dense", self.dense), ("lexical", self.lexical)):
            scores[name] = score and vars(score)
        metadata = {**self.document.metadata, RETRIEVAL_KEY: scores}
        return Document(id=self.id, page_content=self.document.page_content, metadata=metadata)

    def explain(self, lexical: Explanation) -> str:
        """Explain the rank in a sentence. lexical: The explanation of its BM25 score (search by words)."""
        words = ", ".join(f"{t.term!r} {t.score:.2f}" for t in lexical.terms[:4])
        rank = f"{self.id} is number {self.rank}"
        if self.previous_rank is not None:
            rank += f", by the reranker's {self.rerank_score:.3g}"
            rank += f"; the search had it as number {self.previous_rank}"
        by_meaning = self._contribution(self.alpha, self.dense, "meaning", "similarity")
        by_words = self._contribution(1 - self.alpha, self.lexical, "words", "BM25")
        found = f"BM25 finds {words}" if words else "No word in common"
        return f"{rank} with {_text(self.score)} = {by_meaning} + {by_words}. {found}."

    def _contribution(self, weight: float, score: RetrieverScore | None, by: str, name: str) -> str:
        """Describe one retriever's contribution to the score: weight x normalized score.

        If the retriever did not find the document, the contribution is the rest of the score.
        """
        if score:
            rank = f"number {score.rank}" if score.rank else "beyond its candidates"
            return f"{weight:.3g} x {_text(score.normalized)} for {by} ({rank}, {name} {score.score:.3g})"
        other = self.lexical if self.dense is None else self.dense
        rest = self.score - (1 - weight) * (other.normalized if other else 0)
        return f"{_text(rest)} for {by} (not found)"


def _text(score: float) -> str:
    """Write a score with three digits, and 0 instead of -0 or of a rounding error such as 1e-17."""
    return f"{round(score, 9) + 0.0:.3g}"
