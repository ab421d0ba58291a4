"""BM25 scores equal those of rank_bm25 and bm25s, also after additions and deletions, and hits are sorted."""

import os
import random
import subprocess
import sys
import unicodedata

import bm25s
import numpy as np
import pytest
import rank_bm25
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.data import ROOT
from course_lib.errors import CourseError
from course_lib.retrieval import BM25, Hit, Tokenizer
from course_lib.retrieval.postings import top_rows
from course_lib.retrieval.scores import MIN_IDF, VARIANTS

SPACES = Tokenizer("spaces")
WORDS = st.sampled_from(["a", "b", "c", "d", "e", "f", "카드", "수수료"])
TEXTS = st.lists(WORDS, max_size=12).map(" ".join)
CORPORA = st.lists(TEXTS, min_size=1, max_size=15).filter(any)


def corpus(texts):
    return {f"d{i}": text for i, text in enumerate(texts)}


def index(documents, variant="lucene", **settings):
    bm25 = BM25(SPACES, variant=variant, **settings)
    bm25.add(documents)
    return bm25


def zipf(documents, words, seed=0, vocabulary=5000):
    """Texts whose word frequencies are as uneven as in a natural language."""
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(1, vocabulary + 1)
    return [
        " ".join(f"w{n}" for n in row)
        for row in rng.choice(vocabulary, (documents, words), p=share / share.sum())
    ]


# -- the formulas --------------------------------------------------------------------------------------------


@given(CORPORA, TEXTS)
def test_okapi_is_rank_bm25(texts, query):
    theirs = rank_bm25.BM25Okapi([text.split() for text in texts])
    theirs.idf = {word: max(idf, MIN_IDF) for word, idf in theirs.idf.items()}  # the one difference
    ours = index(corpus(texts), "okapi", k1=1.5).scores(query)
    np.testing.assert_allclose(list(ours.values()), theirs.get_scores(query.split()), rtol=0, atol=1e-9)


@given(CORPORA, TEXTS, st.sampled_from(["lucene", "atire"]), st.floats(0.1, 3), st.floats(0, 1))
def test_lucene_and_atire_are_those_of_bm25s_within_float32(texts, query, variant, k1, b):
    theirs = bm25s.BM25(method=variant, k1=k1, b=b)
    theirs.index([text.split() or ["nothing at all"] for text in texts], show_progress=False)
    known = [word for word in query.split() if word in theirs.vocab_dict]
    ours = index(corpus(text or "nothing-at-all" for text in texts), variant, k1=k1, b=b).scores(
        " ".join(known)
    )
    expected = theirs.get_scores(known) if known else np.zeros(len(texts))
    floor = MIN_IDF * (k1 + 1) * len(known)  # bm25s has no least weight of a word
    np.testing.assert_allclose(list(ours.values()), expected, rtol=1e-5, atol=1e-5 + floor)


