"""Questions in the forms of contests; broken files are told by their line."""

import pytest

from course_lib.errors import CourseError
from course_lib.exam.questions import ExamQuestion, read_questions, write_answers

SEOUL = ExamQuestion("1", "한국의 수도는?", ("부산", "서울", "대전"), "서울")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "a.jsonl",
            '{"id": 1, "question": "한국의 수도는?", "options": ["부산", "서울", "대전"], "answer": "서울"}',
        ),
        (
            "a.jsonl",
            '\n{"id": 1, "question": "한국의 수도는?", "options": ["부산", "서울", "대전"], "answer": 2}\n\n',
        ),
        ("a.csv", "ID,Question,Option1,option2,option10,Answer\n1,한국의 수도는?,부산,서울,대전,2\n"),
        ("a.csv", 'ID,Question,Answer\r\n1,"한국의 수도는?\n1. 부산\n2) 서울\n3 대전",서울\r\n'),
        ("a.csv", "id,question,option1,option2,option3,option4,answer\n1,한국의 수도는?,부산,서울,대전,,2"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp949"])
def test_the_same_question_in_each_form(tmp_path, name, text, encoding):
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    assert read_questions(path) == [SEOUL]


def test_a_short_answer_and_its_groups(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"id": "a", "question": "In 2 steps:\\n1. open\\nWhat then?", "kind": "k", "area": "law"}'
    )
    (question,) = read_questions(path)
    assert question == ExamQuestion("a", "In 2 steps:\n1. open\nWhat then?", (), None, "k", "law")


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.jsonl", '{"id": 1, "question": "q"}\n{"id": 2', "line 2: Expecting"),
        ("a.jsonl", "[1]", "line 1: no JSON object"),
        ("a.jsonl", '{"id": 1, "question": " "}', "line 1: no question"),
        ("a.jsonl", '{"question": "q"}', "line 1: no id"),
        (
            "a.jsonl",
            '{"id": 1, "question": "q"}\n{"id": "1", "question": "r"}',
            "line 2: the id '1' came before",
        ),
        ("a.jsonl", '{"id": 1, "question": "q", "options": ["a"]}', "line 1: 1 options"),
        (
            "a.jsonl",
            '{"id": 1, "question": "q", "options": ["a", " "]}',
            "line 1: 2 options, or an empty one",
        ),
        ("a.jsonl", '{"id": 1, "question": "q", "options": "a|b"}', "options is no list"),
        (
            "a.jsonl",
            '{"id": 1, "question": "q", "options": ["a", "b"], "answer": "c"}',
            "'c' is none of the 2",
        ),
        ("a.jsonl", '{"id": 1, "question": "q", "options": ["a", "b"], "answer": 3}', "'3' is none of the 2"),
        ("a.csv", "id,question\n1,q\n2,r,s", "line 3: not 2 columns"),
        ("a.csv", "id,question\n1", "line 2: not 2 columns"),
        ("a.csv", 'id,question\n1,"q', "unexpected end of data"),
        ("a.csv", "", "has no questions"),
        ("a.txt", "", "neither .jsonl nor .csv"),
    ],
)
def test_a_broken_file_is_told_by_its_line(tmp_path, name, text, told):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(CourseError, match=told):
        read_questions(path)


def test_an_unknown_encoding_and_a_missing_file(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"id,question\n1,q\n2,\xff\xff")
    with pytest.raises(CourseError, match="line 3: neither UTF-8 nor cp949"):
        read_questions(path)
    with pytest.raises(CourseError, match="cannot be read"):
        read_questions(tmp_path / "none.csv")


def test_answers_are_written_by_number_or_as_text(tmp_path):
    questions = [SEOUL, ExamQuestion("2", "Who?")]
    write_answers(tmp_path / "out.csv", questions, {"1": "서울", "2": 'A "man", said she'})
    assert (tmp_path / "out.csv").read_text("utf-8") == 'ID,Answer\n1,2\n2,"A ""man"", said she"\n'
