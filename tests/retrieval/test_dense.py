"""A flat index finds the same as numpy, HNSW nearly the same; invalid vectors and ids are refused."""

import unicodedata

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from course_lib.errors import CourseError
from course_lib.retrieval import Dense, Hit, HybridRetriever
from course_lib.retrieval.vectors import unit_vectors
from tests.retrieval.conftest import Broken, Hashed, child

KINDS = pytest.mark.parametrize("kind", ["flat", "hnsw"])


def index(vectors, kind="flat", ids=None, **widths):
    dense = Dense(Hashed(), kind=kind, **widths)
    dense.add_vectors(ids or [f"d{i:04}" for i in range(len(vectors))], vectors)
    return dense


def hits_of(dense, queries, k):
    return [result.hits for result in dense.search_all(queries, k)]


def cosines(vectors, query):
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(query)
    return np.round(
        vectors @ query / np.where(lengths > 0, lengths, 1), 8
    )  # equal vectors alike, others apart


def expected(ids, vectors, query, k, among):
    """The best ids, computed by numpy in float64, ties by id."""
    scores = dict(zip(ids, cosines(vectors, query), strict=True))
    return sorted(among, key=lambda doc_id: (-scores[doc_id], doc_id))[:k]


def clusters(documents, dimensions=32, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(60, dimensions))
    return centres[rng.integers(60, size=documents)] + 0.5 * rng.normal(size=(documents, dimensions))


# -- flat is exact -------------------------------------------------------------------------------------------


@settings(max_examples=200)
@example(4578, 18, 11, 1, True, True)  # two cosines that differ in the sixth digit
@given(
    st.integers(0, 2**32),
    st.integers(1, 40),
    st.integers(1, 20),
    st.integers(1, 50),
    st.booleans(),
    st.booleans(),
)
def test_flat_is_numpy_ties_by_id_whatever_was_deleted_and_is_allowed(
    seed, documents, dimensions, k, deleting, filtering
):
    rng = np.random.default_rng(seed)
    pool = np.vstack(
        [rng.normal(size=(6, dimensions)) * rng.uniform(0.01, 100, (6, 1)), np.zeros((1, dimensions))]
    )
    vectors, query = pool[rng.integers(7, size=documents)], rng.normal(size=dimensions)  # many duplicates
    ids = [f"d{i:02}" for i in rng.permutation(documents)]
    dense = index(vectors, ids=ids)
    gone = {doc_id for doc_id in ids if deleting and rng.random() < 0.4}
    dense.delete(gone)
    allowed = [doc_id for doc_id in ids if rng.random() < 0.5] + ["unknown"] if filtering else None
    living = [doc_id for doc_id in ids if doc_id not in gone]
    assert (
        dense.ids == living
        and len(dense) == len(living)
        and all((doc_id in dense) != (doc_id in gone) for doc_id in ids)
    )
    hits = dense.search_vector(query, k, allowed)
    among = [doc_id for doc_id in living if allowed is None or doc_id in allowed]
    assert [hit.id for hit in hits] == expected(ids, vectors, query, k, among)
    known = dict(zip(ids, cosines(vectors, query), strict=True))
    assert [hit.score for hit in hits] == pytest.approx([known[hit.id] for hit in hits], abs=1e-4)
    assert all(-1 <= hit.score <= 1 for hit in hits)


@KINDS
def test_scores_of_named_documents_are_to_the_last_digit_those_of_a_search(kind):
    """Otherwise one of two equal texts would rank above the other in hybrid search."""
    dense = index(clusters(100), kind)
    for vector in clusters(40, seed=5):
        dense.embeddings.embed_queries = lambda queries, vector=vector: [vector] * len(queries)
        (result,) = dense.search_all(["question"], 50)
        assert result.scores_of([hit.id for hit in result.hits]) == result.hits
        assert result.scores_of([]) == [] == dense.search_all([" "], 50)[0].scores_of(dense.ids)


def test_ties_by_the_thousand_come_in_the_order_of_their_ids():
    for kind in ("flat", "hnsw"):
        dense = index(
            np.ones((3000, 4)), kind, ids=[f"{i:04}" for i in np.random.default_rng(0).permutation(3000)]
        )
        dense.delete(["0001"])
        assert [hit.id for hit in dense.search_vector(np.ones(4), 2, ["2999", "0700", "1234", "0001"])] == [
            "0700",
            "1234",
        ]
        if kind == "flat":
            assert [hit.id for hit in dense.search_vector(np.ones(4), 3)] == ["0000", "0002", "0003"]


