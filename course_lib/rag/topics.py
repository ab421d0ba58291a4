"""Estimate whether a handbook contains the answer to a question about one of its products.

The topic of a question is the attribute that it asks for, such as a credit card's annual fee. Two linear
classifiers over sentence embeddings know 216 topics, which they learned from the handbooks of other banks
(models/haneul-topics). The classifier "asked" reads a question, "stated" reads each sentence of the handbook.
Both read "product" in place of a product's name, which tells nothing about the topic.
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
SCALE = 10.0  # factor of the unit-length embeddings before a classifier
SMOOTHING = 0.01  # keeps the log-odds of 0 and 1 finite


class StatedTopics:
    """Estimates whether the passages about a question's product state what it asks.

    passages: of a handbook. names: of its products. Only passages that contain the product's name count. In
    these, sentences that name only other products are skipped: they may state the same attribute of those.
    """

    def __init__(self, passages: Sequence[Source], names: Collection[str]) -> None:
        self.passages, self.names = passages, names
        longest = sorted(names, key=len, reverse=True)
        self._name = re.compile("|".join(map(re.escape, longest)) or r"(?!)", re.IGNORECASE)
        self._stated = functools.cache(self._highest)
        self._probabilities = functools.cache(self._read)

    def named(self, question: str) -> str:
        """Return the longest product name in a question, in lower case; "" if there is none."""
        return max(self._named_in(question), key=len, default="")

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
            stated = self._stated(name)
            kinds = _weights()["kinds"]  # topic -> number of its kind of product, such as credit cards
            kind = np.bincount(kinds, stated).argmax()  # the product's own kind: most is stated of its topics
            asked = _probabilities("asked", [self._name.sub(PRODUCT, question)])[0] * (kinds == kind)
            share = float(asked @ stated / asked.sum())  # expected probability that the asked topic is stated
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
        nothing = np.zeros(len(_weights()["kinds"]), np.float32)  # the name may only be part of longer ones
        highest: NDArray[np.float32] = np.max([nothing, *rows], axis=0)
        return highest

    def _read(self, source: Source) -> tuple[list[set[str]], NDArray[np.float32]]:
        """Return the names in each sentence of a passage, and in its title, and the topics' probabilities."""
        texts = [source.title, *statements(source.text)]
        hidden = [self._name.sub(PRODUCT, text) for text in texts]
        return [self._named_in(text) for text in texts], _probabilities("stated", hidden)[:, :-1]


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
    return {
        name: array if name == "kinds" else array.astype(np.float32)
        for name, array in load_file(FOLDER / WEIGHTS_FILE).items()
    }
