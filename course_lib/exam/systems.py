"""Let a model answer an exam question: with or without passages, by writing or by scoring the options.

The score of an option is its log-probability, the sum of the logarithms of its tokens' probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from course_lib.exam.questions import ExamQuestion
from course_lib.models.drivers.engine import Engine
from course_lib.rag.answering import MAX_ANSWER_TOKENS, format_for, without_letter
from course_lib.rag.prompt import Source, question_prompt

NEUTRAL = "Answer:"  # the prompt after which an option's probability without the question is measured


def write(engine: Engine, prompt: str) -> str:
    """Return the answer that a model writes, without an option letter such as (C)."""
    (text,) = engine.generate([prompt], max_output_length=MAX_ANSWER_TOKENS)
    return without_letter(str(text).strip())


class Reader:
    """A model that answers a question from the passages that a search finds for it.

    engine: a loaded model. retriever: a LangChain retriever, an object that searches passages for a question;
    None for answers without passages.
    """

    def __init__(self, engine: Engine, retriever: Any = None) -> None:
        self.engine, self.retriever = engine, retriever

    def prompt(self, question: ExamQuestion) -> str:
        """Return the prompt with as many found passages as the model takes in, with room for the answer."""
        documents = self.retriever.invoke(question.question) if self.retriever is not None else []
        sources = [Source(d.metadata.get("title", str(d.id)), d.page_content) for d in documents]
        room = self.engine.context - MAX_ANSWER_TOKENS
        while True:
            prompt = question_prompt(question.question, sources, question.options)
            if not sources or self.engine.count_tokens(format_for(self.engine, prompt)) <= room:
                return format_for(self.engine, prompt)
            sources.pop()

    def write(self, question: ExamQuestion) -> str:
        """Return the answer that the model writes."""
        return write(self.engine, self.prompt(question))

    def choose(self, question: ExamQuestion, per: Literal["answer", "token", "surprise"] = "answer") -> str:
        """Return the option with the best score; if there are no options, the written answer.

        per: "answer" takes an option's log-probability, which favours short options. "token" divides it
        by the option's number of tokens. "surprise" subtracts the option's log-probability without the
        question, so that options that are likely anywhere gain nothing (Holtzman et al. 2021,
        arXiv:2104.08315).
        """
        if not question.options:
            return self.write(question)
        scores = self._scores(self.prompt(question), question.options)
        if per == "token":
            scores = [s / self.engine.count_tokens(o) for s, o in zip(scores, question.options, strict=True)]
        elif per == "surprise":
            alone = self._scores(NEUTRAL, question.options)
            scores = [s - a for s, a in zip(scores, alone, strict=True)]
        elif per != "answer":
            raise ValueError(f"per={per!r}; use answer, token or surprise")
        return question.options[scores.index(max(scores))]

    def _scores(self, prompt: str, options: Sequence[str]) -> list[float]:
        scores: list[float] = self.engine.score([prompt], options)[0].tolist()
        return scores
