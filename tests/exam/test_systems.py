"""Readers: passages that fit, written answers, and options by three kinds of likelihood."""

import pytest
from langchain_core.documents import Document
from langchain_core.runnables import RunnableLambda

from course_lib import data
from course_lib.exam.questions import ExamQuestion
from course_lib.exam.systems import Reader
from course_lib.models import load

OPTIONS = ("KRW 3,500", "KRW 1,500", "KRW 7,500", "KRW 6,000", "KRW 2,500")
OLD = ExamQuestion(
    "1",
    "The monthly fee of the Haneul Blue Current Account was changed on 9 November 2024: what had it been?",
)
CHOICE = ExamQuestion("2", OLD.question, OPTIONS)


@pytest.fixture(scope="module")
def engine():
    return load("haneul-4m")


def passages(*names):
    found = [data.load_passages()[name] for name in names]
    documents = [Document(id=p.id, page_content=p.text, metadata={"title": p.title}) for p in found]
    return RunnableLambda(lambda _: documents)


def test_with_its_passage_a_question_is_answered_and_without_one_refused(engine):
    assert Reader(engine, passages("accounts-02")).write(OLD) == "KRW 1,500"
    assert Reader(engine).write(OLD) == "Not in the handbook."


def test_passages_that_do_not_fit_are_left_out_from_the_last(engine):
    many = list(data.load_passages())[:40]
    prompt = Reader(engine, passages("accounts-02", *many)).prompt(OLD)
    assert "[1] A word about what" in prompt and "[40]" not in prompt and OLD.question in prompt
    assert engine.count_tokens(prompt) <= engine.context


@pytest.mark.parametrize("per", ["answer", "token", "surprise"])
def test_likelihood_chooses_an_option_as_its_formula_says(engine, per):
    reader = Reader(engine, passages("accounts-02"))
    after = engine.score([reader.prompt(CHOICE)], OPTIONS)[0]
    alone = engine.score(["Answer:"], OPTIONS)[0]
    scores = {
        "answer": after,
        "token": [s / engine.count_tokens(o) for s, o in zip(after, OPTIONS, strict=True)],
        "surprise": after - alone,
    }[per]
    assert reader.choose(CHOICE, per) == max(zip(scores, OPTIONS, strict=True))[1]


def test_without_options_it_is_written_and_an_unknown_way_is_refused(engine):
    reader = Reader(engine, passages("accounts-02"))
    assert reader.choose(OLD) == "KRW 1,500"
    with pytest.raises(ValueError, match="use answer, token or surprise"):
        reader.choose(CHOICE, "length")
