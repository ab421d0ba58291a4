"""Baselines for `RAGLLMClassifier`: classifiers on embeddings, and a language model without retrieval.

Their base class is `classifier.Classifier`: `evidence` returns the probability of each label before
calibration, and `_state` what the predictions depend on, so that saved ones are only continued by the same
classifier.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from course_lib.errors import CourseError
from course_lib.rag.classifier import (
    Classifier,
    Evidence,
    digest,
    loading_options,
    name_of,
    score_labels,
    scoring_model,
)
from course_lib.rag.evaluate import sharpen, softmax
from course_lib.rag.prompt import label_prompt
from course_lib.rag.rows import Row

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings
    from numpy.typing import NDArray

    from course_lib.models.manager import ModelManager


@dataclass(repr=False)
class LinearClassifier(Classifier):
    """A linear classifier on embeddings, fitted by `fit`.

    embeddings: any LangChain Embeddings. C: the higher, the closer the fit to the training texts. words: 0
    for logistic regression on the embeddings alone; above 0, the weight of TF-IDF features (how often a text
    has a word, weighted higher for rare words) of words and of parts of words beside them, with a support
    vector machine (Fan et al. 2008), which is faster on so many features.
    """

    embeddings: Embeddings
    C: float = field(default=10.0, kw_only=True)
    words: float = field(default=0.0, kw_only=True)

    def __repr__(self) -> str:
        return f"LinearClassifier({type(self.embeddings).__name__}, C={self.C}, words={self.words})"

    def _state(self, texts: Sequence[str]) -> list[Any]:
        check_fitted(self)
        return [*super()._state(texts), name_of(self.embeddings), self._learned]

    def fit(self, texts: Sequence[str], labels: Sequence[str]) -> LinearClassifier:
        """Fit it to labelled texts. Raises CourseError for fewer than two different labels."""
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.svm import LinearSVC

        check_labels(labels)
        common = {"sublinear_tf": True, "min_df": 2}  # 1 + log(count); without words of only one text
        self._counters = (
            []
            if not self.words
            else [
                TfidfVectorizer(ngram_range=(1, 2), **common).fit(texts),
                TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), **common).fit(texts),
            ]
        )
        linear = LinearSVC(C=self.C) if self.words else LogisticRegression(C=self.C, max_iter=500)
        self._model: Any = linear.fit(self._features(texts), list(labels))
        self._learned = digest([list(texts), list(labels)])
        return self

    def evidence(self, texts: Sequence[str]) -> list[Evidence]:
        check_fitted(self)
        scores = self._model.decision_function(self._features(texts))
        if scores.ndim == 1 and not self.words:
            scores = scores / 2  # then the softmax of (-score, score) is logistic regression's probability
        return evidence_of(self._model.classes_, scores)

    def _features(self, texts: Sequence[str]) -> Any:
        from scipy.sparse import csr_matrix, hstack

        vectors = embed(self.embeddings, texts)
        if not self._counters:
            return vectors
        return hstack(
            [csr_matrix(vectors), *(self.words * c.transform(texts) for c in self._counters)]
        ).tocsr()


@dataclass(repr=False)
class KernelClassifier(Classifier):
    """A support vector machine with a Gaussian kernel on embeddings (Cortes and Vapnik 1995).

    Fitted by `fit`. embedders: LangChain Embeddings; the vectors of several models are concatenated. Each
    model's vectors are centred and scaled to length 1, since those of some models all lie close together. C:
    the inverse strength of regularisation. gamma: the kernel is exp(-gamma x distance²).
    """

    embedders: Sequence[Embeddings]
    C: float = field(default=10.0, kw_only=True)
    gamma: float = field(default=1.0, kw_only=True)

    def __repr__(self) -> str:
        names = ", ".join(type(e).__name__ for e in self.embedders)
        return f"KernelClassifier([{names}], C={self.C}, gamma={self.gamma})"

    def _state(self, texts: Sequence[str]) -> list[Any]:
        check_fitted(self)
        return [*super()._state(texts), list(map(name_of, self.embedders)), self._learned]

    def fit(self, texts: Sequence[str], labels: Sequence[str]) -> KernelClassifier:
        """Fit it to labelled texts. Raises CourseError for fewer than two different labels."""
        from sklearn.svm import SVC

        check_labels(labels)
        vectors = [embed(e, texts) for e in self.embedders]
        self._means = [v.mean(0) for v in vectors]
        machine = SVC(C=self.C, gamma=self.gamma, break_ties=True)  # predicts the label of the highest score
        self._model: Any = machine.fit(self._features(vectors), list(labels))
        self._learned = digest([list(texts), list(labels)])
        return self

    def evidence(self, texts: Sequence[str]) -> list[Evidence]:
        check_fitted(self)
        scores = self._model.decision_function(self._features([embed(e, texts) for e in self.embedders]))
        return evidence_of(self._model.classes_, scores)

    def _features(self, vectors: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        centred = [v - mean for v, mean in zip(vectors, self._means, strict=True)]
        return (
            np.hstack([c / np.linalg.norm(c, axis=1, keepdims=True) for c in centred]) / len(vectors) ** 0.5
        )


@dataclass(repr=False)
class AveragedClassifier(Classifier):
    """The weighted mean of the calibrated probabilities of other classifiers, which must be fitted.

    Calibrated: adjusted so that predictions with confidence p are right in a share p of the cases.

    weights: one for each of `parts`; they are scaled to the sum 1.
    """

    parts: Sequence[Classifier]
    weights: Sequence[float]

    def __repr__(self) -> str:
        return f"AveragedClassifier({list(self.parts)}, weights={list(self.weights)})"

    def _state(self, texts: Sequence[str]) -> list[Any]:
        return [*super()._state(texts), [part._state(texts) for part in self.parts]]

    def evidence(self, texts: Sequence[str]) -> list[Evidence]:
        rows = zip(*(part.evidence(texts) for part in self.parts), strict=True)
        return [Evidence(self._mean([e.probabilities for e in row])) for row in rows]

    def calibrate(self, rows: Sequence[Row], gold: Sequence[str]) -> float:
        """Calibrate each part, then their mean."""
        for part in self.parts:
            part.calibrate(rows, gold)
        return super().calibrate(rows, gold)

    def _mean(self, predictions: Sequence[dict[str, float]]) -> dict[str, float]:
        mean = dict.fromkeys((label for probabilities in predictions for label in probabilities), 0.0)
        for part, weight, probabilities in zip(self.parts, self.weights, predictions, strict=True):
            for label, p in sharpen(probabilities, part.temperature).items():
                mean[label] += weight / sum(self.weights) * p
        return mean


class LLMClassifier(Classifier):
    """A language model that chooses among all labels from fixed examples, without retrieval.

    examples: (text, label) pairs that the model reads before every text; their labels are the candidates. All
    prompts begin with them, so they are read once, with the first text. Other arguments: as for
    RAGLLMClassifier.
    """

    def __init__(
        self,
        examples: Sequence[tuple[str, str]],
        model_name: str = "chat",
        device: str = "auto",
        *,
        manager: ModelManager | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.examples, self.labels = tuple(examples), sorted({label for _, label in examples})
        check_labels(self.labels)
        self.model = scoring_model(model_name, device, manager)
        # the loaded model -> its KV cache (computed state) of the examples; unloading the model frees both
        self._read: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_read"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _read=WeakKeyDictionary())  # another process reads the examples itself

    def __repr__(self) -> str:
        counts = f"{len(self.examples)} examples, {len(self.labels)} labels"
        return f"LLMClassifier({counts}, {self.model.spec.name!r})"

    def _state(self, texts: Sequence[str]) -> list[Any]:
        return [*super()._state(texts), loading_options(self.model), digest(self.examples)]

    def evidence(self, texts: Sequence[str]) -> list[Evidence]:
        prompts = [label_prompt(text, self.examples) for text in texts]
        with self.model.engine() as engine:
            if engine not in self._read:
                # Two prompts that differ right after the examples: their common beginning is read once.
                two = [label_prompt(text, self.examples) for text in ("a", "1")]
                self._read[engine] = engine.read_prefix(two)
            scores = score_labels(engine, prompts, [self.labels] * len(prompts), self._read[engine])
        return [Evidence({label: float(np.exp(s)) for label, s in row.items()}) for row in scores]


def embed(embeddings: Embeddings, texts: Sequence[str]) -> NDArray[np.float32]:
    """Return the vectors of texts, as queries if the embedder treats queries and passages differently."""
    call = getattr(embeddings, "embed_queries", embeddings.embed_documents)
    return np.array(call(list(texts)), np.float32)


def evidence_of(labels: Sequence[object], scores: NDArray[np.float64]) -> list[Evidence]:
    """Return the softmax of each text's scores as its label probabilities.

    scores: (texts, labels), or for two labels (texts,): scikit-learn's score of the second.
    """
    if scores.ndim == 1:
        scores = np.column_stack([-scores, scores])
    return [Evidence(dict(zip(map(str, labels), row, strict=True))) for row in softmax(scores).tolist()]


def check_labels(labels: Sequence[str]) -> None:
    """Raise CourseError for fewer than two different labels."""
    if len(set(labels)) < 2:
        what = f"{len(set(labels))} different labels; at least 2 are needed"
        raise CourseError(what, "give examples of every label")


def check_fitted(classifier: Classifier) -> None:
    """Raise CourseError if the classifier has not been fitted."""
    if not hasattr(classifier, "_model"):
        what = f"this {type(classifier).__name__} has not been fitted"
        raise CourseError(what, "classifier.fit(texts, labels)")
