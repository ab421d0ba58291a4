"""The strategies: their models, and what they do with a Korean question."""

import pytest

from course_lib.errors import CourseError
from course_lib.exam.questions import ExamQuestion
from course_lib.exam.strategies import STRATEGIES, build
from course_lib.models import catalog

KOREAN = ExamQuestion("ko-1", "하늘 웹데스크는 야간 점검을 몇 시에 시작하나요?", ("03:30", "03:15", "01:00"))
FEE = ExamQuestion("en-1", "What is the monthly fee of the Haneul Blue Current Account?")


def test_every_strategy_names_models_of_the_catalogue(monkeypatch):
    for tier in ("tiny", "real"):
        monkeypatch.setenv("COURSE_TIER", tier)
        for strategy in STRATEGIES.values():
            assert all(catalog.find(model) or model in catalog.parts() for model in strategy.models())
    assert STRATEGIES["guess"].models() == ()
    assert "haneul-topics" in STRATEGIES["best"].models()


def test_an_unknown_name_is_told_with_the_known_ones():
    with pytest.raises(CourseError, match="only guess, closed-book, adapter"):
        build("oracle")


def test_the_adapter_answers_from_memory_and_a_korean_question_is_guessed():
    adapter, closed = build("adapter"), build("closed-book")
    assert adapter.answer(FEE) == "KRW 2,500" and closed.answer(FEE) == "Not in the handbook."
    assert adapter.answer(KOREAN) == KOREAN.options[0] and build("guess").answer(FEE) == closed.answer(FEE)
