"""Half of a surrogate pair is refused by every input of every engine."""

from contextlib import closing

import pytest

from course_lib.errors import CourseError
from course_lib.models import load
from course_lib.models.manager import ModelManager

BAD = "card\ud83d"


def refuse(calls):
    for call in calls:
        with pytest.raises(CourseError, match=r"character 4 of 5 is half of a surrogate pair"):
            call(BAD)


@pytest.mark.parametrize("driver", ["huggingface", "llamacpp"])
def test_language_models(driver):
    with closing(load("haneul-300k", driver=driver)) as engine:
        calls = [
            lambda text: engine.generate(["a", text]),
            lambda text: engine.generate([[{"role": "user", "content": text}]]),
            lambda text: list(engine.stream(text)),
            engine.count_tokens,
            lambda text: engine.perplexity([text]),
            lambda text: engine.bits_per_byte([text]),
        ]
        if driver == "huggingface":
            calls += [
                lambda text: engine.score([text], ["a"]),
                lambda text: engine.score(["a"], [text]),
                engine.log_probabilities,
            ]
        refuse(calls)


def test_embedding_models():
    model = ModelManager.shared().get_embedding_model("embed")
    with model.engine() as engine:
        refuse([lambda text: engine.embed([text]), lambda text: engine.embed_tokens([text])])
    refuse([model.embed_query, lambda text: model.embed_documents(["a", text]), model.embed_query_tokens])


def test_rerankers():
    model = ModelManager.shared().get_reranker()
    refuse([lambda text: model.rerank(text, ["a"]), lambda text: model.rerank("a", ["b", text])])
