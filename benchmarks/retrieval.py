"""Quality, speed and size of the course's search beside rank-bm25, bm25s and LangChain's EnsembleRetriever.

    python benchmarks/retrieval.py [quality] [speed] [scaling]      all three without a word

The systems are in retrieval_systems.py. Dense systems share the same vectors, and no time includes embedding.
quality: Haneul Bank, and the public collections in COURSE_DATA_DIR. speed: 20,000 documents, with the same
tokens for all. scaling: 1,000 to 1,000,000 short documents, each size in its own process, and two pictures:
retrieval-*.png.
"""

import ctypes
import gc
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
import psutil
from retrieval_systems import (
    BIGRAMS,
    SPLIT,
    Builder,
    Embedded,
    Known,
    bm25s_words,
    by_bm25s,
    by_lsa,
    by_model,
    by_rank_bm25,
    dense,
    ensemble,
    explained,
    hybrid,
    ours,
)

from course_lib import data
from course_lib.measure import machine, paired_ratio
from course_lib.models.catalog import MINILM, entry
from course_lib.models.files import on_this_machine
from course_lib.plots import curves
from course_lib.retrieval import HybridRetriever, Tokenizer, public_sets
from course_lib.retrieval.fusion import FUSIONS
from course_lib.retrieval.metrics import Evaluation, difference, evaluate
from course_lib.tables import table

PACKAGES = ("numpy", "faiss-cpu", "rank-bm25", "bm25s", "langchain-classic", "langchain-community")
E5 = "multilingual-e5-small-q4"
K, ROUNDS, WORDS, QUESTION = 25, 15, 60, 8  # hits, rounds, words of a document and of a question
DIMENSIONS, TOPICS = 384, 1_000  # of made-up vectors: numbers of each, as MiniLM's have, and clusters
MEASURES = ("ndcg@10", f"recall@{K}")
HYBRID = f"course, hybrid ({HybridRetriever.model_fields['fusion'].default}, the default)"
RETRIEVERS = ("course, bigrams, stems", "course, dense")  # of the hybrids

QUALITY: dict[str, Builder] = {
    "rank-bm25, split()": by_rank_bm25(SPLIT),
    "bm25s, its words": by_bm25s(bm25s_words),
    "course, words": ours(Tokenizer("words", stop_words=True)),
    "course, words, stems": ours(Tokenizer("words", stop_words=True, stem=True)),
    RETRIEVERS[0]: ours(BIGRAMS),
    "course, kiwi, stems": ours(Tokenizer("kiwi", stop_words=True, stem=True)),
    RETRIEVERS[1]: dense(),
    "course, dense, hnsw": dense("hnsw"),
    HYBRID: hybrid(),
    **{f"course, hybrid ({name})": hybrid(name) for name in FUSIONS if f"({name}," not in HYBRID},
    "EnsembleRetriever": ensemble,
}
WORD_SPEED: dict[str, Builder] = {  # the same tokens and k1 for all: what is timed is the index
    "course": ours(SPLIT, k1=1.5),
    "bm25s": by_bm25s(SPLIT),
    "rank-bm25": by_rank_bm25(SPLIT),
}
HYBRID_SPEED: dict[str, Builder] = {
    "course, hybrid, explained": explained(),
    "course, hybrid, hnsw, explained": explained("hnsw"),
    "course, hybrid": hybrid(),
    "course, dense": dense(),
    "EnsembleRetriever": ensemble,
}
SIZES = (1_000, 10_000, 100_000, 1_000_000)
DENSE_SCALING: dict[str, Builder] = {
    "course, flat": dense("flat"),
    "course, hnsw": dense("hnsw"),
    "course, hybrid, flat": hybrid(),
    "EnsembleRetriever": ensemble,
}
MOST = dict.fromkeys(
    ("rank-bm25", "EnsembleRetriever", "course, hnsw"), 100_000
)  # documents: with more they take too long


# -- how well ------------------------------------------------------------------------------------------------


def haneul(language: data.Language, english_names: bool = False) -> public_sets.Collection:
    passages, qrels = data.load_passages(language=language), data.load_relevance()
    asked = data.load_questions(language=language, english_names=english_names)
    questions = {q.id: q.question for q in asked if q.id in qrels}
    texts = {doc_id: f"{p.title} {p.text}" for doc_id, p in passages.items()}
    name = f"haneul, {language}{' with English names' if english_names else ''}"
    return public_sets.Collection(name, texts, questions, {q: qrels[q] for q in questions})


