"""Chunks together contain the whole document, end where sentences end, and are short enough for the model."""

import re
import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from course_lib.errors import CourseError
from course_lib.models import catalog
from course_lib.retrieval.chunk import TokenSpans, chunk_documents, split_text, token_spans
from course_lib.retrieval.outline import outline

WORDS = TokenSpans(lambda text: [pieces.span() for pieces in re.finditer(r"\S+", text)])
LETTERS = TokenSpans(lambda text: [(at, at + 1) for at, letter in enumerate(text) if not letter.isspace()])
READERS = {
    name: AutoTokenizer.from_pretrained(catalog.verify_shipped(name))
    for name in ("all-MiniLM-L6-v2", "haneul-4m")
}
SPANS = {name: token_spans(tokenizer) for name, tokenizer in READERS.items()} | {
    "words": WORDS,
    "letters": LETTERS,
}
NAMES = st.sampled_from(list(SPANS))
NFD = unicodedata.normalize("NFD", "수수료는 2,000원입니다. 한도가 있어요!")
FRAGMENTS = st.sampled_from(
    [
        "The fee is 2,000 won. ",
        "Dr. Kim of the U.S. said no. ",
        "수수료는 3.5 %입니다. ",
        "한도가 있어요! ",
        NFD,
        "word ",
        "왜 그럴까?그래서 ",
        "카드",
        "x" * 90,
        "가" * 40,
        "https://haneul.example/a?b=c&d=1.2 ",
        "👨‍👩‍👧‍👦",
        "🇰🇷🇰🇷",
        "[SEP]",
        "e\u0301\u0302 ",
        "\u200b",
        "\x00",
        "\ufeff",
        "\n",
        "\n\n",
        "\r\n",
        "\r\n\r\n",
        "   ",
        "\t",
        "# Card\n",
        "\n## Fees #\n",
        "\n### Deep\n",
        "#no\n",
        "```\n",
        "\n~~~\n# code\n",
        "\n| a | b |\n|---|---|\n",
        "| 1 | two words. Here |\n",
        "...",
        "\nname,fee\ncard,1\nloan,2\n",
        "a\tb\nc\t2\n",
        "\n- item one\n",
        "1. first ",
        "“Yes.” ",
        "「はい。」",
        "<|pad|>",
    ]
)
TEXTS = st.lists(st.one_of(FRAGMENTS, st.text(max_size=8)), max_size=40).map("".join)
SIZES = st.sampled_from([(16, 0), (16, 6), (24, 8), (64, 16), (256, 32)])


def texts_of(text, spans=WORDS, **sizes):
    return [chunk.text for chunk in split_text(text, spans, **{"max_tokens": 16, "overlap": 0} | sizes)]


def sentences(text):
    """The parts of a text between the positions where a chunk may end."""
    return [text[start:end].strip() for start, end in pairwise([0, *outline(text).breaks])]


# -- properties of all texts ---------------------------------------------------------------------------------


@settings(max_examples=600)
@given(TEXTS, NAMES, SIZES)
def test_chunks_are_places_in_order_that_hold_everything_within_the_limit(text, name, sizes):
    (max_tokens, overlap), spans = sizes, SPANS[name]
    pieces = split_text(text, spans, max_tokens=max_tokens, overlap=overlap)
    assert pieces == split_text(text, spans, max_tokens=max_tokens, overlap=overlap)
    held, stops = bytearray(len(text)), outline(text).breaks
    assert stops == sorted(stops)
    for chunk in pieces:
        assert text[chunk.start : chunk.end] == chunk.text == chunk.text.strip() != ""
        assert chunk.tokens == spans.count(chunk.text)
        assert spans.count(chunk.for_embedding) + spans.special <= max_tokens
        held[chunk.start : chunk.end] = b"\1" * len(chunk.text)
    assert all(inside or letter.isspace() for letter, inside in zip(text, held, strict=True))
    for one, next_one in pairwise(pieces):
        assert one.start < next_one.start and one.end < next_one.end
        assert spans.count(text[next_one.start : max(one.end, next_one.start)]) <= overlap


@settings(max_examples=200)
@given(TEXTS, st.sampled_from(list(READERS)), SIZES)
def test_what_the_model_reads_is_never_truncated(text, name, sizes):
    for chunk in split_text(text, SPANS[name], max_tokens=sizes[0], overlap=sizes[1]):
        read = READERS[name](chunk.for_embedding, truncation=False, padding=False, verbose=False)["input_ids"]
        assert len(read) <= sizes[0]
        assert len(read) - SPANS[name].special == SPANS[name].count(chunk.for_embedding)


