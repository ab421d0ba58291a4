"""classify_batch: a table in, a table out, and a killed run that continues to the same bytes."""

import json
import subprocess
import sys
import textwrap

import pandas as pd
import pytest
from langchain_community.vectorstores import FAISS
from langchain_core.vectorstores import InMemoryVectorStore, VectorStore

from course_lib.data import load_messages
from course_lib.errors import CourseError
from course_lib.rag import (
    KernelClassifier,
    LinearClassifier,
    LLMClassifier,
    NeighbourClassifier,
    RAGLLMClassifier,
)
from course_lib.retrieval import LSA

KNOWN, ASKED = load_messages("train")[::4], load_messages("validation")[:30]
FRAME = pd.DataFrame({"message": [m.message for m in ASKED]}, index=[f"r{i}" for i in range(30)])


@pytest.fixture(scope="module")
def classifier():
    store = InMemoryVectorStore(LSA.fit([m.message for m in KNOWN], 16))
    store.add_texts([m.message for m in KNOWN], [{"label": m.intent} for m in KNOWN])
    return NeighbourClassifier(store, k=3)


class Killed(Exception):
    pass


def killed_after(classifier, rows, frame, output, monkeypatch):
    """Run until `rows` rows have been classified, then stop within the batch."""
    original, seen = NeighbourClassifier.evidence, []

    def evidence(self, texts):
        seen.extend(texts)
        if len(seen) > rows:
            raise Killed
        return original(self, texts)

    with monkeypatch.context() as patch:
        patch.setattr(NeighbourClassifier, "evidence", evidence)
        with pytest.raises(Killed):
            classifier.classify_batch(frame, 4, output=output, progress=False)


def test_a_table_keeps_its_index_and_order(classifier):
    found = classifier.classify_batch(FRAME, batch_size=8, progress=False)
    assert list(found.index) == list(FRAME.index) and list(found.columns) == ["label", "confidence", "reason"]
    single = [classifier.classify(m.message) for m in ASKED]
    assert found["label"].tolist() == [c.label for c in single]
    assert found["confidence"].tolist() == pytest.approx([c.confidence for c in single], abs=1e-6)


def test_a_progress_bar_counts_rows(classifier, capsys):
    classifier.classify_batch(FRAME, 8)
    assert "30/30" in capsys.readouterr().err


@pytest.mark.parametrize("row", [0, 3, 17, 29])
def test_a_killed_run_continues_to_the_same_bytes(classifier, tmp_path, monkeypatch, row):
    whole, part = tmp_path / "whole.jsonl", tmp_path / "part.jsonl"
    expected = classifier.classify_batch(FRAME, 4, output=whole, progress=False)
    killed_after(classifier, row, FRAME, part, monkeypatch)
    assert len(part.read_bytes()) < len(whole.read_bytes())
    found = classifier.classify_batch(FRAME, 4, output=part, progress=False)
    assert part.read_bytes() == whole.read_bytes() and found.equals(expected)


def test_cut_at_any_byte_it_continues_to_the_same_bytes(classifier, tmp_path):
    whole, part = tmp_path / "whole.jsonl", tmp_path / "part.jsonl"
    classifier.classify_batch(FRAME[:10], 4, output=whole, progress=False)
    content = whole.read_bytes()
    for size in range(0, len(content) + 1, 37):
        part.write_bytes(content[:size])
        classifier.classify_batch(FRAME[:10], 4, output=part, progress=False)
        assert part.read_bytes() == content, size


def test_no_row_is_computed_twice(classifier, tmp_path, monkeypatch):
    output = tmp_path / "out.jsonl"
    killed_after(classifier, 17, FRAME, output, monkeypatch)
    assert len(output.read_text().splitlines()) == 1 + 16
    asked, original = [], NeighbourClassifier.evidence

    def evidence(self, texts):
        asked.extend(texts)
        return original(self, texts)

    monkeypatch.setattr(NeighbourClassifier, "evidence", evidence)
    classifier.classify_batch(FRAME, 4, output=output, progress=False)
    assert asked == FRAME["message"].tolist()[16:]
    classifier.classify_batch(FRAME, 4, output=output, progress=False)
    assert len(asked) == 14, "nothing is left to do"


def test_the_file_of_another_call_is_refused_and_kept(classifier, tmp_path):
    output = tmp_path / "out.jsonl"
    classifier.classify_batch(FRAME, 4, output=output, progress=False)
    before = output.read_bytes()
    other = NeighbourClassifier(classifier.vector_store, k=5)
    for model, frame, size in ((other, FRAME, 4), (classifier, FRAME[:20], 4), (classifier, FRAME, 8)):
        with pytest.raises(CourseError, match="another model, other settings, another table or batch_size"):
            model.classify_batch(frame, size, output=output, progress=False)
    assert output.read_bytes() == before
    (tmp_path / "mine.txt").write_text("dear diary\n")
    with pytest.raises(CourseError, match=r"mine-2\.txt"):
        classifier.classify_batch(FRAME, 4, output=tmp_path / "mine.txt", progress=False)
    assert (tmp_path / "mine.txt").read_text() == "dear diary\n"


TEXTS, LABELS = [m.message for m in KNOWN], [m.intent for m in KNOWN]
EMBEDDER = LSA.fit(TEXTS, 16)


class Closed(VectorStore):
    """A store that answers searches and lists nothing, like a database on a server."""

    def __init__(self, store):
        self._hidden = store

    @classmethod
    def from_texts(cls, texts, embedding, metadatas=None, **kwargs):
        return cls(InMemoryVectorStore.from_texts(texts, embedding, metadatas))

    @property
    def embeddings(self):
        return self._hidden.embeddings

    def similarity_search(self, query, k=4, **kwargs):
        return self._hidden.similarity_search(query, k=k, **kwargs)


