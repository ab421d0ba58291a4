"""Classifiers on Haneul's messages: labels, calibration, abstention, rows of tables, any vector store."""

import gc
import pickle
import weakref

import numpy as np
import pandas as pd
import pytest
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import InMemoryVectorStore

from course_lib.data import load_messages
from course_lib.errors import CourseError
from course_lib.models.manager import ModelManager
from course_lib.rag import (
    AveragedClassifier,
    KernelClassifier,
    LinearClassifier,
    LLMClassifier,
    NeighbourClassifier,
    RAGLLMClassifier,
)
from course_lib.rag.baselines import embed
from course_lib.rag.classifier import OTHER, vote
from course_lib.rag.evaluate import sharpen, softmax
from course_lib.rag.neighbours import neighbours_of
from course_lib.rag.prompt import label_prompt
from course_lib.rag.rows import as_text
from course_lib.retrieval import LSA

INTENTS = ("card_lost_or_stolen", "branch_hours", "deposit_maturity")
KNOWN = [m for m in load_messages("train") if m.intent in INTENTS]
ASKED = [m for m in load_messages("validation") if m.intent in INTENTS][::6]
TEXTS, GOLD = [m.message for m in ASKED], [m.intent for m in ASKED]


def filled(store):
    store.add_texts([m.message for m in KNOWN], [{"label": m.intent} for m in KNOWN])
    return store


@pytest.fixture(scope="module")
def embedder():
    return LSA.fit([m.message for m in KNOWN], 48)


@pytest.fixture(scope="module")
def store(embedder):
    return filled(InMemoryVectorStore(embedder))


@pytest.fixture(scope="module")
def manager():
    return ModelManager()


@pytest.fixture(scope="module")
def rag(store, manager):
    return RAGLLMClassifier(store, "haneul-300k", "cpu", k=4, manager=manager)


def test_a_message_has_a_label_with_its_neighbours_and_a_reason(rag):
    found = rag.classify("what time does the branch open on saturday")
    assert found.label in INTENTS and 0 < found.confidence < 1 and len(found.neighbours) == 4
    texts = {m.message: m.intent for m in KNOWN}
    assert all(texts[text] == label for text, label in found.neighbours)
    votes = sum(label == found.label for _, label in found.neighbours)
    assert found.reason.startswith(f"{votes} of 4 neighbours are {found.label}; ")


def test_probabilities_are_those_of_the_labels_after_the_prompt(rag, manager):
    """The label probabilities, computed one label at a time by log_probabilities of whole texts."""
    evidence = next(e for e in rag.evidence(TEXTS) if len(e.probabilities) > 2)
    text = TEXTS[[e.neighbours for e in rag.evidence(TEXTS)].index(evidence.neighbours)]
    prompt = label_prompt(text, evidence.neighbours[::-1])
    labels = [label for label in evidence.probabilities if label != OTHER]
    with rag.model.engine() as engine:
        start = engine.ids(({"role": "user", "content": prompt},))
        tails = [engine.tokenizer.encode(label, add_special_tokens=False) for label in labels]
        from course_lib.models.drivers.scoring import log_probabilities

        sums = [sum(log_probabilities(engine.model, start + tail)[-len(tail) :]) for tail in tails]
    expected = dict(zip(labels, softmax(np.array(sums)), strict=True))
    for label in labels:
        assert evidence.probabilities[label] == pytest.approx(
            expected[label] * (1 - evidence.probabilities[OTHER]), abs=1e-5
        )


def test_where_all_neighbours_agree_the_model_is_not_asked(rag, monkeypatch):
    def refuse(*_):
        raise AssertionError("asked")

    alone = next(t for t in TEXTS if len(vote(rag.classify(t).neighbours)) == 2)
    with rag.model.engine() as engine:
        monkeypatch.setattr(engine, "score_each", refuse)
        found = rag.classify(alone)
    assert found.confidence == pytest.approx(0.8) and "was not asked" in found.reason


