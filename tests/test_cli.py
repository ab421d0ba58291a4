"""The command line: every command is there, refuses what it does not know, and fails with two lines instead of a traceback."""

import json
import subprocess
import sys

import pytest

from course_lib import cli
from course_lib.data import ROOT


def course(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "course_lib.cli", *arguments], cwd=ROOT, capture_output=True, text=True
    )


def test_help_names_every_command():
    text = course("--help").stdout
    for command in (
        "lab",
        "run",
        "test",
        "doctor",
        "budget",
        "handout",
        "start",
        "progress",
        "models",
        "data",
    ):
        assert f"\n    {command} " in text, command


@pytest.mark.parametrize("arguments", [["run", "77"], ["budget", "x"], ["handout", "--out", "/dev/null/x"]])
def test_a_mistake_is_told_in_two_lines(arguments, capsys):
    assert cli.main(arguments) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and said[0].startswith("course: ") and said[1].startswith("  Fix: ")


def test_progress_without_a_workspace_is_an_empty_table(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COURSE_STATE", str(tmp_path / "none.json"))
    assert cli.main(["progress"]) == 0
    assert "0 of 2" in capsys.readouterr().out


def test_doctor_speaks_json(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COURSE_STATE", str(tmp_path / "none.json"))
    cli.main(["doctor", "--json"])
    assert {"status", "check", "what", "fix"} == set(json.loads(capsys.readouterr().out)[0])


def test_models_of_another_tier_are_listed_with_their_size_and_command(monkeypatch, capsys):
    monkeypatch.setenv("COURSE_TIER", "laptop")
    assert cli.main(["models"]) == 0
    said = capsys.readouterr().out
    assert (
        "Qwen2.5-0.5B-Instruct" in said
        and "988 MB to download: course models pull Qwen/Qwen2.5-0.5B-Instruct" in said
    )
