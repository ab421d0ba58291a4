"""`course exam plan`: what it prints, what the rules refuse, and a model of the course on this machine."""

import argparse

import pytest

from course_lib.errors import CourseError
from course_lib.exam import plan_command


def call(*words):
    parser = argparse.ArgumentParser()
    plan_command.add(parser.add_subparsers())
    arguments = parser.parse_args(["plan", *words])
    return arguments.do(arguments)


def test_the_plan_of_the_guide_s_contest(capsys):
    assert call("--model", "EXAONE-3.0-7.8B", "--card", "RTX 4090") == 0
    text = capsys.readouterr().out
    assert text.startswith("EXAONE-3.0-7.8B on GeForce RTX 4090, 24 GB: 515 questions, 270 minutes")
    assert "The most bits that fit and are in time:\n\nEXAONE-3.0-7.8B in float16" in text
    assert "(then memory ends it)" in text and "(then time ends it)" in text
    assert "NVIDIA Ada GPU Architecture" in text
    assert "EXAONE-3.0-7.8B is not in the catalogue; see for yourself whether its licence" in text


def test_every_option_acts(capsys):
    def told(*words):
        call("--model", "EXAONE-3.5-7.8B", *words)
        return capsys.readouterr().out

    usual = told()
    for option, value in {
        "--questions": "400", "--minutes": "30", "--passages": "9", "--passage-tokens": "300", "--batch": "2",
        "--question-tokens": "300", "--answer-tokens": "90", "--search-seconds": "1.5", "--format": "q5_k_m",
        "--card": "RTX 3090",
    }.items():  # fmt: skip
        assert told(option, value) != usual, option
    assert "catalogue" not in usual, "its licence and date are known"
    assert told("--format", "q8_0", "--format", "q4_0", "--batch", "8").count("\nq") == 2


def test_the_status_is_1_where_nothing_fits(capsys):
    assert call("--model", "Qwen2.5-32B", "--format", "float16") == 1
    assert "None of these fits and is in time." in capsys.readouterr().out


@pytest.mark.parametrize(
    "words", [("--batch", "0"), ("--questions", "0"), ("--answer-tokens", "-5"), ("--passages", "1.5")]
)
def test_numbers_that_cannot_be(words, capsys):
    with pytest.raises(SystemExit):
        call("--model", "EXAONE-3.5-7.8B", *words)
    assert f"argument {words[0]}: {words[1]!r} is not a whole number from " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("HyperCLOVA-X", "by an API only .rule by_api: only models whose weights can be downloaded"),
        ("GPT-4o", "by an API only"),
        ("Llama-3.3-70B", "weights alone take 32.9 GiB of 24 .rule memory_gib"),
        ("EXAONE-9", "the planner does not know a model 'EXAONE-9'"),
        ("multilingual-e5-small", "is an encoder"),
    ],
)
def test_refused(model, told):
    with pytest.raises(CourseError, match=told):
        call("--model", model, "--passages", "1")


def test_rules_of_another_contest(tmp_path):
    rules = tmp_path / "rules.yaml"
    rules.write_text("minutes: 60\nquestions: 100\nuse: commercial\n", "utf-8")
    with pytest.raises(CourseError, match="must not be used commercially"):
        call("--model", "EXAONE-3.5-7.8B", "--rules", str(rules))


def test_their_minutes_and_questions_are_the_plan_s(tmp_path, capsys):
    rules = tmp_path / "rules.yaml"
    rules.write_text("minutes: 60\nquestions: 100\n", "utf-8")
    assert call("--model", "Qwen2.5-7B", "--rules", str(rules)) == 0
    assert "100 questions, 60 minutes" in capsys.readouterr().out


def test_a_model_of_the_course_is_timed_on_this_machine(capsys):
    short = ["--passages", "1", "--passage-tokens", "20", "--question-tokens", "20", "--answer-tokens", "8"]
    call("--model", "haneul-300k", "--card", "this machine", *short)
    text = capsys.readouterr().out
    assert (
        text.startswith("haneul-300k on this machine: 515 questions")
        and "this machine: measured here" in text
    )
    with pytest.raises(CourseError, match="one question at a time"):
        call("--model", "haneul-300k", "--card", "this machine", "--batch", "4")
