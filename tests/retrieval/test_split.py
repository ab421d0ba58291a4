"""An index that splits long documents gives whole documents back, each with its best chunk."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.documents import Document

from course_lib.errors import CourseError
from course_lib.retrieval import Dense, HybridRetriever
from course_lib.retrieval.chunk import Chunk
from tests.retrieval.conftest import Hashed

WORDS = st.sampled_from(["fee", "card", "loan", "rate", "lost"])
CORPORA = st.lists(st.lists(WORDS, max_size=6).map(" ".join), min_size=1, max_size=8)


def by_words(text):
    """Split a text into its words."""
    chunks, start = [], 0
    for word in text.split():
        start = text.index(word, start)
        chunks.append(Chunk(word, start, start + len(word), 1))
        start += len(word)
    return chunks


@settings(max_examples=40, deadline=None)
@given(CORPORA, WORDS, st.integers(1, 4), st.sampled_from(["flat", "hnsw"]), st.booleans())
def test_a_document_has_the_score_of_its_best_chunk(texts, query, k, kind, filtered):
    documents = {f"d{i}": text for i, text in enumerate(texts)}
    dense, embedder = Dense(Hashed(), kind=kind, split=by_words), Hashed()
    dense.add(documents)
    allowed = [*documents][::2] if filtered else None
    asked = np.array(embedder.embed_query(query))
    scores = {
        doc_id: max(float(asked @ np.array(embedder.embed_query(word))) for word in text.split() or [""])
        for doc_id, text in documents.items()
        if allowed is None or doc_id in allowed
    }
    hits = dense.search(query, k, allowed)
    expected = sorted(scores.values(), reverse=True)[:k]
    assert [hit.score for hit in hits] == pytest.approx(expected, abs=1e-5)
    assert all(hit.score == pytest.approx(scores[hit.id], abs=1e-5) for hit in hits)
    assert len({hit.id for hit in hits}) == len(hits)


def test_deleted_documents_are_gone_and_the_others_keep_their_chunks():
    dense = Dense(Hashed(), split=by_words)
    dense.add({f"d{i}": f"fee card number{i} loan" for i in range(9)})
    dense.delete([f"d{i}" for i in range(6)])
    assert dense.search("number7", 2)[0].id == "d7"
    assert dense.ids == ["d6", "d7", "d8"] and dense.vectors.shape == (12, 16) and "12 chunks" in repr(dense)


def test_hits_hold_whole_documents_and_their_best_chunk():
    text = "annual fee of the card, lost card, daily limit"
    hybrid = HybridRetriever.from_texts([text, "loan"], Hashed(), [{"year": 2020}, {}], split=by_words)
    (hit,) = hybrid.search("daily", 1)
    assert hit.document == Document(id="0", page_content=text, metadata={"year": 2020})
    assert hit.chunk_text == text[slice(*hit.chunk)] == "daily" and hit.dense.score == pytest.approx(1)
    (found,) = hybrid.invoke("daily", k=1)
    assert found.page_content == text and found.metadata["retrieval"]["chunk"] == list(hit.chunk)
    (by_words_alone,) = hybrid.search("daily", 1, alpha=0)
    assert by_words_alone.chunk == hit.chunk
    whole = HybridRetriever.from_texts([text], Hashed())
    assert whole.search("daily")[0].chunk is None is whole.search("daily")[0].chunk_text
    assert "chunk" not in whole.invoke("daily")[0].metadata["retrieval"]


def test_documents_longer_than_the_model_reads_are_refused_or_split(minilm, tmp_path):
    long = "The branch opens at nine. " * 60 + "A lost card is blocked at once. " + "The bank is old. " * 60
    documents = {"long": long, "blank": " ", "other": "A loan has a rate."}
    with pytest.raises(CourseError, match=r"tokens; .* reads 256"):
        HybridRetriever.from_documents(documents, minilm)
    hybrid = HybridRetriever.from_documents(documents, minilm, split=True, k=1)
    (hit,) = hybrid.search("What happens to a card that I have lost?", alpha=1)
    assert hit.id == "long" and "A lost card is blocked" in hit.chunk_text
    assert len(hit.chunk_text) < len(long) / 2
    hybrid.save(tmp_path / "index")
    loaded = HybridRetriever.load(tmp_path / "index", minilm)
    assert loaded.search("a lost card") == hybrid.search("a lost card")
    loaded.add_documents({"new": long})
    assert {hit.id for hit in loaded.search("a lost card", 2, alpha=1)} == {"long", "new"}


def test_what_cannot_split_is_refused(tmp_path):
    with pytest.raises(CourseError, match=r"needs an embedding model of the course.*\n  Fix: split=lambda"):
        Dense(Hashed(), split=True)
    with pytest.raises(CourseError, match="split=256 is neither a bool nor a function"):
        Dense(Hashed(), split=256)
    dense = Dense(Hashed(), split=by_words)
    with pytest.raises(CourseError, match="needs the texts"):
        dense.add_vectors(["a"], [[1.0] * 16])
    hybrid = HybridRetriever.from_texts(["fee"], Hashed(), split=by_words)
    with pytest.raises(CourseError, match="custom function that splits documents cannot be saved"):
        hybrid.save(tmp_path / "index")
