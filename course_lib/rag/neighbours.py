"""Find the nearest labelled texts in a LangChain vector store, and count their labels."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from course_lib.errors import CourseError

if TYPE_CHECKING:
    from langchain_core.vectorstores import VectorStore

OTHER = ""  # stands for every label that is not a candidate, in a distribution


def neighbours_of(
    store: VectorStore, texts: Sequence[str], k: int, label_field: str
) -> list[list[tuple[str, str]]]:
    """Return the k nearest labelled (text, label) pairs of each text, the most similar first.

    The texts are embedded in one batch where the store's embedder can (`embed_queries`). Raises CourseError
    for an empty store and for a document whose metadata has no label.
    """
    embed = getattr(store.embeddings, "embed_queries", None)
    try:
        if embed is None:
            raise NotImplementedError
        found = [store.similarity_search_by_vector(v, k=k) for v in embed(list(texts))]
    except NotImplementedError:
        found = [store.similarity_search(text, k=k) for text in texts]
    if not all(found):
        raise CourseError(
            f"{type(store).__name__} found no document", "add labelled texts to the vector store"
        )
    for document in itertools.chain.from_iterable(found):
        if label_field not in document.metadata:
            what = (
                f"a document has no metadata {label_field!r}; it has {', '.join(document.metadata) or 'none'}"
            )
            raise CourseError(what, 'RAGLLMClassifier(vector_store, label_field="intent")')
    return [[(d.page_content, str(d.metadata[label_field])) for d in documents] for documents in found]


def vote(neighbours: Sequence[tuple[str, str]]) -> dict[str, float]:
    """Return each label's share of the neighbours, where one more vote goes to `OTHER`.

    >>> vote([("a", "lost"), ("b", "lost"), ("c", "stolen")])
    {'lost': 0.5, 'stolen': 0.25, '': 0.25}
    """
    counts = Counter(label for _, label in neighbours)
    return {label: n / (len(neighbours) + 1) for label, n in counts.items()} | {
        OTHER: 1 / (len(neighbours) + 1)
    }
