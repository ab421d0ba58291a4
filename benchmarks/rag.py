"""Answering and classifying: where answers are lost, refusals, injections, labels on public data, speed.

Run one part, `python -m benchmarks.rag PART`, or all of them. Parts with public data read COURSE_DATA_DIR.
`refusals`, `reading`, `sizes` and `speed` take names of models: `python -m benchmarks.rag reading haneul-1m`.
"""

from __future__ import annotations

import csv
import json
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
from langchain_community.vectorstores import FAISS
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever
from langchain_core.vectorstores import InMemoryVectorStore

from course_lib import data
from course_lib.exam.strategies import handbook_topics
from course_lib.measure import machine
from course_lib.models import load
from course_lib.models.catalog import entry
from course_lib.models.manager import ModelManager
from course_lib.rag import (
    AveragedClassifier,
    FineTunedClassifier,
    InParts,
    KernelClassifier,
    LinearClassifier,
    LLMClassifier,
    NeighbourClassifier,
    RAGLLMClassifier,
    RAGPipeline,
    injections,
)
from course_lib.rag import evaluate as ev
from course_lib.rag.answering import MAX_ANSWER_TOKENS, exact_match, exam, format_for
from course_lib.rag.classifier import Classifier, Evidence
from course_lib.rag.composite import split
from course_lib.rag.instructions import split_instructions
from course_lib.rag.neighbours import neighbours_of
from course_lib.rag.prompt import Source, label_prompt, question_prompt
from course_lib.retrieval import HybridRetriever, LateInteraction, Tokenizer

MODELS = ModelManager.shared()
HANDBOOK = data.load_passages()
BOTH = ("all-MiniLM-L6-v2", "multilingual-e5-small-q4")
CHAT = ("haneul-300k", "haneul-1m", "haneul-4m")
ALLOWED = (
    0.1,
    0.12,
    0.15,
    0.2,
    0.25,
    0.3,
)  # shares of validation's answerable questions that a threshold may refuse


def handbook_search(k: int) -> HybridRetriever:
    """The search of chapter 03 with the reranker of chapter 04."""
    documents = [
        Document(id=p.id, page_content=p.text, metadata={"title": p.title}) for p in HANDBOOK.values()
    ]
    words = Tokenizer("bigrams", stop_words=True, stem=True)
    late = LateInteraction(MODELS.get_embedding_model("embed-tokens"), per_token=True)
    return HybridRetriever.from_documents(
        documents, MODELS.get_embedding_model("embed"), lexical=words, k=k, rerank=late, candidates=25
    )


def answers() -> None:
    """Exact match from nothing, the right passages, and found ones; hits; refusals. Test questions."""
    asked = data.load_questions("test")
    right = [q for q in asked if q.gold]
    search = handbook_search(5)
    found = {
        q.id: [str(d.id) for d in ds]
        for q, ds in zip(asked, search.batch([q.question for q in asked]), strict=True)
    }
    plain = {
        q.id: [str(d.id) for d in ds]
        for q, ds in zip(right, search.batch([q.question for q in right], rerank=None), strict=True)
    }
    for k in (1, 3, 5):
        hits = [float(bool({*found[q.id][:k]} & {*q.gold})) for q in right]
        print(f"hit@{k}: {ev.mean_of(hits)}")
    given: dict[str, Callable[[data.Question], Sequence[str]]] = {
        "no passage": lambda q: [],
        "the right passages": lambda q: q.gold,
        "found, first": lambda q: plain[q.id][:1],
        "found, reranked, first": lambda q: found[q.id][:1],
        "found, reranked, first 3": lambda q: found[q.id][:3],
    }
    for name in CHAT:
        model = load(name)
        for what, ids in given.items():
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
    """Refusals on test by the model and by thresholds: of one passage, of three, and with what is stated.

    A calibrated confidence is fitted on the training questions. Each threshold is the highest with which at
    most a share of validation's answerable questions is refused.
    """
    asked = {split: data.load_questions(split) for split in ("train", "validation", "test")}
    texts = [part for qs in asked.values() for q in qs for part in (q.question, *parts_of(q.question))]
    topics = handbook_topics()
    found = dict(zip(texts, handbook_search(3).batch(texts), strict=True))
    one, three = Found(found=found, k=1), Found(found=found, k=3)
    for name in sys.argv[2:] or CHAT[1:]:
        model = load(name)
        for what, pipeline in (
            ("one passage, model's confidence", RAGPipeline(one, model)),
            ("one passage, calibrated", RAGPipeline(one, model)),
            ("three, calibrated", RAGPipeline(three, model, one_by_one=True)),
            ("three, topics", RAGPipeline(three, model, one_by_one=True, evidence=topics.log_odds)),
            ("three, topics, in parts", RAGPipeline(three, model, one_by_one=True, evidence=topics.log_odds)),
        ):
            if not what.endswith("confidence"):
                train = asked["train"]
                pipeline.calibrate([q.question for q in train], [bool(q.gold) for q in train])
            bank = InParts(pipeline) if what.endswith("parts") else pipeline
            _try_thresholds(f"{name}, {what}", bank, asked["validation"], asked["test"])