def test_weights_blend_the_model_with_the_votes(rag, store, manager):
    blends = [RAGLLMClassifier(store, "haneul-300k", "cpu", k=4, weight=w, manager=manager) for w in (0, 0.5)]
    votes = NeighbourClassifier(store, k=4).evidence(TEXTS)
    only_votes, half = (blend.evidence(TEXTS) for blend in blends)
    alone = rag.evidence(TEXTS)
    for v, zero, both, model in zip(votes, only_votes, half, alone, strict=True):
        assert zero.probabilities == pytest.approx(v.probabilities)
        if len(v.probabilities) > 2:
            a, b = [label for label in v.probabilities if label != OTHER][:2]
            ratio = {
                n: e.probabilities[a] / e.probabilities[b] for n, e in (("v", v), ("m", model), ("h", both))
            }
            assert ratio["h"] == pytest.approx(np.sqrt(ratio["v"] * ratio["m"]), rel=1e-4)


def test_one_by_one_and_in_batches_the_labels_are_the_same(rag):
    together = rag.classify_many(TEXTS)
    alone = [rag.classify(text) for text in TEXTS]
    assert [c.label for c in together] == [c.label for c in alone]
    assert np.allclose([c.confidence for c in together], [c.confidence for c in alone], atol=1e-5)


class Plain(Embeddings):
    """Embeddings of another library: no method for several queries."""

    def __init__(self, inner):
        self.inner = inner

    def embed_documents(self, texts):
        return self.inner.embed_documents(texts)

    def embed_query(self, text):
        return self.inner.embed_query(text)


class WithoutVectors(InMemoryVectorStore):
    """A store that searches by text only, as VectorStore's base class does."""

    def similarity_search_by_vector(self, *args, **kwargs):
        raise NotImplementedError


def stores(embedder, tmp_path):
    from langchain_milvus import Milvus

    yield filled(InMemoryVectorStore(Plain(embedder)))
    yield filled(WithoutVectors(embedder))
    options = {"connection_args": {"uri": str(tmp_path / "m.db")}, "auto_id": True}
    yield filled(Milvus(embedder, index_params={"index_type": "FLAT", "metric_type": "IP"}, **options))
    import faiss
    from langchain_community.docstore.in_memory import InMemoryDocstore
    from langchain_community.vectorstores import FAISS

    yield filled(FAISS(embedder, faiss.IndexFlatIP(len(embedder.embed_query("x"))), InMemoryDocstore(), {}))


def test_any_vector_store_gives_the_same_labels(store, embedder, tmp_path):
    expected = [c.label for c in NeighbourClassifier(store, k=5).classify_many(TEXTS)]
    for other in stores(embedder, tmp_path):
        found = NeighbourClassifier(other, k=5).classify_many(TEXTS)
        assert [c.label for c in found] == expected, type(other).__name__


def test_the_call_of_the_guide_says_what_is_missing(store, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CourseError, match=r"course models pull Qwen/Qwen2.5-0.5B-Instruct"):
        RAGLLMClassifier(store, model_name="Qwen/Qwen2.5-0.5B-Instruct", device="cuda")
    import torch

    if not torch.cuda.is_available():
        with pytest.raises(CourseError, match="finds no such device on this machine"):
            RAGLLMClassifier(store, model_name="haneul-300k", device="cuda")


def test_a_model_that_is_too_large_is_refused_with_the_numbers(store):
    with pytest.raises(CourseError, match=r"MB over the limit of 1\.0 MB"):
        RAGLLMClassifier(store, "haneul-4m", manager=ModelManager(byte_limit=1_000_000))


def test_calibration_lowers_the_error_and_keeps_the_labels(store):
    from course_lib.rag.evaluate import calibration_error

    classifier = NeighbourClassifier(store, k=3)
    half = [m for m in load_messages("validation") if m.intent in INTENTS]

    def error():
        found = classifier.classify_many([m.message for m in half])
        right = [c.label == m.intent for c, m in zip(found, half, strict=True)]
        return calibration_error([c.confidence for c in found], right, draws=2).value, [
            c.label for c in found
        ]

    before, labels = error()
    temperature = classifier.calibrate([m.message for m in half], [m.intent for m in half])
    after, same = error()
    assert temperature == classifier.temperature != 1 and after < before and same == labels


def test_below_the_threshold_there_is_no_label(store):
    unsure = NeighbourClassifier(store, k=3, threshold=0.99)
    found = unsure.classify(TEXTS[0])
    assert found.label is None and found.reason.endswith("is below 0.99") and found.confidence < 0.99


