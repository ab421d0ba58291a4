"""The exam about Haneul Bank: its parts share no question, and the same seed gives the same exam."""

from collections import Counter

import pytest

from course_lib import data
from course_lib.errors import CourseError
from course_lib.exam.haneul import haneul_exam, right_passages
from course_lib.exam.report import is_right
from course_lib.rag.prompt import REFUSAL


def test_515_questions_of_both_forms_and_languages_some_to_refuse():
    exam = haneul_exam()
    counts = Counter((q.language, q.kind) for q in exam)
    assert len(exam) == len({q.id for q in exam}) == 515
    assert set(counts) == {(lang, kind) for lang in ("en", "ko") for kind in ("choice", "short", "refuse")}
    assert sum(n for (lang, _), n in counts.items() if lang == "ko") == 201 and min(counts.values()) > 20
    assert all(q.area and bool(q.options) == (q.kind == "choice") for q in exam)


def test_the_parts_share_no_question_and_the_seed_decides():
    parts = [{q.id[3:] for q in haneul_exam(part, 200)} for part in ("exam", "practice", "held-back")]
    assert not parts[0] & parts[1] and not parts[1] & parts[2] and not parts[0] & parts[2]
    assert haneul_exam(count=50) == haneul_exam(count=50) != haneul_exam(count=50, seed=1)


def test_the_right_answer_stands_in_the_right_passages_or_is_a_refusal():
    passages = data.load_passages()
    for q in haneul_exam(count=100):
        assert is_right(q, q.answer) and (q.answer == REFUSAL) == (not right_passages(q))
        assert right_passages(q) <= passages.keys()


def test_impossible_exams_are_told():
    for arguments in (("exam", 600), ("exam", -5), ("homework", 5)):
        with pytest.raises(CourseError, match=r"questions in each language|one of practice"):
            haneul_exam(*arguments)