def test_added_in_pieces_or_at_once_or_after_a_deletion_is_the_same():
    vectors = clusters(300)
    whole, pieces = index(vectors), Dense(Hashed())
    for start in range(0, 300, 77):
        pieces.add_vectors(
            [f"d{i:04}" for i in range(start, min(300, start + 77))], vectors[start : start + 77]
        )
    assert pieces.search_vector(vectors[3] + 1, 300) == whole.search_vector(vectors[3] + 1, 300)
    pieces.delete([f"d{i:04}" for i in range(200)])  # more than half, so the index is rebuilt
    assert len(pieces._ids) == 100 and pieces.ids == whole.ids[200:]
    np.testing.assert_array_equal(pieces.vectors, whole.vectors[200:])
    pieces.add_vectors(["d0000"], vectors[:1])
    assert pieces.search_vector(vectors[0], 1)[0].id == "d0000"
    pieces.delete(pieces.ids)
    assert len(pieces) == 0 and pieces.dimensions is None and pieces.search("x") == []
    pieces.add_vectors(["other"], [[1, 2]])  # another number of dimensions
    assert pieces.search_vector([1, 2]) == [Hit("other", pytest.approx(1))]


# -- HNSW ----------------------------------------------------------------------------------------------------


def test_hnsw_finds_nearly_all_and_exactly_all_among_chosen_ones():
    vectors, queries = clusters(3000), clusters(30, seed=1)
    flat, hnsw = index(vectors), index(vectors, "hnsw")
    for gone in ([], flat.ids[::5]):
        flat.delete(gone)
        hnsw.delete(gone)
        common = [len(set(flat.search_vector(q, 25)) & set(hnsw.search_vector(q, 25))) for q in queries]
        assert np.mean(common) / 25 >= 0.95
        for query, share in zip(queries, (1, 2, 30, 700, 3000) * 6, strict=True):
            allowed = flat.ids[::share]
            assert hnsw.search_vector(query, 25, allowed) == flat.search_vector(query, 25, allowed)
        assert not set(gone) & {hit.id for q in queries for hit in hnsw.search_vector(q, 100)}


def test_wider_is_surer():
    vectors, queries = clusters(3000, seed=2), clusters(20, seed=3)
    flat = index(vectors)

    def recall(**widths):
        dense = index(vectors, "hnsw", **widths)
        return (
            np.mean([len(set(flat.search_vector(q, 10)) & set(dense.search_vector(q, 10))) for q in queries])
            / 10
        )

    assert recall(m=2, ef_construction=4, ef_search=1) < 0.9 < recall()


# -- refused input does not change the index -----------------------------------------------------------------

WRONG = [
    ([[float("nan")] * 16, [1.0] * 16], "1 of 2 vectors contain NaN"),
    ([[float("inf")] * 16, [float("-inf")] * 16], "2 of 2 vectors contain NaN or infinity"),
    ([[1e300] * 16] * 2, "2 of 2 vectors contain NaN or infinity"),
    ([[1.0] * 15] * 2, "expected vectors of 16 dimensions, as in the index; got 15"),
    ([[1.0] * 16], r"each of 2 texts; got an array of shape \(1, 16\)"),
    ([[1.0] * 16] * 3, r"each of 2 texts; got an array of shape \(3, 16\)"),
    ([1.0] * 16, r"each of 2 texts; got an array of shape \(1, 16\)"),
    ([[[1.0] * 16]] * 2, r"shape \(2, 1, 16\)"),
    ([[], []], r"shape \(2, 0\)"),
    ([], r"each of 2 texts; got an array of shape \(1, 0\)"),
    (["text", "more text"], "did not return an array of numbers"),
    ([[1.0] * 16, [1.0] * 15], "did not return an array of numbers"),
    ([["a"] * 16] * 2, "did not return an array of numbers"),
    (None, "."),
]


@KINDS
@pytest.mark.parametrize(("wrong", "message"), WRONG)
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_wrong_vectors_are_refused_with_numbers(kind, wrong, message):
    embedder = Broken()
    dense = Dense(embedder, kind=kind)
    dense.add({"a": "one text", "b": "another"})
    before = hits_of(dense, ["one", "another"], 9)
    with pytest.raises(CourseError, match=message):
        dense.add_vectors(["c", "d"], wrong)
    if wrong is not None:
        embedder.wrong = wrong
        with pytest.raises(CourseError, match=message):
            dense.add({"c": "new", "d": "newer"})
        with pytest.raises(CourseError, match=message):
            dense.search_all(["one", " ", "another"], 9)  # two queries that are not blank
    embedder.wrong = None
    assert dense.ids == ["a", "b"] and hits_of(dense, ["one", "another"], 9) == before
    dense.add({"c": "new"})
    assert dense.search("new", 1)[0].id == "c"


