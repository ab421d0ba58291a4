"""Reranking: the order, invalid scores, hybrid search with a reranker, and LangChain's interface."""

import asyncio
import json
import re
import unicodedata
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_core.documents import Document
from pydantic import ValidationError

from course_lib.errors import CourseError
from course_lib.models import ModelManager
from course_lib.retrieval import (
    HybridRetriever,
    LateInteraction,
    LLMReranker,
    RerankCompressor,
    Tokenizer,
    Weighted,
)
from course_lib.retrieval.rerank import KINDS, EqualScoresWarning, make_reranker, rerank
from tests.retrieval.conftest import Hashed
from tests.retrieval.test_hybrid import (
    ALPHAS,
    CORPORA,
    FUSED,
    TEXTS,
    corpus,
    ids,
    retriever,
    search_every_way,
)
from tests.retrieval.test_storage import same

ANY_SCORES = st.lists(
    st.floats(-9, 9) | st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e-300, 1e300, -1e300]), max_size=12
)
SILENT = pytest.mark.filterwarnings("ignore::course_lib.retrieval.rerank.EqualScoresWarning")
NAN, INF = float("nan"), float("inf")
TEXTS_3 = ["annual fee", "lost card", "fee of a transfer"]


class Given:
    """A reranker that returns given scores."""

    def __init__(self, *scores):
        self.scores = scores

    def rerank(self, query, texts):
        return self.scores


class Shared:
    """A reranker by the fraction of a text's words in the question: an order that no retriever gives."""

    cut = Tokenizer()

    def __init__(self):
        self.calls = []

    def rerank(self, query, texts):
        self.calls.append((query, texts))
        wanted = set(self.cut(query))
        return [
            sum(token in wanted for token in self.cut(text)) / (1 + len(self.cut(text))) for text in texts
        ]


# -- the order -----------------------------------------------------------------------------------------------


@SILENT
@settings(max_examples=200)
@given(ANY_SCORES, st.none() | st.integers(1, 15))
def test_the_best_k_come_first_and_ties_in_the_order_given(scores, k):
    texts = [f"text {i}" for i in range(len(scores))]
    whole, results = rerank(Given(*scores), "fee?", texts), rerank(Given(*scores), "fee?", texts, k)
    assert results == whole[:k] and [r.rank for r in whole] == list(range(1, len(texts) + 1))
    assert sorted(r.previous_rank for r in whole) == [r.rank for r in whole]
    assert [r.rerank_score for r in whole] == [scores[r.previous_rank - 1] for r in whole]
    slack = 1e-6 * max(map(abs, scores), default=0)  # smaller differences are treated as ties
    if scores and max(scores) - min(scores) > slack:
        assert [(-r.rerank_score, r.previous_rank) for r in whole] == sorted(
            (-score, i) for i, score in enumerate(scores, 1)
        )
    else:
        assert [r.previous_rank for r in whole] == [r.rank for r in whole]


@given(st.lists(TEXTS, max_size=9), TEXTS, st.none() | st.integers(1, 12))
def test_none_keeps_the_order(texts, query, k):
    assert [(r.rerank_score, r.rank, r.previous_rank) for r in rerank(None, query, texts, k)] == [
        (None, i, i) for i in range(1, len(texts) + 1)
    ][:k]


@given(st.permutations(range(6)))
def test_candidates_in_another_order_have_the_same_best(order):
    texts = ["annual fee", "annual fee of the card", "card", "lost", "a fee for something else", "annual"]
    given_so = [texts[i] for i in order]
    assert [given_so[r.previous_rank - 1] for r in rerank(Shared(), "annual fee", given_so)][:4] == [
        "annual fee",
        "annual",
        "annual fee of the card",
        "a fee for something else",
    ]


def test_numbers_of_numpy_become_numbers_of_json():
    results = rerank(Given(*np.array([1, 2, 3], np.float32)), "fee", TEXTS_3)
    assert (
        json.dumps([vars(r) for r in results[:1]]) == '[{"rerank_score": 3.0, "rank": 1, "previous_rank": 3}]'
    )


