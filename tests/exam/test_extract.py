"""The reader of Korean questions, which knows no language model: forms, sentences, refusals."""

import pytest

from course_lib.exam.extract import SentenceReader
from course_lib.exam.questions import ExamQuestion
from course_lib.rag.prompt import REFUSAL

PASSAGES = {
    "a": "하늘 블루 통장의 월 수수료는 2,500원입니다. 하늘 블루 통장의 금리는 1.85%입니다. "
    "신청서는 ACC-802입니다.",
    "b": "강변 지점은 09:30에 문을 엽니다. 전화는 1599-2994입니다.",
}
TITLES = {"a": "하늘 블루 통장", "b": "강변 지점"}


@pytest.fixture(scope="module")
def reader():
    return SentenceReader(PASSAGES, TITLES)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("하늘 블루 통장의 월 수수료는 얼마입니까?", "2,500원"),
        ("하늘 블루 통장의 금리는 몇 퍼센트입니까?", "1.85%"),
        ("하늘 블루 통장의 신청서 코드는 무엇입니까?", "ACC-802"),
        ("강변 지점은 몇 시에 문을 엽니까?", "09:30"),
        ("강변 지점의 전화 번호는 무엇입니까?", "1599-2994"),
        ("부산 날씨가 궁금합니다.", REFUSAL),
    ],
)
def test_short_answers_are_copied_in_the_form_that_is_asked_for(reader, question, answer):
    assert reader.answer(ExamQuestion("1", question)) == answer


def test_the_option_in_the_best_sentence_is_chosen_else_the_first(reader):
    options = ("2,500원", "1,500원", "1.85%")
    question = ExamQuestion("1", "하늘 블루 통장의 금리는 얼마입니까?", options)
    assert reader.answer(question) == "1.85%"
    assert reader.answer(ExamQuestion("2", "부산 날씨?", ("맑음", "비"))) == "맑음"
    assert reader.find("강변 지점 전화") == ["b"]
