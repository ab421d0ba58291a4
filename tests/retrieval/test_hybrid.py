"""Hybrid search: explanations of scores, filters, and adding and deleting documents."""

import asyncio
import json
import re
import threading
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.vectorstores import InMemoryVectorStore
from pydantic import ValidationError

from course_lib.errors import CourseError
from course_lib.retrieval import (
    BM25,
    LSA,
    Dense,
    HybridRetriever,
    LateInteraction,
    StoreRetriever,
    Tokenizer,
)
from course_lib.retrieval.chunk import Chunk
from course_lib.retrieval.fusion import FUSIONS
from course_lib.retrieval.rerank import rerank
from tests.retrieval.conftest import Broken, Hashed, child

WORDS = st.sampled_from(["fee", "card", "rate", "limit", "카드", "수수료", "of", "the"])
TEXTS = st.lists(WORDS, max_size=7).map(" ".join)
CORPORA = st.lists(TEXTS, min_size=1, max_size=25)  # many duplicates
ALPHAS = st.sampled_from([0.0, 0.1, 0.25, 0.3, 0.5, 0.7, 0.9, 1.0])
FUSED = st.sampled_from(FUSIONS)


NO_EMBEDDER: Any = None


def corpus(texts):
    """Documents that are not sorted by id; some have only one of the two metadata fields."""
    return [
        Document(
            id=f"d{i * 7 % 26:02}",
            page_content=text,
            metadata={"year": 2020 + i % 3} | ({"lang": "ko"} if i % 2 else {}),
        )
        for i, text in enumerate(texts)
    ]


def retriever(documents, embedder=None, **settings):
    return HybridRetriever.from_documents(documents, embedder or Hashed(), **settings)


def ids(hits):
    return [hit.id for hit in hits]


def score_and_parts(sentence):
    """Parse the score and its two parts from an explanation."""
    score, dense, lexical = re.fullmatch(
        r"\S+ is number \d+ with (\S+) = (.+) \+ (.+?\))\. .+", sentence
    ).groups()
    parts = [
        re.match(r"(?:(\S+) x )?(\S+) for (?:meaning|words) \(", part).groups() for part in (dense, lexical)
    ]
    return float(score), [float(weight or 1) * float(value) for weight, value in parts]


# -- the ranking ---------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(CORPORA, TEXTS, st.integers(1, 9), st.sampled_from(["flat", "hnsw"]))
def test_alpha_at_its_ends_is_one_retriever_alone(texts, query, k, kind):
    hybrid = retriever(corpus(texts), kind=kind, candidates=9)
    for fusion in FUSIONS:
        dense, lexical = (hybrid.search(query, k, alpha=alpha, fusion=fusion) for alpha in (1, 0))
        assert ids(dense) == ids(hybrid.dense.search(query, k)) and ids(lexical) == ids(
            hybrid.lexical.search(query, k)
        )


@settings(max_examples=60)
@example(["fee fee card rate", "card"], "card rate", 0.5, "z-score", 3, False)  # 0 but for rounding
@given(CORPORA, TEXTS, ALPHAS, FUSED, st.integers(3, 30), st.booleans())
def test_every_hit_tells_ranks_scores_and_parts_that_add_up(texts, query, alpha, fusion, candidates, hnsw):
    hybrid = retriever(
        corpus(texts), alpha=alpha, fusion=fusion, candidates=candidates, k=3, kind="hnsw" if hnsw else "flat"
    )
    by_meaning, by_words = (
        retriever.search(query, candidates) for retriever in (hybrid.dense, hybrid.lexical)
    )
    scores = hybrid.lexical.scores(query)
    hits = hybrid.search(query)
    assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
    assert [(-hit.score, hit.id) for hit in hits] == sorted((-hit.score, hit.id) for hit in hits)
    for hit in hits:
        for place, results in ((hit.dense, by_meaning), (hit.lexical, by_words)):
            rank = ids(results).index(hit.id) + 1 if hit.id in ids(results) else None
            assert (place and place.rank) == rank
            if rank:
                assert place.score == pytest.approx(results[rank - 1].score, abs=1e-6)
        assert hit.lexical is None or hit.lexical.score == pytest.approx(scores[hit.id])
        assert hit.lexical is not None or scores[hit.id] == 0 or fusion == "rrf"
        if hit.dense and hit.lexical:
            assert hit.score == pytest.approx(
                alpha * hit.dense.normalized + (1 - alpha) * hit.lexical.normalized
            )
        score, parts = score_and_parts(hybrid.explain(hit))
        size = abs(hit.score) + sum(map(abs, parts))
        assert score == pytest.approx(hit.score, abs=6e-3 * size) and sum(parts) == pytest.approx(
            hit.score, abs=6e-3 * size
        )
        assert not re.search(r"e-1\d|-0 ", hybrid.explain(hit))  # rounding errors are written as 0


