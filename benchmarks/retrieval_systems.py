"""The systems of benchmarks/retrieval.py: functions from documents and vectors to a search."""

import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import bm25s
import faiss
import numpy as np
import rank_bm25
from langchain_classic.retrievers import EnsembleRetriever
from langchain_community.retrievers import BM25Retriever
from langchain_community.vectorstores import FAISS
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings

from course_lib.atomic import atomic_file
from course_lib.retrieval import BM25, LSA, Dense, HybridRetriever, Tokenizer
from course_lib.retrieval.fusion import Fusion
from course_lib.retrieval.public_sets import Collection

Search = Callable[[str, int], list[str]]  # question, k -> ids
Builder = Callable[
    [dict[str, str], Embeddings], Search
]  # documents and what knows their vectors -> a way to search them
Cut = Callable[[str], list[str]]
SPLIT = Tokenizer("spaces")
BIGRAMS = Tokenizer(
    "bigrams", stop_words=True, stem=True
)  # the words of every hybrid; stems lose on TAT-QA, and stay
CANDIDATES = HybridRetriever.model_fields["candidates"].default
ALPHA = HybridRetriever.model_fields["alpha"].default
AT_ONCE = (
    50_000  # documents that are added together: a million vectors at once would need several GB for a moment
)

# The course's index uses one thread for a query: on a busy machine it would wait 20 ms for a second one.
# Its peers' FAISS gets one thread, too, for a fair comparison.
faiss.omp_set_num_threads(1)


# -- vectors, computed once for all systems ------------------------------------------------------------------


class Known(Embeddings):
    """Vectors that were computed before, so that no measured time includes embedding.

    Documents' vectors are an array, not LangChain's lists, whose conversion would take as long as indexing.
    """

    def __init__(self, documents: Sequence[str], vectors: Any, questions: Sequence[str], asked: Any) -> None:
        self.places = {text: place for place, text in enumerate(documents)}
        self.vectors, self.asked = vectors, dict(zip(questions, asked, strict=True))

    def embed_documents(self, texts: list[str]) -> Any:
        return self.vectors[[self.places[text] for text in texts]]

    def embed_query(self, text: str) -> list[float]:
        return self.asked[text].tolist()


@dataclass(frozen=True)
class Embedded:
    """A collection's vectors, and how they came about, in words."""

    known: Known
    told: str


def by_lsa(collection: Collection) -> Embedded:
    """Fitted on the documents themselves."""
    texts, questions, begun = (
        list(collection.documents.values()),
        list(collection.queries.values()),
        time.perf_counter(),
    )
    lsa = LSA.fit(texts)
    known = Known(texts, lsa.vectors(texts), questions, lsa.vectors(questions))
    return Embedded(known, f"LSA was fitted and embedded all in {time.perf_counter() - begun:.1f} s")


def by_model(name: str, collection: Collection) -> Embedded:
    """An embedding model. Of a text that is too long for it the beginning, as a user would have to do."""
    from quantization import beginning

    from course_lib.models.manager import ModelManager

    texts, questions = list(collection.documents.values()), list(collection.queries.values())
    manager = ModelManager.shared()
    model = manager.get_embedding_model(name)
    with manager.use(model.spec) as engine:
        cut = [beginning(engine, text) for text in texts]
        prefixes = list(engine.prefixes.values())
    changed = sum(a != b for a, b in zip(cut, texts, strict=True))
    vectors, took = kept([model.spec.name, *prefixes], cut, model.embed_documents)
    asked, longer = kept([model.spec.name, *prefixes, "queries"], questions, model.embed_queries)
    told = (
        f"{model.spec.name} embedded all in {took + longer:.0f} s, "
        f"of {changed:,} long texts the first {engine.context} tokens"
    )
    return Embedded(Known(texts, vectors, questions, asked), told)


def kept(names: list[str], texts: list[str], embed: Callable[[list[str]], Any]) -> tuple[Any, float]:
    """Vectors and the seconds that they took, from a cache if an earlier run computed them."""
    key = hashlib.sha256(json.dumps([names, texts]).encode()).hexdigest()[:24]
    path = Path(tempfile.gettempdir()) / "course-benchmark-vectors" / f"{key}.npz"
    if not path.exists():
        begun = time.perf_counter()
        vectors = np.array(embed(texts), np.float32)
        with atomic_file(path) as partial, partial.open("wb") as file:
            np.savez(file, vectors=vectors, seconds=time.perf_counter() - begun)
    with np.load(path, allow_pickle=False) as found:
        return found["vectors"], float(found["seconds"])


