"""Searching: how well and how fast, for the course's index beside rank-bm25 and bm25s.

    python benchmarks/retrieval.py [quality] [speed] [scaling]      all three without a word

A system is a function from documents to a way to search them: a dense or hybrid one is a line more in QUALITY and SPEED.
quality: Haneul Bank, and the public collections that COURSE_DATA_DIR holds. speed: 20,000 documents, the same tokens for all.
scaling: 1,000 to 1,000,000 short documents, each size in a process of its own, and a picture: retrieval-scaling.png.
"""

import multiprocessing
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from typing import Any

import bm25s
import numpy as np
import psutil
import rank_bm25
from public_sets import NAMES, Collection
from public_sets import load as load_public

from course_lib import data
from course_lib.measure import machine, paired_ratio
from course_lib.plots import curves
from course_lib.retrieval import BM25, Tokenizer
from course_lib.retrieval.metrics import difference, evaluate
from course_lib.tables import table

Search = Callable[[str, int], list[str]]  # question, k -> ids
Builder = Callable[[dict[str, str]], Search]  # documents -> a way to search them
Cut = Callable[[str], list[str]]
SPLIT = Tokenizer("spaces")
K, ROUNDS, WORDS, QUESTION = 25, 7, 60, 8  # hits, rounds, words of a document and of a question
SIZES = (1_000, 10_000, 100_000, 1_000_000)
MOST_OF_RANK_BM25 = 100_000  # documents: with more, a question takes seconds and the index several GB


# -- ways to search -------------------------------------------------------------------------------------------------------


def ours(cut: Cut, k1: float = 1.2) -> Builder:
    def build(documents: dict[str, str]) -> Search:
        index = BM25(cut, k1=k1)
        index.add(documents)
        return lambda question, k: [hit.id for hit in index.search(question, k)]

    return build


def by_rank_bm25(cut: Cut) -> Builder:
    """As tutorials have it, ties and documents without a hit as numpy's argsort leaves them."""

    def build(documents: dict[str, str]) -> Search:
        index, ids = rank_bm25.BM25Okapi([cut(text) for text in documents.values()]), list(documents)
        return lambda question, k: index.get_top_n(cut(question), ids, k)  # type: ignore[no-any-return]

    return build


def by_bm25s(cut: Cut) -> Builder:
    """Without numba, which would compile for seconds at the first question."""

    def build(documents: dict[str, str]) -> Search:
        index, ids = bm25s.BM25(method="lucene", k1=1.5, b=0.75, backend="numpy"), np.array(list(documents))
        index.index([cut(text) for text in documents.values()], show_progress=False)

        def search(question: str, k: int) -> list[str]:
            found = index.retrieve([cut(question)], k=min(k, len(ids)), show_progress=False).documents
            return ids[found[0]].tolist()  # type: ignore[no-any-return]

        return search

    return build


def bm25s_words(text: str) -> list[str]:
    """The tokens of bm25s' README: words of two letters and more, without English stop words."""
    return bm25s.tokenize([text], stopwords="en", return_ids=False, show_progress=False)[0]  # type: ignore[no-any-return]


QUALITY: dict[str, Builder] = {
    "rank-bm25, split()": by_rank_bm25(SPLIT),
    "bm25s, its words": by_bm25s(bm25s_words),
    "course, words": ours(Tokenizer("words", stop_words=True)),
    "course, words, stems": ours(Tokenizer("words", stop_words=True, stem=True)),
    "course, bigrams, stems": ours(Tokenizer("bigrams", stop_words=True, stem=True)),
    "course, kiwi, stems": ours(Tokenizer("kiwi", stop_words=True, stem=True)),
}
SPEED: dict[str, Builder] = {  # the same tokens and k1 for all: what is timed is the index
    "course": ours(SPLIT, k1=1.5),
    "bm25s": by_bm25s(SPLIT),
    "rank-bm25": by_rank_bm25(SPLIT),
}


# -- how well -------------------------------------------------------------------------------------------------------------


def haneul(language: data.Language) -> Collection:
    passages, judgements = data.load_passages(language=language), data.load_relevance()
    questions = {q.id: q.question for q in data.load_questions(language=language) if q.id in judgements}
    texts = {id: f"{p.title} {p.text}" for id, p in passages.items()}
    return Collection(f"haneul, {language}", texts, questions, {q: judgements[q] for q in questions})


def collections() -> list[Collection]:
    found = [haneul("en"), haneul("ko")]
    for name in NAMES:
        try:
            found.append(load_public(name))
        except FileNotFoundError as error:
            print(error)
    return found


