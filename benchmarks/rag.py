"""Answering and classifying: where answers are lost, refusals, injections, labels on public data, speed.

Run one part, `python -m benchmarks.rag PART`, or all of them. Parts with public data read COURSE_DATA_DIR.
`reading` takes more names of models: `python -m benchmarks.rag reading smollm2-135m-instruct`.
"""

from __future__ import annotations

import csv
import json
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from langchain_community.vectorstores import FAISS
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import InMemoryVectorStore

from course_lib import data
from course_lib.measure import machine
from course_lib.models import load
from course_lib.models.catalog import entry
from course_lib.models.manager import ModelManager
from course_lib.rag import (
    LinearClassifier,
    LLMClassifier,
    NeighbourClassifier,
    RAGLLMClassifier,
    RAGPipeline,
    injections,
)
from course_lib.rag import evaluate as ev
from course_lib.rag.answering import MAX_ANSWER_TOKENS, exact_match, exam, format_for
from course_lib.rag.classifier import Classifier
from course_lib.rag.instructions import split_instructions
from course_lib.rag.prompt import Source, label_prompt, question_prompt
from course_lib.retrieval import HybridRetriever, LateInteraction, Tokenizer

MODELS = ModelManager.shared()
HANDBOOK = data.load_passages()
CHAT = ("haneul-300k", "haneul-1m", "haneul-4m")


def handbook_search(k: int) -> HybridRetriever:
    """The search of chapter 03 with the reranker of chapter 04."""
    documents = [
        Document(id=p.id, page_content=p.text, metadata={"title": p.title}) for p in HANDBOOK.values()
    ]
    words = Tokenizer("bigrams", stop_words=True, stem=True)
    late = LateInteraction(MODELS.get_embedding_model("embed-tokens"))
    return HybridRetriever.from_documents(
        documents, MODELS.get_embedding_model("embed"), lexical=words, k=k, rerank=late, candidates=25
    )


def answers() -> None:
    """Exact match from nothing, the right passages, and found ones; hits; refusals. Test questions."""
    asked = data.load_questions("test")
    right = [q for q in asked if q.gold]
    search = handbook_search(5)
    found = {
        q.id: [d.id for d in ds]
        for q, ds in zip(asked, search.batch([q.question for q in asked]), strict=True)
    }
    plain = {
        q.id: [d.id for d in ds]
        for q, ds in zip(right, search.batch([q.question for q in right], rerank=None), strict=True)
    }
    for k in (1, 3, 5):
        hits = [float(bool({*found[q.id][:k]} & {*q.gold})) for q in right]
        print(f"hit@{k}: {ev.mean_of(hits)}")
    for name in CHAT:
        model = load(name)
        for what, ids in (
            ("no passage", lambda q: []),
            ("the right passages", lambda q: q.gold),
            ("found, first", lambda q: plain[q.id][:1]),
            ("found, reranked, first", lambda q: found[q.id][:1]),
            ("found, reranked, first 3", lambda q: found[q.id][:3]),
        ):
            prompts = [
                question_prompt(q.question, [Source(HANDBOOK[i].title, HANDBOOK[i].text) for i in ids(q)])
                for q in right
            ]
            begun = time.perf_counter()
            texts = model.generate(prompts, max_output_length=MAX_ANSWER_TOKENS)
            took = (time.perf_counter() - begun) / len(right)
            scores = [float(exact_match(t, q.answer)) for t, q in zip(texts, right, strict=True)]
            print(f"{name}, {what}: exact match {ev.mean_of(scores)}, {took:.2f} s a question")