@pytest.mark.parametrize("fusion", ["min-max", "theoretical", "rrf"])
def test_a_retriever_that_found_nothing_adds_0_and_no_rounding_error(fusion):
    hybrid = retriever({"a": "fee", "b": "card"}, alpha=0.1, fusion=fusion)
    assert hybrid.explain(hybrid.search("fee")[1]).endswith("+ 0 for words (not found). No word in common.")


@settings(max_examples=40)
@given(CORPORA, TEXTS, st.lists(st.tuples(ALPHAS, FUSED, st.integers(1, 9)), min_size=1, max_size=4))
def test_moving_alpha_needs_no_new_search(texts, query, moves):
    hybrid = retriever(corpus(texts), candidates=9)
    (candidates,) = hybrid.retrieve([query], {"year": [2020, 2021]})
    for alpha, fusion, k in moves:
        results = hybrid.search(query, k, alpha=alpha, fusion=fusion, filter={"year": [2020, 2021]})
        assert hybrid.rank(candidates, k, alpha=alpha, fusion=fusion) == results


# -- LangChain's interface -----------------------------------------------------------------------------------


def search_every_way(hybrid, queries, options):
    """The documents of each query, equal from search, invoke, batch, their async forms, and as JSON."""
    results = [[hit.as_document() for hit in hybrid.search(query, **options)] for query in queries]
    assert [hybrid.invoke(query, **options) for query in queries] == results
    assert [asyncio.run(hybrid.ainvoke(query, **options)) for query in queries] == results
    assert hybrid.batch(queries, **options) == hybrid.batch(queries, {"tags": ["x"]}, **options) == results
    assert asyncio.run(hybrid.abatch(queries, **options)) == results
    for documents in results:
        assert json.loads(json.dumps([document.metadata for document in documents])) == [
            d.metadata for d in documents
        ]
    return results


@settings(max_examples=30)
@given(CORPORA, st.lists(TEXTS, max_size=3), ALPHAS, FUSED, st.integers(1, 5))
def test_search_invoke_batch_and_ainvoke_give_the_same(texts, queries, alpha, fusion, k):
    hybrid = retriever(corpus(texts))
    options = {"k": k, "alpha": alpha, "fusion": fusion, "filter": {"year": [2020, 2022]}}
    for documents in search_every_way(hybrid, queries, options):
        for rank, document in enumerate(documents, 1):
            assert (
                document.metadata["year"] in (2020, 2022)
                and "retrieval" not in hybrid._documents[document.id].metadata
            )
            assert (
                document.metadata["retrieval"].items()
                >= {"rank": rank, "alpha": alpha, "fusion": fusion}.items()
            )
            assert document.metadata["retrieval"].keys() == {
                "rank",
                "score",
                "alpha",
                "fusion",
                "dense",
                "lexical",
            }