def collections() -> Iterator[tuple[public_sets.Collection, Callable[[public_sets.Collection], Embedded]]]:
    """Collections, each with every embedder that reads its language; E5 only if it has been pulled."""
    known = [haneul("en"), haneul("ko"), haneul("ko", english_names=True)]
    for name in public_sets.NAMES:
        try:
            known.append(public_sets.load(name))
        except FileNotFoundError as error:
            print(error)
    for collection in known:
        yield collection, by_lsa
        if "ko" not in collection.name:
            yield collection, partial(by_model, MINILM)
        if on_this_machine(entry(E5)):
            yield collection, partial(by_model, E5)


def quality(systems: dict[str, Builder]) -> None:
    """Print each system's quality on each collection, with 95% intervals, and compare it with the first."""
    for collection, embed in collections():
        embedded, found = embed(collection), {}
        for name, build in systems.items():
            search = build(collection.documents, embedded.known)
            run = {q: search(text, K) for q, text in collection.queries.items()}
            found[name] = evaluate(run, collection.qrels, MEASURES)
        print(
            f"\n{collection.name}: {len(collection.documents):,} documents, "
            f"{len(collection.queries):,} questions"
        )
        print(embedded.told)
        print(qualities(found))
        print(beside_retrievers(found), flush=True)


def qualities(found: dict[str, Evaluation]) -> str:
    first = next(iter(found.values())).values[MEASURES[0]]
    rows: list[list[str]] = []
    for name, evaluation in found.items():
        gap = difference(evaluation.values[MEASURES[0]], first)
        told = {"A": "better", "B": "worse", "undecided": "undecided"}[gap.verdict] if rows else "-"
        rows.append([name, *(interval(evaluation.mean(m)) for m in MEASURES), f"{gap.value:+.3f}", told])
    return table(["system", "nDCG@10", MEASURES[1], "nDCG - first's", "that is"], rows)


def beside_retrievers(found: dict[str, Evaluation]) -> str:
    """The default hybrid beside its better retriever, chosen by the same questions: a hard comparison."""
    best = max(RETRIEVERS, key=lambda name: found[name].mean(MEASURES[0]).value)
    gap = difference(found[HYBRID].values[MEASURES[0]], found[best].values[MEASURES[0]])
    return f"A, hybrid by default; B, {best}, its better retriever: {gap}"


def interval(found: Any) -> str:
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"


# -- documents that are made up ------------------------------------------------------------------------------


def texts(count: int, words: int, seed: int, vocabulary: int = 50_000) -> dict[str, str]:
    """Texts of words that are as uneven as in a language (Zipf): the n-th has a share of 1/n."""
    share = 1 / np.arange(1, vocabulary + 1)
    drawn = np.random.default_rng(seed).choice(vocabulary, (count, words), p=share / share.sum())
    return {str(i): " ".join(f"w{n}" for n in row) for i, row in enumerate(drawn.tolist())}


def clustered(count: int, seed: int) -> Any:
    """Unit vectors around TOPICS centres that all seeds share; the cosine within a topic is about .5.

    Some directions vary more than others, as in MiniLM's vectors; with equal ones HNSW finds far less.
    """
    uneven = np.arange(1, DIMENSIONS + 1, dtype=np.float32) ** -0.4
    centres = np.random.default_rng(0).standard_normal((TOPICS, DIMENSIONS), np.float32)
    random = np.random.default_rng([1, seed])
    vectors = random.standard_normal((count, DIMENSIONS), np.float32)
    topics = random.integers(0, TOPICS, count)
    for begin in range(0, count, TOPICS):
        rows = vectors[begin : begin + TOPICS]
        rows += centres[topics[begin : begin + TOPICS]]
        rows *= uneven
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return vectors


def made_up(documents: int, words: int, questions: int) -> tuple[dict[str, str], list[str], Known]:
    """Documents, questions, and the vectors of both."""
    corpus, asked = texts(documents, words, 0), list(texts(questions, QUESTION, 1).values())
    return (
        corpus,
        asked,
        Known(list(corpus.values()), clustered(documents, 0), asked, clustered(questions, 1)),
    )


# -- how fast ------------------------------------------------------------------------------------------------