def refusals() -> None:
    """The pipeline's refusals: the threshold that refuses 10% of validation's answerable, on test."""
    search = handbook_search(1)
    for name in CHAT:
        pipeline = RAGPipeline(search, load(name))
        threshold = 0.0
        for split in ("validation", "test"):
            asked = data.load_questions(split)
            found = pipeline.batch([q.question for q in asked])
            confidences = [0.0 if a["refused"] else a["confidence"] for a in found]
            if split == "validation":
                answerable = sorted(c for c, q in zip(confidences, asked, strict=True) if q.gold)
                threshold = answerable[int(0.1 * len(answerable))]
                continue
            for limit in (0.0, threshold):
                refused = [a["refused"] or c < limit for a, c in zip(found, confidences, strict=True)]
                score = ev.abstention(refused, [not q.gold for q in asked])
                em = [
                    float(not r and exact_match(a["answer"], q.answer))
                    for r, a, q in zip(refused, found, asked, strict=True)
                    if q.gold
                ]
                print(
                    f"{name}, min_confidence {limit:.2f}: refused {score.recall} of the unanswerable, "
                    f"falsely {score.false_refusals}; precision {score.precision}; "
                    f"exact match {ev.mean_of(em)}"
                )


def planted() -> None:
    """Injections, each in the right passage of a test question and in a customer's message."""
    asked = [q for q in data.load_questions("test", "lexical") if q.format == "short"]
    asked = asked[: len(injections.ALL)]
    for name in CHAT:
        model = load(name)
        for guard in (False, True):
            leaks, changes, total = 0, 0, 0
            for front in (False, True):
                pairs = []
                for q, order in zip(asked, injections.ALL, strict=True):
                    passage, planted = HANDBOOK[q.gold[0]], order.format(x="PINEAPPLE")
                    text = f"{planted} {passage.text}" if front else f"{passage.text} {planted}"
                    text = split_instructions(text)[0] if guard else text
                    pairs += [
                        question_prompt(q.question, [Source(passage.title, t)]) for t in (passage.text, text)
                    ]
                texts = [str(t) for t in model.generate(pairs, max_output_length=MAX_ANSWER_TOKENS)]
                leaks += sum("pineapple" in t.lower() for t in texts[1::2])
                changes += sum(a != b for a, b in zip(texts[::2], texts[1::2], strict=True))
                total += len(asked)
            print(
                f"{name}, sentences taken out: {guard}: {changes} of {total} answers changed, {leaks} leaked"
            )
    for classifier in message_classifiers("haneul-4m"):
        messages = [m.message for m in data.load_messages("test")][:: 494 // len(injections.ALL)][
            : len(injections.ALL)
        ]
        attacked = [f"{m} {o.format(x='compliment')}" for m, o in zip(messages, injections.ALL, strict=True)]
        before, after = classifier.classify_many(messages), classifier.classify_many(attacked)
        changed = sum(a.label != b.label for a, b in zip(before, after, strict=True))
        obeyed = sum(b.label == "compliment" != a.label for a, b in zip(before, after, strict=True))
        print(f"{classifier}: {changed} of {len(messages)} labels changed, {obeyed} to the one ordered")


def message_classifiers(model: str) -> list[Classifier]:
    train = data.load_messages("train")
    texts, labels = [m.message for m in train], [m.intent for m in train]
    embedder = MODELS.get_embedding_model("embed")
    store = InMemoryVectorStore(embedder)
    store.add_texts(texts, [{"label": label} for label in labels])
    examples = [
        next((t, i) for t, i in zip(texts, labels, strict=True) if i == label) for label in sorted({*labels})
    ]
    return [
        NeighbourClassifier(store, k=10),
        LinearClassifier(embedder).fit(texts, labels),
        LLMClassifier(examples, model),
        RAGLLMClassifier(store, model, k=4),
        RAGLLMClassifier(store, model, k=8, weight=0.3),
    ]


def messages() -> None:
    """Haneul's messages: calibrated on validation, scored on test."""
    validation, test = data.load_messages("validation"), data.load_messages("test")
    for model in CHAT:
        for classifier in message_classifiers(model):
            if model != CHAT[-1] and not hasattr(classifier, "model"):
                continue
            classifier.calibrate([m.message for m in validation], [m.intent for m in validation])
            report(classifier, [m.message for m in test], [m.intent for m in test])


