"""A language model as a reranker: how probable it finds an answer, or the question itself, behind each passage."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from course_lib.models.manager.langchain import ChatModel

Prompt = Callable[[str, str], str]  # question, passage -> the user's turn
YES_OR_NO = {"Yes": 1.0, "No": -1.0}


def relevance_prompt(query: str, text: str) -> str:
    """Is it relevant? For answers such as YES_OR_NO (as in Nogueira et al. 2020, arXiv:2003.06713)."""
    return f"Passage: {text}\nQuestion: {query}\nDoes the passage answer the question? Answer Yes or No."


def question_prompt(query: str, text: str) -> str:
    """Write a question about it: what is asked is the answer whose probability counts (Sachan et al. 2022, arXiv:2204.07496)."""
    return f"Passage: {text}\nPlease write a question based on this passage."


class LLMReranker:
    """Scores by a model that gives log-probabilities. Each passage is read once, however many answers are weighed.

    answers: text -> weight; a score is the sum of weight x log P(answer | prompt), such as log P(Yes) - log P(No). None: the
    log-probability of the question itself. Without a prompt: `relevance_prompt` for answers, `question_prompt` without.
    """

    def __init__(
        self, model: ChatModel, answers: Mapping[str, float] | None = None, prompt: Prompt | None = None
    ) -> None:
        self.model, self.answers = model, dict(answers) if answers is not None else None
        self.prompt = prompt or (question_prompt if answers is None else relevance_prompt)

    def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        """A score for each text. Raises Unsupported where the driver gives no log-probabilities."""
        answers = {query: 1.0} if self.answers is None else self.answers
        if not texts:
            return []
        with self.model.engine() as engine:
            logs = engine.score(
                [self.prompt(query, text) for text in texts], list(answers)
            )  # (texts, answers)
        scores: list[float] = (logs @ np.array(list(answers.values()))).tolist()
        return scores
