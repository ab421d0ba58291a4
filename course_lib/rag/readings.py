"""Prepare a question for a model: clean its passages, and build prompts that fit into the context.

An engine is a loaded model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from langchain_core.documents import Document

from course_lib.errors import CourseError
from course_lib.models.drivers.engine import Engine
from course_lib.rag.answering import format_for
from course_lib.rag.instructions import split_instructions
from course_lib.rag.prompt import Source, question_prompt
from course_lib.retrieval.documents import RETRIEVAL_KEY


class Reading(NamedTuple):
    """A prompt, and the passages in it, in the order of the prompt."""

    documents: list[Document]
    prompt: str


@dataclass(frozen=True)
class Prepared:
    """A question with the prompts that a model reads for it.

    documents: the passages that fit into the context together, in the order of the prompt. left_out: the ids
    of the other passages. removed: the sentences that were removed from passages because they give
    instructions. readings: one prompt with all passages or, with `one_by_one`, one per passage, the best
    first. score: the highest search score of a passage.
    """

    question: str
    documents: list[Document]
    left_out: list[str]
    removed: list[str]
    readings: list[Reading]
    score: float


@dataclass(frozen=True)
class Preparation:
    """How questions are prepared. See `RAGPipeline` for best_last, one_by_one and keep_instructions.

    room: the largest number of tokens of a prompt.
    """

    engine: Engine
    room: int
    best_last: bool
    one_by_one: bool
    keep_instructions: bool

    def __call__(self, question: str, found: Sequence[Document]) -> Prepared:
        """Build prompts from as many passages as fit into the context, the best ones first.

        Raises CourseError if none of the passages fits.
        """
        documents, removed = list(found), list[str]()
        if not self.keep_instructions:
            parts = [split_instructions(d.page_content) for d in found]
            removed = [sentence for _, sentences in parts for sentence in sentences]
            documents = [
                d.model_copy(update={"page_content": text}) for d, (text, _) in zip(found, parts, strict=True)
            ]
        together = self._reading(question, [])
        chosen: list[Document] = []
        for document in documents:
            longer = self._reading(question, [*chosen, document])
            if self.engine.count_tokens(longer.prompt) <= self.room:
                chosen, together = [*chosen, document], longer
        if documents and not chosen:
            what = f"none of {len(documents)} passages fits beside the question into {self.room:,} tokens"
            raise CourseError(what, "load(..., context_length=2048)")
        readings = [together]
        if self.one_by_one and len(chosen) > 1:
            readings = [self._reading(question, [document]) for document in chosen]
        left_out = [str(d.id) for d in documents if d not in chosen]
        score = max(map(_score, chosen), default=0.0)
        return Prepared(question, together.documents, left_out, removed, readings, score)

    def _reading(self, question: str, documents: list[Document]) -> Reading:
        ordered = documents[::-1] if self.best_last else documents
        sources = [Source(d.metadata.get("title", str(d.id)), d.page_content) for d in ordered]
        return Reading(ordered, format_for(self.engine, question_prompt(question, sources)))


def check_question(question: object) -> None:
    """Raise CourseError unless the question is a text with a letter or a digit."""
    if not isinstance(question, str) or not any(map(str.isalnum, question)):
        raise CourseError(f"{question!r:.80} is not a question", "ask a question in words")


def _score(document: Document) -> float:
    """Return the document's reranker score, else its search score, else 0."""
    scores = document.metadata.get(RETRIEVAL_KEY, {})
    return float(scores.get("rerank_score", scores.get("score", 0.0)))
