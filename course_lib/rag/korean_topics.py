"""Tell for which topic a Korean question asks, such as the annual fee of credit cards.

The 216 topics are those of `rag.topics`. A linear classifier of the pieces of a question's words learned them
from questions that were written for it; no question of the exam is among them (models/haneul-topics).
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from course_lib import data
from course_lib.rag.evaluate import softmax
from course_lib.rag.topics import FOLDER

WEIGHTS_FILE, TOPICS_FILE = "korean.safetensors", "korean.json"
FEATURES = 4096  # into which the pieces are hashed
SCALE = 8.0  # of the features, before the classifier


class KoreanTopics(NamedTuple):
    """The topics, and what tells them apart.

    names: such as "credit_card.annual_fee". labels: in Korean. forms: how often an answer has which
    `exam.statements.shape`, in other banks. weights, bias: (FEATURES, topics) and (topics,).
    """

    names: Sequence[str]
    labels: Sequence[str]
    forms: Sequence[Mapping[str, float]]
    weights: NDArray[np.float32]
    bias: NDArray[np.float32]

    def asked(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the probabilities (texts, topics) of questions without the names of products."""
        return softmax(pieces(texts) @ self.weights + self.bias)


def pieces(texts: Sequence[str]) -> Any:
    """Return a sparse matrix (texts, FEATURES): how often each has which pieces of one to three letters."""
    from sklearn.feature_extraction.text import HashingVectorizer

    hashing = HashingVectorizer(
        analyzer="char_wb", ngram_range=(1, 3), n_features=FEATURES, alternate_sign=False
    )
    return SCALE * hashing.transform(texts).sqrt()


@functools.cache
def korean_topics() -> KoreanTopics:
    """Return the topics that ship with the course. Raises CourseError for missing or altered files."""
    from safetensors.numpy import load_file

    data.verify(FOLDER, data.restore("models/haneul-topics"))
    known = json.loads((FOLDER / TOPICS_FILE).read_text("utf-8"))
    layer = {name: array.astype(np.float32) for name, array in load_file(FOLDER / WEIGHTS_FILE).items()}
    labels, forms = ([topic[key] for topic in known.values()] for key in ("label", "forms"))
    return KoreanTopics(list(known), labels, forms, layer["weight"].T, layer["bias"])
