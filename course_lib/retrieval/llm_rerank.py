"""A language model as a reranker: its score is the probability of an answer after the passage."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from course_lib.retrieval.documents import string_error

if TYPE_CHECKING:
    from course_lib.models.manager.langchain import ChatModel

Prompt = Callable[[str, str], str]  # query, passage -> the user's message
YES_OR_NO = {"Yes": 1.0, "No": -1.0}


def relevance_prompt(query: str, text: str) -> str:
    """Ask whether the passage is relevant (as in Nogueira et al. 2020, arXiv:2003.06713)."""
    return f"Passage: {text}\nQuestion: {query}\nDoes the passage answer the question? Answer Yes or No."


def question_prompt(query: str, text: str) -> str:
    """Ask for a question about the passage (Sachan et al. 2022, arXiv:2204.07496)."""
    return f"Passage: {text}\nPlease write a question based on this passage."


class LLMReranker:
    """A reranker that uses a model's log-probabilities. Each passage is read once, whatever the number of
    answers.

    model: its driver must give log-probabilities. answers: text -> weight; the score is the sum of weight x
    log P(answer | prompt), such as log P(Yes) - log P(No); with None it is the log-probability of the query
    itself. prompt: `relevance_prompt` by default if there are answers, else `question_prompt`.
    """

    def __init__(
        self, model: ChatModel, answers: Mapping[str, float] | None = None, prompt: Prompt | None = None
    ) -> None:
        self.model, self.answers = model, dict(answers) if answers is not None else None
        self.prompt = prompt or (question_prompt if answers is None else relevance_prompt)

    def __repr__(self) -> str:
        return f"LLMReranker({self.model.spec.name!r}, answers={self.answers}, prompt={self.prompt.__name__})"

    def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        """A score for each text. Raises Unsupported if the driver gives no log-probabilities."""
        if isinstance(texts, str):
            raise string_error("texts", texts)
        if not texts:
            return []
        answers = {query: 1.0} if self.answers is None else self.answers
        prompts = [self.prompt(query, text) for text in texts]
        with self.model.engine() as engine:
            log_probabilities = engine.score(prompts, list(answers))  # (texts, answers)
        scores: list[float] = (log_probabilities @ np.array(list(answers.values()))).tolist()
        return scores
