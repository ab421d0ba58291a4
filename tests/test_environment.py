"""The environment variables of the course: one list of them, and an error for a misspelled one."""

import re

import pytest

from course_lib import cli
from course_lib.data import ROOT
from course_lib.environment import VARIABLES, role_variable
from course_lib.errors import CourseError
from course_lib.models import catalog


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("COURSE_CHATT", "COURSE_CHAT"),
        ("COURSE_TEIR", "COURSE_TIER"),
        ("COURSE_CHAT_SMAL", "COURSE_CHAT_SMALL"),
        ("COURSE_MODEL_DIR", "COURSE_MODELS_DIR"),
        ("course_tier", "COURSE_TIER"),
        ("Course_Chat", "COURSE_CHAT"),
        ("course_teir", "COURSE_TIER"),
    ],
)
def test_a_misspelled_variable_is_an_error_with_the_right_name(monkeypatch, name, meant):
    monkeypatch.setenv(name, "x")
    with pytest.raises(CourseError, match=f"{name} has no effect; did you mean {meant}") as raised:
        catalog.role("chat")
    assert raised.value.fix == f"unset {name}"


def test_commands_that_need_no_model_tell_it_too(monkeypatch, capsys):
    monkeypatch.setenv("COURSE_WORKSPCE", "elsewhere")
    assert cli.main(["progress"]) == 1
    assert "did you mean COURSE_WORKSPACE?" in capsys.readouterr().err


def test_a_variable_of_another_program_is_none_of_our_business(monkeypatch):
    monkeypatch.setenv("COURSE_ID", "CS-101")
    assert catalog.role("chat").model


def test_every_variable_in_the_code_is_in_the_list():
    folders = [ROOT / "course_lib", ROOT / "bootstrap", ROOT / "tests"]
    files = [
        path for folder in folders for path in folder.rglob("*.py") if path.name != "test_environment.py"
    ]
    read = {
        name
        for path in files
        for name in re.findall(r"[\"'](COURSE_[A-Z_]*[A-Z])[\"']", path.read_text("utf-8"))
    }
    assert read <= {*VARIABLES, *map(role_variable, catalog.roles())}
    assert len(read & {*VARIABLES}) > 8
