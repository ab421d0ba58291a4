"""BM25 reaches published figures on the public collections in COURSE_DATA_DIR."""

import pytest

from course_lib.retrieval import BM25, Tokenizer
from course_lib.retrieval.metrics import evaluate
from course_lib.retrieval.public_sets import load

ENGLISH = Tokenizer("words", stop_words=True, stem=True)


def mean(name, tokenizer, metric):
    try:
        collection = load(name)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    index = BM25(tokenizer)
    index.add(collection.documents)
    run = {q: [hit.id for hit in index.search(text, 1000)] for q, text in collection.queries.items()}
    return evaluate(run, collection.qrels, [metric]).mean(metric).value


def test_an_unknown_name_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path))
    with pytest.raises(ValueError, match="'crandfield' is none of cranfield, npl_vaswani"):
        load("crandfield")


def test_vaswani():
    assert mean("npl_vaswani", ENGLISH, "map") == pytest.approx(0.2869, abs=0.01)


def test_cranfield():
    assert mean("cranfield", ENGLISH, "ndcg@10") == pytest.approx(0.359, abs=0.01)


def test_xquad():
    assert mean("xquad_en", ENGLISH, "ndcg@10") >= 0.95


def test_bigrams_find_korean_paragraphs_where_words_with_their_particles_do_not():
    bigrams = mean("korquad1_dev", Tokenizer("bigrams"), "ndcg@10")
    assert bigrams >= 0.95 and bigrams - mean("korquad1_dev", Tokenizer("spaces"), "ndcg@10") >= 0.1
