"""The reader of Korean questions, which knows no language model: names, forms, statements, refusals."""

import random

import pytest

from course_lib.exam.extract import SentenceReader, quantity
from course_lib.exam.questions import ExamQuestion
from course_lib.exam.statements import asked, names, spans
from course_lib.exam.strategies import korean_reader
from course_lib.rag import evaluate
from course_lib.rag.korean_topics import korean_topics
from course_lib.rag.prompt import REFUSAL
from course_lib.retrieval import public_sets
from course_lib.retrieval.sentences import statements

FEE = "하늘 블루 입출금통장의 월 수수료는 얼마입니까?"


@pytest.fixture(scope="module")
def reader():
    return korean_reader()


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (FEE, "2,500원"),
        ("2025년 9월 24일 전에는 하늘 고운물 정기예금의 예금 금리가 어떻게 되어 있었나요?", "3.1%"),
        ("하늘 블루 입출금통장의 신청서 번호는 무엇입니까?", "ACC-802"),
        ("하늘 블루 입출금통장의 개설 서류는 무엇입니까?", "모바일 신분증"),
        ("부산 날씨가 궁금합니다.", REFUSAL),
    ],
)
def test_a_short_answer_is_copied_or_refused(reader, question, answer):
    assert reader.answer(ExamQuestion("1", question)) == answer


def test_an_option_must_stand_in_the_passages_of_the_product(reader):
    options = ("3,500원", "1,500원", "2,500원")
    assert reader.answer(ExamQuestion("1", FEE, options)) == "2,500원"
    assert reader.answer(ExamQuestion("2", "부산 날씨?", ("맑음", "비"))) == "맑음"


def test_everyday_words_lead_to_the_label_of_the_handbook(reader):
    question = "하늘 블루 입출금통장을 갖고만 있어도 달마다 청구되는 돈이 얼마예요?"
    topic = reader.topics(question).argmax()
    assert korean_topics().names[topic] == "current_account.monthly_fee"
    assert reader.answer(ExamQuestion("1", question)) == "2,500원"


def test_the_line_that_is_wrong_has_a_value_that_no_statement_has_with_its_label(reader):
    lines = ("월 수수료: 2,500원", "금리: 1.85%", "신청서 번호: ACC-803", "월 무료 출금 횟수: 18회")
    question = "하늘 블루 입출금통장에 대한 아래 내용 가운데 틀린 것은 무엇입니까?"
    assert reader.answer(ExamQuestion("1", question, lines)) == lines[2]


def test_every_passage_with_the_name_is_read(reader):
    assert len(reader.names) == 72 and reader.named(FEE) == ["하늘 블루 입출금통장"]
    assert {"accounts-01", "accounts-02"} <= set(reader.find(FEE))
    assert len(reader.find("수수료는 얼마입니까?")) == 3  # no name: those that the search finds


def test_two_questions_in_one_have_two_answers(reader):
    name = "하늘 블루 입출금통장"
    both = f"두 가지를 묻습니다. {name}의 월 수수료와 {name}의 신청서 번호가 어떻게 되나요?"
    assert reader.answer(ExamQuestion("1", both)) == "2,500원; ACC-802"
    more = "하늘 노을 신용카드와 하늘 보야지 여행카드 가운데 신용 한도가 더 높은 쪽은 어디인가요?"
    assert reader.answer(ExamQuestion("2", more)) == "하늘 보야지 여행카드"


def test_a_name_is_what_stands_before_a_bracket_and_is_used_again():
    texts = [
        "창구에서 푸른 통장(Blue Account) 만들기",
        "푸른 통장은 좋습니다. 푸른 통장의 금리(연)",
        "그 밖의 말(Other)",
    ]
    assert names(texts) == ["푸른 통장"]


def test_statements_are_sentences_items_and_cells_with_both_headers():
    text = (
        "첫째입니다. 둘째입니다.\n- 한도: 5만 원\n| | 금리 | 기간 |\n|---|---|---|\n| 푸른 통장 | 3% | 2년 |"
    )
    cells = ["금리 푸른 통장: 3%", "기간 푸른 통장: 2년"]
    assert list(statements(text)) == ["첫째입니다.", "둘째입니다.", "한도: 5만 원", *cells]


def test_spans_have_no_particles_and_numbers_have_units():
    found = [text for _, text in spans("개설 서류는 모바일 신분증입니다.")]
    assert "모바일 신분증" in found and not any(text.endswith("입니다") for text in found)
    assert [text for _, text in spans("7억 3,000만 원이며 3영업일")] == ["7억 3,000만 원", "3영업일"]


def test_a_question_asks_for_forms_the_first_one_most():
    assert asked("금리는 몇 퍼센트입니까?", "3.5%") == 1
    assert 0 < asked("금리가 얼마입니까?", "2,500원") < 1
    assert asked("금리는 몇 퍼센트입니까?", "3년") < 1 and asked("안녕하세요", "3%") == 0


@pytest.mark.parametrize(
    ("text", "value"), [("7억 3,000만 원", 7.3e8), ("2주", 336), ("없음", None), ("3시간", 3)]
)
def test_quantities_can_be_compared(text, value):
    assert quantity(text) == value


def test_korquad_is_read_better_than_by_taking_the_first_number_or_word():
    """A paragraph of Wikipedia, which the weights were not made for. The benchmark has the figure."""
    try:
        public = public_sets.load("korquad1_dev")
    except FileNotFoundError as error:
        pytest.skip(str(error))
    chosen = random.Random(1).sample(sorted(public.queries), 60)
    texts = {key: public.documents[key] for query in chosen for key in public.qrels[query]}
    reader, read, first = SentenceReader(texts, dict.fromkeys(texts, "")), 0.0, 0.0
    for query in chosen:
        found = reader.candidates(public.queries[query], read=list(public.qrels[query]))
        best = reader.best(public.queries[query], read=list(public.qrels[query]))
        read += evaluate.best_of(evaluate.character_f1, best.text, public.answers[query])
        first += evaluate.best_of(evaluate.character_f1, found[0].text, public.answers[query])
    assert read > 1.3 * first
