"""Three LangChain vector stores rank as the course's dense index does, and a filter loses no hit."""

import warnings

import faiss
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.vectorstores import InMemoryVectorStore

from course_lib.errors import CourseError
from course_lib.retrieval import Dense, HybridRetriever, StoreRetriever, Tokenizer
from tests.retrieval.conftest import Hashed, filled

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*sunset:DeprecationWarning", "ignore:Relevance scores:UserWarning"
)
QUERIES = ["체크카드 연회비는 얼마인가요", "해외 송금 취소 가능 시간", "카드를 잃어버렸어요", "없는낱말뿐"]


def hits_of(index, queries, k, allowed=None):
    return [result.hits for result in index.search_all(queries, k, allowed)]


def of_faiss(embedder, dimensions):
    with warnings.catch_warnings(action="ignore"):
        from langchain_community.docstore.in_memory import InMemoryDocstore
        from langchain_community.vectorstores import FAISS
    return FAISS(embedder, faiss.IndexFlatL2(dimensions), InMemoryDocstore(), {})


@pytest.fixture
def of_milvus(tmp_path):
    server = pytest.importorskip("milvus_lite.server_manager").server_manager_instance
    from langchain_milvus import Milvus

    hybrid = []

    def of(embedder):
        hybrid.append(
            Milvus(
                embedder,
                connection_args={"uri": str(tmp_path / f"{len(hybrid)}.db")},
                auto_id=False,
                index_params={"index_type": "FLAT", "metric_type": "COSINE"},
            )
        )
        return hybrid[-1]

    yield of
    for store in hybrid:
        store.client.close()
    server.release_all()  # otherwise its threads outlive the test


@pytest.fixture(
    params=["faiss by distance", "faiss by relevance", "memory", "milvus", "milvus, its own filter"]
)
def dense_store(request, lsa):
    """Each vector store, as a dense retriever."""
    if request.param == "memory":
        return StoreRetriever(InMemoryVectorStore(lsa), score_type="similarity", min_score=-1)
    if request.param.startswith("faiss"):
        store = of_faiss(lsa, len(lsa.components))
        return (
            StoreRetriever(store, score_type="distance", min_score=-4)
            if "distance" in request.param
            else StoreRetriever(store, min_score=-2)
        )
    store = request.getfixturevalue("of_milvus")(lsa)
    own = {"id_filter": lambda ids: {"expr": f"id in {sorted(ids)}"}} if "own" in request.param else {}
    return StoreRetriever(store, **own)


def test_every_store_ranks_as_our_own_index_whatever_is_filtered_and_deleted(dense_store, lsa, passages):
    documents = [
        Document(id=doc_id, page_content=text, metadata={"n": n})
        for n, (doc_id, text) in enumerate(passages.items())
    ]
    hybrid = filled(Tokenizer("words"), dense_store, documents)
    own = HybridRetriever.from_documents(documents, lsa, lexical=Tokenizer("words"))
    few = {document.id for document in documents[200::13]}
    for gone in ([], [document.id for document in documents[::10]]):
        for retriever in (hybrid, own):
            retriever.delete(gone)
        for condition in (
            None,
            lambda m: m["n"] % 50 == 3,
            {"n": [7, 251]},
            lambda m: m["n"] >= 200 and (m["n"] - 200) % 13 == 0,
        ):
            for (theirs, ours), query in zip(
                zip(hybrid.retrieve(QUERIES, condition), own.retrieve(QUERIES, condition), strict=True),
                QUERIES,
                strict=True,
            ):
                assert [hit.id for hit in theirs.dense] == [hit.id for hit in ours.dense], query
                assert theirs.lexical == ours.lexical and theirs.query == query
        assert len(dense_store) == len(own) == 252 - len(gone)
        assert {hit.id for hit in dense_store.search_all(QUERIES[:1], 99, few)[0].hits} == few - set(gone)
    for query in QUERIES[:3]:
        assert hybrid.search(query)[0].id == own.search(query)[0].id
        assert hybrid.explain(hybrid.search(query)[0]).count("for meaning (number") == 1


def test_theoretical_fusion_is_that_of_cosines_where_the_lowest_score_is_known(lsa, passages):
    """A squared distance is 2 - 2 cos, so minus the distance is a linear function of the cosine."""
    own = HybridRetriever.from_documents(passages, lsa)
    store = of_faiss(lsa, len(lsa.components))
    hybrid = filled(None, StoreRetriever(store, score_type="distance", min_score=-4), passages)
    for query in QUERIES[:3]:
        hits = {hit.id: hit for hit in own.search(query, 25)}
        for hit in hybrid.search(query, 25):
            if hit.dense and hit.id in hits:
                assert hit.dense.normalized == pytest.approx(hits[hit.id].dense.normalized, abs=1e-5)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.sampled_from(["fee", "card", "rate", "a fee", "the card"]), min_size=1, max_size=20),
    st.sets(st.integers(0, 19)) | st.none(),
    st.integers(1, 9),
)
def test_asking_for_ever_more_finds_all_that_are_allowed(texts, allowed, k):
    """A store may return any of several equal documents, so only scores are compared."""
    documents = {f"d{i:02}": text for i, text in enumerate(texts)}
    allowed = allowed if allowed is None else {f"d{i:02}" for i in allowed}
    own = Dense(Hashed())
    dense_stores = [
        StoreRetriever(of_faiss(Hashed(), 16), score_type="distance"),
        StoreRetriever(InMemoryVectorStore(Hashed()), score_type="similarity"),
    ]
    for dense_store in (own, *dense_stores):
        dense_store.add(documents)
    (expected,) = hits_of(own, ["the card fee"], k, allowed)
    for dense_store, cosine in zip(
        dense_stores, (lambda score: score / 2 + 1, lambda score: score), strict=True
    ):  # a squared distance is 2 - 2 cos
        (hits,) = hits_of(dense_store, ["the card fee"], k, allowed)
        assert [cosine(hit.score) for hit in hits] == pytest.approx([hit.score for hit in expected], abs=1e-5)
        assert hits == sorted(hits, key=lambda hit: (-hit.score, hit.id)) and len(
            {hit.id for hit in hits}
        ) == len(hits)
        assert allowed is None or {hit.id for hit in hits} <= allowed