# -- invalid and equal scores --------------------------------------------------------------------------------


@pytest.mark.parametrize("scores", [[0.5] * 3, [0, -0.0, 0], [3, 3 + 1e-6, 3 - 1e-6], [-1e300] * 3])
def test_equal_scores_of_different_texts_are_no_information_and_change_no_order(scores):
    with pytest.warns(
        EqualScoresWarning,
        match="Given gave all 3 candidates the score .*, so they stay",
    ):
        results = rerank(Given(*scores), "fee", TEXTS_3)
    assert [r.previous_rank for r in results] == [1, 2, 3]


@pytest.mark.parametrize(
    ("scores", "texts"),
    [([0.5], ["fee"]), ([0], [""]), ([0.5] * 3, ["fee"] * 3), ([0.5, 0.5, 0.50001], TEXTS_3), ([], [])],
)
def test_one_candidate_equal_texts_and_one_score_that_differs_are_no_reason_to_warn(scores, texts):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(rerank(Given(*scores), "fee", texts)) == len(texts)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([1.0, 2.0], r"Given gave 2 scores for 3 texts\n.*one score for each"),
        ([1.0] * 4, "Given gave 4 scores for 3 texts"),
        ([], "Given gave 0 scores for 3 texts"),
        (
            [1.0, NAN, 2.0],
            r"1 of 3 scores of Given are not finite: nan for 'lost card'\n.*course doctor",
        ),
        ([NAN] * 3, "3 of 3 scores of Given are not finite: nan for 'annual fee'"),
        ([1.0, 2.0, INF], "1 of 3 scores of Given are not finite: inf for 'fee of a transfer'"),
        ([-INF, 2.0, NAN], "2 of 3 scores of Given are not finite: -inf for 'annual fee'"),
    ],
)
def test_what_is_no_score_for_each_candidate_is_refused(scores, message):
    with pytest.raises(CourseError, match=message):
        rerank(Given(*scores), "fee", TEXTS_3)
    hybrid = retriever(dict(zip("abc", TEXTS_3, strict=True)))
    with pytest.raises(CourseError, match=message.partition(": ")[0]):  # another text is the first here
        hybrid.search("annual fee of a lost card", rerank=Given(*scores))
    assert len(hybrid.search("annual fee of a lost card", rerank=None)) == 3


@pytest.mark.parametrize("query", ["", " \n", "?", "... !?", "—", "💳", "，。"])
def test_a_question_without_a_letter_or_figure_is_not_asked(query):
    shared = Shared()
    with pytest.raises(CourseError, match="has no letter and no digit"):
        rerank(shared, query, TEXTS_3)
    assert shared.calls == [] and len(rerank(None, query, TEXTS_3)) == 3


@pytest.mark.parametrize("k", [0, -1])
def test_less_than_one_candidate_is_refused_even_of_none(k):
    for reranker, texts in ((Shared(), TEXTS_3), (None, TEXTS_3), (Shared(), [])):
        with pytest.raises(CourseError, match=f"k={k}"):
            rerank(reranker, "fee", texts, k)


def test_one_string_is_not_taken_for_a_list_of_letters():
    late, llm = LateInteraction(Hashed()), LLMReranker(ModelManager().get_chat_model("haneul-300k"))
    asks = [lambda r=reranker: rerank(r, "fee", "fee") for reranker in (None, Given(1.0), Shared(), late)]
    asks += [lambda r=reranker: r.rerank("fee", "fee") for reranker in (late, llm)]
    for ask in (*asks, lambda: late.add("fee")):
        with pytest.raises(CourseError, match="texts must be a list of strings; got the string 'fee'"):
            ask()
    assert repr(late) == "LateInteraction(Hashed, 0 passages, 0.0 MB)"
    assert repr(llm) == "LLMReranker('haneul-300k', answers=None, prompt=question_prompt)"


def test_no_candidates_are_no_question():
    shared = Shared()
    assert (
        rerank(shared, "fee", [])
        == rerank(shared, "", [])
        == rerank(shared, "fee", (), 3)
        == shared.calls
        == []
    )