def by_store(store):
    return lambda labels: NeighbourClassifier(
        store.from_texts(TEXTS, EMBEDDER, [{"label": label, "old": LABELS[0]} for label in labels]), k=3
    )


BY_LABELS = {
    "InMemoryVectorStore": by_store(InMemoryVectorStore),
    "FAISS": by_store(FAISS),
    "a store that lists nothing": by_store(Closed),
    "LinearClassifier": lambda labels: LinearClassifier(EMBEDDER).fit(TEXTS, labels),
    "KernelClassifier": lambda labels: KernelClassifier([EMBEDDER]).fit(TEXTS, labels),
    "LLMClassifier": lambda labels: LLMClassifier(
        list(zip(TEXTS, labels, strict=True))[::40][:4], "haneul-300k"
    ),
}


@pytest.mark.parametrize("name", BY_LABELS)
def test_rows_of_other_labelled_texts_are_not_mixed_in(name, tmp_path):
    output, make = tmp_path / "out.jsonl", BY_LABELS[name]
    make(LABELS).classify_batch(FRAME[:4], 2, output=output, progress=False)
    before = output.read_bytes()
    make(LABELS).classify_batch(FRAME[:4], 2, output=output, progress=False)  # the same, built anew
    corrected = ["corrected", *LABELS[1:]]
    if "nothing" in name:  # it is recognised by what it finds
        (nearest,) = make(LABELS).vector_store.similarity_search(FRAME["message"].iloc[0], k=1)
        pairs = zip(TEXTS, LABELS, strict=True)
        corrected = ["corrected" if text == nearest.page_content else label for text, label in pairs]
    with pytest.raises(CourseError, match="other settings"):
        make(corrected).classify_batch(FRAME[:4], 2, output=output, progress=False)
    assert output.read_bytes() == before


def test_rows_of_another_label_field_or_model_are_not_mixed_in(tmp_path):
    output, store = tmp_path / "out.jsonl", BY_LABELS["InMemoryVectorStore"](LABELS).vector_store
    for first, second in (
        (NeighbourClassifier(store, k=3), NeighbourClassifier(store, k=3, label_field="old")),
        (
            RAGLLMClassifier(store, "haneul-300k", k=3),
            RAGLLMClassifier(store, {"source": "haneul-300k", "precision": "bfloat16"}, k=3),
        ),
    ):
        output.unlink(missing_ok=True)
        first.classify_batch(FRAME[:2], 2, output=output, progress=False)
        with pytest.raises(CourseError, match=r'other settings(.|\n)*output="out-2\.jsonl"'):
            second.classify_batch(FRAME[:2], 2, output=output, progress=False)


def test_rows_of_another_template_are_not_mixed_in(tmp_path):
    frame, store = FRAME[:2].assign(product="card"), BY_LABELS["FAISS"](LABELS).vector_store
    one, two = (NeighbourClassifier(store, template=t) for t in ("{message}", lambda row: row["product"]))
    one.classify_batch(frame, output=tmp_path / "out.jsonl", progress=False)
    with pytest.raises(CourseError, match="another table"):
        two.classify_batch(frame, output=tmp_path / "out.jsonl", progress=False)


def test_a_bad_row_is_told_before_anything_is_written(classifier, tmp_path):
    bad = pd.DataFrame({"message": ["fine", ""]})
    with pytest.raises(CourseError, match="the text to classify is ''"):
        classifier.classify_batch(bad, output=tmp_path / "out.jsonl", progress=False)
    assert not (tmp_path / "out.jsonl").exists()
    with pytest.raises(CourseError, match="takes a DataFrame, not list"):
        classifier.classify_batch(["fine"])
    with pytest.raises(CourseError, match="batch_size=0"):
        classifier.classify_batch(FRAME, 0)


def test_an_abstention_is_null_in_the_file(classifier, tmp_path):
    unsure = NeighbourClassifier(classifier.vector_store, k=3, threshold=1.0)
    found = unsure.classify_batch(FRAME[:2], output=tmp_path / "out.jsonl", progress=False)
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()[1:]]
    assert [row["label"] for row in rows] == [None, None] and found["label"].isna().all()


def test_a_process_that_is_killed_by_the_system_loses_nothing(classifier, tmp_path):
    """os._exit in the middle: no exception handler and no buffer is written any more."""
    script = textwrap.dedent("""
        import os, sys
        from tests.rag.test_batches import *
        store = InMemoryVectorStore(LSA.fit([m.message for m in KNOWN], 16))
        store.add_texts([m.message for m in KNOWN], [{"label": m.intent} for m in KNOWN])
        one, calls = NeighbourClassifier(store, k=3), []
        original = one.evidence
        def evidence(texts):
            calls.append(texts)
            return original(texts) if len(calls) < 4 else os._exit(9)
        one.evidence = evidence
        one.classify_batch(FRAME, 4, output=sys.argv[1], progress=False)
    """)
    part, whole = tmp_path / "part.jsonl", tmp_path / "whole.jsonl"
    assert subprocess.run([sys.executable, "-c", script, str(part)]).returncode == 9
    assert len(part.read_text().splitlines()) == 1 + 12
    classifier.classify_batch(FRAME, 4, output=whole, progress=False)
    classifier.classify_batch(FRAME, 4, output=part, progress=False)
    assert part.read_bytes() == whole.read_bytes()