def parts_of(question: str) -> tuple[str, ...]:
    found = split(question)
    return found.parts if found else ()


class Found(BaseRetriever):
    """The first k of the passages that a search found for a question, so that it searches once."""

    found: dict[str, list[Document]]
    k: int

    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        return self.found[query][: self.k]


def _try_thresholds(name: str, pipeline: Any, validation: Any, test: Any) -> None:
    own = [
        0.0 if a["refused"] else a["confidence"]
        for a, q in zip(pipeline.batch([q.question for q in validation]), validation, strict=True)
        if q.gold
    ]
    answers = pipeline.batch([q.question for q in test])
    for allowed in (0, *ALLOWED):
        limit = ev.refusal_threshold(own, allowed) if allowed else 0.0
        _report_refusals(f"{name}, {allowed:.0%}", limit, answers, test)


def _report_refusals(name: str, limit: float, found: Sequence[Any], asked: Sequence[data.Question]) -> None:
    refused = [a["refused"] or a["confidence"] < limit for a in found]
    score = ev.abstention(refused, [not q.gold for q in asked])
    right = [
        (r, exact_match(a["answer"], q.answer))
        for r, a, q in zip(refused, found, asked, strict=True)
        if q.gold
    ]
    given = ev.mean_of([float(good and not r) for r, good in right])
    lost = ev.mean_of([float(r) for r, good in right if good])
    print(
        f"{name}, min_confidence {limit:.2f}: refused {score.recall} of the unanswerable, falsely "
        f"{score.false_refusals}; right answers given {given}, lost to the threshold {lost}",
        flush=True,
    )


def planted() -> None:
    """Injections, each in the right passage of a test question."""
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