class Odd:
    rerank = "not a method"


@pytest.mark.parametrize(
    "other", [object(), "none", "cross-encoder", Shared, Given, Odd(), len, retriever({}), 5]
)
def test_what_cannot_rerank_is_refused_where_it_is_given(other):
    hybrid = retriever({"a": "fee"})
    asks = [
        lambda: rerank(other, "fee", TEXTS_3),
        lambda: HybridRetriever(rerank=other),
        lambda: RerankCompressor(reranker=other),
    ]
    asks += [lambda: hybrid.search("fee", rerank=other), lambda: hybrid.invoke("fee", rerank=other)]
    for ask in asks:
        with pytest.raises(
            CourseError,
            match=r"has no method rerank\(query, texts\)\n.*make_reranker\(.late-interaction.\)",
        ):
            ask()


def test_a_kind_is_a_reranker_of_the_models_in_their_roles():
    """No model is loaded before the reranker is used."""
    manager = ModelManager()
    late, llm, cross = (make_reranker(kind, manager) for kind in ("late-interaction", "llm", "cross-encoder"))
    assert (
        isinstance(late, LateInteraction)
        and late.embeddings.spec.name == "all-MiniLM-L6-v2+haneul-late-interaction"
    )
    assert isinstance(llm, LLMReranker) and llm.model.spec.name == "haneul-4m"
    assert (
        cross.spec.task == "rerank"
        and cross.manager is llm.model.manager is late.embeddings.manager is manager
    )
    assert make_reranker("llm").model.manager is ModelManager.shared() and manager.loaded_models() == []
    assert len(KINDS) == 3
    with pytest.raises(
        CourseError, match=r"kind='colbert' is unknown; known: cross-encoder, late-interaction, llm"
    ):
        make_reranker("colbert")


# -- search, then rerank, in one call ------------------------------------------------------------------------


def places(hits):
    return [(hit.id, hit.rank, hit.previous_rank, hit.rerank_score) for hit in hits]


@SILENT
@settings(max_examples=60)
@given(CORPORA, TEXTS, ALPHAS, FUSED, st.integers(3, 25))
def test_one_call_gives_what_reranking_its_first_candidates_gives(texts, query, alpha, fusion, candidates):
    shared = Shared()
    hybrid = retriever(corpus(texts), alpha=alpha, fusion=fusion, candidates=candidates, k=3, rerank=shared)
    first, results = hybrid.search(query, candidates, rerank=None), hybrid.search(query)
    assert len(shared.calls) == (1 if first else 0)
    read = [hit.document.page_content for hit in first]
    expected = rerank(Shared(), query, read, 3)
    assert places(results) == [
        (first[r.previous_rank - 1].id, r.rank, r.previous_rank, r.rerank_score) for r in expected
    ]
    for hit in results:  # all other fields are those of the search
        assert (
            replace(hit, rank=hit.previous_rank, previous_rank=None, rerank_score=None)
            == first[hit.previous_rank - 1]
        )


def test_the_best_three_of_twenty_five_of_the_handbook(passages):
    shared = Shared()
    hybrid = HybridRetriever.from_documents(passages, Hashed(), candidates=25, k=3, rerank=shared)
    query = "체크카드 연회비는 얼마인가요?"
    first, results = hybrid.search(query, 25, rerank=None), hybrid.search(query)
    ((asked, read),) = shared.calls
    assert (
        asked == query
        and read == [passages[hit.id] for hit in first]
        and len(read) == 25
        and len(results) == 3
    )
    assert places(results) == [
        (first[r.previous_rank - 1].id, r.rank, r.previous_rank, r.rerank_score)
        for r in rerank(Shared(), query, read, 3)
    ]
    assert ids(results) != ids(first[:3])