@given(CORPORA, WORDS)
def test_bm25_plus_is_that_of_rank_bm25_where_the_word_is(texts, word):
    ours = index(corpus(texts), "bm25+", k1=1.5).scores(word)
    theirs = rank_bm25.BM25Plus([text.split() for text in texts]).get_scores([word])
    for text, our, their in zip(texts, ours.values(), theirs, strict=True):
        assert our == pytest.approx(their if word in text.split() else 0, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_a_large_corpus_has_the_scores_and_the_order_of_others(seed):
    texts, queries = zipf(2000, 40, seed), zipf(20, 6, seed + 100)
    lucene, okapi = index(corpus(texts), k1=1.5), index(corpus(texts), "okapi", k1=1.5)
    theirs = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
    theirs.index([text.split() for text in texts], show_progress=False)
    theirs_okapi = rank_bm25.BM25Okapi([text.split() for text in texts])
    for query in queries:
        np.testing.assert_allclose(
            list(lucene.scores(query).values()), theirs.get_scores(query.split()), rtol=1e-4, atol=1e-5
        )
        expected = theirs_okapi.get_scores(query.split())
        np.testing.assert_allclose(list(okapi.scores(query).values()), expected, rtol=0, atol=1e-9)
        best = sorted((-score, f"d{i}") for i, score in enumerate(okapi.scores(query).values()) if score > 0)[
            :25
        ]
        assert okapi.search(query, 25) == [Hit(doc_id, -score) for score, doc_id in best]


def test_okapi_floors_what_lucene_orders():
    """Okapi gives a word in half of the documents an idf of nearly 0, a more frequent one a larger one."""
    texts = ["common half", "common half", "common rare1 rare2 rare3", "common other"]
    okapi, lucene = index(corpus(texts), "okapi"), index(corpus(texts))
    assert okapi.search("half", 9)[0].score < 1e-5 < okapi.search("common", 9)[3].score
    assert len(okapi.search("common", 9)) == 4
    parts = {part.term: part.idf for part in lucene.explain("common half", "d0").terms}
    assert parts["half"] > parts["common"] > 0


# -- adding and deleting documents ---------------------------------------------------------------------------


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.booleans(), st.lists(TEXTS, max_size=6)), max_size=12),
    TEXTS,
    st.sampled_from(list(VARIANTS)),
    st.randoms(use_true_random=False),
)
def test_after_any_history_scores_are_those_of_a_fresh_index(history, query, variant, chance):
    lived, living, n = BM25(SPACES, variant=variant), {}, 0
    for deleting, texts in history:
        if deleting:
            gone = [doc_id for doc_id in living if chance.random() < 0.4]
            lived.delete(gone)
            living = {doc_id: text for doc_id, text in living.items() if doc_id not in gone}
        else:
            new = {f"d{n + i}": text for i, text in enumerate(texts)}
            n += len(texts)
            lived.add(new)
            living |= new
        fresh = index(living, variant)
        assert lived.ids == list(living) and len(lived) == len(living)
        np.testing.assert_allclose(
            list(lived.scores(query).values()), list(fresh.scores(query).values()), atol=1e-12
        )
        if (
            variant != "okapi"
        ):  # its mean idf is summed in the order of terms, and a last digit may part two that tie
            assert lived.search(query, 4) == fresh.search(query, 4)
        for doc_id in list(living)[:3]:
            assert lived.explain(query, doc_id).score == lived.scores(query)[doc_id]


def test_one_by_one_is_the_same_as_all_at_once_and_keeps_few_parts():
    texts, query = corpus(zipf(500, 20)), "w1 w7 w30"
    one = BM25(SPACES)
    for doc_id, text in texts.items():
        one.add({doc_id: text})
    assert len(one._segments) < 12
    assert one.search(query, 50) == index(texts).search(query, 50)


def test_what_was_deleted_is_forgotten():
    texts = corpus(zipf(300, 20))
    bm25 = index(texts)
    bm25.delete([f"d{i}" for i in range(299)])
    assert len(bm25._vocabulary) == len(set(texts["d299"].split())) and bm25._segments[0].rows.size == len(
        bm25._vocabulary
    )
    bm25.delete(["d299"])
    assert not bm25._vocabulary and bm25.search("w1") == [] and len(bm25) == 0
    bm25.add(texts)
    assert bm25.search("w1 w2", 9) == index(texts).search("w1 w2", 9)


def test_a_saved_index_scores_as_a_fresh_one():
    texts = corpus(zipf(40, 8))
    bm25 = index(texts)
    bm25.delete(["d0", "d1", "d2"])
    before = bm25.search("w1 w2 w7 w30", 9)
    bm25.compacted_state()
    assert bm25.search("w1 w2 w7 w30", 9) == before != []


def test_between_preparing_and_adding_the_index_may_change():
    texts = corpus(zipf(40, 8))
    bm25 = index(texts)
    add = bm25.prepare({"new": "w1 zebra"})
    bm25.delete([f"d{i}" for i in range(39)])  # this renumbers the terms
    add()
    rest = {"d39": texts["d39"], "new": "w1 zebra"}
    assert bm25.scores("w1 zebra") == index(rest).scores("w1 zebra")
    twice = bm25.prepare({"e": "x"}), bm25.prepare({"e": "y"})
    twice[0]()
    with pytest.raises(CourseError, match="the id 'e' is already in the index"):
        twice[1]()
    assert bm25.ids == ["d39", "new", "e"] and bm25.search("y") == []