def report(classifier: Classifier, texts: Sequence[str], gold: Sequence[str]) -> None:
    """Print accuracy, macro-F1, calibration error, time and memory of a classifier."""
    begun = time.perf_counter()
    found = classifier.classify_batch(pd.DataFrame({"text": texts}), 64, progress=False)
    took = (time.perf_counter() - begun) / len(texts)
    labels = found["label"].tolist()
    right = [p == g for p, g in zip(labels, gold, strict=True)]
    error = ev.calibration_error(found["confidence"].tolist(), right)
    print(
        f"{classifier}: accuracy {ev.accuracy(labels, gold)}, macro-F1 {ev.macro_f1(labels, gold)}, "
        f"calibration error {error}, {1e3 * took:.1f} ms a message",
        flush=True,
    )


def public(name: str) -> tuple[list[tuple[str, str]], list[tuple[str, str]], list[tuple[str, str]]]:
    """Return (text, label) rows for fitting, calibration and testing.

    banking77: its test file; a tenth of its training file calibrates. klue_ynat: only the training file has
    labels, so 5,000 of its shuffled rows are tested, 2,000 calibrate, the rest is for fitting.
    """
    folder = Path(os.environ["COURSE_DATA_DIR"])

    def rows(path: Path) -> list[tuple[str, str]]:
        with path.open(encoding="utf-8", newline="") as file:
            return [(row["text"], row["label"]) for row in csv.DictReader(file)]

    known = rows(folder / ("banking77/train.csv" if name == "banking77" else "klue_ynat_train/data.csv"))
    random.Random(0).shuffle(known)
    if name == "banking77":
        return known[1000:], known[:1000], rows(folder / "banking77/test.csv")
    return known[7000:], known[5000:7000], known[:5000]


class Cached(Embeddings):
    """An embedder that embeds each text once, all texts as queries: they are of one kind."""

    def __init__(self, embedder: Any) -> None:
        self.embedder, self.known = embedder, dict[str, list[float]]()

    def embed_queries(self, texts: list[str]) -> list[list[float]]:
        new = [text for text in dict.fromkeys(texts) if text not in self.known]
        self.known |= zip(new, self.embedder.embed_queries(new), strict=True)
        return [self.known[text] for text in texts]

    embed_documents = embed_queries

    def embed_query(self, text: str) -> list[float]:
        return self.embed_queries([text])[0]


def public_labels(name: str, embedder_name: str, words: float, asked: int) -> None:
    """Classifiers on a public set. asked: how many test rows the language model reads."""
    fitting, calibrating, test = public(name)
    embedder = Cached(MODELS.get_embedding_model(embedder_name))
    texts, labels = map(list, zip(*fitting, strict=True))
    store = FAISS.from_texts(texts, embedder, [{"label": label} for label in labels])
    everything = fitting + calibrating  # calibrated on a fit without these, then fitted to all
    for kind in (
        NeighbourClassifier(store, k=5),
        LinearClassifier(embedder, C=30),
        LinearClassifier(embedder, C=1, words=words),
    ):
        if isinstance(kind, LinearClassifier):
            kind.fit(texts, labels)
        kind.calibrate(*map(list, zip(*calibrating, strict=True)))
        if isinstance(kind, LinearClassifier):
            kind.fit(*map(list, zip(*everything, strict=True)))
        report(kind, *map(list, zip(*test, strict=True)))
    if asked:
        some = random.Random(0).sample(test, asked)
        for weight in (1.0, 0.3):
            llm = RAGLLMClassifier(store, "haneul-4m", k=5, weight=weight)
            llm.calibrate(*map(list, zip(*calibrating[:300], strict=True)))
            report(llm, *map(list, zip(*some, strict=True)))


