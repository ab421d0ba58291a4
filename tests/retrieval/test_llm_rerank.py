"""Reranking by weighted log-probabilities; a driver without log-probabilities is refused."""

import numpy as np
import pytest

from course_lib.models import ModelManager
from course_lib.models.drivers.engine import Unsupported
from course_lib.retrieval import LLMReranker
from course_lib.retrieval.llm_rerank import YES_OR_NO, question_prompt, relevance_prompt
from course_lib.retrieval.rerank import rerank

QUERY = "When does the Sorin branch open?"
TEXTS = ["The Sorin branch opens at 09:30.", "The fee is 2,000 won.", "", "The Sorin branch opens at 09:30."]


@pytest.fixture(scope="module")
def model():
    return ModelManager().get_chat_model("haneul-300k")


def logs(model, prompt, answers):
    """Log-probabilities, computed one prompt at a time."""
    with model.manager.use(model.spec) as engine:
        return np.concatenate([engine.score([prompt(QUERY, text)], answers) for text in TEXTS])


@pytest.mark.parametrize("prompt", [None, lambda query, text: f"{text}\n{query} Yes or no?"])
@pytest.mark.parametrize("answers", [YES_OR_NO, {"Yes": 1.0}, {"09:30": 2.0, "a fee": -0.5, "no": -1.5}])
def test_scores_are_the_weighted_log_probabilities_of_the_answers(model, answers, prompt):
    log_probabilities = logs(model, prompt or relevance_prompt, list(answers))
    by_hand = [sum(weight * row[i] for i, weight in enumerate(answers.values())) for row in log_probabilities]
    scores = LLMReranker(model, answers, prompt).rerank(QUERY, TEXTS)
    assert scores == pytest.approx(by_hand, abs=5e-3) and all(type(score) is float for score in scores)
    assert scores[0] == pytest.approx(scores[3], abs=1e-4) and len(set(np.round(scores, 3))) == 3


@pytest.mark.parametrize("prompt", [None, lambda query, text: text])
def test_without_answers_the_question_itself_is_weighed(model, prompt):
    scores = LLMReranker(model, prompt=prompt).rerank(QUERY, TEXTS)
    assert scores == pytest.approx(logs(model, prompt or question_prompt, [QUERY])[:, 0].tolist(), abs=5e-3)
    assert max(scores) < 0 and [
        r.previous_rank for r in rerank(LLMReranker(model, prompt=prompt), QUERY, TEXTS, 2)
    ] == [1, 4]


def test_what_is_weighed_later_is_not_what_was_said_first(model):
    answers = dict(YES_OR_NO)
    reranker = LLMReranker(model, answers)
    answers.clear()
    assert (
        reranker.answers == YES_OR_NO
        and "Yes or No" in reranker.prompt("q", "t")
        and "Yes" not in LLMReranker(model).prompt("q", "t")
    )


def test_no_passages_load_no_model():
    manager = ModelManager()
    for answers in (None, YES_OR_NO):
        assert LLMReranker(manager.get_chat_model("haneul-300k"), answers).rerank(QUERY, []) == []
    assert manager.loaded_models() == []


def test_a_driver_without_log_probabilities_is_refused():
    silent = ModelManager().get_chat_model({"source": "haneul-300k", "driver": "llamacpp"})
    for answers in (None, YES_OR_NO):
        with pytest.raises(Unsupported, match=r"llamacpp cannot score.*huggingface"):
            LLMReranker(silent, answers).rerank(QUERY, TEXTS)
