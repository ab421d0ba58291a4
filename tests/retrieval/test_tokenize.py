"""How text in each script is split, and recreating a tokenizer from its settings."""

import json
import sys
import unicodedata
from concurrent.futures import ThreadPoolExecutor

import pytest
import snowballstemmer
from hypothesis import given
from hypothesis import strategies as st

from course_lib.errors import CourseError
from course_lib.retrieval import BM25, Tokenizer
from course_lib.retrieval import tokenize as t

ENGLISH = Tokenizer("words", stop_words=True, stem=True)
TEXTS = st.text(
    st.one_of(st.characters(codec="utf-8"), st.sampled_from("가나다라각ㅋ 에서는 카드 aé.,'1230Å")),
    max_size=60,
)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Haneul 체크카드 연회비 2,000원", "haneul 체크 크카 카드 연회 회비 2000 원"),
        ("1,250,000 = 1250000", "1250000 1250000"),
        ("3.5% 3.50% 3.0", "3.5 3.5 3"),
        ("2024.03.15, 192.168.0.1", "2024 03 15 192 168 0 1"),
        ("12,34 1,2345 1234,567", "12 34 1 2345 1234 567"),
        ("12,345,67", "12 345 67"),
        ("02-1234-0070", "02 1234 0070"),
        ("1,000.", "1000"),
        ("KB카드로 MP3 5G x_y", "kb 카드 드로 mp3 5 g x y"),
        ("the bank's fee, the bank’s FEE, don't", "the bank fee the bank fee don't"),
        ("ㅋㅋㅋ 값", "ㅋㅋ ㅋㅋ 값"),
        ("ＡＴＭ １，０００원 ㈜하늘 ﬁne 5㎡ ℃", "atm 1000 원 주 하늘 fine 5 m2 c"),
        ("10² 1½ Visa™ 2,000① m²", "10 2 1 1 2 visa tm 2000 1 m2"),
        ("예금ㆍ적금", "예금 적금"),
        ("예금\u119e적금", "예금 적금"),
        ("돈을 집에서 차로 물은", "돈 돈을 집 집에 에서 차 차로 물 물은"),
        ("돈", "돈"),
        ("Straße café naïve", "straße café naïve"),
        ("  \n\t…!?", ""),
        ("", ""),
    ],
)
def test_bigrams_of_hangul_words_of_letters_and_one_spelling_for_a_number(text, tokens):
    assert Tokenizer()(text) == tokens.split()


def test_the_name_says_how_hangul_is_cut_and_leaves_the_rest():
    text = "Haneul 체크카드를 2,000원에"
    assert Tokenizer("words")(text) == ["haneul", "체크카드를", "2000", "원에"]
    assert Tokenizer("spaces")(text) == text.split()
    assert ENGLISH("The fees of Haneul's accounts were not transferred") == [
        "fee",
        "haneul",
        "account",
        "were",
        "transfer",
    ]


@given(TEXTS, st.sampled_from(["spaces", "words", "bigrams"]))
def test_nfd_gives_the_tokens_of_nfc_and_no_token_is_empty(text, name):
    tokens = Tokenizer(name)(text)
    assert tokens == Tokenizer(name)(unicodedata.normalize("NFD", text))
    assert all(tokens)


@given(TEXTS)
def test_every_syllable_is_in_some_token(text):
    there = {c for c in unicodedata.normalize("NFC", text) if "가" <= c <= "힣"}
    for name in ("words", "bigrams"):
        assert there <= set("".join(Tokenizer(name)(text)))


@given(st.integers(0, 10**15), st.integers(0, 99))
def test_a_number_is_one_token_however_it_is_written(whole, cents):
    assert Tokenizer()(f"{whole:,}") == Tokenizer()(str(whole)) == [str(whole)]
    assert Tokenizer()(f"{whole:,}.{cents:02}") == Tokenizer()(f"{whole}.{cents:02}")


def test_stems_are_porter2_also_from_many_threads():
    words = [
        f"{a}{b}"
        for a in ("bank", "relat", "gener", "transfer")
        for b in ("ing", "ed", "ional", "al", "s", "ation")
    ]
    t.stem.cache_clear()
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda w: Tokenizer("words", stem=True)(w)[0], words * 20))
    stemmer = snowballstemmer.stemmer("english")
    assert results == [stemmer.stemWord(w) for w in words] * 20
    assert Tokenizer("words", stem=True)("a" * 65 + "ing") == ["a" * 65 + "ing"]


