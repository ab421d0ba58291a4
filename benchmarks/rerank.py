"""Quality and cost of reranking: none, late interaction (alone, or weighted with the search), a
cross-encoder, a language model.

    python benchmarks/rerank.py [quality [--keep]] [throughput]      both without a word

quality: test questions of Haneul Bank and of the public collections in COURSE_DATA_DIR: the first 25 of
hybrid search, in the order of each system. The slow systems are asked forty of them. --keep: write
evaluation.json for the models' cards. throughput: pairs of mixed lengths, beside sentence-transformers'
CrossEncoder with the same weights.
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
from typing import Any

import numpy as np
from retrieval import collections, interval
from retrieval_systems import retriever

from course_lib import data
from course_lib.atomic import atomic_write_text
from course_lib.measure import machine, median_of, paired_ratio
from course_lib.models import load
from course_lib.models.manager import ModelManager
from course_lib.retrieval import LateInteraction, Weighted, public_sets
from course_lib.retrieval.metrics import Evaluation, difference, evaluate
from course_lib.retrieval.rerank import make_reranker, rerank
from course_lib.tables import table

CANDIDATES, SEED = 25, 0
MOST = {"tatqa": 400, "korquad1_dev": 400}  # questions, drawn with this seed; of other collections all
FEW = 40  # questions for the slow systems, drawn likewise; of the English Haneul all
MEASURES, GAPS = (
    ("mrr@3", "success@3", "ndcg@10"),
    ("mrr@3", "ndcg@10"),
)  # what is told, and compared with no reranking
CARDS = {
    "late interaction": "haneul-late-interaction",
    "cross-encoder": "haneul-cross-encoder",
}  # system -> model
ROUNDS, PAIRS, WORDS = 7, 100, 230  # of throughput: rounds, pairs, and words of the longest passage


def asked(collection: public_sets.Collection) -> tuple[dict[str, str], dict[str, str]]:
    """Questions for the quick systems, and for the slow ones; of Haneul those of the test split."""
    queries = collection.queries
    if collection.name.startswith("haneul"):
        test = {q.id for q in data.load_questions("test")}
        queries = {q: text for q, text in queries.items() if q in test}
    many = sample(queries, MOST.get(collection.name, len(queries)))
    return many, many if collection.name == "haneul, en" else sample(queries, FEW)


def sample(queries: dict[str, str], count: int) -> dict[str, str]:
    drawn = random.Random(SEED).sample(sorted(queries), min(count, len(queries)))
    return {q: queries[q] for q in drawn}


def answers(collection: public_sets.Collection) -> dict[str, dict[str, int]]:
    """Relevance judgements; of Haneul's only what answers the question: for MRR a near miss is no hit."""
    if not collection.name.startswith("haneul"):
        return collection.qrels
    answering = {q: {d: g for d, g in of.items() if g == 3} for q, of in collection.qrels.items()}
    return {q: of for q, of in answering.items() if of}


def quick() -> dict[str, Any]:
    late: Any = make_reranker("late-interaction")
    untrained = LateInteraction(ModelManager.shared().get_embedding_model("embed"))
    return {
        "late interaction, untrained": untrained,
        "late interaction": late,
        "late interaction, half": Weighted(late),
    }


def slow(collection: public_sets.Collection) -> dict[str, Any]:
    """The language model reads English about banks."""
    language_model = {"language model": make_reranker("llm")} if collection.name == "haneul, en" else {}
    return {"cross-encoder": make_reranker("cross-encoder"), **language_model}


def quality(keep: bool) -> None:
    kept: dict[str, dict[str, Any]] = {system: {} for system in CARDS}
    for collection, embed in collections():
        judged, (many, few) = answers(collection), asked(collection)
        search = retriever(collection.documents, embed(collection).known, k=CANDIDATES)
        questions, rows = many | few, []
        found = {
            q: search.rank(candidates)
            for q, candidates in zip(questions, search.retrieve(list(questions.values())), strict=True)
        }
        print(f"\n{collection.name}: {len(collection.documents):,} documents, {CANDIDATES} candidates")
        for these, systems in ((many, quick()), (few, slow(collection))):
            none, _ = reranked(None, these, found, judged)
            rows.append(["none", len(these), *(interval(none.mean(m)) for m in MEASURES), "", "", ""])
            for name, reranker in systems.items():
                after, seconds = reranked(reranker, these, found, judged)
                rows.append([name, len(these), *told(after, none), f"{1e3 * seconds:.0f}"])
                if name in CARDS:
                    kept[name][collection.name] = summary(none, after)
        gaps = (f"{measure} - none's" for measure in GAPS)
        print(table(["reranker", "questions", *MEASURES, *gaps, "a question, ms"], rows), flush=True)
    for system, model in CARDS.items() if keep else ():
        atomic_write_text(data.MODELS / model / "evaluation.json", json.dumps(kept[system], indent=1) + "\n")


def reranked(
    reranker: Any, questions: dict[str, str], found: dict[str, list[Any]], judged: dict[str, dict[str, int]]
) -> tuple[Evaluation, float]:
    """Quality of the new order, and seconds a question, without late interaction's preparation."""
    if isinstance(late := getattr(reranker, "reranker", reranker), LateInteraction):
        late.add({hit.document.page_content for q in questions for hit in found[q]})
    run, begun = {}, time.perf_counter()
    for q, text in questions.items():
        hits = found[q]
        order = rerank(
            reranker,
            text,
            [hit.document.page_content for hit in hits],
            search_scores=[hit.score for hit in hits],
        )
        run[q] = [hits[r.previous_rank - 1].id for r in order]
    return evaluate(run, {q: judged[q] for q in questions}, MEASURES), (time.perf_counter() - begun) / len(
        questions
    )


def told(after: Evaluation, before: Evaluation) -> list[str]:
    gaps = [difference(after.values[measure], before.values[measure]) for measure in GAPS]
    return [
        *(interval(after.mean(m)) for m in MEASURES),
        *(f"{g.value:+.3f} ({g.low:+.3f} to {g.high:+.3f})" for g in gaps),
    ]


def summary(before: Evaluation, after: Evaluation) -> dict[str, Any]:
    """What the card tells of a collection."""
    gap = difference(after.values[MEASURES[0]], before.values[MEASURES[0]])
    rows = {name: found.mean(MEASURES[0]) for name, found in (("before", before), ("after", after))} | {
        "difference": gap
    }
    numbers = {name: [round(n, 4) for n in (row.value, row.low, row.high)] for name, row in rows.items()}
    return {"questions": gap.questions, "measure": MEASURES[0], **numbers}


def throughput() -> None:
    """Both load a folder with our merged weights, and give the same scores. A round is all pairs."""
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
    rounds = [
        (taken(lambda: engine.rerank(query, texts)), taken(lambda: peer.predict(pairs)))
        for _ in range(ROUNDS)
    ]
    mine, others = zip(*rounds, strict=True)
    print(
        f"\n{PAIRS} pairs of mixed lengths, the longest passage of {WORDS} words, 512 tokens at most: scores "
        f"differ by at most {abs(ours - theirs).max():.1e}; "
        f"CrossEncoder takes {paired_ratio(others, mine)} times as long as the course"
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
