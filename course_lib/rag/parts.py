"""Answer a question that asks for two things by splitting it (Khot et al. 2023, arXiv:2210.02406)."""

from __future__ import annotations

from typing import Any

from course_lib.rag import composite
from course_lib.rag.pipeline import Answers, RAGPipeline
from course_lib.rag.prompt import REFUSAL


class InParts(Answers):
    """A pipeline that answers the two parts of a question separately, and joins the answers.

    Only questions that `composite.split` can split are treated in this way. The result has the fields of the
    pipeline's result, with the passages and sources of both parts, and the lower of the two confidences. It
    is a refusal if a part is refused, or if the answers cannot be compared.
    """

    def __init__(self, pipeline: RAGPipeline) -> None:
        self.pipeline = pipeline

    def __repr__(self) -> str:
        return f"InParts({self.pipeline!r})"

    def _answer_all(self, questions: list[str]) -> list[dict[str, Any]]:
        split = [composite.split(question) if isinstance(question, str) else None for question in questions]
        asked = [parts.parts if parts else (q,) for q, parts in zip(questions, split, strict=True)]
        results = iter(self.pipeline.batch([part for parts in asked for part in parts]))
        return [
            _joined(question, parts, next(results), next(results)) if parts else next(results)
            for question, parts in zip(questions, split, strict=True)
        ]


def _joined(
    question: str, parts: composite.Composite, first: dict[str, Any], second: dict[str, Any]
) -> dict[str, Any]:
    """Return one result made of those of both parts."""
    both = (first, second)
    reason = first["reason"] or second["reason"]
    answer = "" if reason else parts.join(first["answer"], second["answer"])
    reason = reason or ("" if answer else "the answers of both parts cannot be compared")
    lists = ("passages", "left_out", "removed", "sources")
    confidences = [result["confidence"] for result in both]
    return {
        **{name: list(dict.fromkeys([*first[name], *second[name]])) for name in lists},
        **({"sources": []} if reason else {}),
        "question": question,
        "answer": answer or REFUSAL,
        "refused": bool(reason),
        "reason": reason,
        "confidence": None if None in confidences else min(confidences),
    }
