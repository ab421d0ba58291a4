"""A question in two parts: each part is asked, and one answer is made of both."""

import pytest
from langchain_core.documents import Document
from langchain_core.runnables import RunnableLambda

from course_lib.errors import CourseError
from course_lib.models.manager import ModelManager
from course_lib.rag import RAGPipeline
from course_lib.rag.parts import InParts
from course_lib.rag.prompt import REFUSAL

CARDS = {
    name: Document(
        id=name,
        page_content=f"The annual fee of the {name} is KRW {fee}.",
        metadata={"title": f"The {name}"},
    )
    for name, fee in (("Cedar Card", "21,000"), ("Maple Card", "9,000"))
}
OTHER = Document(id="other", page_content="The branch opens at 09:15.", metadata={"title": "Hours"})


def find(question):
    """Find the passage about the card in question."""
    return next(([d] for name, d in CARDS.items() if name in question), [OTHER])


@pytest.fixture(scope="module")
def bank():
    return InParts(RAGPipeline(RunnableLambda(find), ModelManager().get_chat_model("haneul-1m")))


def test_both_answers_are_joined_with_both_sources(bank):
    found = bank.invoke("Tell me both: annual fee of the Cedar Card, and annual fee of the Maple Card.")
    assert found["answer"] == "KRW 21,000; KRW 9,000" and not found["refused"]
    assert found["sources"] == found["passages"] == ["Cedar Card", "Maple Card"]
    alone = [bank.invoke(f"What is the annual fee of the {name}?") for name in CARDS]
    assert found["confidence"] == pytest.approx(min(a["confidence"] for a in alone), abs=1e-3)
    assert set(found) == set(alone[0])


def test_two_amounts_are_compared(bank):
    question = "Between the Cedar Card and the Maple Card, whose annual fee is lower?"
    assert bank.batch([question])[0]["answer"] == "Maple Card"


def test_it_is_refused_if_a_part_is(bank):
    question = "Between the Cedar Card and the Birch Card, whose annual fee is lower?"
    found = bank.invoke(question)
    assert found["answer"] == REFUSAL and found["refused"] and found["reason"] and found["sources"] == []


def test_other_questions_go_to_the_pipeline_as_they_are(bank):
    asked = ["What is the annual fee of the Maple Card?", "Tell me both: a of b, and c of d."]
    found = bank.batch(asked)
    assert found[0]["answer"] == "KRW 9,000" and found[0]["question"] == asked[0]
    assert found[1]["question"] == asked[1] and bank.batch([]) == []
    with pytest.raises(CourseError, match="is not a question"):
        bank.invoke("?")
