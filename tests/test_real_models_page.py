"""docs/real-models.md states what the benchmarks of real models recorded."""

import json

import pytest

from benchmarks import real_models, real_texts


@pytest.mark.parametrize("benchmark", [real_models, real_texts], ids=["models", "texts"])
def test_the_page_has_the_recorded_results(benchmark):
    results = json.loads(benchmark.RESULTS.read_text("utf-8"))
    text = real_models.PAGE.read_text("utf-8")
    measured = text.partition(benchmark.START)[2].partition(benchmark.END)[0]
    assert measured.strip() == benchmark.page(results)


def test_every_format_has_twenty_questions_or_more():
    results = json.loads(real_models.RESULTS.read_text("utf-8"))
    for name, answers in results["answers"].items():
        assert len({question for question, *_ in answers}) == len(answers) >= 20, name