@SILENT
@settings(max_examples=30)
@given(CORPORA, st.lists(TEXTS, max_size=3), ALPHAS, FUSED, st.integers(1, 5), st.booleans())
def test_search_invoke_batch_and_ainvoke_give_the_same(texts, queries, alpha, fusion, k, in_call):
    """The reranker can be a setting of the retriever or an argument of the call."""
    hybrid = retriever(corpus(texts), **({} if in_call else {"rerank": Shared()}))
    asked = {"k": k, "alpha": alpha, "fusion": fusion, "filter": {"year": [2020, 2022]}} | (
        {"rerank": Shared()} if in_call else {}
    )
    for documents in search_every_way(hybrid, queries, asked):
        for rank, document in enumerate(documents, 1):
            told = document.metadata["retrieval"]
            assert told.keys() == {
                "rank",
                "score",
                "alpha",
                "fusion",
                "rerank_score",
                "previous_rank",
                "dense",
                "lexical",
            }
            assert told["rank"] == rank and document.metadata["year"] in (2020, 2022)


@settings(max_examples=30)
@given(CORPORA, TEXTS)
def test_none_in_the_call_is_a_search_without_a_reranker(texts, query):
    shared = Shared()
    with_it, without = retriever(corpus(texts), rerank=shared), retriever(corpus(texts))
    results = with_it.search(query, rerank=None)
    assert results == without.search(query) and with_it.invoke(query, rerank=None) == without.invoke(query)
    assert {(hit.previous_rank, hit.rerank_score) for hit in results} <= {(None, None)} and shared.calls == []
    assert all("previous_rank" not in hit.as_document().metadata["retrieval"] for hit in results)


@SILENT
def test_an_explanation_tells_both_places():
    hybrid = retriever(
        {"a": "annual fee of the card and the fee for more", "b": "fee", "c": "lost card"},
        alpha=0,
        rerank=Shared(),
    )
    hit = next(hit for hit in hybrid.search("annual fee") if hit.id == "b")
    plain = next(hit for hit in hybrid.search("annual fee", rerank=None) if hit.id == "b")
    assert (hit.rank, hit.previous_rank) == (1, 2) and hit.rerank_score == 0.5
    told = hybrid.explain(hit)
    assert told.startswith("b is number 1, by the reranker's 0.5; the search had it as number 2 with ")
    assert re.sub("number 1, .* number 2 with", "number 2 with", told) == hybrid.explain(plain)


def test_where_nothing_is_found_nobody_is_asked():
    shared = Shared()
    hybrid = retriever([Document(id="a", page_content="annual fee", metadata={"year": 2020})], rerank=shared)
    asks = [
        ("", {}),
        (" \n", {}),
        ("annual fee", {"filter": lambda metadata: False}),
        ("annual fee", {"filter": {"year": 1999}}),
    ]
    for query, options in asks:
        assert (
            hybrid.search(query, **options)
            == hybrid.invoke(query, **options)
            == hybrid.batch([query], **options)[0]
            == []
        )
    assert shared.calls == [] and retriever({}, rerank=shared).search("fee") == [] == shared.calls


def test_a_korean_question_may_be_spelt_in_letters_or_in_syllables(minilm):
    texts = [
        "체크카드 연회비는 2,000원입니다.",
        "카드를 잃어버리면 바로 신고하세요.",
        "적금 금리는 연 3.5%입니다.",
    ]
    query = "체크카드 연회비"
    apart = unicodedata.normalize("NFD", query)
    assert apart != query
    hybrid = retriever(corpus(texts), alpha=0, rerank=Shared())
    assert (
        places(hybrid.search(apart)) == places(hybrid.search(query))
        and hybrid.search(query)[0].document.page_content == texts[0]
    )
    for reranker in (Shared(), LateInteraction(minilm)):
        assert rerank(reranker, apart, texts) == rerank(reranker, query, texts)


# -- LangChain's interface -----------------------------------------------------------------------------------


