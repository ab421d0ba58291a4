"""Predict the topic of a Korean question: the attribute that it asks for, such as a credit card's annual fee.

The 216 topics are those of `rag.topics`. A linear classifier over character n-grams predicts them. It was
trained on questions written for it, none of which is in the exam (models/haneul-topics). The exam is the
course's set of questions about its handbook.
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
FEATURES = 4096  # columns into which the n-grams are hashed
SCALE = 8.0  # factor of the features before the classifier


class KoreanTopics(NamedTuple):
    """The topics and the classifier.

    names: such as "credit_card.annual_fee". labels: in Korean. forms: for each topic, the form of an answer,
    such as its unit ("영업일" in "3영업일") -> share of the topic's answers in the training data. weights:
    (FEATURES, topics). bias: (topics,).
    """

    names: Sequence[str]
    labels: Sequence[str]
    forms: Sequence[Mapping[str, float]]
    weights: NDArray[np.float32]
    bias: NDArray[np.float32]

    def asked(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the probabilities (texts, topics) of questions from which product names were removed."""
        return softmax(pieces(texts) @ self.weights + self.bias)


def pieces(texts: Sequence[str]) -> Any:
    """Return the features of texts, a sparse matrix (texts, FEATURES).

    They are scaled square roots of the hashed frequencies of character n-grams, of 1 to 3 characters.
    """
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
