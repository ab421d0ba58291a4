"""Use a language model as a reranker: a passage's score is the log-probability of an answer to a prompt.

An engine is a loaded model.
"""

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
    """Return a prompt that asks if the passage is relevant (as in Nogueira et al. 2020, arXiv:2003.06713)."""
    return f"Passage: {text}\nQuestion: {query}\nDoes the passage answer the question? Answer Yes or No."


def question_prompt(query: str, text: str) -> str:
    """Return a prompt that asks for a question about the passage (Sachan et al. 2022, arXiv:2204.07496)."""
    return f"Passage: {text}\nPlease write a question based on this passage."


class LLMReranker:
    """A reranker that uses a language model's log-probabilities.

    model: A chat model whose driver (the software that runs it) returns log-probabilities. answers: text ->
    weight, such as YES_OR_NO; the score is the sum of weight x log P(answer | prompt). If None, the score is
    the log-probability of the query after `question_prompt`. prompt: A function from query and passage to the
    prompt, by default `relevance_prompt` with answers, else `question_prompt`.
    """

    def __init__(
        self, model: ChatModel, answers: Mapping[str, float] | None = None, prompt: Prompt | None = None
    ) -> None:
        self.model, self.answers = model, dict(answers) if answers is not None else None
        self.prompt = prompt or (question_prompt if answers is None else relevance_prompt)

    def __repr__(self) -> str:
        return f"LLMReranker({self.model.spec.name!r}, answers={self.answers}, prompt={self.prompt.__name__})"

    def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        """Return a score for each text. Raises Unsupported if the driver returns no log-probabilities."""
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