# -- by words ------------------------------------------------------------------------------------------------


def ours(cut: Cut, k1: float = 1.2) -> Builder:
    def build(documents: dict[str, str], embeddings: Embeddings) -> Search:
        index = BM25(cut, k1=k1)
        index.add(documents)
        return lambda question, k: [hit.id for hit in index.search(question, k)]

    return build


def by_rank_bm25(cut: Cut) -> Builder:
    """As tutorials have it, ties and documents without a hit as numpy's argsort leaves them."""

    def build(documents: dict[str, str], embeddings: Embeddings) -> Search:
        index, ids = rank_bm25.BM25Okapi([cut(text) for text in documents.values()]), list(documents)
        return lambda question, k: index.get_top_n(cut(question), ids, k)

    return build


def by_bm25s(cut: Cut) -> Builder:
    """Without numba, which would compile for seconds at the first question."""

    def build(documents: dict[str, str], embeddings: Embeddings) -> Search:
        index, ids = bm25s.BM25(method="lucene", k1=1.5, b=0.75, backend="numpy"), np.array(list(documents))
        index.index([cut(text) for text in documents.values()], show_progress=False)

        def search(question: str, k: int) -> list[str]:
            found = index.retrieve([cut(question)], k=min(k, len(ids)), show_progress=False).documents
            return ids[found[0]].tolist()

        return search

    return build


def bm25s_words(text: str) -> list[str]:
    """The tokens of bm25s' README: words of two letters and more, without English stop words."""
    return bm25s.tokenize([text], stopwords="en", return_ids=False, show_progress=False)[0]


# -- by meaning, and by both ---------------------------------------------------------------------------------


def pieces(documents: dict[str, str]) -> Iterator[dict[str, str]]:
    rest = iter(documents.items())
    while piece := dict(islice(rest, AT_ONCE)):
        yield piece


def dense(kind: str = "flat") -> Builder:
    def build(documents: dict[str, str], embeddings: Embeddings) -> Search:
        index = Dense(embeddings, kind=kind)
        for piece in pieces(documents):
            index.add(piece)
        return lambda question, k: [hit.id for hit in index.search(question, k)]

    return build


def retriever(documents: dict[str, str], embeddings: Embeddings, **settings: Any) -> HybridRetriever:
    index = HybridRetriever.from_documents({}, embeddings, lexical=BIGRAMS, **settings)
    for piece in pieces(documents):
        index.add_documents(piece)
    return index


def hybrid(fusion: Fusion | None = None) -> Builder:
    """With every setting at its default, or another fusion."""

    def build(documents: dict[str, str], embeddings: Embeddings) -> Search:
        index = retriever(documents, embeddings)
        return lambda question, k: [hit.id for hit in index.search(question, k, fusion=fusion)]

    return build


def explained(kind: str = "flat") -> Builder:
    """All that a reader of a hit sees: as many hits as are the default, each with its explanation."""

    def build(documents: dict[str, str], embeddings: Embeddings) -> Search:
        index = retriever(documents, embeddings, kind=kind)

        def search(question: str, k: int) -> list[str]:
            hits = index.search(question)
            for hit in hits:
                index.explain(hit)
            return [hit.id for hit in hits]

        return search

    return build


def ensemble(documents: dict[str, str], embeddings: Embeddings) -> Search:
    """As in most tutorials: rank-bm25 over split(), FAISS and RRF; weights and candidates are ours."""
    texts = [Document(id=doc_id, page_content=text) for doc_id, text in documents.items()]
    by_words = BM25Retriever.from_documents(texts, k=CANDIDATES)
    by_meaning = FAISS.from_documents(texts, embeddings).as_retriever(search_kwargs={"k": CANDIDATES})
    both = EnsembleRetriever(retrievers=[by_words, by_meaning], weights=[1 - ALPHA, ALPHA])
    return lambda question, k: [str(document.id) for document in both.invoke(question)][:k]