# -- limits of a store ---------------------------------------------------------------------------------------


class Mute(InMemoryVectorStore):
    """A store without relevance scores whose `delete` reports failure."""

    def delete(self, ids=None, **kwargs):
        return False


def test_a_store_that_cannot_say_what_its_scores_mean_is_told():
    hybrid = filled(None, StoreRetriever(InMemoryVectorStore(Hashed())), {"a": "fee"})
    with pytest.raises(CourseError, match="InMemoryVectorStore cannot convert its scores to relevances"):
        hybrid.search("fee")
    hybrid = filled(
        None, StoreRetriever(InMemoryVectorStore(Hashed()), score_type="similarity"), {"a": "fee"}
    )
    with pytest.raises(CourseError, match="the lowest possible score of this vector store is unknown"):
        hybrid.search("fee")
    assert [hit.id for hit in hybrid.search("fee", fusion="min-max")] == ["a"]
    with pytest.raises(
        CourseError, match="score_type='cosine' is unknown; known: relevance, similarity, distance"
    ):
        StoreRetriever(InMemoryVectorStore(Hashed()), score_type="cosine")


def test_relevance_below_its_lowest_is_told_and_not_hidden():
    hybrid = filled(
        None, StoreRetriever(of_faiss(Hashed(), 16)), {"a": "fee", "b": "card", "c": "rate of interest"}
    )
    with pytest.raises(CourseError, match=r"min_score=0\.0, but the lowest score is -"):
        hybrid.search("fee")


@pytest.mark.parametrize("metadata", [{}, {"id": "z"}, {"id": None}, {"id": 7}, {"id": ["a"]}])
def test_a_document_that_was_not_added_here_is_told(metadata):
    store = InMemoryVectorStore(Hashed())
    hybrid = filled(None, StoreRetriever(store, score_type="similarity", min_score=-1), {"a": "fee"})
    store.add_documents([Document(page_content="fee of another", metadata=metadata)])
    with pytest.raises(
        CourseError,
        match=r"the store returned a document that this retriever did not add, id .*'fee of another'",
    ):
        hybrid.search("fee of another")


def test_a_store_that_does_not_delete_leaves_both_retrievers_as_they_were():
    hybrid = filled(
        None, StoreRetriever(Mute(Hashed()), score_type="similarity", min_score=-1), {"a": "fee", "b": "card"}
    )
    before = hybrid.search("fee")
    with pytest.raises(CourseError, match="Mute did not delete 1 documents"):
        hybrid.delete(["a"])
    assert hybrid.search("fee") == before and hybrid.ids == hybrid.lexical.ids == ["a", "b"]


def test_a_store_that_fails_to_add_leaves_the_words_as_they_were():
    class Full(InMemoryVectorStore):
        def add_texts(self, *args, **kwargs) -> list[str]:
            raise OSError("no space left")

    hybrid = filled(None, StoreRetriever(Full(Hashed()), score_type="similarity", min_score=-1))
    with pytest.raises(OSError, match="no space left"):
        hybrid.add_documents({"a": "fee"})
    assert hybrid.ids == hybrid.lexical.ids == [] and hybrid.search("fee") == []


def test_a_store_that_fails_halfway_keeps_nothing_of_it():
    class Small(InMemoryVectorStore):
        def add_texts(self, texts, metadatas=None, *, ids=None, **kwargs) -> list[str]:
            super().add_texts(texts[:2], metadatas[:2], ids=ids[:2], **kwargs)
            if len(texts) > 2:
                raise OSError("no space left")
            return ids

    hybrid = filled(
        None, StoreRetriever(Small(Hashed()), score_type="similarity", min_score=-1), {"a": "fee"}
    )
    before = hybrid.search("fee")
    with pytest.raises(OSError, match="no space left"):
        hybrid.add_documents({"b": "fee card", "c": "fee loan", "d": "loan"})
    assert hybrid.search("fee") == before and list(hybrid.dense.store.store) == ["a"]


def test_nothing_to_find_and_nothing_to_ask():
    dense_store = StoreRetriever(InMemoryVectorStore(Hashed()), score_type="similarity", min_score=-1)
    assert hits_of(dense_store, ["fee", ""], 3) == [[], []] and len(dense_store) == 0
    dense_store.add({"a": "fee", "b": "card"})
    assert hits_of(dense_store, ["", " ", "fee"], 1)[:2] == [[], []]
    assert hits_of(dense_store, ["fee"], 3, []) == hits_of(dense_store, ["fee"], 3, ["z"]) == [[]]
    for ask, message in [
        (lambda: dense_store.search_all(["fee"], 0), "k=0"),
        (
            lambda: dense_store.search_all(["fee"], 1, "ab"),
            "allowed must be a list of strings; got the string 'ab'",
        ),
        (lambda: dense_store.search_all("fee", 1), "queries must be a list of strings; got the string 'fee'"),
    ]:
        with pytest.raises(CourseError, match=message):
            ask()
    assert repr(dense_store) == (
        "StoreRetriever(InMemoryVectorStore, 2 documents, score_type='similarity', min_score=-1)"
    )
    dense_store.delete(["a", "b"])
    assert hits_of(dense_store, ["fee"], 3) == [[]] and len(dense_store) == 0
