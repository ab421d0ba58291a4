"""The widget of chapter 06: ask a question, and see the answer, its passages and its confidence (0 to 1)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from course_lib.learn.widgets.explorer import Explorer, Output, Range
from course_lib.learn.widgets.questions import Questions, passage_label
from course_lib.rag.pipeline import RAGPipeline
from course_lib.retrieval.hybrid import HybridRetriever

MAX_PASSAGES = 5  # that the model reads for an answer


def marked(text: str, answer: str) -> str:
    """Return the text with every occurrence of the answer in double brackets, upper and lower case alike.

    >>> marked("It costs KRW 500 a year.", "krw 500")
    'It costs [[KRW 500]] a year.'
    """
    return re.sub(re.escape(answer), lambda m: f"[[{m[0]}]]", text, flags=re.IGNORECASE) if answer else text


def describe(
    found: Mapping[str, Any], minimum: float, texts: Mapping[str, str], titles: Mapping[str, str]
) -> str:
    """Return the answer, its confidence, and the passages with the answer in double brackets."""
    confidence = found["confidence"]
    known = "unknown" if confidence is None else f"{confidence:.2f}"
    lines = [
        f"Question: {found['question']}",
        f"Answer: {found['answer']}",
        f"Confidence: {known} (at least {minimum:g} is needed).",
    ]
    if found["refused"]:
        lines.append(f"Refused: {found['reason']}.")
    elif confidence is not None and confidence < minimum:
        lines[1] = "Answer: Not in the handbook."
        lines.append(f"Refused: the confidence is below {minimum:g}. The model wrote: {found['answer']}")
    else:
        lines.append(f"Answered: {known} is not below {minimum:g}.")
    for doc_id in found["passages"]:
        text = marked(texts[doc_id], found["answer"]) if doc_id in found["sources"] else texts[doc_id]
        role = "source" if doc_id in found["sources"] else "read"
        lines.append(f"{role}: {passage_label(doc_id, titles)}: {text}")
    return "\n".join(lines)


def ask_the_bank(
    retriever: HybridRetriever,
    model: Any,
    questions: Mapping[str, str],
    texts: Mapping[str, str],
    titles: Mapping[str, str],
) -> Explorer:
    """Return the widget.

    model: a chat model, which answers from the passages that the retriever finds, as in `RAGPipeline`.
    questions: id -> text. texts: passage id -> text. titles: passage id -> title. Answers are cached. Raises
    ValueError for no questions.
    """
    asker = Questions(questions, retriever)

    @lru_cache(maxsize=256)
    def answer(text: str, passages: int) -> dict[str, Any]:
        return RAGPipeline(retriever.bind(k=passages), model).invoke(text)

    def show(question: str, own: str, passages: float, minimum: float) -> Output:
        text, _ = asker.resolve(question, own)
        return Output(describe(answer(text, int(passages)), minimum, texts, titles))

    controls = asker.controls | {
        "passages": Range("passages that the model reads", 1, MAX_PASSAGES, 1),
        "minimum": Range("lowest confidence for an answer", 0, 1, 0.5, 0.05),
    }
    return Explorer("asking", "Ask the bank", show, controls)