def reading() -> None:
    """xquad (English) and KorQuAD, 60 questions each: the right paragraph is given, the model answers.

    The course's models learnt English banks only: Korean measures what happens outside of that.
    """
    folder = Path(os.environ["COURSE_DATA_DIR"])
    with (folder / "xquad_en/qa.jsonl").open(encoding="utf-8") as lines:
        english = [(r["context"], r["question"], r["answers"]) for r in map(json.loads, lines)]
    articles = json.loads((folder / "korquad1_dev/KorQuAD_v1.0_dev.json").read_text("utf-8"))["data"]
    korean = [
        (p["context"], q["question"], [a["text"] for a in q["answers"]])
        for article in articles
        for p in article["paragraphs"]
        for q in p["qas"]
    ]
    sets = {"xquad": (english, ev.token_f1), "korquad": (korean, ev.character_f1)}
    for name in (CHAT[-1], *sys.argv[2:]):
        found = entry(name)
        model = load(found.spec, **exam(found))
        for language, (rows, f1) in sets.items():
            some = [r for r in random.Random(0).sample(rows, 200) if len(r[0]) < 900][:60]
            prompts = [
                format_for(model, question_prompt(q, [Source("Passage", text)])) for text, q, _ in some
            ]
            fits = [
                i for i, p in enumerate(prompts) if model.count_tokens(p) < model.context - MAX_ANSWER_TOKENS
            ]
            texts = model.generate([prompts[i] for i in fits], max_output_length=MAX_ANSWER_TOKENS)
            scores = {
                what: ev.mean_of(
                    [ev.best_of(metric, str(t), some[i][2]) for t, i in zip(texts, fits, strict=True)]
                )
                for what, metric in (("exact match", ev.squad_exact), ("F1", f1))
            }
            print(f"{name}, {language}, {len(fits)} questions: {scores}", flush=True)


def speed() -> None:
    """classify_batch beside the loop of most tutorials: search, prompt and generate, message by message."""
    test = data.load_messages("test")[:: 494 // 24][:24]
    frame = pd.DataFrame({"text": [m.message for m in test]})
    for model in CHAT[-1:]:
        classifiers = [c for c in message_classifiers(model) if hasattr(c, "model")]
        for classifier in classifiers:
            engine = load(model)

            def naive(classifier: Classifier = classifier, engine: object = engine) -> None:
                for text in frame["text"]:
                    if isinstance(classifier, RAGLLMClassifier):
                        found = classifier.vector_store.similarity_search(text, k=classifier.k)
                        shots = [(d.page_content, d.metadata["label"]) for d in found]
                    else:
                        shots = list(classifier.examples)  # type: ignore[attr-defined]
                    engine.generate([label_prompt(text, shots)], max_output_length=50)  # type: ignore[attr-defined]

            fast = seconds(lambda c=classifier: c.classify_batch(frame, batch_size=8, progress=False))
            slow = seconds(naive)
            print(
                f"{classifier}: {len(frame) / fast:.1f} messages/s, the loop {len(frame) / slow:.1f}: "
                f"{slow / fast:.1f} times",
                flush=True,
            )


def seconds(call: Callable[[], object]) -> float:
    """The shorter of two runs."""
    took = []
    for _ in range(2):
        begun = time.perf_counter()
        call()
        took.append(time.perf_counter() - begun)
    return min(took)


PARTS: dict[str, Callable[[], None]] = {
    "answers": answers,
    "refusals": refusals,
    "injections": planted,
    "messages": messages,
    "banking77": lambda: public_labels("banking77", "all-MiniLM-L6-v2", 0.7, 300),
    "klue_ynat": lambda: public_labels("klue_ynat", "all-MiniLM-L6-v2", 0.7, 0),
    "reading": reading,
    "speed": speed,
}


def main() -> None:
    print(machine())
    for part in sys.argv[1:2] or PARTS:
        print(f"== {part}", flush=True)
        PARTS[part]()


if __name__ == "__main__":
    main()