def need_kiwi():
    pytest.importorskip("kiwipiepy", reason='Kiwi is not here: pip install -e ".[ko]"')


def test_korean_morphemes_leave_particles_and_endings_out():
    need_kiwi()
    text = "체크카드를 해외에서 사용하면 수수료가 1.2% 부과됩니다 (Visa)"
    morphemes = Tokenizer("morphemes")(text)
    assert morphemes == ["체크", "카드", "해외", "사용", "수수료", "1.2", "부과", "visa"]
    assert sorted(Tokenizer("kiwi")(text)) == sorted(
        Tokenizer()(text) + [m for m in morphemes if not m[0].isascii()]
    )
    assert Tokenizer("kiwi")(unicodedata.normalize("NFD", text)) == Tokenizer("kiwi")(text)
    assert Tokenizer("morphemes")("체크카드를 \U0001f600") == ["체크", "카드"]


def test_without_kiwi_an_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "kiwipiepy", None)  # makes the import fail as if not installed
    t.kiwi.cache_clear()
    for name in ("morphemes", "kiwi"):
        with pytest.raises(CourseError, match=r'Kiwi(.|\n)*pip install -e "\.\[ko\]"'):
            Tokenizer(name)("카드")
        assert Tokenizer(name)("card") == ["card"]
        with pytest.raises(CourseError, match="not installed"):
            Tokenizer(name).settings()


@pytest.mark.parametrize(
    "tokenizer", [Tokenizer(), Tokenizer("spaces"), ENGLISH, Tokenizer("kiwi", stem=True)], ids=str
)
def test_a_tokenizer_comes_back_from_its_settings(tokenizer):
    if tokenizer.name == "kiwi":
        need_kiwi()
    settings = json.loads(json.dumps(tokenizer.settings()))
    assert Tokenizer.from_settings(settings) == tokenizer
    assert set(settings["package_versions"]) == ({"snowballstemmer"} if tokenizer.stem else set()) | (
        {"kiwipiepy", "kiwipiepy_model"} if tokenizer.name == "kiwi" else set()
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "wordpiece"}, "name='wordpiece' is unknown; known: spaces, words, bigrams"),
        ({"name": ["bigrams"]}, r"name=\['bigrams'\] is unknown"),
        ({"stem": "yes"}, "stem='yes' must be True or False"),
        ({"name": "spaces", "stem": True}, "without stop words and stems"),
        ({"lower": True}, "'lower' is unknown"),
        (
            {"package_versions": {"snowballstemmer": "1.0"}},
            "built with {'snowballstemmer': '1.0'}, but {} is installed",
        ),
    ],
)
def test_settings_that_cannot_act_are_refused(change, message):
    with pytest.raises(CourseError, match=message):
        Tokenizer.from_settings(Tokenizer().settings() | change)
    with pytest.raises(CourseError, match="'package_versions' is missing"):
        Tokenizer.from_settings({"name": "bigrams", "stop_words": False, "stem": False})


def test_ten_megabytes_without_a_space_and_with():
    assert len(Tokenizer("words", stem=True)("x" * 10_000_000)) == 1
    assert len(Tokenizer()("가" * 3_400_000)) == 3_399_999
    assert len(Tokenizer()("카드, " * 1_100_000 + " " * 1_000_000)) == 1_100_000


def test_a_noun_of_one_syllable_is_found_with_any_particle():
    index = BM25()
    index.add({"money": "돈을 모은다", "house": "집에서는 쉰다", "car": "차가 있다"})
    for query, found in (("돈", "money"), ("돈이", "money"), ("집", "house"), ("차는", "car")):
        assert [hit.id for hit in index.search(query)] == [found]


def test_a_vowel_between_conjoining_letters_is_no_dot():
    assert Tokenizer("words")("\u1112\u119e\u11ab글") == ["\u1112\u119e\u11ab글"]


@pytest.mark.parametrize("name", ["spaces", "words", "bigrams"])
@pytest.mark.parametrize("text", ["돈\ud83d을", None, b"fee"])
def test_a_half_surrogate_and_no_text_are_refused(name, text):
    with pytest.raises(CourseError, match=r"half of a surrogate pair|must be a str"):
        Tokenizer(name)(text)
