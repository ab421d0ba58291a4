"""Find the nearest labelled texts in a LangChain vector store, and count their labels, for `classifier`."""

from __future__ import annotations

import contextlib
import copy
import itertools
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from course_lib.errors import CourseError

if TYPE_CHECKING:
    from langchain_core.documents import Document
    from langchain_core.vectorstores import VectorStore

PROBES = 64  # texts whose neighbours stand for the contents of a store that cannot list its documents
OTHER = ""  # the key in a distribution for all labels that no neighbour has


def neighbours_of(
    store: VectorStore, texts: Sequence[str], k: int, label_field: str
) -> list[list[tuple[str, str]]]:
    """Return for each text its k nearest stored texts with their labels, the most similar first.

    The texts are embedded in one batch if the store's embedder has `embed_queries`, as the course's embedders
    do, and the store can search by vector. Raises CourseError for a k below 1, for an empty store, and for a
    document whose metadata has no label or an empty one.
    """
    if k < 1:
        raise CourseError(f"k={k}; at least 1 neighbour is needed", "RAGLLMClassifier(vector_store, k=4)")
    found = _search(store, texts, k)
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
        label = document.metadata[label_field]
        if label is None or not str(label).strip():
            what = f"the document {document.page_content!r:.60} has no label: {label_field!r} is empty"
            raise CourseError(what, "add only texts with a label to the vector store")
    return [[(d.page_content, str(d.metadata[label_field])) for d in documents] for documents in found]


def _search(store: VectorStore, texts: Sequence[str], k: int) -> list[list[Document]]:
    if embed := getattr(store.embeddings, "embed_queries", None):
        vectors, store = embed(list(texts)), _with_arrays(store)
        with contextlib.suppress(NotImplementedError):  # raised by a store that cannot search by vector
            return [store.similarity_search_by_vector(vector, k=k) for vector in vectors]
    return [store.similarity_search(text, k=k) for text in texts]


def _with_arrays(store: VectorStore) -> VectorStore:
    """Return a copy of an in-memory store that searches faster, with the same result; other stores as is.

    LangChain's keeps vectors as lists of numbers, which it converts for every search.
    """
    from langchain_core.vectorstores import InMemoryVectorStore

    if type(store) is not InMemoryVectorStore:
        return store
    faster = copy.copy(store)
    faster.store = {
        key: {**document, "vector": np.array(document["vector"])} for key, document in store.store.items()
    }
    return faster


def stored_labels(
    store: VectorStore, texts: Sequence[str], k: int, label_field: str
) -> list[tuple[str, str]]:
    """Return the stored texts with their labels, sorted, to notice whether the store has changed.

    From a store that cannot list its documents, return only the neighbours of up to PROBES of the `texts`.
    """
    if (documents := _documents(store)) is not None:
        return sorted((text, str(metadata.get(label_field))) for text, metadata in documents)
    probes = texts[:: -(-len(texts) // PROBES) or 1]
    return sorted(set(itertools.chain.from_iterable(neighbours_of(store, probes, k, label_field))))


def _documents(store: VectorStore) -> list[tuple[str, dict[str, object]]] | None:
    """Return texts and metadata of LangChain's InMemoryVectorStore and FAISS; None for another store.

    The interface of vector stores has no method that lists the documents.
    """
    if isinstance(rows := getattr(store, "store", None), dict):
        return [(row["text"], row["metadata"]) for row in rows.values()]
    if isinstance(rows := getattr(getattr(store, "docstore", None), "_dict", None), dict):
        return [(document.page_content, document.metadata) for document in rows.values()]
    return None


def vote(neighbours: Sequence[tuple[str, str]]) -> dict[str, float]:
    """Return each label's share of the votes: one vote per neighbour, and one for all other labels together.

    So no label has the probability 0, whose logarithm is infinite.

    >>> vote([("a", "lost"), ("b", "lost"), ("c", "stolen")])
    {'lost': 0.5, 'stolen': 0.25, '': 0.25}
    """
    counts = Counter(label for _, label in neighbours)
    return {label: n / (len(neighbours) + 1) for label, n in counts.items()} | {
        OTHER: 1 / (len(neighbours) + 1)
    }