@KINDS
def test_wrong_ids_are_refused(kind):
    dense = Dense(Hashed(), kind=kind)
    dense.add({"a": "one", "b": "two"})
    before = dense.search("one", 9)
    for call, message in [
        (lambda: dense.add({"c": "new", "a": "one"}), "the id 'a' is already in the index"),
        (lambda: dense.add([("c", "new"), ("c", "new")]), "the id 'c' occurs twice"),
        (lambda: dense.add([("c", None)]), "not an id and a text"),
        (lambda: dense.add_vectors(["c", "c"], np.ones((2, 16))), "the id 'c' occurs twice"),
        (lambda: dense.delete(["a", "q"]), "1 of 2 ids are not in the index, the first is 'q'"),
        (lambda: dense.delete("ab"), "ids must be a list of strings; got the string 'ab'"),
        (lambda: dense.search("one", allowed="ab"), "allowed must be a list of strings; got the string 'ab'"),
        (
            lambda: dense.search_vector(np.ones(16), allowed="ab"),
            "allowed must be a list of strings; got the string 'ab'",
        ),
        (lambda: dense.search("one", 0), "k=0"),
        (lambda: dense.search_all("one", 1), "queries must be a list of strings; got the string 'one'"),
        (
            lambda: dense.add_vectors("ab", np.ones((2, 16))),
            "ids must be a list of strings; got the string 'ab'",
        ),
        (lambda: dense.search_vector(np.ones(16), 2.5), r"k=2\.5"),
        (lambda: dense.search_vector(np.ones(15)), "of 16 dimensions, as in the index; got 15"),
        (lambda: dense.search_vector([np.nan] * 16), "1 of 1 vectors contain NaN"),
    ]:
        with pytest.raises(CourseError, match=message):
            call()
    assert dense.ids == ["a", "b"] and dense.search("one", 9) == before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "ivf"}, "kind='ivf' is unknown; known: flat, hnsw"),
        ({"m": 16}, "a flat index has no HNSW settings"),
        ({"ef_search": 100}, "a flat index has no HNSW settings"),
        ({"kind": "hnsw", "ef_search": 0}, "HNSW needs m >= 2, ef_construction >= 1 and ef_search >= 1"),
        ({"kind": "hnsw", "m": 1}, "HNSW needs m >= 2"),
    ],
)
def test_settings_that_would_not_act_are_refused(settings, message):
    with pytest.raises(CourseError, match=message):
        Dense(Hashed(), **settings)


@KINDS
def test_an_id_that_was_added_between_preparing_and_adding_is_refused(kind):
    dense = Dense(Hashed(), kind=kind)
    first, second = dense.prepare({"a": "some words"}), dense.prepare({"a": "others"})
    first()
    with pytest.raises(CourseError, match="the id 'a' is already in the index"):
        second()
    assert dense.ids == ["a"] and len(dense.search("others", 5)) <= 1


# -- nothing to find -----------------------------------------------------------------------------------------


@KINDS
def test_nothing_to_find(kind):
    dense = Dense(Hashed(), kind=kind)
    dense.add({})
    dense.delete([])
    assert dense.search("x") == dense.search_vector([1, 2]) == dense.ids == [] and dense.vectors.shape == (
        0,
        0,
    )
    dense.add({"a": "some words", "empty": ""})
    assert (
        dense.search("")
        == dense.search(" \n\t")
        == dense.search_vector(np.zeros(16))
        == dense.search("x", 5, allowed=[])
        == []
    )
    assert (
        hits_of(dense, ["", "some", " "], 1) == [[], dense.search("some", 1), []]
        and dense.search_all([], 1) == []
    )
    assert dense.search("some words", 1000) == [
        Hit("a", pytest.approx(1)),
        Hit("empty", 0),
    ]  # a vector of zeros is harmless


def test_lengths_do_not_matter_however_extreme():
    rows = unit_vectors([[3e-39, 4e-39], [3e38, 3e38], [0, 0], [0.6, 0.8]], 4)
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0.5**0.5, 0.5**0.5], [0, 0], [0.6, 0.8]], rtol=1e-5)


# -- embedders -----------------------------------------------------------------------------------------------