def planted_in_messages() -> None:
    """Each injection in a customer's message, for every classifier, with and without the filter."""
    messages = [m.message for m in data.load_messages("test")][:: 494 // 24][: len(injections.ALL)]
    for classifier in message_classifiers("haneul-4m"):
        before = classifier.classify_many(messages)
        for what, place in (
            ("at the end", "{m} {o}"),
            ("in front", "{o} {m}"),
            ("taken out again", "{m} {o}"),
        ):
            attacked = [
                place.format(m=m, o=o.format(x="compliment"))
                for m, o in zip(messages, injections.ALL, strict=True)
            ]
            if what == "taken out again":
                left = [split_instructions(text)[0] for text in attacked]
                print(f"nothing is left of {left.count('')} messages")
                attacked = [text or message for text, message in zip(left, messages, strict=True)]
            after = classifier.classify_many(attacked)
            changed = sum(a.label != b.label for a, b in zip(before, after, strict=True))
            obeyed = sum(b.label == "compliment" != a.label for a, b in zip(before, after, strict=True))
            print(f"{classifier}, {what}: {changed} of {len(messages)} labels changed, {obeyed} as ordered")


def message_store() -> InMemoryVectorStore:
    """Return the training messages with their intents as labels."""
    train = data.load_messages("train")
    store = InMemoryVectorStore(MODELS.get_embedding_model("embed"))
    store.add_texts([m.message for m in train], [{"label": m.intent} for m in train])
    return store


def message_classifiers(model: str) -> list[Classifier]:
    train = data.load_messages("train")
    texts, labels = [m.message for m in train], [m.intent for m in train]
    embedder, store = MODELS.get_embedding_model("embed"), message_store()
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


def sizes() -> None:
    """RAG's labels by models of several sizes on 60 test messages: accuracy, seconds a message, memory.

    A model whose driver cannot score texts writes the label, as a continuation of the prompt.
    """
    some = data.load_messages("test")[:: 494 // 60][:60]
    frame, gold = pd.DataFrame({"text": [m.message for m in some]}), [m.intent for m in some]
    store = message_store()
    votes = NeighbourClassifier(store, k=4)
    print(f"votes of 4 neighbours: {ev.accuracy(votes.classify_batch(frame, progress=False)['label'], gold)}")
    for name in (*CHAT, *sys.argv[2:]):
        before, found = _resident(), entry(name)
        classifier: Classifier
        if found.task == "chat-completion":
            classifier = RAGLLMClassifier(store, name, k=4)
            with classifier.model.engine() as engine:
                weights = engine.weight_bytes
        else:
            engine = load(found.spec, task="text-generation", context_length=2048)
            classifier, weights = Written(store, engine), engine.weight_bytes
        labels, took = timed(classifier, frame)
        print(
            f"{name}: accuracy {ev.accuracy(labels, gold)}, {took:.3f} s a message, weights "
            f"{weights / 1e6:.1f} MB, memory grown {(_resident() - before) / 1e6:.0f} MB",
            flush=True,
        )
        if found.task == "chat-completion":
            MODELS.unload(name)
        else:
            engine.close()


class Written(NeighbourClassifier):
    """A model that writes the label after the nearest labelled messages."""

    def __init__(self, store: Any, engine: Any) -> None:
        super().__init__(store, k=4)
        self.engine = engine

    def evidence(self, texts: Sequence[str]) -> list[Evidence]:
        found = neighbours_of(self.vector_store, texts, self.k, self.label_field)
        prompts = [label_prompt(t, near[::-1]) + "\n" for t, near in zip(texts, found, strict=True)]
        written = self.engine.generate(prompts, max_output_length=16, stop=["\n"])
        return [Evidence({str(label).strip(): 1.0}) for label in written]


def timed(classifier: Classifier, frame: pd.DataFrame) -> tuple[list[str], float]:
    """Return the labels of a table, and the seconds that a message took."""
    begun = time.perf_counter()
    labels = classifier.classify_batch(frame, 8, progress=False)["label"].tolist()
    return labels, (time.perf_counter() - begun) / len(frame)


def _resident() -> int:
    """Return the bytes that this process and its children hold in memory."""
    own = psutil.Process()
    return sum(process.memory_info().rss for process in (own, *own.children(recursive=True)))


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


def public_labels(name: str, embedder_names: Sequence[str], words: float, asked: int) -> None:
    """Classifiers on a public set. asked: how many test rows the language model reads.

    embedder_names: the first one is used by all, the others beside it by the kernel classifier.
    """
    fitting, calibrating, test = public(name)
    embedders = [Cached(MODELS.get_embedding_model(name)) for name in embedder_names]
    embedder = embedders[0]
    texts, labels = map(list, zip(*fitting, strict=True))
    store = FAISS.from_texts(texts, embedder, [{"label": label} for label in labels])
    everything = fitting + calibrating  # calibrated on a fit without these, then fitted to all
    for kind in (
        NeighbourClassifier(store, k=5),
        LinearClassifier(embedder, C=30),
        LinearClassifier(embedder, C=1, words=words),
        KernelClassifier(embedders),
    ):
        if not isinstance(kind, NeighbourClassifier):
            kind.fit(texts, labels)
        kind.calibrate(*map(list, zip(*calibrating, strict=True)))
        if not isinstance(kind, NeighbourClassifier):
            kind.fit(*map(list, zip(*everything, strict=True)))
        report(kind, *map(list, zip(*test, strict=True)))
    if asked:
        some = random.Random(0).sample(test, asked)
        for weight in (1.0, 0.3):
            llm = RAGLLMClassifier(store, "haneul-4m", k=5, weight=weight)
            llm.calibrate(*map(list, zip(*calibrating[:300], strict=True)))
            report(llm, *map(list, zip(*some, strict=True)))


def finetuned() -> None:
    """banking77: a fine-tuned MiniLM, and its mean with two baselines. About 25 minutes of a core.

    The weights of the mean were chosen on the messages that calibrate, a tenth of the training file, with
    parts that were fitted to the rest. Then all are fitted to the whole training file.
    """
    fitting, calibrating, test = public("banking77")
    embedders = [Cached(MODELS.get_embedding_model(name)) for name in BOTH]
    linear = LinearClassifier(embedders[0], C=1, words=0.7)
    parts = (KernelClassifier(embedders), FineTunedClassifier(), linear)
    mean = AveragedClassifier(parts, [2, 2, 1])
    for part in parts:
        part.fit(*map(list, zip(*fitting, strict=True)))
    mean.calibrate(*map(list, zip(*calibrating, strict=True)))
    for part in parts:
        part.fit(*map(list, zip(*fitting, *calibrating, strict=True)))
    for classifier in (*parts, mean):
        report(classifier, *map(list, zip(*test, strict=True)))


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
    names = sys.argv[2:] or CHAT[1:]
    count = 24 if not sys.argv[2:] else 8
    test = data.load_messages("test")[:: 494 // 24][:count]
    frame = pd.DataFrame({"text": [m.message for m in test]})
    for model in names:
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

            fast = seconds(partial(classifier.classify_batch, frame, batch_size=8, progress=False))
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
    "message-injections": planted_in_messages,
    "messages": messages,
    "banking77": lambda: public_labels("banking77", BOTH, 0.7, 300),
    "banking77-finetuned": finetuned,
    "klue_ynat": lambda: public_labels("klue_ynat", BOTH[:1], 0.7, 0),
    "reading": reading,
    "speed": speed,
    "sizes": sizes,
}


def main() -> None:
    print(machine())
    for part in sys.argv[1:2] or PARTS:
        print(f"== {part}", flush=True)
        PARTS[part]()


if __name__ == "__main__":
    main()