@settings(max_examples=300)
@given(TEXTS, NAMES)
def test_a_text_that_fits_is_one_chunk(text, name):
    text = text.replace("#", "").strip()
    fits = SPANS[name].count(text) + SPANS[name].special <= 256
    pieces = split_text(text, SPANS[name], max_tokens=256, overlap=0)
    assert [chunk.text for chunk in pieces] == [text] * bool(text) if fits else len(pieces) > 1
    for chunk in pieces:
        assert [again.text for again in split_text(chunk.text, SPANS[name], max_tokens=256, overlap=0)] == [
            chunk.text
        ]


@settings(max_examples=300)
@given(TEXTS, NAMES, SIZES)
def test_sentences_and_rows_that_fit_are_in_some_chunk_whole(text, name, sizes):
    text = text.replace("#", "")  # a heading could make a sentence too long for its chunk
    pieces = split_text(text, SPANS[name], max_tokens=sizes[0], overlap=sizes[1])
    for start, end in pairwise([0, *outline(text).breaks]):
        start += len(text[start:end]) - len(text[start:end].lstrip())
        if SPANS[name].count(text[start:end]) + SPANS[name].special <= sizes[0]:
            assert any(chunk.start <= start and end <= chunk.end for chunk in pieces)


@settings(max_examples=300)
@given(TEXTS, NAMES, SIZES)
def test_characters_stay_whole(text, name, sizes):
    for chunk in split_text(text, SPANS[name], max_tokens=max(sizes[0], 64), overlap=sizes[1]):
        first, before = chunk.text[0], text[: chunk.start][-1:]
        assert (
            not before
            or before.isspace()
            or not (unicodedata.combining(first) or "\u1160" <= first <= "\u11ff")
        )
        assert not (first == "\u200d" or (before == "\u200d" and first in "👨👩👧👦"))


@pytest.mark.parametrize("text", ["", " ", "\n\r\n\t\u3000\u2028 "])
def test_nothing_is_no_chunk(text):
    assert split_text(text, WORDS) == [] and chunk_documents({"a": text}, WORDS) == {}


# -- sentences -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "The fee is 2,000 won.| It is due monthly!| Is it?| Yes…| So it is.",
        "Dr. Kim of the U.S. office, e.g. in No. 5, said 3.5 % vs. 4. 5 etc. and J. Smith agreed.| So be it.",
        'He said "Stop."| Then (it was late.)| He left.',
        "It rose to 3.5.| The rest fell to 2024.| Nothing else.",
        "수수료는 2,000원입니다.| 한도가 있어요!| 정말 그럴까?| 그렇죠.| 끝",
        "수수료가 있습니다.|한도도 있어요!|그럴까?|네 있죠.|끝",
        "2024. 3. 15. 시행한다.| 2024.3.15. 시행한다.| 다음",
        "“알겠습니다.”| 그가 말했다.| 「정말?」| 그래",
        "はい。|いいえ！|「そう。」|終",
        "1. 첫째 항목이다.| 가. 둘째 항목이다.| 셋째",
        "version 1.2.3 at haneul.example.com is out.| Done",
    ],
)
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_where_sentences_end(text, form):
    expected = [part.strip() for part in unicodedata.normalize(form, text).split("|")]
    assert sentences(unicodedata.normalize(form, text.replace("|", ""))) == expected


def test_blank_lines_and_items_of_lists_end_a_sentence_and_a_line_does_not():
    assert sentences("one\ntwo\n\nthree\n- four\n- five\n  six\n1) seven") == [
        "one\ntwo",
        "three",
        "- four",
        "- five\n  six",
        "1) seven",
    ]


def test_sentences_that_fit_are_whole_and_come_again_up_to_the_overlap():
    text = " ".join(f"This is sentence number {n}." for n in range(9))
    plain, again = texts_of(text), texts_of(text, overlap=11)
    assert [t[-2:] for t in plain] == ["2.", "5.", "8."]
    assert ["".join(re.findall(r"\d", t)) for t in again] == ["012", "123", "234", "345", "456", "567", "678"]
    assert texts_of(text, overlap=4) == plain  # a sentence has five words


def test_an_overlap_gives_way_to_a_sentence_that_fits_only_without():
    text = "One is short. Two is short. " + "Word " * 14 + "end. Last is short."
    assert texts_of(text, overlap=8) == [
        "One is short. Two is short.",
        "Word " * 14 + "end.",
        "Last is short.",
    ]


def test_a_long_sentence_is_cut_between_lines_else_words_else_characters():
    assert texts_of("a " * 10 + "\n" + "b " * 10) == [("a " * 10).strip(), ("b " * 10).strip()]
    assert texts_of("a " * 20) == [("a " * 16).strip(), ("a " * 4).strip()]
    assert texts_of("가" * 20, LETTERS) == ["가" * 16, "가" * 4]
    assert (
        texts_of(unicodedata.normalize("NFD", "강" * 10), LETTERS)
        == [unicodedata.normalize("NFD", "강" * 5)] * 2
    )
    assert texts_of("🇰🇷" * 9 + "x", LETTERS) == ["🇰🇷" * 8, "🇰🇷x"]
    assert texts_of("e" + "\u0301" * 20, LETTERS) == [
        "e" + "\u0301" * 15,
        "\u0301" * 5,
    ]  # one letter, longer than a chunk