def test_rows_become_texts_by_a_template():
    row = {"product": "Blue Card", "text": "It is lost.", "n": 3}
    assert as_text(row) == "It is lost." and as_text({"message": "Hi."}) == "Hi."
    assert as_text(pd.Series(row), "{product} {n}: {text}") == "Blue Card 3: It is lost."
    assert as_text(row, lambda r: r["product"].lower()) == "blue card"
    with pytest.raises(CourseError, match=r"no column 'title'; it has product, text, n"):
        as_text(row, "{title}")
    with pytest.raises(CourseError, match="no column 'text'"):
        as_text({"note": "x"})
    for bad in ("", "  ", {"text": None}, {"text": float("nan")}):
        with pytest.raises(CourseError, match="the text to classify is"):
            as_text(bad)


@pytest.mark.parametrize("missing", [None, float("nan"), np.float32("nan"), pd.NA, pd.NaT])
def test_a_template_does_not_write_what_is_missing_as_a_word(missing):
    row = {"product": missing, "text": "It is lost."}
    with pytest.raises(CourseError, match="the column 'product' of a row is empty") as raised:
        as_text(row, "{product!s:.9}: {text}")
    frame = eval(raised.value.fix, {"frame": pd.DataFrame([row]).astype(object)})
    assert as_text(frame.to_dict("records")[0], "{product}: {text}") == ": It is lost."
    assert as_text(row, "{text}") == "It is lost."


def test_documents_without_a_label_and_an_empty_store_are_refused(embedder):
    with pytest.raises(CourseError, match="found no document"):
        NeighbourClassifier(InMemoryVectorStore(embedder)).classify("a card")
    other = InMemoryVectorStore(embedder)
    other.add_texts(["a card"], [{"intent": "card"}])
    with pytest.raises(CourseError, match="no metadata 'label'; it has intent"):
        NeighbourClassifier(other).classify("a card")
    assert NeighbourClassifier(other, label_field="intent").classify("a card").label == "card"
    with pytest.raises(CourseError, match="k=0; at least 1 neighbour is needed"):
        NeighbourClassifier(other, label_field="intent", k=0).classify("a card")
    for label in ("", None, " "):
        store = InMemoryVectorStore(embedder)
        store.add_texts(["a card"], [{"label": label}])
        with pytest.raises(CourseError, match="'a card' has no label: 'label' is empty"):
            NeighbourClassifier(store).classify("a card")


def test_neighbours_are_those_of_the_stores_own_search(store):
    own = [[d.page_content for d in store.similarity_search(text, k=9)] for text in TEXTS]
    found = neighbours_of(store, TEXTS, 9, "label")
    assert [[text for text, _ in near] for near in found] == own


def test_an_error_of_the_embedder_is_not_taken_for_a_store_without_search_by_vector(embedder, monkeypatch):
    store = InMemoryVectorStore(embedder)
    store.add_texts(["a card"], [{"label": "card"}])

    def fail(self, texts):
        raise NotImplementedError("no such pooling")

    monkeypatch.setattr(type(embedder), "embed_queries", fail)
    with pytest.raises(NotImplementedError, match="no such pooling"):
        NeighbourClassifier(store).classify("a card")


@pytest.mark.parametrize("words", [0, 0.7])
def test_a_linear_classifier_learns(embedder, words):
    linear = LinearClassifier(embedder, words=words).fit(
        [m.message for m in KNOWN], [m.intent for m in KNOWN]
    )
    found = linear.evidence(TEXTS)
    labels = [max(e.probabilities, key=e.probabilities.get) for e in found]
    assert np.mean(np.array(labels) == GOLD) > 0.7
    assert all(sum(e.probabilities.values()) == pytest.approx(1) for e in found)
    if not words:
        assert np.allclose(
            [list(e.probabilities.values()) for e in found],
            linear._model.predict_proba(linear._features(TEXTS)),
        )


def test_a_kernel_classifier_reads_the_vectors_of_several_models(embedder):
    known = [m.message for m in KNOWN], [m.intent for m in KNOWN]
    one, two = (KernelClassifier(embedders).fit(*known) for embedders in ([embedder], [embedder] * 2))
    for classifier in (one, two):
        found = classifier.classify_many(TEXTS)
        assert np.mean([c.label == g for c, g in zip(found, GOLD, strict=True)]) > 0.7
        assert np.array_equal(
            [c.label for c in found], classifier._model.predict(features(classifier, TEXTS))
        )
    # the same vectors twice: every distance is as before
    assert np.allclose(one._model.dual_coef_, two._model.dual_coef_, atol=1e-3)
    assert np.allclose(np.linalg.norm(features(two, TEXTS), axis=1), 1)