def quality(systems: dict[str, Builder]) -> None:
    """Print of each collection how well each system finds, with 95% intervals, and what is better than the first system."""
    for collection in collections():
        rows, first = [], None
        for name, build in systems.items():
            search = build(collection.documents)
            run = {q: search(text, K) for q, text in collection.queries.items()}
            found = evaluate(run, collection.judgements, ["ndcg@10", f"recall@{K}"])
            first = first or found.values["ndcg@10"]
            gap = difference(found.values["ndcg@10"], first)
            told = {"A": "better", "B": "worse", "undecided": "undecided"}[gap.verdict] if rows else "-"
            rows.append([name, *(_interval(found.mean(m)) for m in found.values), f"{gap.value:+.3f}", told])
        print(f"\n{collection.name}: {len(collection.documents):,} documents, {len(collection.queries):,} questions")
        print(table(["system", "nDCG@10", f"recall@{K}", "nDCG - first's", "that is"], rows), flush=True)


def _interval(found: Any) -> str:
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"


# -- how fast -------------------------------------------------------------------------------------------------------------


def texts(count: int, words: int, seed: int, vocabulary: int = 50_000) -> dict[str, str]:
    """Texts of words as unevenly common as those of a language (Zipf): the n-th commonest has a share of 1/n."""
    share = 1 / np.arange(1, vocabulary + 1)
    drawn = np.random.default_rng(seed).choice(vocabulary, (count, words), p=share / share.sum())
    return {str(i): " ".join(f"w{n}" for n in row) for i, row in enumerate(drawn.tolist())}


def seconds(run: Callable[[], object]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def speed(systems: dict[str, Builder], documents: int = 20_000, questions: int = 50) -> None:
    """Print times of building, of the first question and of one among many, as multiples of the first system's.

    Rounds of all systems one after the other, so that what else the machine does falls on each of them.
    """
    corpus, asked = texts(documents, WORDS, 0), list(texts(questions, QUESTION, 1).values())
    built, first, rounds, searches = {}, {}, {name: [] for name in systems}, {}
    for name, build in systems.items():
        begun = time.perf_counter()
        searches[name] = build(corpus)
        built[name] = time.perf_counter() - begun
        first[name] = seconds(lambda search=searches[name]: search(asked[0], K))  # type: ignore[misc]
    for _ in range(ROUNDS):
        for name, search in searches.items():
            rounds[name].append(seconds(lambda search=search: [search(q, K) for q in asked]) / len(asked))  # type: ignore[misc]
    base = next(iter(systems))
    rows = [
        [name, f"{built[name]:.2f}", f"{1e3 * first[name]:.1f}", f"{1e3 * np.median(rounds[name]):.3g}",
         paired_ratio(rounds[name], rounds[base])]
        for name in systems
    ]  # fmt: skip
    print(f"\n{documents:,} documents of {WORDS} words, {questions} questions of {QUESTION} words, top {K}")
    print(table(["system", "build, s", "first question, ms", "a question, ms", f"times as long as {base}"], rows), flush=True)


# -- how large ------------------------------------------------------------------------------------------------------------


def costs(name: str, documents: int, words: int = 12, questions: int = 20) -> tuple[float, float, float]:
    """Seconds to build, MB of memory that the index holds, ms for a question. In a process of its own, for memory's sake."""
    corpus, asked = texts(documents, words, 0), list(texts(questions, QUESTION, 1).values())
    process = psutil.Process()
    before = process.memory_info().rss
    begun = time.perf_counter()
    search = SPEED[name](corpus)
    built = time.perf_counter() - begun
    search(asked[0], K)
    held = process.memory_info().rss - before
    return built, held / 1e6, 1e3 * float(np.median([seconds(lambda q=q: search(q, K)) for q in asked]))  # type: ignore[misc]


def scaling(sizes: tuple[int, ...] = SIZES) -> None:
    """Print and draw what the size of the corpus costs."""
    rows, lines = [], {name: {} for name in SPEED}
    for size in sizes:
        for name in SPEED:
            if name == "rank-bm25" and size > MOST_OF_RANK_BM25:
                continue
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as own:
                built, held, asked = own.submit(costs, name, size).result()
            rows.append([f"{size:,}", name, f"{built:.2f}", f"{held:.0f}", f"{asked:.3g}"])
            lines[name][size] = asked
    print(f"\nshort documents of 12 words, questions of {QUESTION} words, top {K}")
    print(table(["documents", "system", "build, s", "held, MB", "a question, ms"], rows), flush=True)
    picture = curves(lines, x="documents", y="ms for a question", title="Searching by words")
    picture.axes[0].set_xscale("log")
    picture.axes[0].xaxis.set_major_formatter("{x:,.0f}")
    picture.savefig("retrieval-scaling.png", dpi=100)


def main() -> None:
    wanted = sys.argv[1:] or ["quality", "speed", "scaling"]
    print(machine(), *(f"{name} {version(name)}" for name in ("numpy", "rank-bm25", "bm25s")))
    for name in wanted:
        {"quality": lambda: quality(QUALITY), "speed": lambda: speed(SPEED), "scaling": scaling}[name]()


if __name__ == "__main__":
    main()