def test_a_real_embedder_gives_the_same_order_together_and_alone(minilm):
    texts = [
        "The annual fee is 2,000 won",
        "Report a lost card",
        "Interest on savings",
        "The fee for a transfer",
        "카드 연회비",
    ]
    hybrid = retriever(corpus(texts), minilm)
    queries = ["how much does it cost?", "카드", "my card was stolen yesterday in the train to Busan", ""]
    for query, together in zip(queries, hybrid.batch(queries), strict=True):
        alone = hybrid.invoke(query)
        assert [d.id for d in together] == [d.id for d in alone] and bool(alone) == bool(query)
        for one, other in zip(together, alone, strict=True):
            assert one.metadata["retrieval"]["score"] == pytest.approx(
                other.metadata["retrieval"]["score"], abs=1e-6
            )
    assert hybrid.search(queries[2], 1)[0].document.page_content == texts[1]


def test_it_is_a_link_of_a_chain():
    hybrid = retriever({"a": "annual fee", "b": "lost card", "c": "fee of a transfer"})
    chain = hybrid | (lambda documents: [document.id for document in documents])
    assert chain.invoke("annual fee")[0] == "a" and [
        results[0] for results in chain.batch(["lost card", "transfer"])
    ] == ["b", "c"]
    bound = hybrid.bind(k=1, filter=lambda metadata: True) | (lambda documents: len(documents))
    assert bound.invoke("fee") == asyncio.run(bound.ainvoke("fee")) == 1
    errors = hybrid.batch(["fee"], return_exceptions=True, k=0)
    assert isinstance(errors[0], CourseError)


# -- filters -------------------------------------------------------------------------------------------------

FILTERS = [
    ({"year": 2021}, lambda m: m["year"] == 2021),
    ({"year": [2020, 2022]}, lambda m: m["year"] != 2021),
    ({"year": {2020}, "lang": "ko"}, lambda m: m == {"year": 2020, "lang": "ko"}),
    ({"lang": frozenset(["ko", "en"])}, lambda m: "lang" in m),
    (lambda m: m["year"] > 2020 and "lang" not in m, lambda m: m["year"] > 2020 and "lang" not in m),
    ({}, lambda m: True),
    ({"year": 1999}, lambda m: False),
]


@settings(max_examples=60)
@given(
    st.lists(TEXTS, min_size=6, max_size=25),
    TEXTS,
    st.sampled_from(FILTERS),
    st.integers(1, 4),
    st.sampled_from(["flat", "hnsw"]),
)
def test_a_filter_chooses_before_the_best_are_taken(texts, query, chosen, k, kind):
    """The hits are those of an index with only the matching documents; idf still counts all documents."""
    wanted, lets_through = chosen
    every = corpus(texts)
    few = [document for document in every if lets_through(document.metadata)]
    hybrid, small = (retriever(documents, kind=kind, candidates=4) for documents in (every, few))
    (candidates,), (expected,) = hybrid.retrieve([query], wanted), small.retrieve([query])
    assert (
        candidates.dense == pytest.approx(expected.dense)
        if not candidates.dense
        else ids(candidates.dense) == ids(expected.dense)
    )
    assert len(candidates.lexical) == len(expected.lexical) and set(ids(candidates.lexical)) <= {
        document.id for document in few
    }
    assert ids(hybrid.search(query, k, alpha=1, filter=wanted)) == ids(small.search(query, k, alpha=1))
    assert (
        len(hybrid.search(query, k, filter=wanted))
        == len(small.search(query, k))
        >= min(k, len(candidates.dense))
    )


def test_the_last_of_a_thousand_is_found_where_it_alone_is_let_through():
    documents = [
        Document(id=f"d{i:04}", page_content="annual fee card", metadata={"of": "all"}) for i in range(1000)
    ]
    last = Document(
        id="z", page_content="fee for something else that is long and far from it", metadata={"of": ["one"]}
    )
    for kind in ("flat", "hnsw"):
        hybrid = retriever([*documents, last], kind=kind)
        assert "z" not in ids(hybrid.search("annual fee card", 25))
        assert ids(hybrid.search("annual fee card", 25, filter=lambda m: m["of"] == ["one"])) == ["z"]
        assert ids(hybrid.search("annual fee card", 25, filter={"of": "one"})) == ["z"]