def test_a_refused_change_changes_nothing():
    bm25 = index({"a": "x y", "b": "y z"})
    before = bm25.scores("x y z new")
    with pytest.raises(CourseError, match="the id 'a' is already in the index"):
        bm25.add({"c": "new words", "a": "x"})
    with pytest.raises(CourseError, match="the id 'c' occurs twice"):
        bm25.add([("c", "new"), ("c", "new")])
    with pytest.raises(CourseError, match="document 1 is 'id', not an id and a text"):
        bm25.add(["id"])
    with pytest.raises(CourseError, match=r"document 2 is \('d', None\), not an id"):
        bm25.add([("c", "new"), ("d", None)])
    with pytest.raises(CourseError, match="1 of 2 ids are not in the index, the first is 'q'"):
        bm25.delete(["a", "q"])
    with pytest.raises(CourseError, match="ids must be a list of strings; got the string 'ab'"):
        bm25.delete("ab")
    assert bm25.scores("x y z new") == before and bm25.ids == ["a", "b"] and "c" not in bm25
    bm25.add({"c": "new"})
    assert [hit.id for hit in bm25.search("new", 9)] == ["c"]


# -- searching -----------------------------------------------------------------------------------------------


@given(CORPORA, TEXTS, st.integers(1, 20), st.sets(st.integers(0, 20).map("d{}".format)) | st.none())
def test_hits_are_the_best_with_a_score_ties_by_id_filtered_first(texts, query, k, allowed):
    bm25 = index(corpus(texts))
    every = [
        (-score, doc_id)
        for doc_id, score in bm25.scores(query).items()
        if score > 0 and (allowed is None or doc_id in allowed)
    ]
    assert bm25.search(query, k, allowed) == [Hit(doc_id, -score) for score, doc_id in sorted(every)[:k]]


@given(
    st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.5]) | st.floats(0, 9), max_size=300), st.integers(1, 40)
)
def test_the_best_are_found_among_groups(scores, k):
    results, least = top_rows(np.array(scores), k)
    expected = sorted((s for s in scores if s > 0), reverse=True)[:k]
    assert sorted((scores[i] for i in results), reverse=True)[:k] == expected
    assert least == (expected[-1] if expected else np.inf) and all(scores[i] >= least for i in results)


def test_ties_by_the_thousand_come_in_the_order_of_their_ids():
    bm25 = index({f"{i:05}": "same words" for i in random.Random(0).sample(range(20_000), 20_000)})
    assert [hit.id for hit in bm25.search("same", 5)] == ["00000", "00001", "00002", "00003", "00004"]
    assert [hit.id for hit in bm25.search("words", 2, allowed=["19999", "00700", "12345"])] == [
        "00700",
        "12345",
    ]


def test_nothing_to_find():
    for bm25 in (BM25(), index({}), index({"a": "", "b": "  "})):
        assert bm25.search("카드") == bm25.search("") == [] and set(bm25.scores("카드").values()) <= {0}
    bm25 = index({"a": "x y", "b": ""})
    assert (
        bm25.search("")
        == bm25.search("z")
        == bm25.search("x", 5, allowed=[])
        == bm25.search("x", 5, allowed=["b", "q"])
        == []
    )
    assert [hit.id for hit in bm25.search("x", 1000)] == ["a"]
    assert str(bm25.explain("z", "a")) == "a: 0.00, no word in common"


def test_nfd_finds_nfc():
    bm25 = BM25()
    bm25.add({"card": "체크카드 연회비", "nfd": unicodedata.normalize("NFD", "적금 금리")})
    assert [hit.id for hit in bm25.search(unicodedata.normalize("NFD", "체크카드"))] == ["card"]
    assert [hit.id for hit in bm25.search("금리")] == ["nfd"]


def test_the_order_of_words_changes_no_digit():
    bm25, words = index(corpus(zipf(300, 30))), [f"w{i}" for i in range(30)]
    for _ in range(5):
        random.Random(1).shuffle(words)
        assert bm25.search(" ".join(words), 50) == bm25.search(" ".join(sorted(words)), 50)