def seconds(run: Callable[[], object]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def speed(systems: dict[str, Builder], documents: int = 20_000, questions: int = 50) -> None:
    """Print times to build, of the first question, and of later ones relative to the first system.

    Rounds of all systems one after the other, so that what else the machine does falls on each of them.
    """
    corpus, asked, known = made_up(documents, WORDS, questions)
    built, first, searches = {}, {}, {}
    rounds: dict[str, list[float]] = {name: [] for name in systems}
    for name, build in systems.items():
        begun = time.perf_counter()
        searches[name] = build(corpus, known)
        built[name] = time.perf_counter() - begun
        first[name] = seconds(lambda search=searches[name]: search(asked[0], K))  # type: ignore[misc]
    for _ in range(ROUNDS):
        for name, search in searches.items():
            rounds[name].append(seconds(lambda search=search: [search(q, K) for q in asked]) / len(asked))  # type: ignore[misc]
    base = next(iter(systems))
    rows = [
        [
            name,
            f"{built[name]:.2f}",
            f"{1e3 * first[name]:.1f}",
            f"{1e3 * np.median(rounds[name]):.3g}",
            paired_ratio(rounds[name], rounds[base]),
        ]
        for name in systems
    ]
    print(
        f"\n{documents:,} documents of {WORDS} words, {questions} questions of {QUESTION} words, top {K}; "
        "without embedding"
    )
    print(
        table(
            ["system", "build, s", "first question, ms", "a question, ms", f"times as long as {base}"], rows
        ),
        flush=True,
    )


# -- how large -----------------------------------------------------------------------------------------------


class Costs(NamedTuple):
    """Seconds to build, MB that the index holds, milliseconds for a question, and what was found for each."""

    build: float
    held: float
    question: float
    found: list[list[str]]


def resident() -> int:
    """Bytes of memory of this process, once glibc has given back to the system what is free."""
    gc.collect()
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None:
        trim(0)
    return int(psutil.Process().memory_info().rss)


def costs(
    systems: dict[str, Builder], name: str, documents: int, words: int = 12, questions: int = 50
) -> Costs:
    """Measure in a new process. A small index comes first, so that loaded libraries do not count."""
    corpus, asked, known = made_up(documents, words, questions)
    systems[name](dict(list(corpus.items())[:K]), known)(asked[0], K)
    before = resident()
    begun = time.perf_counter()
    search = systems[name](corpus, known)
    built = time.perf_counter() - begun
    search(asked[0], K)
    held = resident() - before
    times = [seconds(lambda q=q: search(q, K)) for q in asked]  # type: ignore[misc]
    return Costs(built, held / 1e6, 1e3 * float(np.median(times)), [search(q, K) for q in asked])


def word_costs(name: str, documents: int) -> Costs:
    return costs(WORD_SPEED, name, documents)


def dense_costs(name: str, documents: int) -> Costs:
    return costs(DENSE_SCALING, name, documents)


def scaling(run: Callable[[str, int], Costs], names: list[str], title: str, picture: str) -> None:
    """Print and draw cost by size of the corpus, and the fraction of exact hits that HNSW finds."""
    rows, lines = [], dict[str, dict[float, float]]((name, {}) for name in names)
    for size in SIZES:
        at = {}
        for name in names:
            if size > MOST.get(name, size):
                continue
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as own:
                at[name] = own.submit(run, name, size).result()
            same = shared(at[name].found, at["course, flat"].found) if name == "course, hnsw" else "-"
            rows.append(
                [
                    f"{size:,}",
                    name,
                    f"{at[name].build:.2f}",
                    f"{at[name].held:.0f}",
                    f"{at[name].question:.3g}",
                    same,
                ]
            )
            lines[name][size] = at[name].question
    print(
        f"\n{title}: short documents of 12 words, questions of {QUESTION} words, top {K}; without embedding"
    )
    print(
        table(["documents", "system", "build, s", "held, MB", "a question, ms", "of flat's hits"], rows),
        flush=True,
    )
    drawn = curves(lines, x="documents", y="ms for a question", title=title)
    drawn.axes[0].set_xscale("log")
    drawn.axes[0].xaxis.set_major_formatter("{x:,.0f}")
    drawn.savefig(picture, dpi=100)


def shared(found: list[list[str]], exact: list[list[str]]) -> str:
    return f"{np.mean([len({*a} & {*b}) / len(b) for a, b in zip(found, exact, strict=True)]):.1%}"


def main() -> None:
    wanted = sys.argv[1:] or ["quality", "speed", "scaling"]
    print(machine(), *(f"{name} {version(name)}" for name in PACKAGES), "FAISS on one thread")
    if "quality" in wanted:
        quality(QUALITY)
    if "speed" in wanted:
        speed(WORD_SPEED)
        speed(HYBRID_SPEED)
    if "scaling" in wanted:
        scaling(word_costs, list(WORD_SPEED), "Searching by words", "retrieval-scaling.png")
        scaling(dense_costs, list(DENSE_SCALING), "Searching by meaning, and by both", "retrieval-dense.png")


if __name__ == "__main__":
    main()
