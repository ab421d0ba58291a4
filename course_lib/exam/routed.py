"""The exam's system "best", English part: a classifier decides how each question is answered.

Values that the handbook of Haneul Bank (the course's invented bank) states today: by the knowledge adapter
of chapter 05, which has learnt them by heart. Former values and those for some customers: by its base model,
which reads them from a passage that a search found, and also tells whether the handbook answers at all.
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

PASSAGES = 3  # that the search returns
MEMORY = 0.5  # weight of the adapter's log-probability of an option; that of the reader has weight 1
# A logistic regression on the short practice and held-back questions (`python -m benchmarks.exam refusals`):
# weights of the reranker's score, of the reader's log-probability of a refusal, of whether a found passage
# about the product in question contains the answer, and of the log-odds that the handbook states what is
# asked (`rag.topics`); then the intercept.
SIGNALS = (21.0, -0.902, 1.12, 1.71)
INTERCEPT = -17.2
LOWEST = 1.0  # a lower logit becomes a refusal: so do 98% of what has no answer, in cross-validation


class RoutedReader:
    """Answers English questions.

    search: A retriever over the handbook, with a reranker. reader: The base model. memory: The knowledge
    adapter. topics: What the whole handbook states about which product.
    """

    def __init__(self, search: Any, reader: Engine, memory: Engine, topics: StatedTopics) -> None:
        self.search, self.reader, self.memory, self.topics = search, reader, memory, topics
        self.router = _router()

    def answer(self, question: ExamQuestion) -> str:
        """Return an option, a short text, or REFUSAL."""
        if parts := composite.split(question.question):
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
        return answer if self.confidence(question.question, answer, hits) >= LOWEST else REFUSAL

    def written(self, question: str, hits: Sequence[Any]) -> str:
        """Return the short answer from memory or from the first passage, whichever the router chooses."""
        if self.from_memory(question):
            return self._written(self.memory, question, [])
        return self._written(self.reader, question, _sources(hits[:1]))

    def from_memory(self, question: str) -> bool:
        """Whether the router sends a question to the knowledge adapter."""
        return bool(self.router.predict([question])[0])

    def signals(self, question: str, answer: str, hits: Sequence[Any]) -> tuple[float, ...]:
        """Return four numbers that tell whether the handbook answers the question; see SIGNALS.

        hits: The results of the search, at least one. A question that names no product is about all of them.
        """
        refusal = self.reader.score([question_prompt(question, _sources(hits[:1]))], [REFUSAL])[0, 0]
        about = self.topics.about(self.topics.named(question), _sources(hits))
        found = float(faithful(answer, [source.text for source in about]))
        return float(hits[0].rerank_score), float(refusal), found, self.topics.log_odds(question)

    def confidence(self, question: str, answer: str, hits: Sequence[Any]) -> float:
        """Return the logit of "the handbook answers this"."""
        values = self.signals(question, answer, hits)
        return INTERCEPT + sum(w * v for w, v in zip(SIGNALS, values, strict=True))

    def _written(
        self, model: Engine, question: str, sources: Sequence[Source], options: Sequence[str] = ()
    ) -> str:
        return write(model, question_prompt(question, sources, options))

    def _choice(self, question: ExamQuestion, sources: Sequence[Source]) -> str:
        """Return the written option, or the one that is most likely with one of the passages."""
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
                scores + MEMORY * self.memory.score([question_prompt(question.question)], question.options)[0]
            )
        return question.options[int(scores.argmax())]


def _sources(hits: Sequence[Any]) -> list[Source]:
    return [Source(hit.document.metadata["title"], hit.document.page_content) for hit in hits]


def _router() -> Any:
    """Return a classifier of questions: 1 for the value of today, 0 for exceptions, old values and dates."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    practice = [q for q in data.load_questions("train") if q.kind != "two-passage"]
    today = [str(e.prompt).removeprefix("Question: ") for e in knowledge_examples()[::200]]
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    router = make_pipeline(words, LogisticRegression(C=100, class_weight="balanced", max_iter=1000))
    labels = [int(q.about == "value") for q in practice]
    return router.fit([q.question for q in practice] + today, labels + [1] * len(today))