# -- invalid arguments ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: r.search("fee", 0), "k=0"),
        (lambda r: r.search("fee", -1), "k=-1"),
        (
            lambda r: r.search("fee", 26),
            r"k=26; k must be a whole number from 1 to the 25 candidates(.|\n)*candidates=26",
        ),
        (lambda r: r.search("fee", alpha=1.5), r"alpha=1\.5"),
        (lambda r: r.search("fee", alpha=float("nan")), "alpha=nan"),
        (lambda r: r.search("fee", fusion="sum"), "fusion='sum' is unknown; known: min-max, theoretical"),
        (
            lambda r: r.search("fee", filter={"yaer": 1}),
            r"no document has the metadata field 'yaer'; .*year, lang",
        ),
        (lambda r: r.search("fee", filter="ko"), "filter='ko' is neither a mapping nor a function"),
        (lambda r: r.retrieve("fee"), "queries must be a list of strings; got the string 'fee'"),
        (lambda r: r.delete("ab"), "ids must be a list of strings; got the string 'ab'"),
        (lambda r: r.delete(["a", "q"]), "1 of 2 ids are not in the index, the first is 'q'"),
        (lambda r: r.add_documents([Document(page_content="x")]), "document 1 is .* which has no id"),
        (lambda r: r.add_documents(["text"]), "document 1 is 'text', which has no id"),
        (lambda r: r.add_documents({"new": "x", "a": "x"}), "the id 'a' is already in the index"),
        (lambda r: r.add_documents([Document(id="n", page_content="x")] * 2), "the id 'n' occurs twice"),
        (lambda r: r.add_documents({"new": None}), "not an id and a text"),
        (
            lambda r: HybridRetriever(lexical=r.lexical, dense=Hashed()),
            r"the indexes hold 2 \(lexical\) and 0 \(dense\) documents",
        ),
    ],
)
def test_what_cannot_be_asked_is_refused_and_changes_nothing(call, message):
    first = Document(id="a", page_content="annual fee", metadata={"year": 2020, "lang": "ko"})
    hybrid = retriever([first, Document(id="b", page_content="lost card")])
    before = hybrid.search("annual fee of a card")
    with pytest.raises(CourseError, match=message):
        call(hybrid)
    assert hybrid.search(
        "annual fee of a card"
    ) == before and hybrid.ids == hybrid.lexical.ids == hybrid.dense.ids == ["a", "b"]


def test_unknown_settings_are_refused():
    for call in (
        lambda: HybridRetriever(dense=Dense(Hashed()), alhpa=1),
        lambda: retriever({"a": "x"}, alhpa=1),
        lambda: retriever({}, fusion="sum"),
    ):
        with pytest.raises(ValidationError):
            call()
    with pytest.raises(TypeError, match="alhpa"):
        retriever({"a": "x"}).invoke("x", alhpa=1)


# -- adding and deleting documents ---------------------------------------------------------------------------


@settings(max_examples=40)
@given(CORPORA, TEXTS, st.randoms(use_true_random=False), ALPHAS)
def test_after_deletions_and_additions_hits_are_those_of_a_fresh_retriever(texts, query, chance, alpha):
    documents = corpus(texts)
    hybrid, gone = retriever(documents[::2]), {document.id for document in documents if chance.random() < 0.5}
    hybrid.add_documents(documents[1::2])
    hybrid.delete(doc_id for doc_id in gone)
    living = [document for document in [*documents[::2], *documents[1::2]] if document.id not in gone]
    fresh = retriever(living)
    assert (
        hybrid.documents == living
        and hybrid.ids == hybrid.lexical.ids == hybrid.dense.ids
        and len(hybrid) == len(living)
    )
    results, expected = (r.search(query, alpha=alpha) for r in (hybrid, fresh))
    assert ids(results) == ids(expected) and [h.score for h in results] == pytest.approx(
        [h.score for h in expected]
    )


