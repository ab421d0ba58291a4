"""Estimate whether a handbook contains the answer to a question about one of its products.

The topic of a question is the attribute that it asks for, such as a credit card's annual fee. Two linear
classifiers over sentence embeddings know 216 topics, which they learned from the handbooks of other banks
(models/haneul-topics). The classifier "asked" reads a question, "stated" reads each sentence of the handbook.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from course_lib import data
from course_lib.models import catalog
from course_lib.models.manager import ModelManager
from course_lib.rag.evaluate import softmax
from course_lib.rag.prompt import Source
from course_lib.retrieval.sentences import split_sentences

FOLDER = data.MODELS / "haneul-topics"
WEIGHTS_FILE = "topics.safetensors"
SCALE = 10.0  # factor of the unit-length embeddings before a classifier
SMOOTHING = 0.01  # keeps the log-odds of 0 and 1 finite


class StatedTopics:
    """Estimates whether the passages about a question's product state what it asks.

    passages: of a handbook. names: of its products. Only passages that name the product in question count,
    since a passage about another product may state the same attribute.
    """

    def __init__(self, passages: Sequence[Source], names: Collection[str]) -> None:
        self.passages, self.names = passages, names
        self._stated = functools.cache(self._highest)

    def named(self, question: str) -> str:
        """Return the longest product name in a question, in lower case; "" if there is none."""
        found = (name.lower() for name in self.names if name.lower() in question.lower())
        return max(found, key=len, default="")

    def about(self, name: str, passages: Sequence[Source] | None = None) -> list[Source]:
        """Return the passages that contain a product name. passages: by default all. name: in lower case."""
        chosen = self.passages if passages is None else passages
        return [source for source in chosen if name in f"{source.title}\n{source.text}".lower()]

    def log_odds(self, question: str) -> float:
        """Return the log-odds of "the handbook states it", from -4.6 to 4.6.

        It is -4.6 for a question without a product name, and for a product that no passage names.
        """
        name, share = self.named(question), 0.0
        if name and self.about(name):
            share = float(_probabilities("asked", [question])[0] @ self._stated(name))
        return math.log((share + SMOOTHING) / (1 - share + SMOOTHING))

    def _highest(self, name: str) -> NDArray[np.float32]:
        """Return, for each topic, the highest probability that a sentence about the product states it."""
        highest: NDArray[np.float32] = np.max([_stated(source) for source in self.about(name)], axis=0)
        return highest


@functools.cache  # a passage may name several products
def _stated(source: Source) -> NDArray[np.float32]:
    """Return, for each topic, the highest probability that a sentence (or the title) states it."""
    probabilities = _probabilities("stated", [source.title, *sentences(source.text)])
    highest: NDArray[np.float32] = probabilities[:, :-1].max(axis=0)
    return highest


def sentences(text: str) -> Iterator[str]:
    """Yield the sentences of a text; a line break also ends a sentence."""
    for line in text.split("\n"):
        yield from filter(None, map(str.strip, split_sentences(line)))


def _probabilities(classifier: str, texts: Sequence[str]) -> NDArray[np.float32]:
    """Return probabilities (texts, topics). "stated" has a last column for sentences without a topic."""
    embedder = ModelManager.shared().get_embedding_model(catalog.MINILM)
    weights = _weights()
    vectors = np.asarray(embedder.embed_documents(list(texts)), dtype=np.float32)
    return softmax(SCALE * vectors @ weights[f"{classifier}.weight"].T + weights[f"{classifier}.bias"])


@functools.cache
def _weights() -> dict[str, Any]:
    from safetensors.numpy import load_file

    data.verify(FOLDER, data.restore("models/haneul-topics"))
    return {name: array.astype(np.float32) for name, array in load_file(FOLDER / WEIGHTS_FILE).items()}