def test_korean_without_spaces_is_cut_between_characters_of_several_tokens():
    text = "뷁쀍" * 100
    pieces = split_text(text, SPANS["haneul-4m"], max_tokens=32, overlap=0)
    assert "".join(chunk.text for chunk in pieces) == text and all(
        "\ufffd" not in chunk.text for chunk in pieces
    )
    assert max(chunk.tokens for chunk in pieces) <= 32 < SPANS["haneul-4m"].count(text)


# -- tokenizers, sizes, documents ----------------------------------------------------------------------------


def test_the_whole_text_is_counted_though_the_file_of_minilm_says_to_truncate():
    tokenizer = READERS["all-MiniLM-L6-v2"]
    fresh = AutoTokenizer.from_pretrained(catalog.verify_shipped("all-MiniLM-L6-v2"))
    before = fresh.backend_tokenizer.to_str()
    assert fresh.backend_tokenizer.truncation is not None
    assert token_spans(fresh).count("fee " * 5000) == 5000 and token_spans(fresh).special == 2
    assert fresh.backend_tokenizer.to_str() == before  # the model's own tokenizer is unchanged
    assert token_spans(tokenizer.backend_tokenizer).spans("a fee") == [(0, 1), (2, 5)]


PAGE = "The annual fee is 2,000 won, i.e. little. 수수료는 2,000원입니다. 카드를 만들 수 있습니다.\n\n"


def test_chunks_of_three_megabytes_are_full():
    text = PAGE * (3_000_000 // len(PAGE.encode()))
    pieces = split_text(text, SPANS["all-MiniLM-L6-v2"], max_tokens=512, overlap=64)
    assert pieces[-1].end == len(text.rstrip()) and min(chunk.tokens for chunk in pieces[:-1]) > 450


@pytest.mark.parametrize(
    "text", ["a" * 1_000_000, "가" * 300_000, "e" + "\u0301" * 100_000, "a." * 100_000, "|a" * 100_000]
)
def test_a_million_letters_without_a_space_are_cut(text):
    pieces = split_text(text, SPANS["haneul-4m"], max_tokens=512, overlap=64)
    assert "".join(chunk.text for chunk in pieces) == text


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"max_tokens": 15}, "max_tokens=15"),
        ({"max_tokens": 16.0}, "max_tokens=16.0"),
        ({"max_tokens": 64, "overlap": 64}, "overlap=64; with max_tokens=64 it must be from 0 to 63"),
        ({"overlap": -1}, "overlap=-1"),
        ({"overlap": None}, "overlap=None"),
        ({"tokenizer": TokenSpans(WORDS.spans, special=10), "max_tokens": 16}, "of which 10 are special"),
    ],
)
def test_sizes_out_of_range_are_refused(sizes, message):
    with pytest.raises(CourseError, match=message):
        split_text("text", **{"tokenizer": WORDS} | sizes)


def test_special_tokens_are_taken_from_the_limit():
    with pytest.raises(CourseError, match="overlap=62; with max_tokens=64 it must be from 0 to 61"):
        split_text("text", SPANS["all-MiniLM-L6-v2"], max_tokens=64, overlap=62)
    assert [
        chunk.tokens for chunk in split_text("fee " * 30, SPANS["all-MiniLM-L6-v2"], max_tokens=16, overlap=0)
    ] == [
        14,
        14,
        2,
    ]


def test_what_cannot_be_read_is_refused():
    with pytest.raises(CourseError, match="character 2 of 3 is half of a surrogate pair"):
        split_text("ab\ud800", WORDS)
    with pytest.raises(CourseError, match="a text must be a str; got bytes"):
        split_text(b"text", WORDS)
    with pytest.raises(CourseError, match="of type str does not give the positions of its tokens"):
        token_spans("all-MiniLM-L6-v2")
    with pytest.raises(CourseError, match="has more than the 16 tokens"):
        split_text(
            "ab",
            TokenSpans(lambda text: [(at, at + 1) for at in range(len(text)) for _ in range(20)]),
            max_tokens=16,
            overlap=0,
        )


def test_ids_of_chunks_are_unique_whatever_the_ids_of_documents():
    documents = {"a": "x " * 40, "a#1": "y " * 40, "a#1#0": "z", "": "v"}
    pieces = chunk_documents(documents, WORDS, max_tokens=16, overlap=0)
    assert list(pieces) == ["a#0", "a#1", "a#2", "a#1#0", "a#1#1", "a#1#2", "a#1#0#0", "#0"]
    assert all(chunk.text in documents[doc_id.rpartition("#")[0]] for doc_id, chunk in pieces.items())