def features(classifier, texts):
    return classifier._features([embed(e, texts) for e in classifier.embedders])


@pytest.mark.parametrize("kind", [LinearClassifier, lambda embedder: KernelClassifier([embedder])])
def test_two_labels_are_enough_and_one_is_not_for_any(embedder, kind):
    classifier = kind(embedder)
    with pytest.raises(CourseError, match="has not been fitted"):
        classifier.classify("x")
    with pytest.raises(CourseError, match="1 different labels"):
        classifier.fit(["x"], ["a"])
    classifier.fit(["card lost", "card gone", "open hours"], ["a", "a", "b"])
    assert classifier.classify("my card is lost").label == "a"


def test_two_labels_have_the_probabilities_of_the_fit(embedder):
    linear = LinearClassifier(embedder).fit(["card lost", "card gone", "open hours"], ["a", "a", "b"])
    expected = linear._model.predict_proba(linear._features(["card"]))[0]
    assert list(linear.evidence(["card"])[0].probabilities.values()) == pytest.approx(
        list(expected), abs=1e-6
    )


def test_a_model_without_retrieval_chooses_among_all_labels(manager):
    examples = [next((m.message, i) for m in KNOWN if m.intent == i) for i in INTENTS]
    classifier = LLMClassifier(examples, "haneul-300k", manager=manager)
    found = classifier.classify_many(TEXTS)
    assert all(c.label in INTENTS and not c.neighbours for c in found)
    assert [classifier.classify(t).label for t in TEXTS] == [c.label for c in found]
    assert set(classifier.evidence(TEXTS[:1])[0].probabilities) == set(INTENTS)


def test_a_model_without_retrieval_reads_its_examples_once(manager):
    examples = [(m.message, m.intent) for m in KNOWN[:12]] + [(m.message, m.intent) for m in KNOWN[-3:]]
    classifier = LLMClassifier(examples, "haneul-300k", manager=manager)
    expected, read = classifier.evidence(TEXTS[:1]), []
    with classifier.model.engine() as engine:
        hook = engine.model.register_forward_pre_hook(lambda model, args: read.append(args[0].numel()))
        again = classifier.evidence(TEXTS[:1])
        hook.remove()
        assert (
            sum(read) < engine.count_tokens(TEXTS[0]) + 60 < engine.count_tokens(label_prompt("", examples))
        )
    assert again == expected
    other = pickle.loads(pickle.dumps(classifier))  # noqa: S301 - as another process gets it
    assert not other._read and other.classify(TEXTS[0]).label == classifier.classify(TEXTS[0]).label


def test_an_unloaded_model_leaves_nothing_behind_in_the_classifier():
    manager = ModelManager()
    classifier = LLMClassifier([("card lost", "a"), ("open hours", "b")], "haneul-300k", manager=manager)
    expected = classifier.evidence(TEXTS[:1])
    with classifier.model.engine() as engine:
        gone = weakref.ref(engine)
    del engine
    assert len(classifier._read) == 1
    manager.unload("haneul-300k")
    gc.collect()
    assert gone() is None and not classifier._read
    assert classifier.evidence(TEXTS[:1]) == expected


def test_the_mean_of_classifiers_weighs_their_calibrated_probabilities(embedder, store):
    known = [m.message for m in KNOWN], [m.intent for m in KNOWN]
    linear, votes = LinearClassifier(embedder).fit(*known), NeighbourClassifier(store, k=3)
    both = AveragedClassifier([linear, votes], [3, 1])
    both.calibrate(TEXTS, GOLD)
    assert linear.temperature != 1 != votes.temperature
    for mean, a, b in zip(both.evidence(TEXTS), linear.evidence(TEXTS), votes.evidence(TEXTS), strict=True):
        a, b = sharpen(a.probabilities, linear.temperature), sharpen(b.probabilities, votes.temperature)
        assert mean.probabilities == pytest.approx({k: (3 * a.get(k, 0) + b.get(k, 0)) / 4 for k in a | b})
    only = AveragedClassifier([linear, votes], [1, 0]).classify_many(TEXTS)
    assert [c.label for c in only] == [c.label for c in linear.classify_many(TEXTS)]