@pytest.mark.parametrize(
    "wrong", [ValueError("the embedder fails"), [[float("nan")] * 16] * 2, [[1.0] * 15] * 2, [[1.0] * 16]]
)
def test_an_embedder_that_fails_adds_to_neither_retriever(wrong):
    embedder = Broken()
    hybrid = retriever({"a": "annual fee", "b": "lost card"}, embedder)
    before = hybrid.search("annual fee new word")
    embedder.wrong = wrong
    with pytest.raises((CourseError, ValueError)):
        hybrid.add_documents({"c": "new word", "d": "newer word"})
    with pytest.raises((CourseError, ValueError)):
        hybrid.batch(["annual", "fee"])
    embedder.wrong = None
    assert hybrid.search(
        "annual fee new word"
    ) == before and hybrid.ids == hybrid.lexical.ids == hybrid.dense.ids == ["a", "b"]
    hybrid.add_documents({"c": "new word"})
    assert ids(hybrid.search("new word"))[0] == "c"


def test_nothing_to_find():
    for hybrid in (retriever({}), retriever([])):
        assert (
            hybrid.search("fee")
            == hybrid.invoke("fee")
            == hybrid.search("fee", filter={"any": 1})
            == hybrid.documents
            == []
        )
        assert hybrid.batch(["fee", ""]) == [[], []] and hybrid.batch([]) == []
    hybrid = retriever({"a": "annual fee", "empty": ""})
    assert hybrid.search("") == hybrid.search(" \n") == hybrid.search("fee", filter=lambda m: False) == []
    assert hybrid.search("annual fee", 25)[0].id == "a"
    hybrid.delete(["a", "empty"])
    assert hybrid.search("annual fee") == [] and len(hybrid) == 0


def test_equal_documents_come_in_the_order_of_their_ids():
    hybrid = retriever({f"{n:02}": "annual fee" for n in reversed(range(40))}, candidates=10, k=10)
    for alpha in (0, 0.3, 0.7, 1):
        assert ids(hybrid.search("annual fee", alpha=alpha)) == [f"{n:02}" for n in range(10)]


def test_ten_megabytes_in_one_document(lsa):
    hybrid = retriever({"short": "적금 금리"}, lsa)
    hybrid.add_documents({"long": "체크카드 연회비 2,000원 " * 330_000})
    (hit,) = hybrid.search("체크카드 연회비", 1)
    assert hit.id == "long" and hit.dense.rank == hit.lexical.rank == 1
    assert "'체크' " in hybrid.explain(hit)


@pytest.mark.parametrize("dense", [Dense, lambda embedder: embedder])
@pytest.mark.parametrize("lexical", [BM25(Tokenizer("words")), Tokenizer("words"), str.split])
def test_the_constructor_takes_indexes_or_an_embedder_and_a_tokenizer(dense, lexical):
    hybrid = HybridRetriever(dense=dense(Hashed()), lexical=lexical, k=1)
    hybrid.add_documents({"a": "annual fee", "b": "lost card"})
    assert ids(hybrid.search("fee")) == ["a"] and hybrid.lexical.tokenizer("a b") == ["a", "b"]
    hybrid.delete(["a", "b"])


def test_the_constructor_refuses_what_is_neither():
    assert HybridRetriever(dense=Hashed(), lexical=None).lexical.tokenizer == Tokenizer()
    for wrong in ({}, {"dense": "embedder"}, {"dense": Dense(Hashed()), "lexical": "words"}):
        with pytest.raises(ValidationError):
            HybridRetriever(**wrong)


