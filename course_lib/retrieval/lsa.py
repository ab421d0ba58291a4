"""Latent semantic analysis (Deerwester et al. 1990): an embedder fitted on the documents themselves, in seconds and any language.

A document is a long row of how often each pair and triple of its characters occurs, weighted by rarity (TF-IDF); the SVD keeps
the few directions in which rows differ most. It knows no word that the documents lack, and no synonym that they do not show:
it is the honest small stand-in where no trained model for a language is at hand, as for Korean in the tiny tier.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from langchain_core.embeddings import Embeddings
from numpy.typing import NDArray

from course_lib.errors import CourseError
from course_lib.retrieval.dense import unit_vectors
from course_lib.retrieval.documents import write_array

NGRAMS = (2, 3)  # characters
SPACES = re.compile(r"\s\s+")  # taken for one, as scikit-learn's own n-grams do


def _ngrams(text: str) -> Iterator[str]:
    """One after the other: all those of a book at once would fill the memory."""
    text = SPACES.sub(" ", unicodedata.normalize("NFC", text).lower())
    return (text[i : i + n] for n in NGRAMS for i in range(len(text) - n + 1))


class LSA(Embeddings):
    """LangChain Embeddings; vectors of length 1, or of zeros for a text of which nothing is known.

    terms: term, an n-gram of characters, -> its column. idf: (terms,). directions: (dimensions, terms). Made by `fit`.
    """

    FILES = ("terms.json", "idf.npy", "directions.npy")

    def __init__(self, terms: dict[str, int], idf: NDArray[Any], directions: NDArray[Any]) -> None:
        if directions.shape != (len(directions), len(terms)) or idf.shape != (len(terms),):
            raise CourseError(
                f"{len(terms)} terms, idf {idf.shape}, directions {directions.shape}", "fit it anew"
            )
        self.terms, self.idf, self.directions = terms, idf, directions
        self._tfidf = self._vectorizer(vocabulary=terms)
        self._tfidf.idf_ = idf

    @staticmethod
    def _vectorizer(**options: Any) -> Any:
        from sklearn.feature_extraction.text import TfidfVectorizer

        return TfidfVectorizer(analyzer=_ngrams, sublinear_tf=True, dtype=np.float32, **options)

    @classmethod
    def fit(cls, texts: Sequence[str], dimensions: int = 256, rarest: int = 2) -> LSA:
        """Learn from texts. dimensions: at most; fewer where there are fewer texts. rarest: in how many texts an n-gram must be.

        Raises CourseError for a number below 1, and where no n-gram is in so many texts.
        """
        from sklearn.decomposition import TruncatedSVD

        if dimensions < 1 or rarest < 1:
            raise CourseError(f"dimensions={dimensions}, rarest={rarest}", "both are 1 or more")
        vectorizer = cls._vectorizer(min_df=min(rarest, max(len(texts), 1)))
        try:
            rows = vectorizer.fit_transform(texts)
            with np.errstate(invalid="ignore"):  # of one text, it divides by a variance of 0
                directions = TruncatedSVD(min(dimensions, *rows.shape), random_state=0).fit(rows).components_
        except (
            ValueError
        ) as error:  # scikit-learn: "empty vocabulary", "After pruning, no terms remain", "with 1 feature"
            raise CourseError(
                f"{len(texts)} texts have too few of {NGRAMS[0]} or {NGRAMS[1]} characters in common: {error}",
                "fit it on more texts, or with rarest=1",
            ) from error
        terms = {
            str(term): int(column)
            for term, column in sorted(vectorizer.vocabulary_.items(), key=lambda pair: pair[1])
        }
        return cls(terms, vectorizer.idf_.astype(np.float32), directions.astype(np.float32))

    def vectors(self, texts: Sequence[str]) -> NDArray[Any]:
        """(texts, dimensions), float32."""
        return unit_vectors(self._tfidf.transform(texts) @ self.directions.T, len(texts))

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """A vector for each text."""
        return self.vectors(texts).tolist() if texts else []

    embed_queries = embed_documents  # a question is a text like any other

    def embed_query(self, text: str) -> list[float]:
        """The vector of one text."""
        return self.embed_documents([text])[0]

    # -- to and from files: numbers and names, nothing that could run

    def save(self, folder: Path) -> None:
        """Write FILES."""
        (folder / "terms.json").write_text(json.dumps(list(self.terms), ensure_ascii=False), encoding="utf-8")
        write_array(folder / "idf.npy", self.idf)
        write_array(folder / "directions.npy", self.directions)

    @classmethod
    def load(cls, folder: Path) -> LSA:
        """Read what `save` wrote. Raises CourseError for files that do not belong together."""
        terms = json.loads((folder / "terms.json").read_text("utf-8"))
        idf, directions = (
            np.load(folder / f"{name}.npy", allow_pickle=False) for name in ("idf", "directions")
        )
        return cls({term: column for column, term in enumerate(terms)}, idf, directions)
