"""The system "best": questions about today go to memory, others to reading; two-part questions are split."""

import pytest
from langchain_core.documents import Document

from course_lib import data
from course_lib.exam.questions import ExamQuestion
from course_lib.exam.routed import RoutedReader
from course_lib.models import load
from course_lib.models.manager import ModelManager
from course_lib.rag.prompt import REFUSAL, Source
from course_lib.rag.topics import StatedTopics
from course_lib.retrieval import HybridRetriever, LateInteraction

FEE = "What is the monthly fee of the Haneul Blue Current Account?"
OLD_FEE = (
    "The monthly fee of the Haneul Blue Current Account was changed on 9 November 2024: what had it been?"
)


@pytest.fixture(scope="module")
def best():
    models, handbook = ModelManager.shared(), data.load_passages()
    some = [handbook[name] for name in ("accounts-02", "accounts-03", "security-04")]
    search = HybridRetriever.from_documents(
        [Document(id=p.id, page_content=p.text, metadata={"title": p.title}) for p in some],
        models.get_embedding_model("embed"),
        rerank=LateInteraction(models.get_embedding_model("embed-tokens"), per_token=True),
    )
    names = ("Haneul Blue Current Account", "Haneul Blue Plus Current Account")
    topics = StatedTopics([Source(p.title, p.text) for p in some], names)
    return RoutedReader(search, load("haneul-4m"), load("haneul-knowledge"), topics)


def test_today_is_remembered_and_yesterday_is_read(best):
    assert best.router.predict([FEE, OLD_FEE]).tolist() == [1, 0]
    assert best.answer(ExamQuestion("1", FEE)) == "KRW 2,500"
    assert best.answer(ExamQuestion("2", OLD_FEE)) == "KRW 1,500"


def test_an_option_is_always_one_of_the_options(best):
    options = ("KRW 3,500", "KRW 1,500", "KRW 2,500")
    assert best.answer(ExamQuestion("1", FEE, options)) == "KRW 2,500"
    assert best.answer(ExamQuestion("2", OLD_FEE, options)) == "KRW 1,500"
    name = "the Haneul Blue Current Account"
    both = f"Tell me both: monthly fee of {name}, and interest rate of {name}."
    pairs = ("KRW 2,500; 1.95%", "KRW 3,500; 1.85%")
    assert best.answer(ExamQuestion("3", both, pairs)) in pairs, "memory's own text is no option"
    assert best.answer(ExamQuestion("4", both, (*pairs, "KRW 2,500; 1.85%"))) == "KRW 2,500; 1.85%"


def test_where_the_search_finds_nothing_there_is_an_answer_all_the_same(best):
    nothing = HybridRetriever.from_documents(
        {"a": "Cards are blocked by phone."}, ModelManager.shared().get_embedding_model("embed")
    )
    nothing.delete(["a"])
    empty = RoutedReader(nothing, best.reader, best.memory, best.topics)
    assert empty.answer(ExamQuestion("1", FEE)) == REFUSAL
    options = ("KRW 3,500", "KRW 1,500", "KRW 2,500")
    assert empty.answer(ExamQuestion("2", FEE, options)) == "KRW 2,500"
    assert empty.answer(ExamQuestion("3", OLD_FEE, options)) in options


def test_two_questions_in_one_have_two_answers(best):
    name = "the Haneul Blue Current Account"
    both = f"Tell me both: monthly fee of {name}, and interest rate of {name}."
    assert best.answer(ExamQuestion("1", both)) == "KRW 2,500; 1.85%"


def test_what_no_passage_says_is_refused(best):
    assert best.answer(ExamQuestion("1", "Who founded the Haneul Orchid Museum?")) == REFUSAL


def test_an_answer_counts_as_found_only_in_a_passage_with_the_name(best):
    passage = best.search.search(FEE, 1)[0].document.page_content
    assert "KRW 2,500" in passage and "Haneul Blue Current Account" in passage
    hits = best.search.search(FEE, 3)
    assert best.signals(FEE, "KRW 2,500", hits)[2] == 1
    other = FEE.replace("Blue", "Blue Plus")
    assert best.signals(other, "KRW 2,500", hits[:1])[2] == 0
