"""Chapter 06's widget over a real pipeline: its text is what the pipeline answers."""

import pytest

from course_lib.data import load_passages, load_questions
from course_lib.learn.widgets.asking import ask_the_bank, marked
from course_lib.models.manager import ModelManager
from course_lib.rag import RAGPipeline
from course_lib.retrieval import LSA, HybridRetriever

PASSAGES = load_passages()
TEXTS, TITLES = {i: p.text for i, p in PASSAGES.items()}, {i: p.title for i, p in PASSAGES.items()}
QUESTIONS = {q.id: q.question for q in load_questions("validation", "lexical") if q.format == "short"}
QUESTIONS = dict(list(QUESTIONS.items())[:3])


@pytest.fixture(scope="module")
def retriever():
    return HybridRetriever.from_documents(TEXTS, LSA.fit(list(TEXTS.values()), 64), alpha=0.3)


@pytest.fixture(scope="module")
def model():
    return ModelManager().get_chat_model("haneul-1m")


@pytest.fixture(scope="module")
def explorer(retriever, model):
    return ask_the_bank(retriever, model, QUESTIONS, TEXTS, TITLES)


def test_every_control_changes_what_is_said(explorer):
    assert explorer.drive() > len(QUESTIONS)


@pytest.mark.parametrize("passages", [1, 3])
def test_the_text_is_the_pipelines_answer(explorer, retriever, model, passages):
    for question in QUESTIONS.values():
        found = RAGPipeline(retriever.bind(k=passages), model).invoke(question)
        lines = explorer.output_for(question=question, passages=passages, minimum=0).text.splitlines()
        assert lines[:2] == [f"Question: {question}", f"Answer: {found['answer']}"]
        assert lines[2] == f"Confidence: {found['confidence']:.2f} (at least 0 is needed)."
        assert len(found["passages"]) == passages
        shown = [line.split(",")[0] for line in lines if line.startswith(("source: ", "read: "))]
        sources = found["sources"]
        assert shown == [f"{'source' if i in sources else 'read'}: {i}" for i in found["passages"]]


def test_below_the_minimum_it_refuses_and_says_what_was_written(explorer):
    question = next(
        q for q in QUESTIONS.values() if "\nAnswered" in explorer.output_for(question=q, minimum=0).text
    )
    text = explorer.output_for(question=question, minimum=1).text
    assert "\nAnswer: Not in the handbook.\n" in text and "below 1. The model wrote: " in text


def test_the_answer_is_marked_as_it_stands_in_the_passage():
    assert marked("KRW 500 (krw 500)", "KRW 500") == "[[KRW 500]] ([[krw 500]])"
    assert marked("It costs 5.", "") == "It costs 5." and marked("a+b", "a+b") == "[[a+b]]"


def test_what_is_no_question_is_told(explorer):
    assert "'?' is not a question" in explorer.output_for(own="?").text
