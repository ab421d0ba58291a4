"""LSA equals scikit-learn's pipeline, is saved without pickle, and gives unknown text a vector of zeros."""

import json
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from course_lib.errors import CourseError
from course_lib.retrieval import LSA
from tests.retrieval.conftest import child

TEXTS = st.text(
    st.one_of(st.characters(codec="utf-8"), st.sampled_from("가나다 체크카드연회비\n\t ABabé")), max_size=40
)


def fitted(texts, dimensions=8, **settings):
    return LSA.fit(texts, dimensions, **settings)


# -- the vectors ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dimensions", "min_df"), [(48, 2), (5, 1), (300, 3)])
def test_vectors_are_those_of_scikit_learn(passages, dimensions, min_df):
    """The vectors of the LSA pipeline in scikit-learn's manual, in float64."""
    texts = list(passages.values())[:120]
    tfidf = TfidfVectorizer(analyzer="char", ngram_range=(2, 3), sublinear_tf=True, min_df=min_df)
    rows = tfidf.fit_transform([unicodedata.normalize("NFC", text).lower() for text in texts])
    svd = TruncatedSVD(min(dimensions, 120), random_state=0).fit(rows)
    asked = [*texts[:20], "체크카드   연회비", "Haneul\n\n카드", *list(passages.values())[120:130]]
    theirs = svd.transform(tfidf.transform([text.lower() for text in asked]))
    theirs /= np.linalg.norm(theirs, axis=1, keepdims=True)
    ours = fitted(texts, dimensions, min_df=min_df)
    assert list(ours.terms) == list(tfidf.get_feature_names_out())
    np.testing.assert_allclose(ours.idf, tfidf.idf_, rtol=1e-5)
    vectors = np.array(ours.embed_documents(asked))
    np.testing.assert_allclose(
        vectors @ vectors.T, theirs @ theirs.T, atol=2e-3
    )  # the SVD may rotate components with equal singular values


def test_alike_is_near(lsa):
    card, fee, weather = lsa.embed_documents(
        ["체크카드 연회비", "체크카드의 연회비는 얼마", "해외 송금 취소 가능 시간"]
    )
    assert np.dot(card, fee) > 0.5 > np.dot(card, weather)


@given(st.lists(TEXTS, max_size=5))
def test_a_vector_has_length_1_or_is_of_zeros_and_nfd_is_nfc(lsa, texts):
    vectors = lsa.embed_documents(texts)
    assert (
        vectors
        == lsa.embed_documents([unicodedata.normalize("NFD", text) for text in texts])
        == lsa.embed_queries(texts)
    )
    assert len(vectors) == len(texts)
    for text, vector in zip(texts, vectors, strict=True):
        assert len(vector) == 48 and vector == pytest.approx(lsa.embed_query(text), abs=1e-6)
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5) or not any(vector)


def test_what_is_unknown_has_zeros(lsa):
    for text in ("", " ", "가", "\u4e00\u4e8c\u4e09", "🂡🂢🂣"):
        assert not any(lsa.embed_query(text))
    assert lsa.embed_documents([]) == []


@pytest.mark.parametrize("call", [LSA.fit, lambda texts: fitted(["fee", "fees"]).embed_documents(texts)])
def test_half_of_a_surrogate_pair_is_refused(call):
    with pytest.raises(CourseError, match="character 1 of 3 is half of a surrogate pair"):
        call(["fee", "a\ud800b"])


def test_full_width_text_has_the_vector_of_ordinary_text(lsa):
    assert lsa.embed_query("ＡＴＭ １，０００원 예금ㆍ적금") == lsa.embed_query("ATM 1,000원 예금·적금")


# -- fitting -------------------------------------------------------------------------------------------------


def test_fewer_texts_than_dimensions():
    for texts in (["only one text"], ["one text", "one text"], ["ab cd", "ab cd ef", "cd ef"]):
        embedder = fitted(texts, 256)
        vectors = np.array(embedder.embed_documents(texts))
        assert vectors.shape == (len(texts), len(embedder.components)) and len(embedder.components) <= len(
            texts
        )
        assert np.isfinite(vectors).all() and np.linalg.norm(vectors, axis=1) == pytest.approx(1)


@pytest.mark.parametrize(
    ("texts", "settings", "message"),
    [
        (["abc", "xyz"], {}, "2 texts share too few n-grams(.|\n)*min_df=1"),
        (["ab", "ab"], {}, "2 texts share too few"),
        ([], {}, "0 texts share too few"),
        ("abcd", {}, "texts must be a list of strings; got the string 'abcd'"),
        (["", " "], {"min_df": 1}, "2 texts share too few"),
        (["abcd"] * 3, {"dimensions": 0}, "dimensions=0"),
        (["abcd"] * 3, {"min_df": 0}, "min_df=0"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_nothing_in_common_is_said(texts, settings, message):
    with pytest.raises(CourseError, match=message):
        fitted(texts, **settings)


# -- files ---------------------------------------------------------------------------------------------------


def test_what_was_saved_is_loaded_and_no_file_can_run(lsa, passages, tmp_path):
    lsa.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(LSA.FILES)
    assert json.loads((tmp_path / "terms.json").read_text("utf-8")) == list(lsa.terms)
    assert {array.dtype for array in load_file(tmp_path / "lsa.safetensors").values()} == {
        np.dtype(np.float32)
    }
    texts = [*list(passages.values())[:30], "", "체크카드"]
    assert LSA.load(tmp_path).embed_documents(texts) == lsa.embed_documents(texts)


def test_files_that_do_not_belong_together_are_refused(tmp_path):
    fitted(["ab cd ef", "ab cd", "cd ef"]).save(tmp_path)
    (tmp_path / "terms.json").write_text('["ab", "cd"]')
    with pytest.raises(CourseError, match=r"2 terms do not match idf \(\d+,\) and components \(\d, \d+\)"):
        LSA.load(tmp_path)


def test_a_long_text_is_read_piece_by_piece(lsa):
    """A list of all n-grams of these 3 MB would take 300 MB."""
    out = child(
        "import resource, course_lib.data as d; text = '체크카드 연회비 2,000원 ' * 85_000\n"
        "embedder = LSA.fit(['체크카드 연회비', '체크카드 1,000원'])\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "embedder.embed_query(text); print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    assert int(out) < 60_000  # KiB
