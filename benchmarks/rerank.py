"""Reranking: how much better, how much slower, for nothing, late interaction, a cross-encoder and a language model.

    python benchmarks/rerank.py [quality [--keep]] [throughput]      both without a word

quality: Haneul Bank's test questions, and some questions of each public collection that COURSE_DATA_DIR holds, the same each
time: the first 25 of hybrid search, in the order of each system. --keep: what the models' cards tell, into evaluation.json.
throughput: pairs of mixed lengths, beside sentence-transformers' CrossEncoder with the same weights.
"""

import json
import random
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from retrieval import collections, interval
from retrieval_systems import retriever

from course_lib import data
from course_lib.errors import CourseError
from course_lib.measure import machine, median_of, paired_ratio
from course_lib.models import load
from course_lib.models.manager import ModelManager
from course_lib.retrieval import LateInteraction, public_sets
from course_lib.retrieval.metrics import Evaluation, difference, evaluate
from course_lib.retrieval.rerank import Reranker, by_kind, rerank
from course_lib.tables import table

QUESTIONS, CANDIDATES, SEED = 40, 25, 0  # of a collection, drawn with this seed; of the English Haneul all test questions
MEASURES = ("mrr@3", "success@3", "ndcg@10")
CARDS = {"late interaction": "haneul-late-interaction", "cross-encoder": "haneul-cross-encoder"}  # system -> model
ROUNDS, PAIRS, WORDS = 7, 100, 230  # of throughput: rounds, pairs, and words of the longest passage


def asked(collection: public_sets.Collection) -> dict[str, str]:
    """The questions that are asked: of Haneul those of the test split, of others as many as are affordable."""
    if not collection.name.startswith("haneul"):
        return sample(collection.queries, QUESTIONS)
    test = {q.id for q in data.load_questions("test")}
    of_test = {q: text for q, text in collection.queries.items() if q in test}
    return sample(of_test, None if collection.name == "haneul, en" else QUESTIONS)


def sample(queries: dict[str, str], count: int | None) -> dict[str, str]:
    drawn = random.Random(SEED).sample(sorted(queries), min(count or len(queries), len(queries)))
    return {q: queries[q] for q in drawn}


def answers(collection: public_sets.Collection) -> dict[str, dict[str, int]]:
    """Judgements; of Haneul's only what answers the question: for MRR a near miss is no hit."""
    if not collection.name.startswith("haneul"):
        return collection.judgements
    answering = {q: {d: g for d, g in of.items() if g == 3} for q, of in collection.judgements.items()}
    return {q: of for q, of in answering.items() if of}


def systems() -> dict[str, Reranker | Literal["none"]]:
    embedder = ModelManager.shared().get_embedding_model("embed")
    return {
        "none": "none", "late interaction, untrained": LateInteraction(embedder), "late interaction": by_kind("late-interaction"),
        "cross-encoder": by_kind("cross-encoder"),
    }  # fmt: skip


def quality(keep: bool) -> None:
    kept: dict[str, dict[str, Any]] = {system: {} for system in CARDS}
    for collection, embed in collections():
        judged, questions = answers(collection), asked(collection)
        search = retriever(collection.documents, embed(collection).known, k=CANDIDATES)
        found = {q: search.hits(legs) for q, legs in zip(questions, search.legs(list(questions.values())), strict=True)}
        print(
            f"\n{collection.name}: {len(collection.documents):,} documents, {len(questions)} questions, {CANDIDATES} candidates"
        )
        results, rows = {}, []
        asking = {"language model": by_kind("llm")} if collection.name == "haneul, en" else {}  # it reads English about banks
        for name, reranker in (systems() | asking).items():
            try:
                run, seconds = reranked(reranker, questions, found, collection.documents)
            except CourseError as error:
                rows.append([name, "-", "-", "-", "-", f"{error.what:.60}"])
                continue
            results[name] = evaluate(run, {q: judged[q] for q in questions}, MEASURES)
            rows.append([name, *told(results[name], results["none"]), f"{1e3 * seconds:.0f}"])
        print(table(["reranker", *MEASURES, f"{MEASURES[0]} - none's", "a question, ms"], rows), flush=True)
        for system, model in CARDS.items():
            kept[system][collection.name] = summary(results["none"], results[system])
            if keep:
                data.write_whole(data.MODELS / model / "evaluation.json", json.dumps(kept[system], indent=1) + "\n")


