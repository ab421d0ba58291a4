"""The structure of documents: what is a heading, a table and the end of a sentence, and what is not."""

import re

import pytest

from course_lib.retrieval.chunk import TokenSpans, split_text
from course_lib.retrieval.outline import outline

WORDS = TokenSpans(lambda text: [match.span() for match in re.finditer(r"[^\W_]+|[^\w\s]", text)])


def titles(text):
    return [section.headings[-1] for section in outline(text).sections if section.headings]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("# A\n\n    ```\n    x\n\n# B\ntext", ["A", "B"]),  # indented code
        ("- item\n\n    ```\n    # x\n    ```\n# B", ["B"]),  # a fence in a list item
        ("- a\n  - b\n\n      ```\n      # x\n      ```\n\n# B", ["B"]),
        ("- ```\n  # x\n  ```\n# B", ["B"]),
        ("1. ```\n   # x\n\n# B", ["B"]),  # the item ends, and the fence with it
        ("> ```\n> # x\n\n# B", ["B"]),
        ("> ```\n> # x\n> ```\n> text\n\n# B", ["B"]),
        ("```\n# x\n\n# y", []),  # unclosed: to the end
        ("~~~\n# x\n```\n# y\n~~~\n# B", ["B"]),
        ("<!--\n# hidden\n-->\n# B", ["B"]),
        ("<!-- one line -->\n# B", ["B"]),
        ("  <!-- # a\n\n# b\n--> # c\n# B", ["B"]),
        ("<PRE>\n# x\n\n# y\n</pre>\n# B", ["B"]),
        ("<details>\n# x\n</details>\n\n# B", ["B"]),
        ("text <!-- a\n# B\n-->", ["B"]),  # as in CommonMark: a comment within a line is no block
        ("<제1조>\n# B", ["B"]),
    ],
)
def test_headings_are_those_of_commonmark(text, expected):
    assert titles(text) == expected


@pytest.mark.parametrize(
    "header, row",
    [
        ("id;name;fee", "{i};card;{i},5"),  # decimal commas
        ("id;name;fee", "{i};card, gold;{i},50"),
        ("id,name,fee", "{i},card;gold,5"),
        ("id,name,fee", '{i},"card\nline two",5'),
        ("id,name,fee", '{i},"card\n\n# two\n",5'),
        ("id;name;fee", '{i};"card ""gold""\r\ntwo";5'),
        ("name,id", '"card\ntwo",{i}'),
        ("| id | name |", "| {i} | card |"),
        ("> | id | name |\n> |---|---|", "> | {i} | card gold |"),
        ("> id;name;fee", "> {i};card;1"),
    ],
)
def test_every_chunk_of_a_table_knows_its_header(header, row):
    if header.startswith("| "):
        header += "\n|---|---|"
    text = header + "\n" + "".join(row.format(i=i) + "\n" for i in range(14))
    chunks = split_text(text, WORDS, max_tokens=36, overlap=0)
    expected = header.split("\n")[0].removeprefix("> ")
    assert len(chunks) > 2 and {chunk.table_header for chunk in chunks[1:]} == {expected}
    assert not titles(text)


def test_a_stray_quotation_mark_hides_nothing():
    text = 'a,"b\n\n# A\ntext' + "x" * 3000 + '",c\n# B\n'
    assert titles(text) == ["A", "B"]


@pytest.mark.parametrize(
    "text, first",
    [
        ("그가 말했다.EBS 방송", "그가 말했다."),
        ("그가 말했다.(사진 제공)", "그가 말했다."),
        ("그가 말했다.[사진]", "그가 말했다."),
        ("그가 말했다.“그는 갔다”", "그가 말했다."),
        ("그가 말했다.1명은 갔다", "그가 말했다."),
        ("그가 말했다.① 첫째", "그가 말했다."),
        ("그가 말했다.▲둘째", "그가 말했다."),
        ("갈까요?(네)", "갈까요?"),
        ("주소는 하다.com 이다", "주소는 하다.com 이다"),
        ("그가 “갔다.”고 말했다", "그가 “갔다.”고 말했다"),
        ("갔다.,그리고", "갔다.,그리고"),
        ("v1.EBS 방송", "v1.EBS 방송"),
    ],
)
def test_a_korean_sentence_may_end_without_a_space(text, first):
    assert text[: outline(text).breaks[0]] == first
