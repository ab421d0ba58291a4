"""classify_batch: a table in, a table out, and a killed run that continues to the same bytes."""

import json
import subprocess
import sys
import textwrap

import pandas as pd
import pytest
from langchain_core.vectorstores import InMemoryVectorStore

from course_lib.data import load_messages
from course_lib.errors import CourseError
from course_lib.rag import NeighbourClassifier
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
        with pytest.raises(CourseError, match="another model, table or batch_size"):
            model.classify_batch(frame, size, output=output, progress=False)
    assert output.read_bytes() == before
    (tmp_path / "mine.txt").write_text("dear diary\n")
    with pytest.raises(CourseError, match=r"mine-2\.txt"):
        classifier.classify_batch(FRAME, 4, output=tmp_path / "mine.txt", progress=False)
    assert (tmp_path / "mine.txt").read_text() == "dear diary\n"


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
