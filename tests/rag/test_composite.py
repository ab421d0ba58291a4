"""Questions that need two answers become two questions; others stay whole."""

import pytest

from course_lib import data
from course_lib.rag.composite import quantity, split


def test_all_practice_questions_with_two_answers_are_split_and_no_other():
    for question in data.load_questions("train"):
        found = split(question.question)
        assert (found is not None) == (question.kind == "two-passage"), question.question
        assert found is None or all(part.endswith("?") and part != question.question for part in found.parts)


@pytest.mark.parametrize(
    ("question", "answers", "joined"),
    [
        ("Tell me both: fee of the A, and limit of the B.", ("KRW 5", "2 days"), "KRW 5; 2 days"),
        ("Between the A Plan and the B Plan, whose fee is lower?", ("KRW 1,000", "KRW 900"), "B Plan"),
        ("Does the A or the B have the longer term?", ("2 weeks", "15 days"), "B"),
        ("Does the A or the B have the shorter term?", ("2 weeks", "15 days"), "A"),
        ("Does the A or the B have the higher rate?", ("1.5%", "1.25%"), "A"),
        ("Does the A or the B have the higher rate?", ("1.5%", "1.5%"), ""),
        ("Does the A or the B have the higher rate?", ("unknown", "1.5%"), ""),
    ],
)
def test_the_answers_are_joined(question, answers, joined):
    assert split(question).join(*answers) == joined


def test_quantities():
    assert quantity("3 business days") == 72 and quantity("85 minutes") == 85 / 60
    assert quantity("KRW 14,500,000") == 14_500_000 and quantity("none") is None
