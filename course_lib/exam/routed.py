"""The English part of the exam's best system: a classifier, the router, decides how to answer each question.

The handbook of Haneul Bank, the course's fictional bank, states current values, former values and exceptions.
An adapter, trained weights that are added to a base model's own (LoRA, chapter 05), knows the current values
and answers questions about those from memory. For all other questions the base model reads a passage that a
search found. The base model also helps to decide whether the handbook contains an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from course_lib import data
from course_lib.exam.questions import ExamQuestion
from course_lib.exam.systems import write
from course_lib.models.drivers.engine import Engine
from course_lib.rag import composite
from course_lib.rag.adapter_datasets import knowledge_examples
from course_lib.rag.evaluate import faithful
from course_lib.rag.prompt import REFUSAL, Source, question_prompt
from course_lib.rag.topics import StatedTopics

PASSAGES = 3  # number of passages that the search returns
ADAPTER_WEIGHT = 0.5  # of the adapter's log-probability of an option; the base model's has the weight 1
# A logistic regression of "the handbook contains an answer", fitted to practice questions and others, none of
# the exam's, with written answers, by `python -m benchmarks.exam refusals`. Its weighted sum is a logit,
# log(p / (1 - p)) for a probability p. Weights of: the score of the reranker, a model that sorts the found
# passages; the base model's log-probability of a refusal; whether a found passage about the product contains
# the answer; the logit of "the handbook states what is asked" (`rag.topics`).
SIGNAL_WEIGHTS = (21.0, -0.902, 1.12, 1.71)
INTERCEPT = -17.2
# An answer with a lower logit becomes a refusal, as for 98% of what has no answer, in cross-validation: with
# weights that were fitted to other questions than the judged ones.
MIN_LOGIT = 1.0


class RoutedReader:
    """Answers English questions.

    search: a retriever over the handbook, with a reranker. reader: the base model, which reads passages.
    memory: the adapter that was trained on the current values. topics: what the handbook states about each
    product.
    """

    def __init__(self, search: Any, reader: Engine, memory: Engine, topics: StatedTopics) -> None:
        self.search, self.reader, self.memory, self.topics = search, reader, memory, topics
        self.router = _router()

    def answer(self, question: ExamQuestion) -> str:
        """Return one of the options, a short text, or REFUSAL."""
        if parts := composite.split(question.question):  # asks or compares two values
            first, second = (self._written(self.memory, part, []) for part in parts.parts)
            joined = parts.join(first, second)
            if joined and (not question.options or joined in question.options):
                return joined
        hits = self.search.search(question.question, PASSAGES)
        if question.options:
            return self._choice(question, _sources(hits))
        if not hits:
            return REFUSAL
        answer = self.written(question.question, hits)
        return answer if self.confidence(question.question, answer, hits) >= MIN_LOGIT else REFUSAL

    def written(self, question: str, hits: Sequence[Any]) -> str:
        """Return a short answer: from the adapter, or read from the first passage, as the router decides."""
        if self.from_memory(question):
            return self._written(self.memory, question, [])
        return self._written(self.reader, question, _sources(hits[:1]))

    def from_memory(self, question: str) -> bool:
        """Whether the router sends a question to the adapter."""
        return bool(self.router.predict([question])[0])

    def signals(self, question: str, answer: str, hits: Sequence[Any]) -> tuple[float, ...]:
        """Return the four numbers that SIGNAL_WEIGHTS weights.

        hits: the results of the search, at least one. If the question names no product, all found passages
        count.
        """
        refusal = self.reader.score([question_prompt(question, _sources(hits[:1]))], [REFUSAL])[0, 0]
        about = self.topics.about(self.topics.named(question), _sources(hits))
        supported = float(faithful(answer, [source.text for source in about]))
        return float(hits[0].rerank_score), float(refusal), supported, self.topics.log_odds(question)

    def confidence(self, question: str, answer: str, hits: Sequence[Any]) -> float:
        """Return the logit of "the handbook answers this"."""
        values = self.signals(question, answer, hits)
        return INTERCEPT + sum(w * v for w, v in zip(SIGNAL_WEIGHTS, values, strict=True))

    def _written(
        self, model: Engine, question: str, sources: Sequence[Source], options: Sequence[str] = ()
    ) -> str:
        return write(model, question_prompt(question, sources, options))

    def _choice(self, question: ExamQuestion, sources: Sequence[Source]) -> str:
        """Return the option that the base model writes, or else the most likely option."""
        from_memory = self.from_memory(question.question)
        if not from_memory:
            answer = self._written(self.reader, question.question, sources[:1], question.options)
            if answer in question.options:
                return answer
        prompts = [question_prompt(question.question, [source]) for source in sources]
        prompts = prompts or [question_prompt(question.question)]  # nothing was found
        scores = self.reader.score(prompts, question.options).max(axis=0)
        if from_memory:
            scores = (
                scores
                + ADAPTER_WEIGHT
                * self.memory.score([question_prompt(question.question)], question.options)[0]
            )
        return question.options[int(scores.argmax())]


def _sources(hits: Sequence[Any]) -> list[Source]:
    return [Source(hit.document.metadata["title"], hit.document.page_content) for hit in hits]


def _router() -> Any:
    """Return the classifier of questions: 1 if about a current value, else 0."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    practice = [q for q in data.load_questions("train") if q.kind != "two-passage"]
    # One of 200 of the questions on which the adapter was trained, all about current values.
    today = [str(e.prompt).removeprefix("Question: ") for e in knowledge_examples()[::200]]
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    router = make_pipeline(words, LogisticRegression(C=100, class_weight="balanced", max_iter=1000))
    labels = [int(q.about == "value") for q in practice]
    return router.fit([q.question for q in practice] + today, labels + [1] * len(today))
