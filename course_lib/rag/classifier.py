"""Classify texts by similar labelled texts: the interface of all classifiers, and `RAGLLMClassifier`.

RAGLLMClassifier retrieves the nearest labelled examples, and a language model chooses among their labels. A
driver is the software that runs a model, such as llama.cpp.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from course_lib.batch import map_batches
from course_lib.errors import CourseError
from course_lib.rag.evaluate import fit_temperature, sharpen, softmax
from course_lib.rag.neighbours import OTHER, neighbours_of, stored_labels, vote
from course_lib.rag.prompt import label_prompt
from course_lib.rag.rows import Row, Template, as_text

if TYPE_CHECKING:
    from langchain_core.vectorstores import VectorStore

    from course_lib.models.manager import ModelManager


@dataclass(frozen=True)
class Classification:
    """A predicted label. label: None if the confidence is below the classifier's threshold.

    confidence: the estimated probability that the best label is right. neighbours: the (text, label) pairs on
    which it rests, the most similar first; empty for classifiers without retrieval. reason: a sentence.
    """

    label: str | None
    confidence: float
    neighbours: tuple[tuple[str, str], ...]
    reason: str


@dataclass(frozen=True)
class Evidence:
    """What a classifier found for a text, before calibration.

    probabilities: label -> probability. neighbours: as in Classification. detail: a part of its `reason`.
    """

    probabilities: dict[str, float]
    neighbours: tuple[tuple[str, str], ...] = ()
    detail: str = ""


@dataclass
class Classifier(ABC):
    """The common part of all classifiers: rows, calibration, abstention and batches.

    template: makes a text of a table's row: a format string such as "{product}: {text}", or a function.
    Without one, the column `text` or `message` is read. temperature: see `calibrate`. threshold: the
    classifier abstains where its confidence is lower; 0 means never.
    """

    template: Template | None = field(default=None, kw_only=True)
    temperature: float = field(default=1.0, kw_only=True)
    threshold: float = field(default=0.0, kw_only=True)

    @abstractmethod
    def evidence(self, texts: Sequence[str]) -> list[Evidence]:
        """Return the label probabilities of each text, uncalibrated."""

    def classify(self, row: Row) -> Classification:
        """Classify a text or a row. Raises CourseError for an empty text and for a column that is missing."""
        return self.classify_many([row])[0]

    def classify_many(self, rows: Sequence[Row]) -> list[Classification]:
        """Classify several texts or rows in one batch."""
        return [self._decide(e) for e in self.evidence([as_text(row, self.template) for row in rows])]

    def classify_batch(
        self,
        frame: Any,
        batch_size: int = 8,
        *,
        output: Path | str | None = None,
        progress: bool = True,
        **workers: Any,
    ) -> Any:
        """Classify a pandas DataFrame; return one with its index and the columns label, confidence, reason.

        output: a file of JSON Lines that is written batch by batch. A call that was interrupted continues
        from it when it is repeated, and ends in the same bytes. workers: `address`, `workers` and `gpus` of
        `course_lib.batch.map_batches`, to compute in several processes or on a cluster. Raises CourseError
        for a bad row before anything is computed, and for an `output` that belongs to another call: with
        another table or batch_size, another model, or other labelled texts.
        """
        import pandas as pd

        if not isinstance(frame, pd.DataFrame):
            what = f"classify_batch takes a DataFrame, not {type(frame).__name__}"
            raise CourseError(what, "pandas.DataFrame(rows)")
        texts = [as_text(row, self.template) for row in frame.to_dict("records")]
        settings = "" if output is None else json.dumps(self._state(texts))
        rows = map_batches(
            lambda: self._rows,
            texts,
            settings=settings,
            batch_size=batch_size,
            output=output,
            progress=progress,
            **workers,
        )
        return pd.DataFrame(rows, columns=["label", "confidence", "reason"], index=frame.index)

    def _state(self, texts: Sequence[str]) -> list[Any]:
        """What the rows of `texts` depend on besides them, as JSON; another state needs another output."""
        return [repr(self), self.temperature, self.threshold]

    def _rows(self, texts: list[str]) -> list[dict[str, Any]]:
        """Classify texts into rows of the output."""
        return [
            {"label": c.label, "confidence": round(c.confidence, 6), "reason": c.reason}
            for c in map(self._decide, self.evidence(texts))
        ]

    def calibrate(self, rows: Sequence[Row], gold: Sequence[str]) -> float:
        """Fit `temperature` to labelled rows that the classifier does not know; return it."""
        evidence = self.evidence([as_text(row, self.template) for row in rows])
        self.temperature = fit_temperature([e.probabilities for e in evidence], gold)
        return self.temperature

    def _decide(self, evidence: Evidence) -> Classification:
        calibrated = sharpen(evidence.probabilities, self.temperature)
        # OTHER stands for all labels that no neighbour has.
        label = max((k for k in calibrated if k != OTHER), key=calibrated.__getitem__)
        confidence = calibrated[label]
        votes = sum(name == label for _, name in evidence.neighbours)
        parts = (
            [f"{votes} of {len(evidence.neighbours)} neighbours are {label}"] if evidence.neighbours else []
        )
        parts += [evidence.detail] if evidence.detail else []
        if abstains := confidence < self.threshold:
            parts.append(f"abstained: confidence {confidence:.2f} is below {self.threshold:.2f}")
        reason = "; ".join(parts) or f"{label} has the highest probability"
        return Classification(None if abstains else label, confidence, evidence.neighbours, reason)


@dataclass(repr=False)
class NeighbourClassifier(Classifier):
    """The majority of the k nearest labelled texts (Cover and Hart 1967); ties go to the nearest.

    vector_store: any LangChain vector store. label_field: the metadata field with a document's label.
    """

    vector_store: VectorStore
    k: int = field(default=10, kw_only=True)
    label_field: str = field(default="label", kw_only=True)

    def __repr__(self) -> str:
        return f"NeighbourClassifier({type(self.vector_store).__name__}, k={self.k})"

    def _state(self, texts: Sequence[str]) -> list[Any]:
        known = stored_labels(self.vector_store, texts, self.k, self.label_field)
        embedder = name_of(self.vector_store.embeddings)
        return [*super()._state(texts), self.label_field, embedder, digest(known)]

    def evidence(self, texts: Sequence[str]) -> list[Evidence]:
        found = neighbours_of(self.vector_store, texts, self.k, self.label_field)
        return [Evidence(vote(neighbours), tuple(neighbours)) for neighbours in found]


class RAGLLMClassifier(NeighbourClassifier):
    """A language model that reads the nearest labelled texts and chooses among their labels.

    model_name: a role such as chat, a name, a path or an id on the Hugging Face hub. device: such as "cuda".
    k: how many neighbours the model reads. weight: 1 for the model's choice alone; below 1, its probabilities
    are blended with the neighbours' votes: P(model)^weight x P(votes)^(1 - weight). manager: by default the
    shared model manager. other options: template, temperature, threshold, label_field.

    A label's probability is that of its tokens after the prompt, which the model reads once for all labels.
    Where all neighbours have the same label, there is nothing to choose and the model is not asked. Raises
    CourseError if the model or the device is not here, and Unsupported if its driver cannot score texts.
    """

    def __init__(
        self,
        vector_store: VectorStore,
        model_name: str = "chat",
        device: str = "auto",
        *,
        k: int = 8,
        weight: float = 1.0,
        manager: ModelManager | None = None,
        **options: Any,
    ) -> None:
        super().__init__(vector_store, k=k, **options)
        if not 0 <= weight <= 1:
            raise CourseError(f"weight={weight}; the model's weight must be from 0 to 1", "weight=0.5")
        self.weight, self.model = weight, scoring_model(model_name, device, manager)

    def __repr__(self) -> str:
        store = type(self.vector_store).__name__
        return f"RAGLLMClassifier({store}, {self.model.spec.name!r}, k={self.k}, weight={self.weight})"

    def _state(self, texts: Sequence[str]) -> list[Any]:
        return [*super()._state(texts), loading_options(self.model)]

    def evidence(self, texts: Sequence[str]) -> list[Evidence]:
        found = neighbours_of(self.vector_store, texts, self.k, self.label_field)
        labels = [sorted({label for _, label in near}) for near in found]
        asked = [i for i, names in enumerate(labels) if len(names) > 1]
        prompts = [label_prompt(texts[i], found[i][::-1]) for i in asked]  # the most similar one last
        scores: dict[int, dict[str, float]] = {}
        if asked:
            with self.model.engine() as engine:
                scored = score_labels(engine, prompts, [labels[i] for i in asked])
            scores = dict(zip(asked, scored, strict=True))
        return [self._combine(near, scores.get(i)) for i, near in enumerate(found)]

    def _combine(self, near: list[tuple[str, str]], scores: dict[str, float] | None) -> Evidence:
        votes = vote(near)
        if scores is None:
            return Evidence(votes, tuple(near), "no other label is near, so the model was not asked")
        logs = [
            self.weight * score + (1 - self.weight) * float(np.log(votes[label]))
            for label, score in scores.items()
        ]
        mixed = zip(scores, softmax(np.array(logs)).tolist(), strict=True)
        probabilities = {label: p * (1 - votes[OTHER]) for label, p in mixed} | {OTHER: votes[OTHER]}
        best = max(scores, key=lambda label: scores[label])
        return Evidence(probabilities, tuple(near), f"the model prefers {best}")


def scoring_model(name: str, device: str, manager: ModelManager | None) -> Any:
    """Return the chat model, loaded. Raises CourseError if it, or the device, is not here or cannot score."""
    from course_lib.models.manager import ModelManager
    from course_lib.models.schema import ModelSpec

    manager = manager or ModelManager.shared()
    spec: Any = manager.registry.spec(name, task="chat-completion")
    model = manager.get_chat_model(spec if device == "auto" else ModelSpec.parse(spec, device=device))
    with model.engine() as engine:
        engine._require("score")
    return model


def loading_options(model: Any) -> dict[str, Any]:
    """The fields of a chat model's specification that can change its predictions, without its files."""
    other = {"source", "adapters", "device", "batch_size", "keep_alive", "generation"}
    options: dict[str, Any] = model.spec.model_dump(mode="json", exclude=other)
    return options


def name_of(embeddings: Any) -> str:
    """The class of an embedder, and the name of its model if it is one of the course's."""
    spec = getattr(embeddings, "spec", None)
    return " ".join(filter(None, [type(embeddings).__name__, getattr(spec, "name", None)]))


def digest(value: Any) -> str:
    """The SHA-256 of a value as JSON; what JSON does not have, such as a number of NumPy, as text."""
    return hashlib.sha256(json.dumps(value, default=str).encode()).hexdigest()


def score_labels(
    engine: Any, prompts: Sequence[str], candidates: Sequence[Sequence[str]], prefix: Any = None
) -> list[dict[str, float]]:
    """Return for each prompt its candidate label -> log-probability, normalized over the candidates.

    engine: a loaded model. prefix: what its `read_prefix` returned.
    """
    scores = engine.score_each(prompts, candidates, prefix=prefix)
    return [
        dict(zip(labels, (row - np.logaddexp.reduce(row)).tolist(), strict=True))
        for labels, row in zip(candidates, scores, strict=True)
    ]
