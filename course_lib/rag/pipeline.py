"""Answer questions from documents: search, rerank, build a prompt that fits, generate, check, cite.

`RAGPipeline` is a LangChain Runnable from a question to an answer with its sources. A driver is the software
that runs a model, such as llama.cpp.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypedDict

from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.utils import AddableDict

from course_lib.errors import CourseError
from course_lib.models.drivers.engine import Engine
from course_lib.rag.answering import MAX_ANSWER_TOKENS, exact_match, without_letter
from course_lib.rag.evaluate import faithful
from course_lib.rag.prompt import REFUSAL
from course_lib.rag.readings import Preparation, Prepared, Reading, check_question


class Answer(TypedDict):
    """What the pipeline returns. Passages are given by their ids.

    answer: the text, or REFUSAL. refused: whether it is a refusal; `reason` then says why. sources: the
    passages in the prompt that contain the answer word for word. passages: those in the prompt, in its order.
    left_out: found passages that did not fit into the context. removed: the sentences that were removed from
    passages because they give instructions. confidence: P(answer) / (P(answer) + P(REFUSAL)) after the
    prompt, by the model; 0 if it wrote REFUSAL, None if its driver returns no probabilities. Once `calibrate`
    was called, it is the estimated probability that the passages answer the question.
    """

    question: str
    passages: list[str]
    left_out: list[str]
    removed: list[str]
    answer: str
    refused: bool
    reason: str
    sources: list[str]
    confidence: float | None


class Answers(Runnable[str, dict[str, Any]]):
    """A LangChain Runnable that answers questions, several at a time. A subclass has `_answer_all`."""

    def invoke(self, input: str, config: RunnableConfig | None = None, **kwargs: Any) -> dict[str, Any]:  # noqa: A002
        """Answer one question. Raises CourseError for an empty question and for one that does not fit."""
        return self._call_with_config(
            lambda question: self._answer_all([question])[0], input, config, **kwargs
        )

    def batch(
        self,
        inputs: list[str],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[dict[str, Any]]:
        """Answer many questions together; with `config` or `return_exceptions`, one by one in threads."""
        if config or return_exceptions:
            return super().batch(inputs, config, return_exceptions=return_exceptions, **kwargs)
        return self._answer_all(list(inputs))

    @abstractmethod
    def _answer_all(self, questions: list[str]) -> list[dict[str, Any]]:
        """Return the answer to each question."""


class RAGPipeline(Answers):
    """Questions in, answers with sources out (see `Answer`).

    retriever: a LangChain retriever, such as a HybridRetriever with a reranker; its documents need ids, and
    may have a metadata field "title". model: a ChatModel of a ModelManager, or a loaded model. best_last: put
    the best passage next to the question instead of first. grounded: refuse an answer that no passage
    contains. min_confidence: refuse an answer with a lower confidence; see `calibrate`. evidence: one more
    signal for `calibrate`, a function of the question, such as `log_odds` of `rag.topics.StatedTopics`.
    keep_instructions: do not remove sentences that give instructions from the passages. one_by_one: the model
    reads each passage alone, the best first, until one contains its answer.

    `batch` searches and generates for all questions together. `stream` yields parts of the answer as the
    model writes them; joined, they are the result of `invoke`. A check needs the whole answer, so with
    `grounded`, `min_confidence` or `one_by_one` its text comes in one piece.
    """

    def __init__(
        self,
        retriever: Any,
        model: Any,
        *,
        best_last: bool = False,
        grounded: bool = True,
        min_confidence: float = 0.0,
        evidence: Callable[[str], float] | None = None,
        keep_instructions: bool = False,
        one_by_one: bool = False,
        max_answer_tokens: int = MAX_ANSWER_TOKENS,
        batch_size: int = 16,
    ) -> None:
        if not 0 <= min_confidence <= 1:
            raise CourseError(f"min_confidence={min_confidence}; it is a probability", "min_confidence=0.5")
        self.retriever, self.model = retriever, model
        self.best_last, self.grounded, self.min_confidence = best_last, grounded, min_confidence
        self.keep_instructions, self.one_by_one = keep_instructions, one_by_one
        self.max_answer_tokens = max_answer_tokens
        self.evidence, self.batch_size = evidence, batch_size
        self._judge: Any = None  # the logistic regression that `calibrate` fits

    def __repr__(self) -> str:
        settings = ("best_last", "grounded", "min_confidence", "keep_instructions", "one_by_one")
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in settings)
        return f"RAGPipeline({type(self.retriever).__name__}, {self.model!r}, {shown})"

    def calibrate(self, questions: Sequence[str], answerable: Sequence[bool]) -> None:
        """Fit `confidence` to questions of which it is known whether the documents answer them.

        It becomes a logistic regression of the model's log P(REFUSAL) after the prompt, the score of the best
        passage (Kamath et al. 2020, arXiv:2006.09462) and, if there is one, `evidence`. Scores should be
        comparable between questions, such as those of LateInteraction(..., per_token=True). Raises
        CourseError for lists of different lengths, and for questions of one kind only.
        """
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        if len(questions) != len(answerable) or len({*answerable}) < 2:
            what = f"{len(questions)} questions; {sum(answerable)} of {len(answerable)} are answerable"
            raise CourseError(what, "give some questions of both kinds, and a True or False for each")
        with self._engine() as engine:
            signals = self._signals(engine, self._prepare(engine, list(questions)))
        self._judge = make_pipeline(StandardScaler(), LogisticRegression()).fit(signals, list(answerable))

    def answerable(self, questions: Sequence[str]) -> list[float]:
        """Return the calibrated confidence of each question without writing an answer."""
        if self._judge is None:
            raise CourseError("this pipeline is not calibrated", "bank.calibrate(questions, answerable)")
        with self._engine() as engine:
            return self._estimates(engine, self._prepare(engine, list(questions)))

    def stream(
        self,
        input: str,  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Iterator[dict[str, Any]]:
        """Yield dicts that add up to the result of `invoke`: first the passages, last the verdict."""
        checked = self.grounded or self.min_confidence > 0 or self.one_by_one
        with self._engine() as engine:
            (prepared,) = self._prepare(engine, [input])
            yield AddableDict(_found(prepared))
            if checked:
                answers = self._read(engine, [prepared])
            else:
                pieces, (reading,) = [], prepared.readings
                for piece in engine.stream(reading.prompt, max_output_length=self.max_answer_tokens):
                    pieces.append(piece)
                    yield AddableDict(answer=piece)
                answers = [("".join(pieces), reading)]
            verdict = self._verdict(*answers[0], self._confidences(engine, [prepared], answers)[0])
        if not checked:
            del verdict["answer"]
        yield AddableDict(verdict)

    def _answer_all(self, questions: list[str]) -> list[dict[str, Any]]:
        if not questions:
            return []
        with self._engine() as engine:
            prepared = self._prepare(engine, questions)
            answers = self._read(engine, prepared)
            confidences = self._confidences(engine, prepared, answers)
        return [
            _found(p) | self._verdict(*answer, confidence)
            for p, answer, confidence in zip(prepared, answers, confidences, strict=True)
        ]

    def _engine(self) -> AbstractContextManager[Engine]:
        if isinstance(self.model, Engine):
            return nullcontext(self.model)
        engine: AbstractContextManager[Engine] = self.model.engine()
        return engine

    def _prepare(self, engine: Engine, questions: list[str]) -> list[Prepared]:
        room = engine.context - self.max_answer_tokens
        prepare = Preparation(engine, room, self.best_last, self.one_by_one, self.keep_instructions)
        for question in questions:
            check_question(question)
        found = self.retriever.batch(questions)
        return [prepare(q, documents) for q, documents in zip(questions, found, strict=True)]

    def _read(self, engine: Engine, prepared: list[Prepared]) -> list[tuple[str, Reading]]:
        """Return each question's answer with the `Reading` (prompt and passages) that led to it.

        It is the first whose answer is in its passages, or else the last.
        """
        answers = [("", p.readings[0]) for p in prepared]
        options: dict[str, Any] = {"batch_size": self.batch_size, "max_output_length": self.max_answer_tokens}
        for n in range(max(len(p.readings) for p in prepared)):  # with `one_by_one`, the n-th best passage
            unread = [
                (i, p.readings[n])
                for i, (p, (text, reading)) in enumerate(zip(prepared, answers, strict=True))
                if n < len(p.readings) and not _is_supported(text, reading)
            ]
            replies = engine.generate([reading.prompt for _, reading in unread], **options)
            for (i, reading), reply in zip(unread, replies, strict=True):
                answers[i] = str(reply), reading
        return answers

    def _confidences(
        self, engine: Engine, prepared: list[Prepared], answers: list[tuple[str, Reading]]
    ) -> list[float | None]:
        """Return the confidence of each answer, or None where it needs probabilities and there are none."""
        if self._judge is not None:
            return list(self._estimates(engine, prepared))
        if "score" not in engine.capabilities:
            if self.min_confidence:
                engine._require("score")
            return [None] * len(answers)
        pairs = [[text, _refusal(engine)] for text, _ in answers]
        scores = engine.score_each([reading.prompt for _, reading in answers], pairs)
        return [
            0.0 if exact_match(text, REFUSAL) else 1 / (1 + math.exp(min(refusal - answer, 700)))
            for (text, _), (answer, refusal) in zip(answers, scores, strict=True)
        ]

    def _estimates(self, engine: Engine, prepared: list[Prepared]) -> list[float]:
        return [float(p) for p in self._judge.predict_proba(self._signals(engine, prepared))[:, 1]]

    def _signals(self, engine: Engine, prepared: list[Prepared]) -> list[tuple[float, ...]]:
        """Return the signals of `calibrate`; a driver without probabilities leaves those of the search."""
        signals = [(p.score, self.evidence(p.question)) if self.evidence else (p.score,) for p in prepared]
        if "score" not in engine.capabilities:
            return [(0.0, *signal) for signal in signals]
        refusals = engine.score([p.readings[0].prompt for p in prepared], [_refusal(engine)])[:, 0]
        return [(float(refusal), *signal) for refusal, signal in zip(refusals, signals, strict=True)]

    def _verdict(self, text: str, reading: Reading, confidence: float | None) -> dict[str, Any]:
        """Decide whether the answer is accepted, and find its sources."""
        answer, supporting = without_letter(text.strip()), _sources(text, reading)
        reason = ""
        if exact_match(text, REFUSAL):
            reason = "the model found no answer in the passages"
        elif not answer:
            reason = "the model wrote nothing"
        elif self.grounded and not supporting:
            reason = f"no passage contains the answer {answer!r}"
        elif confidence is not None and confidence < self.min_confidence:
            reason = f"the confidence {confidence:.2f} is below {self.min_confidence:.2f}"
        return {
            "answer": REFUSAL if reason else answer,
            "refused": bool(reason),
            "reason": reason,
            "sources": [] if reason else supporting,
            "confidence": confidence,
        }


def _sources(text: str, reading: Reading) -> list[str]:
    answer = without_letter(text.strip())
    return [str(d.id) for d in reading.documents if faithful(answer, [d.page_content])]


def _is_supported(text: str, reading: Reading) -> bool:
    return not exact_match(text, REFUSAL) and bool(_sources(text, reading))


def _refusal(engine: Engine) -> str:
    """Return the refusal as the model would write it: one that continues a text begins with a space."""
    return " " * (engine.spec.task == "text-generation") + REFUSAL


def _found(prepared: Prepared) -> dict[str, Any]:
    """Return the fields of the result that are known before the model answers."""
    return {
        "question": prepared.question,
        "passages": [str(d.id) for d in prepared.documents],
        "left_out": prepared.left_out,
        "removed": prepared.removed,
    }
