"""The command line and its launchers: each command is there, and a mistake is told in two lines."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from course_lib import cli, data, lab, shell
from course_lib.data import ROOT


def load_launcher():
    """course.py as a module."""
    spec = importlib.util.spec_from_file_location("launcher", ROOT / "course.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def launched(monkeypatch):
    """The launcher, and what it was asked to install and to run."""
    launcher, calls = load_launcher(), []
    monkeypatch.setattr(launcher, "ensure_installed", lambda dev: calls.append(("install", dev)) or 0)

    def execv(program, command):
        calls.append(command)
        raise SystemExit  # the real one never returns either

    monkeypatch.setattr(launcher.os, "execv", execv)
    return launcher, calls


@pytest.mark.parametrize(
    ("words", "dev"),
    [
        (["lab", "--port", "9999"], False),
        (["test"], True),
        (["check"], True),
        (["models", "pull", "x"], False),
    ],
)
def test_the_launcher_installs_and_becomes_the_command(launched, words, dev):
    launcher, calls = launched
    with pytest.raises(SystemExit):
        launcher.main(words)
    python = str(ROOT / ".venv" / "bin" / "python")
    assert calls == [("install", dev), [python, "-m", "course_lib.cli", *words]]


@pytest.mark.parametrize(("words", "dev"), [(["set-up"], False), (["set-up", "--dev"], True)])
def test_the_launcher_only_installs(launched, words, dev):
    launcher, calls = launched
    assert launcher.main(words) == 0 and calls == [("install", dev)]


def test_the_launcher_runs_nothing_where_installing_failed(launched, monkeypatch):
    launcher, calls = launched
    monkeypatch.setattr(launcher, "ensure_installed", lambda dev: 1)
    assert launcher.main(["lab"]) == 1 and calls == []


def test_the_launcher_waits_for_the_command_on_windows(monkeypatch):
    """Windows cannot replace a process, and Ctrl-C reaches both."""
    launcher = load_launcher()
    monkeypatch.setattr(launcher, "IS_WINDOWS", True)
    waits = iter([KeyboardInterrupt, 3])

    class Process:
        def __init__(self, command):
            assert command[1:] == ["-m", "course_lib.cli", "lab"]

        def wait(self):
            if (result := next(waits)) is KeyboardInterrupt:
                raise result
            return result

    monkeypatch.setattr(launcher.subprocess, "Popen", Process)
    assert launcher.run(["lab"]) == 3


def test_the_launcher_alone_says_how_it_is_used(capsys):
    assert load_launcher().main([]) == 2 and "usage: python3 course.py" in capsys.readouterr().out
    assert load_launcher().main(["--help"]) == 0


@pytest.mark.skipif(not shutil.which("make"), reason="no make here")
def test_make_does_what_the_launcher_does():
    targets = ["lab", "test", "check", "doctor", "set-up", "set-up-dev"]
    output = subprocess.check_output(
        ["make", "-n", "--no-print-directory", *targets, "PORT=9999"], cwd=ROOT, text=True
    )
    words = ["lab --port 9999", "test", "check", "doctor", "set-up", "set-up --dev"]
    assert output.splitlines() == [f"python3 course.py {w}" for w in words]


def course(*arguments):
    command = [sys.executable, "-m", "course_lib.cli", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_help_names_every_command():
    text = course("--help").stdout
    commands = (
        "lab",
        "run",
        "test",
        "check",
        "doctor",
        "budget",
        "handout",
        "pack",
        "submit",
        "grade",
        "export-nbgrader",
        "export-otter",
        "start",
        "progress",
        "models",
        "data",
    )
    assert [c for c in commands if not re.search(rf"^    {c}\s", text, re.MULTILINE)] == []


@pytest.mark.parametrize("arguments", [["run", "77"], ["budget", "x"], ["handout", "--out", "/dev/null/x"]])
def test_a_mistake_is_told_in_two_lines(arguments, capsys):
    assert cli.main(arguments) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and lines[0].startswith("course: ") and lines[1].startswith("  Fix: ")


def test_progress_without_a_workspace_is_an_empty_table(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COURSE_STATE", str(tmp_path / "none.json"))
    assert cli.main(["progress"]) == 0
    assert "0 of 3" in capsys.readouterr().out


def test_doctor_speaks_json(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COURSE_STATE", str(tmp_path / "none.json"))
    cli.main(["doctor", "--json"])
    assert {"status", "check", "what", "fix"} == set(json.loads(capsys.readouterr().out)[0])


def test_models_of_another_tier_are_listed_with_their_size_and_command(monkeypatch, capsys):
    monkeypatch.setenv("COURSE_TIER", "laptop")
    assert cli.main(["models"]) == 0
    output = capsys.readouterr().out
    assert "988 MB to download: course models pull Qwen/Qwen2.5-0.5B-Instruct" in output


def test_models_are_listed_with_their_licences(capsys):
    assert cli.main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    licences = {"haneul-4m": "MIT", "all-MiniLM-L6-v2": "Apache-2.0", "haneul-cross-encoder": "CC-BY-SA-4.0"}
    for model, licence in licences.items():
        assert any(model in line and f" {licence} " in line for line in lines), model


def test_a_fix_can_be_pasted_wherever_course_was_installed(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "my env" / "python"))
    assert shell.pasteable("course start") == f"'{tmp_path}/my env/python' -m course_lib.cli start"
    (tmp_path / "my env").mkdir()
    script = tmp_path / "my env" / "course"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    assert shell.pasteable("course start") == f"'{script}' start"
    monkeypatch.chdir(tmp_path)
    assert shell.pasteable("course start") == "'my env/course' start"
    monkeypatch.setenv("PATH", str(script.parent))
    assert shell.pasteable("course start") == "course start"
    assert shell.pasteable("git pull") == "git pull"
    monkeypatch.setattr(shell.os, "name", "nt")
    assert shell.command_line("a b", "c") == '"a b" c'


@pytest.mark.parametrize(
    ("root", "fix"),
    [(data.ROOT, "git checkout -- chapters"), (data.SHARE, "install the course's wheel again")],
)
def test_missing_chapters_are_told_with_what_brings_them_back(root, fix, monkeypatch):
    monkeypatch.setattr(lab, "CHAPTERS", Path("/nonexistent"))
    monkeypatch.setattr(data, "ROOT", root)
    with pytest.raises(cli.CourseError, match=r"00-start-here\.ipynb is missing") as error:
        lab.open_lab(1)
    assert error.value.fix.startswith(fix)


def test_a_closed_pipe_ends_a_command_quietly():
    command = [sys.executable, "-m", "course_lib.cli", "models", "list"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()  # as `| head -0` does
    assert (process.stderr.read(), process.wait()) == ("", 1)
    process.stderr.close()