def test_nfd_finds_what_nfc_finds(lsa, passages):
    dense = Dense(lsa)
    dense.add(passages)
    query = "체크카드 연회비는 얼마인가요"
    assert dense.search(query, 25) == dense.search(unicodedata.normalize("NFD", query), 25) != []


def test_half_of_a_surrogate_pair_is_refused_and_nothing_is_added(minilm):
    dense, hybrid = Dense(minilm), HybridRetriever.from_documents({"a": "A fee is due."}, minilm)
    dense.add({"a": "A fee is due."})
    for refused in (
        lambda: dense.search("fee \ud83d"),
        lambda: dense.add({"b": "A card.", "c": "\ud83d"}),
        lambda: hybrid.search("fee \ud83d"),
        lambda: hybrid.add_documents({"b": "A card.", "c": "\ud83d"}),
        lambda: minilm.embed_query("\ud83d"),
    ):
        with pytest.raises(CourseError, match="is half of a surrogate pair"):
            refused()
    assert dense.ids == hybrid.ids == ["a"]


def test_together_is_one_by_one_but_for_rounding(minilm):
    dense, queries = (
        Dense(minilm),
        ["how much is the fee?", "", "a lost card, and how long it takes to get a new one", "fee"],
    )
    dense.add(
        {
            "fee": "The annual fee is 2,000 won",
            "lost": "Report a lost card",
            "rate": "Interest on savings",
            "again": "The fee",
        }
    )
    for query, together in zip(queries, hits_of(dense, queries, 9), strict=True):
        alone = dense.search(query, 9)
        assert [hit.id for hit in together] == [hit.id for hit in alone] and bool(alone) == bool(query)
        assert [hit.score for hit in together] == pytest.approx([hit.score for hit in alone], abs=1e-6)
    assert dense.search(queries[2], 1)[0].id == "lost"


# -- files and processes -------------------------------------------------------------------------------------


@KINDS
def test_what_was_written_is_read(kind, tmp_path):
    dense = index(clusters(300), kind)
    dense.delete(dense.ids[::3])
    dense.write(tmp_path / "first")
    other = Dense(Hashed(), kind=kind)
    other.read(tmp_path / "first", dense.ids)
    other.write(tmp_path / "second")
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()
    for query in clusters(5, seed=4):
        assert dense.search_vector(query, 20) == other.search_vector(query, 20)
    with pytest.raises(CourseError, match=r"of 200 vectors; expected kind='(flat|hnsw)' with 199 vectors"):
        other.read(tmp_path / "first", dense.ids[1:])
    with pytest.raises(CourseError, match="rebuild the index and save it again"):
        Dense(Hashed(), kind={"flat": "hnsw", "hnsw": "flat"}[kind]).read(tmp_path / "first", dense.ids)
    Dense(Hashed(), kind=kind).write(tmp_path / "empty")
    other.read(tmp_path / "empty", [])
    assert len(other) == 0 and other.search("x") == []


def test_a_graph_that_was_read_is_searched_as_widely_as_asked(tmp_path):
    vectors = np.random.default_rng(0).standard_normal((2000, 32)).astype(np.float32)
    graph = {"m": 2, "ef_construction": 20}
    written = index(vectors, "hnsw", ef_search=4, **graph)
    written.write(tmp_path / "graph")
    wide = Dense(Hashed(), kind="hnsw", ef_search=400, **graph)
    wide.read(tmp_path / "graph", written.ids)
    narrow_found, wide_found = (
        sum(f"d{row:04}" in [hit.id for hit in dense.search_vector(vectors[row], 1)] for row in range(100))
        for dense in (written, wide)
    )
    assert wide_found > narrow_found + 20


def test_neither_hash_seeds_nor_threads_change_a_byte(tmp_path):
    code = (
        "from tests.retrieval.test_dense import *; import hashlib, pathlib, sys\n"
        "for kind in ('flat', 'hnsw'):\n"
        "    dense = index(clusters(1500), kind); dense.delete(set(dense.ids[::4]))\n"
        "    for allowed in (None, set(dense.ids[:400])):\n"
        "        print(dense.search_vector(np.ones(32), 30, allowed))\n"
        f"    dense.write(path := pathlib.Path({str(tmp_path)!r}, kind))\n"
        "    print(hashlib.sha256(path.read_bytes()).hexdigest())\n"
    )
    outs = [
        child(code, PYTHONHASHSEED=seed, OMP_NUM_THREADS=threads)
        for seed, threads in (("0", "1"), ("1", "2"))
    ]
    assert outs[0] == outs[1] and outs[0].count("Hit(") == 120
