"""Tell whether a handbook states what a question about one of its products asks.

What is asked, such as a card's annual fee, is a topic. Two linear classifiers over sentence embeddings
learned 216 topics from the handbooks of other banks (models/haneul-topics): one reads the question, the other
each sentence. Both read "product" in place of a product's name, which tells nothing about the topic.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from course_lib import data
from course_lib.models import catalog
from course_lib.models.manager import ModelManager
from course_lib.rag.evaluate import softmax
from course_lib.rag.prompt import Source
from course_lib.retrieval.sentences import statements

FOLDER = data.MODELS / "haneul-topics"
WEIGHTS_FILE = "topics.safetensors"
PRODUCT = "product"  # stands for the name of a product
SCALE = 10.0  # of an embedding of length 1, before a classifier
SMOOTHING = 0.01  # keeps the log-odds of 0 and 1 finite


class StatedTopics:
    """How likely the passages about a question's product state what it asks.

    passages: of a handbook. names: of its products; a passage is about those that it names. A sentence that
    names other products only does not count: one about a sibling states the same topic.
    """

    def __init__(self, passages: Sequence[Source], names: Collection[str]) -> None:
        self.passages, self.names = passages, names
        longest = sorted(names, key=len, reverse=True)
        self._name = re.compile("|".join(map(re.escape, longest)) or r"(?!)", re.IGNORECASE)
        self._stated = functools.cache(self._highest)
        self._probabilities = functools.cache(self._read)

    def named(self, question: str) -> str:
        """Return the longest name in a question, in lower case; "" without one."""
        return max(self._named_in(question), key=len, default="")

    def about(self, name: str, passages: Sequence[Source] | None = None) -> list[Source]:
        """Return the passages, by default all, with a name, which is in lower case."""
        chosen = self.passages if passages is None else passages
        return [source for source in chosen if name in f"{source.title}\n{source.text}".lower()]

    def log_odds(self, question: str) -> float:
        """Return the log-odds of "the handbook states it", from -4.6 to 4.6.

        -4.6 for a question without a product's name, and for a product that no passage names.
        """
        name, share = self.named(question), 0.0
        if name and self.about(name):
            stated = self._stated(name)
            kinds = _weights()["kinds"]
            kind = np.bincount(kinds, stated).argmax()
            asked = _probabilities("asked", [self._name.sub(PRODUCT, question)])[0] * (kinds == kind)
            share = float(asked @ stated / asked.sum())
        return math.log((share + SMOOTHING) / (1 - share + SMOOTHING))

    def _named_in(self, text: str) -> set[str]:
        return {name.lower() for name in self._name.findall(text)}

    def _highest(self, name: str) -> NDArray[np.float32]:
        """Return for each topic the probability of the sentence about a product that states it best."""
        rows = [
            row
            for source in self.about(name)
            for names, row in zip(*self._probabilities(source), strict=True)
            if name in names or not names
        ]
        highest: NDArray[np.float32] = np.max(rows, axis=0)
        return highest

    def _read(self, source: Source) -> tuple[list[set[str]], NDArray[np.float32]]:
        """Return the names in each sentence of a passage, and in its title, and the topics' probabilities."""
        texts = [source.title, *statements(source.text)]
        hidden = [self._name.sub(PRODUCT, text) for text in texts]
        return [self._named_in(text) for text in texts], _probabilities("stated", hidden)[:, :-1]


def _probabilities(classifier: str, texts: Sequence[str]) -> NDArray[np.float32]:
    """Return (texts, topics), each row with the sum 1. "stated" has a last column for no topic."""
    embedder = ModelManager.shared().get_embedding_model(catalog.MINILM)
    weights = _weights()
    vectors = np.asarray(embedder.embed_documents(list(texts)), dtype=np.float32)
    return softmax(SCALE * vectors @ weights[f"{classifier}.weight"].T + weights[f"{classifier}.bias"])


@functools.cache
def _weights() -> dict[str, Any]:
    from safetensors.numpy import load_file

    data.verify(FOLDER, data.restore("models/haneul-topics"))
    return {
        name: array if name == "kinds" else array.astype(np.float32)
        for name, array in load_file(FOLDER / WEIGHTS_FILE).items()
    }