def test_texts_get_numbers_or_the_ids_and_metadata_given():
    hybrid = HybridRetriever.from_texts(["annual fee", "lost card"], Hashed(), k=1)
    assert hybrid.ids == ["0", "1"] and ids(hybrid.search("card")) == ["1"]
    hybrid = HybridRetriever.from_texts(["fee"], Hashed(), [{"year": 2020}], ids=["a"])
    assert hybrid.documents == [Document(id="a", page_content="fee", metadata={"year": 2020})]
    with pytest.raises(CourseError, match="texts must be a list of strings; got the string 'fee'"):
        HybridRetriever.from_texts("fee", Hashed())
    with pytest.raises(CourseError, match="2 texts, 2 metadatas and 1 ids"):
        HybridRetriever.from_texts(["fee", "card"], Hashed(), ids=["a"])


def test_repr_shows_sizes_and_settings():
    hybrid = retriever({"a": "annual fee", "b": "lost card"}, k=2, kind="hnsw")
    assert (
        repr(hybrid)
        == str(hybrid)
        == (
            "HybridRetriever(2 documents, alpha=0.7, candidates=25, k=2, fusion='theoretical', rerank=None, "
            "lexical=BM25(2 documents, 4 terms, Tokenizer(name='bigrams', stop_words=False, stem=False), "
            "variant='lucene', k1=1.2, b=0.75), "
            "dense=Dense(Hashed, 2 documents, 16 dimensions, kind='hnsw', m=32, ef_construction=200, "
            "ef_search=64))"
        )
    )


def test_a_copy_with_other_settings_shares_the_index():
    hybrid = retriever({"a": "annual fee", "b": "lost card"})
    other = hybrid.model_copy(update={"candidates": 100, "k": 100})
    assert other.dense is hybrid.dense and ids(other.search("fee")) == ids(hybrid.search("fee"))
    assert other.k == 100 and hybrid.k == 5


@pytest.mark.parametrize("kind", ["flat", "hnsw"])
def test_searches_while_documents_come_and_go_see_a_whole_index(kind):
    hybrid = HybridRetriever.from_documents({"kept": "fee card"}, Hashed(), kind=kind)
    errors, done = [], threading.Event()

    def change():
        try:
            for i in range(30):
                added = {f"{i}-{j}": f"fee card {i} {j}" for j in range(12)}
                hybrid.add_documents(added)
                hybrid.delete(added if i % 3 else list(added)[::2])
        except Exception as error:
            errors.append(error)
        finally:
            done.set()

    thread = threading.Thread(target=change)
    thread.start()
    searches = 0
    while not done.is_set() or not searches:
        searches += 1
        (found,) = hybrid.retrieve(["fee card"])
        both = [
            {hit.id for hit in hits}
            for hits in (found.dense + found.extra_dense, found.lexical + found.extra_lexical)
        ]
        assert both[0] == both[1], "every hit has both scores"
        assert "kept" in ids(hybrid.rank(found, 25))
    thread.join()
    assert not errors and len(hybrid) == 1 + 10 * 6


class Gated(Hashed):
    """An embedder that waits for `gate` before it embeds documents."""

    def __init__(self):
        super().__init__()
        self.gate, self.began = threading.Event(), threading.Event()

    def embed_documents(self, texts):
        self.began.set()
        assert self.gate.wait(30)
        return super().embed_documents(texts)


def test_searches_do_not_wait_while_documents_are_embedded():
    embedder = Gated()
    embedder.gate.set()
    hybrid = HybridRetriever.from_documents({"a": "annual fee"}, embedder)
    embedder.gate.clear()
    embedder.began.clear()
    thread = threading.Thread(target=hybrid.add_documents, args=({"b": "annual fee"},))
    thread.start()
    assert embedder.began.wait(30)
    assert ids(hybrid.search("fee")) == ["a"]  # the documents of before, while the new one is embedded
    embedder.gate.set()
    thread.join()
    assert ids(hybrid.search("fee")) == ["a", "b"]


def halves(text):
    return [Chunk(text[:5], 0, 5, 1), Chunk(text[5:], 5, len(text), 1)]


