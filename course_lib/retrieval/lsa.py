"""Latent semantic analysis (LSA): an embedder that is fitted to the documents in seconds.

A document is a vector of TF-IDF weights of its character bigrams and trigrams (how often it has each, higher
for rare ones), which a truncated SVD reduces to a few hundred dimensions (Deerwester et al. 1990). LSA knows
only what the documents contain. The course uses it where it has no trained embedding model: for Korean with
its smallest models (tier `tiny`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from langchain_core.embeddings import Embeddings
from numpy.typing import NDArray

from course_lib.errors import CourseError, check_text
from course_lib.retrieval.documents import string_error
from course_lib.retrieval.tokenize import matching_form
from course_lib.retrieval.vectors import unit_vectors

NGRAM_LENGTHS = (2, 3)  # characters
SPACES = re.compile(r"\s\s+")  # replaced by one space, as in scikit-learn's own n-grams


def _ngrams(text: str) -> Iterator[str]:
    """Yield the n-grams one by one, because a list of all n-grams of a book would need too much memory."""
    text = SPACES.sub(" ", matching_form(text).lower())
    return (text[i : i + n] for n in NGRAM_LENGTHS for i in range(len(text) - n + 1))


class LSA(Embeddings):
    """An embedder with LangChain's interface; create it with `fit`.

    Vectors have length 1, but a text without any known n-gram has a vector of zeros. terms: n-gram -> column.
    idf: the weight of each n-gram, higher for rarer ones, (terms,). components: The SVD's right singular
    vectors, (dimensions, terms). Raises CourseError for arrays of other shapes.
    """

    FILES = ("terms.json", "lsa.safetensors")
    # Default weight of an LSA index in hybrid search. With 0.7, hybrid search is worse than BM25 (search by
    # words) alone on the test collections KorQuAD and NPL.
    default_alpha = 0.5

    def __init__(self, terms: dict[str, int], idf: NDArray[Any], components: NDArray[Any]) -> None:
        if components.shape != (len(components), len(terms)) or idf.shape != (len(terms),):
            raise CourseError(
                f"{len(terms)} terms do not match idf {idf.shape} and components {components.shape}",
                "LSA.fit(texts)",
            )
        self.terms, self.idf, self.components = terms, idf, components
        self._tfidf = self._vectorizer(vocabulary=terms)
        self._tfidf.idf_ = idf

    def __repr__(self) -> str:
        return (
            f"LSA({len(self.components)} dimensions, {len(self.terms)} n-grams of {NGRAM_LENGTHS} characters)"
        )

    @staticmethod
    def _vectorizer(**options: Any) -> Any:
        from sklearn.feature_extraction.text import TfidfVectorizer

        return TfidfVectorizer(analyzer=_ngrams, sublinear_tf=True, dtype=np.float32, **options)

    @classmethod
    def fit(cls, texts: Sequence[str], dimensions: int = 256, min_df: int = 2) -> LSA:
        """Fit an embedder to texts.

        dimensions: The maximum length of a vector; with fewer texts, vectors are shorter. min_df: N-grams
        that occur in fewer texts are ignored. Raises CourseError for values below 1, for a single string, and
        if no n-gram occurs in enough texts.
        """
        from sklearn.decomposition import TruncatedSVD

        if isinstance(texts, str):
            raise string_error("texts", texts)
        for text in texts:
            check_text(text)
        if dimensions < 1 or min_df < 1:
            raise CourseError(
                f"dimensions={dimensions}, min_df={min_df}; both must be at least 1", "LSA.fit(texts)"
            )
        vectorizer = cls._vectorizer(min_df=min(min_df, max(len(texts), 1)))
        try:
            rows = vectorizer.fit_transform(texts)
            with np.errstate(invalid="ignore"):  # the variance of one text is 0
                svd = TruncatedSVD(min(dimensions, *rows.shape), random_state=0).fit(rows)
        except ValueError as error:  # of scikit-learn: an empty vocabulary, or a single feature
            raise CourseError(
                f"{len(texts)} texts share too few n-grams of {NGRAM_LENGTHS} characters: {error}",
                "LSA.fit(texts, min_df=1)",
            ) from error
        by_column = sorted(vectorizer.vocabulary_.items(), key=lambda pair: pair[1])
        terms = {str(term): int(column) for term, column in by_column}
        return cls(terms, vectorizer.idf_.astype(np.float32), svd.components_.astype(np.float32))

    def vectors(self, texts: Sequence[str]) -> NDArray[Any]:
        """Return the vectors of texts, (texts, dimensions), float32. Raises as `check_text` does."""
        for text in texts:
            check_text(text)
        return unit_vectors(self._tfidf.transform(texts) @ self.components.T, len(texts))

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return a vector for each text. Raises CourseError for a single string."""
        if isinstance(texts, str):
            raise string_error("texts", texts)
        return self.vectors(texts).tolist() if texts else []

    embed_queries = embed_documents  # queries are embedded like any other text

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of a query."""
        return self.embed_documents([text])[0]

    def save(self, folder: Path) -> None:
        """Write FILES to a folder, creating it if needed."""
        from safetensors.numpy import save

        folder.mkdir(parents=True, exist_ok=True)
        terms = json.dumps(list(self.terms), ensure_ascii=False)
        (folder / "terms.json").write_text(terms, encoding="utf-8")
        arrays = {"idf": self.idf, "components": np.ascontiguousarray(self.components)}
        (folder / "lsa.safetensors").write_bytes(save(arrays))

    @classmethod
    def load(cls, folder: Path) -> LSA:
        """Load an embedder that `save` wrote. Raises CourseError if the sizes in the files do not match."""
        from safetensors.numpy import load_file

        terms = json.loads((folder / "terms.json").read_text("utf-8"))
        arrays = load_file(folder / "lsa.safetensors")
        return cls({term: column for column, term in enumerate(terms)}, arrays["idf"], arrays["components"])