@SILENT
@settings(max_examples=30)
@given(CORPORA, TEXTS, st.integers(1, 5))
def test_a_compressor_over_a_retriever_gives_what_the_retriever_gives_with_its_reranker(texts, query, k):
    hybrid, with_it = (
        retriever(corpus(texts), candidates=9, **more) for more in ({"k": 9}, {"k": k, "rerank": Shared()})
    )
    chain = ContextualCompressionRetriever(
        base_compressor=RerankCompressor(reranker=Shared(), k=k), base_retriever=hybrid
    )
    results, expected = chain.invoke(query), with_it.search(query)
    assert asyncio.run(chain.ainvoke(query)) == results and chain.batch([query, query]) == [results, results]
    assert [(d.id, d.metadata["rerank"]) for d in results] == [
        (hit.id, {"rerank_score": hit.rerank_score, "rank": hit.rank, "previous_rank": hit.previous_rank})
        for hit in expected
    ]
    assert all(
        document.metadata["retrieval"]["rank"] == document.metadata["rerank"]["previous_rank"]
        for document in results
    )
    assert json.loads(json.dumps([document.metadata for document in results])) == [
        document.metadata for document in results
    ]


def test_a_compressor_changes_no_document_that_it_was_given():
    documents = [
        Document(id=text[0], page_content=text, metadata={"n": i, "rerank": "old"})
        for i, text in enumerate(TEXTS_3)
    ]
    before = [document.model_copy(deep=True) for document in documents]
    results = RerankCompressor(reranker=Shared(), k=2).compress_documents(documents, "a lost card")
    assert documents == before and (
        results[0].id,
        results[0].metadata["n"],
        results[0].metadata["rerank"]["previous_rank"],
    ) == ("l", 1, 2)
    assert RerankCompressor(reranker=Shared()).compress_documents([], "fee") == []
    kept = RerankCompressor(reranker=None).compress_documents(documents, "fee")
    assert [d.metadata["rerank"] for d in kept] == [
        {"rerank_score": None, "rank": i, "previous_rank": i} for i in (1, 2, 3)
    ]
    with pytest.raises(CourseError, match="has no letter and no digit"):
        RerankCompressor(reranker=Shared()).compress_documents(documents, "?")


@pytest.mark.parametrize("wrong", [{"k": 0}, {"k": -1}, {"top_n": 3}, {"k": "many"}])
def test_a_compressor_of_no_documents_or_unknown_settings_is_refused(wrong):
    with pytest.raises(ValidationError):
        RerankCompressor(reranker=Shared(), **wrong)


# -- files ---------------------------------------------------------------------------------------------------


@SILENT
def test_an_index_that_was_searched_with_a_reranker_wants_one_or_is_told_that_there_is_none(tmp_path):
    hybrid = retriever(dict(zip("abc", TEXTS_3, strict=True)), rerank=(shared := Shared()))
    hybrid.save(tmp_path)
    with pytest.raises(
        CourseError, match=r"the reranker of this index, a Shared, is not saved with it(.|\n)*rerank=None"
    ):
        HybridRetriever.load(tmp_path, Hashed())
    with pytest.raises(CourseError, match="cannot rerank"):
        HybridRetriever.load(tmp_path, Hashed(), object())
    same(hybrid, HybridRetriever.load(tmp_path, Hashed(), rerank=shared))
    without = HybridRetriever.load(tmp_path, Hashed(), rerank=None)
    assert without.rerank is None and without.search("annual fee") == hybrid.search("annual fee", rerank=None)


@SILENT
def test_an_index_without_a_reranker_wants_none_and_may_be_given_one(tmp_path):
    documents = dict(zip("abc", TEXTS_3, strict=True))
    hybrid = retriever(documents)
    hybrid.save(tmp_path)
    same(hybrid, HybridRetriever.load(tmp_path, Hashed()))
    same(hybrid, HybridRetriever.load(tmp_path, Hashed(), None))
    loaded = HybridRetriever.load(tmp_path, Hashed(), rerank=(shared := Shared()))
    same(retriever(documents, rerank=shared), loaded)


# -- Weighted ------------------------------------------------------------------------------------------------


