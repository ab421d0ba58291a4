"""Which models the rules of a contest allow."""

import re

import pytest

from course_lib.errors import CourseError
from course_lib.exam.rules import CONTEST, read_rules


@pytest.mark.parametrize(
    "model",
    ["haneul-4m", "haneul-topics", "Qwen2.5-7B-Instruct", "EXAONE-3.5-7.8B-Instruct", "gemma-3-4b-it"],
)
def test_allowed(model):
    assert read_rules().broken(model, bits=4.9) == []


@pytest.mark.parametrize(
    ("model", "changes", "told"),
    [
        ("GPT-4o", {}, r"by an API only \(rule by_api: only models whose weights can be downloaded"),
        ("HyperCLOVA X", {}, "by an API only"),
        ("claude-opus-4", {}, "by an API only"),
        ("EXAONE-3.5-7.8B-Instruct", {"use": "commercial"}, "must not be used commercially.*rule use"),
        ("gemma-3-270m", {}, "published in 2025-08, not before 2025-08-01"),
        ("all-MiniLM-L6-v2-copy", {}, "not in the catalogue"),
        ("Llama-3.3-70B-Instruct", {}, r"weights alone take 131.4 GiB of 24 \(rule memory_gib"),
    ],
)
def test_refused_with_the_rule_s_words(model, changes, told):
    (why,) = read_rules().model_copy(update=changes).broken(model)
    assert re.search(told, why)


def test_rules_that_are_none(tmp_path):
    path = tmp_path / "rules.yaml"
    for text in ("minutes: -1", "minutes: 5\nanything: 1", "- a", "minutes: [", ""):
        path.write_text(text)
        with pytest.raises(CourseError, match="has no rules of an exam"):
            read_rules(path)
    path.write_text("minutes: 5")
    assert read_rules(path).broken("haneul-4m") == [] and read_rules(CONTEST).questions == 515
