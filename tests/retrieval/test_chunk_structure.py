"""Chunks of headings, code and tables: what stays together, and the context repeated in later chunks."""

import pytest

from course_lib.retrieval.chunk import split_text
from tests.retrieval.test_chunk import LETTERS, WORDS, sentences, texts_of

# -- headings ------------------------------------------------------------------------------------------------

MANUAL = """Before it.

# Card
Of cards.
## Fees ##
Of fees. They are low.
## Empty
## Limits
### Daily
Of limits.
```sh
# no heading
```
#태그 is none
# Loans
"""


def test_headings_begin_chunks_and_give_the_path():
    pieces = [
        (chunk.text.splitlines()[0], chunk.headings, chunk.context_prefix)
        for chunk in split_text(MANUAL, WORDS, max_tokens=64, overlap=16)
    ]
    assert pieces == [
        ("Before it.", (), ""),
        ("# Card", ("Card",), ""),
        ("## Fees ##", ("Card", "Fees"), "Card\n"),
        ("## Empty", ("Card", "Empty"), "Card\n"),
        ("## Limits", ("Card", "Limits", "Daily"), "Card\n"),
        ("# Loans", ("Loans",), ""),
    ]


def test_later_chunks_of_a_section_carry_its_headings():
    first, second, *_ = split_text(
        "# Card\n## Fees\n" + "A fee of one won. " * 5, WORDS, max_tokens=16, overlap=0
    )
    assert first.text.startswith("# Card\n## Fees\nA fee") and first.context_prefix == ""
    assert second.for_embedding.startswith("Card\nFees\nA fee of one won. A fee")


def test_a_heading_is_never_left_alone_before_text():
    for below in ("word " * 40, "x" * 400, "word " * 15 + "end. More.", "| " + "cell " * 40 + "|"):
        first = split_text("# A heading of six words\n" + below, LETTERS, max_tokens=64, overlap=8)[0]
        assert len(first.text.splitlines()) == 2


def test_outer_headings_give_way_to_a_sentence_that_fits_only_without():
    text = "# Out er\n## In\nStart.\n\n" + "w " * 14 + "end. More."
    assert [chunk.context_prefix for chunk in split_text(text, WORDS, max_tokens=16, overlap=0)][1] == "In\n"
    long = split_text("# " + "long " * 9 + "\nStart.\n\n" + "w " * 5 + "x.", WORDS, max_tokens=16, overlap=0)
    assert long[-1].context_prefix == "" and long[-1].headings == (("long " * 9).strip(),)


def test_headings_longer_than_a_chunk_are_cut_too():
    pieces = texts_of("# " + "long " * 40 + "\nText.")
    assert " ".join(pieces).split() == ("# " + "long " * 40 + "Text.").split()


def test_a_byte_order_mark_hides_no_heading_and_carriage_returns_no_lines():
    pieces = split_text("\ufeff# Card\r\nText.\r\n\r\n## Fees\r\nMore.\r\n", WORDS, max_tokens=16, overlap=0)
    assert [(chunk.text, chunk.headings) for chunk in pieces] == [
        ("\ufeff# Card\r\nText.", ("Card",)),
        ("## Fees\r\nMore.", ("Card", "Fees")),
    ]


def test_a_fence_stays_with_its_code_and_code_is_cut_between_lines():
    pieces = texts_of("Text here.\n```py\n" + "a = 1\n" * 8 + "```\nAfter.")
    assert pieces[0].startswith("Text here.\n```py\na = 1") and pieces[-1].endswith("a = 1\n```\nAfter.")
    assert all(
        line in ("a = 1", "```", "```py", "Text here.", "After.")
        for text in pieces
        for line in text.splitlines()
    )


# -- tables --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "row", "header"),
    [
        ("| name | fee |\n|---|---|\n", "| Card. Yes | {} won |\n", "| name | fee |"),
        ("name | fee\n---|---\n", "Card. Yes | {} won\n", "name | fee"),
        ("name\tfee\n", "Card. Yes\t{} won\n", "name\tfee"),
        ("name,fee\n", '"Card, one. Yes",{} won\n', "name,fee"),
        ("", "Card. Yes\t{}\n", ""),
        ("", "| Card. Yes | {} |\n", ""),
    ],
)
def test_rows_are_whole_and_later_ones_know_their_header(head, row, header):
    text = "# Fees\nBefore.\n\n" + head + "".join(row.format(n) for n in range(20))
    pieces = split_text(text, WORDS, max_tokens=24, overlap=0)
    rows = {line.strip() for line in text.splitlines()}
    assert len(pieces) > 2 and all(line in rows for chunk in pieces for line in chunk.text.splitlines())
    assert pieces[0].table_header == "" and {chunk.table_header for chunk in pieces[1:]} == {header}
    assert all(chunk.context_prefix == "Fees\n" + (header and header + "\n") for chunk in pieces[1:])


def test_a_row_too_long_is_cut_between_cells():
    row = "|" + "|".join(f" c{n} with four words " for n in range(6)) + "|"
    assert all(text.startswith("| c") for text in texts_of("| a | b |\n|---|---|\n" + row)[1:])


def test_a_row_that_fits_alone_stays_whole_below_a_heading_that_does_not_fit_beside_it():
    row = "| " + "w " * 12 + "|"
    assert texts_of(f"# Some words here\n{row}\n{row}") == ["# Some words here", row, row]


def test_amounts_in_prose_are_no_table():
    assert sentences("It costs 1,250 won. It\nrose by 2,500 won. Yes.") == [
        "It costs 1,250 won.",
        "It\nrose by 2,500 won.",
        "Yes.",
    ]
