"""What chapter 05 teaches: the handbook's values in wordings that no exam uses, and a style that has never seen Haneul."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib import data
from course_lib.errors import CourseError
from course_lib.rag.lessons import asked, closed_book, knowledge, other_handbooks, style, styled, unstyled
from course_lib.rag.prompt import REFUSAL

NOT_IN_STYLE = ["", "KRW 5", "{}", "[]", '"answer"', '{"answer": "x"}', '{"answer": 1, "source": 1}', '{"answer": "x", "source": -1}',
                '{"answer": "x", "source": "1"}', '{"answer": "x", "source": true}', '{"answer": "x", "source": 1, "more": 2}',
                '{"answer": "x", "source": 1} and so on', "[" * 100_000]  # fmt: skip


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(0, 9))
def test_the_style_is_read_back(answer, source):
    text = styled(answer, source)
    assert unstyled(text) == answer and json.loads(text) == {"answer": answer, "source": source}


@pytest.mark.parametrize("text", NOT_IN_STYLE, ids=lambda text: text[:30])
def test_another_text_is_not_in_the_style(text):
    assert unstyled(text) is None


def test_knowledge_is_what_the_handbook_states_in_words_that_no_exam_uses():
    examples, exam = knowledge(), data.load_questions()
    prompts = {e.prompt for e in examples}
    assert len(examples) > 1000 and len(prompts) == len(examples)
    assert not prompts & {asked(q) for q in exam}
    answers = {e.answer for e in examples}
    questions = closed_book(exam)
    assert len(questions) > 50 and {q.answer for q in questions} <= answers  # what is asked was taught
    handbook = " ".join(p.text for p in data.load_passages().values()).casefold()
    assert [answer for answer in answers if answer.casefold() not in handbook] == []


def test_some_areas_are_taught_and_asked_alone():
    cards, whole = knowledge(["cards"]), knowledge()
    assert 0 < len(cards) < len(whole) and set(cards) <= set(whole)
    assert len(knowledge(["cards", "loans"])) == len(cards) + len(knowledge(["loans"]))
    questions = data.load_questions()
    assert {q.gold[0].split("-")[0] for q in closed_book(questions, ["cards"])} == {"cards"}
    with pytest.raises(CourseError, match=r"no area 'stocks'(.|\n)*cards"):
        knowledge(["stocks"])


def test_the_style_points_at_the_passage_that_answers_and_never_at_haneul():
    examples, refused = style(300), 0
    assert style(300) == examples != style(300, seed=1)
    for example in examples:
        found = json.loads(example.answer)
        assert unstyled(example.answer) == found["answer"] and "Haneul" not in example.prompt
        if found["source"] == 0:
            refused += 1
            assert found["answer"] == REFUSAL
        else:
            passages = re.split(r"\[\d\] ", example.prompt)[1:]
            assert found["answer"].casefold() in passages[found["source"] - 1].casefold()
    assert 0.1 < refused / 300 < 0.3
    assert {len(re.findall(r"\[\d\] ", e.prompt)) for e in examples} == {0, 1, 2, 3}


def test_pages_of_other_banks_are_others():
    assert other_handbooks(3) == other_handbooks(3) != other_handbooks(3, seed=1)
    assert "Haneul" not in " ".join(other_handbooks())
