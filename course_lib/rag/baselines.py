"""Baselines for `RAGLLMClassifier`: logistic regression, and a language model without retrieval.

`NeighbourClassifier`, and RAGLLMClassifier with a weight below 1, are the other two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from course_lib.errors import CourseError
from course_lib.rag.classifier import Classifier, Evidence, score_labels, scoring_model
from course_lib.rag.evaluate import softmax
from course_lib.rag.prompt import label_prompt

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

    from course_lib.models.manager import ModelManager


@dataclass(repr=False)
class LinearClassifier(Classifier):
    """A linear classifier on embeddings, fitted by `fit`.

    embeddings: any LangChain Embeddings. C: the inverse strength of regularisation. words: 0 for logistic
    regression on the embeddings alone; above 0, the weight of TF-IDF features of words and of parts of words
    beside them, with a support vector machine (Fan et al. 2008), which is faster on so many features.
    """

    embeddings: Embeddings
    C: float = field(default=10.0, kw_only=True)
    words: float = field(default=0.0, kw_only=True)

    def __repr__(self) -> str:
        return f"LinearClassifier({type(self.embeddings).__name__}, C={self.C}, words={self.words})"

    def fit(self, texts: Sequence[str], labels: Sequence[str]) -> LinearClassifier:
        """Fit it to labelled texts. Raises CourseError for fewer than two different labels."""
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.svm import LinearSVC

        if len(set(labels)) < 2:
            raise CourseError(
                f"{len(set(labels))} different labels; at least 2 are needed", "fit(texts, labels)"
            )
        common = {"sublinear_tf": True, "min_df": 2}
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
        return self

    def evidence(self, texts: Sequence[str]) -> list[Evidence]:
        if not hasattr(self, "_model"):
            raise CourseError("this LinearClassifier has not been fitted", "classifier.fit(texts, labels)")
        scores = self._model.decision_function(self._features(texts))
        if scores.ndim == 1:  # of two labels, sklearn returns the score of the second
            scores = np.column_stack([-scores, scores]) / (1 if self.words else 2)
        labels = [str(label) for label in self._model.classes_]
        return [Evidence(dict(zip(labels, row, strict=True))) for row in softmax(scores).tolist()]

    def _features(self, texts: Sequence[str]) -> Any:
        from scipy.sparse import csr_matrix, hstack

        texts = list(texts)
        embed = getattr(self.embeddings, "embed_queries", self.embeddings.embed_documents)
        vectors = np.array(embed(texts), np.float32)
        if not self._counters:
            return vectors
        return hstack(
            [csr_matrix(vectors), *(self.words * c.transform(texts) for c in self._counters)]
        ).tocsr()


class LLMClassifier(Classifier):
    """A language model that chooses among all labels from fixed examples, without retrieval.

    examples: (text, label) pairs that the model reads before every text; their labels are the candidates. All
    prompts begin with them, so each batch reads them once. Other arguments: as for RAGLLMClassifier.
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
        if len(self.labels) < 2:
            raise CourseError(
                f"{len(self.labels)} different labels; at least 2 are needed", "one example per label"
            )
        self.model = scoring_model(model_name, device, manager)

    def __repr__(self) -> str:
        counts = f"{len(self.examples)} examples, {len(self.labels)} labels"
        return f"LLMClassifier({counts}, {self.model.spec.name!r})"

    def evidence(self, texts: Sequence[str]) -> list[Evidence]:
        prompts = [label_prompt(text, self.examples) for text in texts]
        scores = score_labels(self.model, prompts, [self.labels] * len(prompts))
        return [Evidence({label: float(np.exp(s)) for label, s in row.items()}) for row in scores]