@pytest.mark.parametrize("split", [False, halves])
def test_a_search_while_documents_change_sees_the_state_before_or_after(split):
    hybrid = HybridRetriever.from_documents({"kept": "fee card"}, Hashed(), split=split, k=25)
    added = {f"new{i}": f"fee card {i}" for i in range(12)}
    states, seen, errors, done = ({"kept"}, {"kept", *added}), set(), [], threading.Event()

    def search():
        try:
            while not done.is_set():
                seen.add(states.index(set(ids(hybrid.search("fee card")))))
                seen.add(states.index(set(ids(hybrid.invoke("fee")))))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(25):
        hybrid.add_documents(added)
        hybrid.delete(added)
    done.set()
    for thread in threads:
        thread.join()
    assert not errors and seen


class Longest:
    def rerank(self, query, texts):
        return [float(len(text)) for text in texts]


def test_a_question_without_a_letter_has_no_hits_and_spoils_no_batch():
    hybrid = retriever({"a": "fee 😀", "b": "annual fee 😀"}, rerank=Longest())
    found = hybrid.batch(["fee", "😀 ?!", "", "annual"])
    assert [ids(documents) for documents in found] == [["b", "a"], [], [], ["b", "a"]]
    assert hybrid.search("😀") == hybrid.search("😀", rerank=None) == []


def test_one_bad_question_of_a_batch_is_returned_as_an_error_where_that_is_asked_for():
    hybrid = retriever({"a": "annual fee"})
    found = hybrid.batch(["fee", "a\ud800"], return_exceptions=True)
    assert ids(found[0]) == ["a"] and isinstance(found[1], CourseError)


@pytest.mark.parametrize(
    "call",
    [
        lambda r, text: r.search(text),
        lambda r, text: r.invoke(text),
        lambda r, text: r.batch(["fee", text]),
        lambda r, text: r.add_documents({"new": text}),
        lambda r, text: r.add_documents({text: "fee"}),
        lambda r, text: r.lexical.search(text),
        lambda r, text: r.lexical.explain(text, "a"),
        lambda r, text: r.dense.search(text),
        lambda r, text: StoreRetriever(InMemoryVectorStore(Hashed())).search_all([text], 1),
        lambda r, text: LateInteraction(NO_EMBEDDER).rerank(text, ["a"]),
        lambda r, text: LateInteraction(NO_EMBEDDER).rerank("a", [text]),
        lambda r, text: rerank(Longest(), text, ["a", "b"]),
        lambda r, text: rerank(Longest(), "a", ["a", text]),
    ],
)
def test_half_of_a_surrogate_pair_is_refused_everywhere(call):
    hybrid = retriever({"a": "annual fee"})
    with pytest.raises(CourseError, match=r"character 4 of 5 is half of a surrogate pair\n  Fix: text"):
        call(hybrid, "card\ud83d")
    assert hybrid.ids == hybrid.lexical.ids == hybrid.dense.ids == ["a"]


def test_the_default_alpha_is_the_embedders():
    texts = ["annual fee", "lost card fee"]
    assert HybridRetriever.from_texts(texts, LSA.fit(texts)).alpha == 0.5
    assert HybridRetriever.from_texts(texts, LSA.fit(texts), alpha=0.2).alpha == 0.2
    assert HybridRetriever.from_texts(texts, Hashed()).alpha == 0.7


def test_a_search_reads_no_file_and_resolves_no_model_again():
    """The models of settings are resolved when they are first used; an audit hook counts the files opened."""
    assert child(
        """
from course_lib.retrieval import HybridRetriever
from course_lib.retrieval.rerank import make_reranker
from course_lib.models.schema import ModelSpec
model = ModelManager.shared().get_embedding_model("embed")
hybrid = HybridRetriever.from_texts(["annual fee", "lost card"], model, rerank=make_reranker("cross-encoder"))
hybrid.search("fee")
opened, parsed = [], []
ModelSpec.__init__ = lambda self, *args, **fields: parsed.append(fields)
sys.addaudithook(lambda event, arguments: opened.append(arguments[0]) if event == "open" else None)
hybrid.search("card")
print(opened, parsed)
"""
    ).endswith("[] []\n")