@SILENT
@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), min_size=1, max_size=12),
    st.sampled_from([0, 0.25, 0.5, 1]),
)
def test_a_weighted_reranker_orders_by_the_mean_of_both_scaled_scores(pairs, weight):
    own, search = (np.array(scores) for scores in zip(*pairs, strict=True))
    results = rerank(
        Weighted(Given(*own), weight),
        "fee?",
        [f"text {i}" for i in range(len(own))],
        search_scores=list(search),
    )
    assert [r.rerank_score for r in results] == [own[r.previous_rank - 1] for r in results]
    if np.ptp(own) <= 1e-6 * abs(own).max():  # the reranker sees no difference: the search decides
        searched = search[[r.previous_rank - 1 for r in results]]
        assert (np.diff(searched) <= 1e-6 * abs(search).max()).all()
        return
    scaled = [(s - s.min()) / np.ptp(s) if np.ptp(s) else np.ones_like(s) for s in (own, search)]
    mixed = (weight * scaled[0] + (1 - weight) * scaled[1])[[r.previous_rank - 1 for r in results]]
    assert (np.diff(mixed) <= 1e-12).all()


def test_a_retriever_and_a_compressor_give_a_weighted_reranker_the_scores_of_the_search():
    texts = {
        "a": "annual fee of the card",
        "b": "annual",
        "c": "lost card",
        "d": "a fee for something else, annual",
    }
    hybrid, query = retriever(texts), "annual fee"
    plain = hybrid.search(query, 4)
    assert [hit.id for hit in hybrid.search(query, 4, rerank=Weighted(Shared(), 0))] == [
        hit.id for hit in plain
    ]
    assert hybrid.search(query, 4, rerank=Weighted(Shared(), 1)) == hybrid.search(query, 4, rerank=Shared())
    half = Weighted(Shared())
    expected = rerank(
        half, query, [hit.document.page_content for hit in plain], 3, [hit.score for hit in plain]
    )
    assert [hit.previous_rank for hit in hybrid.search(query, 3, rerank=half)] == [
        r.previous_rank for r in expected
    ]
    kept = RerankCompressor(reranker=half, k=3).compress_documents(hybrid.invoke(query, k=4), query)
    assert [document.metadata["rerank"]["previous_rank"] for document in kept] == [
        r.previous_rank for r in expected
    ]


def test_a_weighted_reranker_without_scores_of_the_search_or_with_a_strange_weight_is_refused():
    with pytest.raises(CourseError, match="Weighted needs 3 scores of the search; got 0"):
        rerank(Weighted(Shared()), "fee", TEXTS_3)
    with pytest.raises(CourseError, match="Weighted needs 3 scores of the search; got 2"):
        rerank(Weighted(Shared()), "fee", TEXTS_3, search_scores=[1, 2])
    with pytest.raises(CourseError, match="Weighted needs 3 scores of the search; got 0"):
        RerankCompressor(reranker=Weighted(Shared())).compress_documents(
            [Document(page_content=t) for t in TEXTS_3], "fee"
        )
    for weight in (-0.1, 1.1, NAN):
        with pytest.raises(CourseError, match="the reranker's weight must be from 0 to 1"):
            Weighted(Shared(), weight)
    for inner in (None, Weighted(Shared())):
        with pytest.raises(CourseError, match=r"Weighted needs a reranker of its own; got (None|Weighted)"):
            Weighted(inner)
    with pytest.raises(CourseError, match="cannot rerank"):
        Weighted("fee")


def test_where_the_reranker_sees_no_difference_the_search_decides():
    with pytest.warns(EqualScoresWarning, match="Given gave all 3 candidates the score 1"):
        order = rerank(Weighted(Given(1, 1 + 1e-9, 1), 0.9), "fee", TEXTS_3, search_scores=[0.1, 0.9, 0.5])
    assert [each.previous_rank for each in order] == [2, 3, 1]


def test_the_searchs_scores_are_checked_before_the_slow_model_runs():
    class Asked:
        def rerank(self, query, texts):
            raise AssertionError("the model ran")

    for scores in (None, [1, 2], [1, float("nan"), 2]):
        with pytest.raises(CourseError, match="scores"):
            rerank(Weighted(Asked()), "fee", TEXTS_3, search_scores=scores)


def test_the_warning_names_the_line_that_called():
    with pytest.warns(EqualScoresWarning) as caught:
        rerank(Given(1, 1, 1), "fee", TEXTS_3)
    assert caught[0].filename == __file__