def test_parts_add_up_and_say_why():
    bm25 = BM25(Tokenizer("words"))
    bm25.add({"fee": "The annual fee is a fee", "limit": "The limit"})
    told = bm25.explain("the fee fee of it", "fee")
    assert [(p.term, p.query_tf, p.tf, p.df) for p in told.terms] == [
        ("fee", 2, 2, 1),
        ("the", 1, 1, 2),
    ]
    assert (
        told.score
        == bm25.scores("the fee fee of it")["fee"]
        == pytest.approx(sum(p.score for p in told.terms))
    )
    for part in told.terms:
        assert part.score == pytest.approx(part.query_tf * part.idf * part.tf_weight)
    assert str(told).startswith("fee: ") and "'fee' 0.76 (here 2x, in 1 of 2 documents) + 'the'" in str(told)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: index({"a": "x"}).search("x", 0), "k=0; a search returns"),
        (lambda: index({"a": "x"}).search("x", -3), "k=-3"),
        (lambda: index({"a": "x"}).search("x", 2.5), r"k=2\.5"),
        (
            lambda: index({"a": "x"}).search("x", 5, allowed="a"),
            "allowed must be a list of strings; got the string 'a'",
        ),
        (lambda: index({"a": "x"}).explain("x", "b"), "the id 'b' is not in the index of 1 documents"),
        (lambda: BM25(variant="bm26"), "variant='bm26' is unknown; known: lucene, okapi"),
        (lambda: BM25().search_all("x", 1), "queries must be a list of strings; got the string 'x'"),
        (lambda: BM25(k1=-1), "k1=-1"),
        (lambda: BM25(k1=float("nan")), "k1=nan"),
        (lambda: BM25(k1=2e6), "below 1,000,000"),
        (lambda: BM25(b=1.5), r"b=1\.5"),
    ],
)
def test_what_cannot_be_asked_is_refused(call, message):
    with pytest.raises(CourseError, match=message):
        call()


@pytest.mark.parametrize("variant", VARIANTS)
def test_extreme_settings_give_numbers(variant):
    for k1, b in ((0, 0), (0, 1), (1.2, 0), (1.2, 1), (1e5, 1)):
        scores = index({"a": "x", "b": "x y " * 500, "c": ""}, variant, k1=k1, b=b).scores("x y")
        assert all(np.isfinite(score) for score in scores.values())


def test_ten_megabytes_in_one_document():
    bm25 = BM25()
    bm25.add({"long": "체크카드 annual fee 2,000원 " * 300_000, "short": "연회비"})
    assert [hit.id for hit in bm25.search("체크카드", 5)] == ["long"]
    assert bm25.explain("체크", "long").terms[0].tf == 300_000


def test_results_do_not_depend_on_the_seed_of_hashes():
    code = (
        "from course_lib.retrieval import BM25; from tests.retrieval.test_bm25 import zipf, corpus, SPACES;"
        "m = BM25(SPACES); m.add(corpus(zipf(300, 20))); m.delete(set(m.ids[:100]));"
        "print(m.search('w1 w2 w3 w4 w5', 200), m.explain('w1 w2 w3', m.ids[0]), list(m._vocabulary)[:50])"
    )
    outs = {
        subprocess.check_output(
            [sys.executable, "-c", code], cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": seed}
        )
        for seed in ("0", "1", "random")
    }
    assert len(outs) == 1 and b"Hit(" in outs.pop()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_document_with_the_word_is_found_in_the_smallest_indexes_too(variant, count):
    bm25 = BM25(Tokenizer("words"), variant=variant)
    bm25.add({str(i): text for i, text in enumerate(["card fee", "loan rate", "card limit", "bank"][:count])})
    assert {hit.id for hit in bm25.search("card")} == {"0", "2"} & set(bm25.ids)
    assert bm25.explain("card", "0").score == bm25.search("card")[0].score > 0


def test_an_id_is_found_in_either_unicode_form_and_returned_as_it_was_added():
    composed, apart = (unicodedata.normalize(form, "체크카드") for form in ("NFC", "NFD"))
    for added, asked in ((composed, apart), (apart, composed)):
        bm25 = BM25(Tokenizer("words"))
        bm25.add({added: "annual fee", "b": "annual rate"})
        assert asked in bm25 and bm25.explain("fee", asked).id == added
        assert [hit.id for hit in bm25.search("annual", allowed=[asked])] == [added] == bm25.ids[:1]
        with pytest.raises(CourseError, match="is already in the index"):
            bm25.add({asked: "x"})
        bm25.delete([asked])
        assert bm25.ids == ["b"]
