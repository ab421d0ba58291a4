"""Prompts, exact match, and which passages a question is given."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib import data
from course_lib.models import catalog, load
from course_lib.rag import answering, prompt


@pytest.mark.parametrize(
    ("prediction", "gold", "right"),
    [
        ("KRW 3,000.", "krw 3,000", True),
        ("a valid passport", "valid passport", True),
        ("KRW 3,000 (C)", "KRW 3,000", True),
        ("KRW 3,000 (C).", "KRW 3,000", True),
        ('The "Blue Card"', "blue card", True),
        ("KRW 30,00", "KRW 3,000", False),
        ("2.35%", "23.5%", False),
        ("", "KRW 3,000", False),
        ("09:30", "0930", False),
    ],
)
def test_exact_match(prediction, gold, right):
    assert answering.exact_match(prediction, gold) is right


@given(st.text())
def test_an_answer_matches_itself(text):
    assert answering.exact_match(text, text) or answering.without_letter(text) != text.strip()


def test_given_passages_hold_the_gold_one_and_near_misses():
    passages = data.load_passages()
    for question in data.load_questions("validation")[:80]:
        if len(question.gold) == 1:
            given_ = answering.given_passages(question, passages, 3)
            assert len({p.id for p in given_}) == 3 and question.gold[0] in {p.id for p in given_}
            others = [p for p in given_ if p.id not in question.gold]
            assert all(answering.nearness(question, p) == 2 for p in others), question.id
            assert given_ == answering.given_passages(question, passages, 3)


def test_too_few_places_for_the_gold_passages_are_refused():
    question = next(q for q in data.load_questions() if len(q.gold) > 1)
    with pytest.raises(ValueError, match="gold"):
        answering.given_passages(question, data.load_passages(), 1)
    assert answering.given_passages(question, data.load_passages(), 0) == []


def test_options_are_lettered_and_chosen_by_letter():
    text = prompt.question_prompt("Which?", [prompt.Source("T", "x")], ["one", "two"])
    assert text == "[1] T\nx\nQuestion: Which?\none (A)\ntwo (B)"
    assert prompt.chosen_option("two", ["one", "two"]) == "two (B)"
    with pytest.raises(ValueError, match="11 options"):
        prompt.question_block("?", list("abcdefghijk"))


def test_a_model_that_was_not_trained_on_the_prompts_gets_worked_examples():
    text = prompt.worked_prompt("Question: Which?")
    assert text.startswith("[1] Opening hours of the Cedar branch\n") and text.endswith(
        "Question: Which?\nAnswer:"
    )
    assert "\nAnswer: 09:15\n\n" in text and "\nAnswer: KRW 24,000 (C)\n\n" in text
    assert prompt.worked_prompt("Question: Which?", examples=0) == "Question: Which?\nAnswer:"


def test_the_course_own_models_take_the_exam_as_they_were_trained_and_others_continue_a_text():
    own, other = catalog.entry("haneul-300k"), catalog.entry("smollm2-135m-instruct")
    assert answering.exam(own) == {}
    asked = "Question: When?"
    assert answering.format_for(load(own.spec), asked) == asked
    model = load(own.spec, **answering.exam(other))
    assert answering.format_for(model, asked) == prompt.worked_prompt(asked)
    (answered,) = answering.answer_with(model, data.load_questions("validation")[:1], data.load_passages(), 0)
    assert "\n" not in answered.prediction.strip()


def test_the_refusal_is_the_same_in_data_and_library():
    from bankworld import schema

    assert schema.common()["refusal"] == prompt.REFUSAL