def reranked(reranker: Any, questions: dict[str, str], found: dict[str, Any], documents: dict[str, str]) -> tuple[Any, float]:
    """Question -> ids in the new order, and seconds for a question; what late interaction prepares is not counted."""
    if isinstance(reranker, LateInteraction):
        reranker.add({documents[hit.id] for hits in found.values() for hit in hits})
    run, begun = {}, time.perf_counter()
    for question, text in questions.items():
        ids = [hit.id for hit in found[question]]
        run[question] = [ids[r.before - 1] for r in rerank(reranker, text, [documents[id] for id in ids])]
    return run, (time.perf_counter() - begun) / len(questions)


def told(found: Evaluation, first: Evaluation) -> list[str]:
    gap = difference(found.values[MEASURES[0]], first.values[MEASURES[0]])
    return [*(interval(found.mean(m)) for m in MEASURES), f"{gap.value:+.3f} ({gap.low:+.3f} to {gap.high:+.3f})"]


def summary(before: Evaluation, after: Evaluation) -> dict[str, Any]:
    """What the card tells of a collection."""
    gap = difference(after.values[MEASURES[0]], before.values[MEASURES[0]])
    rows = {name: found.mean(MEASURES[0]) for name, found in (("before", before), ("after", after))} | {"difference": gap}
    numbers = {name: [round(n, 4) for n in (row.value, row.low, row.high)] for name, row in rows.items()}
    return {"questions": gap.questions, "measure": MEASURES[0], **numbers}


def throughput() -> None:
    """Our merged weights, saved as a folder that both load. A round is all pairs; both give the same scores."""
    from sentence_transformers import CrossEncoder
    from torch.nn import Identity

    with tempfile.TemporaryDirectory() as made:
        folder = load("haneul-cross-encoder").save(Path(made) / "model")
        (folder / "sentence_bert_config.json").unlink()  # so that both read 512 tokens
        engine, peer = load(folder, task="rerank"), CrossEncoder(str(folder), device="cpu")
    rng, words = random.Random(SEED), " ".join(p.text for p in data.load_passages().values()).split()
    texts = [" ".join(rng.choices(words, k=rng.randint(5, WORDS))) for _ in range(PAIRS)]
    query = data.load_questions("test")[0].question
    pairs = [(query, text) for text in texts]
    ours, theirs = np.array(engine.rerank(query, texts)), peer.predict(pairs, activation_fn=Identity())
    rounds = [(taken(lambda: engine.rerank(query, texts)), taken(lambda: peer.predict(pairs))) for _ in range(ROUNDS)]
    mine, others = zip(*rounds, strict=True)
    print(
        f"\n{PAIRS} pairs of mixed lengths, the longest passage of {WORDS} words, 512 tokens at most: scores differ by at most "
        f"{abs(ours - theirs).max():.1e}; CrossEncoder takes {paired_ratio(others, mine)} times as long as the course"
    )
    same = [" ".join(rng.choices(words, k=130)) for _ in range(CANDIDATES)]  # about 200 tokens each
    tokens = np.mean([len(engine.tokenizer(query, text)["input_ids"]) for text in same])
    seconds = median_of([taken(lambda: engine.rerank(query, same)) for _ in range(ROUNDS)])
    print(f"{CANDIDATES} candidates of {tokens:.0f} tokens, question included: {seconds} s")


def taken(call: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def main() -> None:
    warnings.simplefilter("ignore", FutureWarning)
    wanted = [word for word in sys.argv[1:] if word != "--keep"] or ["quality", "throughput"]
    print(machine(), *(f"{name} {version(name)}" for name in ("torch", "transformers")))
    if "quality" in wanted:
        quality("--keep" in sys.argv)
    if "throughput" in wanted:
        throughput()


if __name__ == "__main__":
    main()
