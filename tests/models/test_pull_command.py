"""The command `course models`: lists as ever, and pulls from the hub what is asked for."""

import pytest

from course_lib import cli
from course_lib.errors import CourseError
from course_lib.models import load
from tests.models.hub_client import download

pytest_plugins = ["tests.models.hub_fixtures"]


def test_the_command_lists_and_pulls(hub, capfd, monkeypatch):
    assert cli.main(["models"]) == cli.main(["models", "list"]) == 0
    listed = capfd.readouterr().out
    assert listed[: len(listed) // 2] == listed[len(listed) // 2 :] and "haneul-4m" in listed
    monkeypatch.delenv("HF_HUB_OFFLINE")  # which the command has set
    assert cli.main(["models", "pull", "o/tiny"]) == 0
    said = capfd.readouterr()
    assert (
        f"o/tiny: downloaded and verified, at commit {hub.commit('o/tiny')}" in said.out
        and "100%" in said.err
    )
    download(revision="main")
    assert capfd.readouterr() == ("", "")  # quiet but for pull


def test_pull_keeps_to_a_user_who_has_switched_downloads_off(hub, offline, capsys):
    offline()
    assert cli.main(["models", "pull", "o/tiny"]) == 1
    assert "HF_HUB_OFFLINE=0 course models pull o/tiny" in capsys.readouterr().err
    assert hub.requests == []


def test_pull_keeps_to_transformers_offline_until_the_error_s_own_command_is_given(hub, capsys, monkeypatch):
    monkeypatch.setenv("TRANSFORMERS_OFFLINE", "1")
    assert cli.main(["models", "pull", "o/tiny"]) == 1
    assert "HF_HUB_OFFLINE=0 course models pull o/tiny" in capsys.readouterr().err
    assert hub.requests == []
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert cli.main(["models", "pull", "o/tiny"]) == 0


def test_pull_knows_the_names_of_the_course(hub, capsys, monkeypatch):
    assert cli.main(["models", "pull", "haneul-1m"]) == 0
    assert "comes with the course" in capsys.readouterr().out
    assert cli.main(["models", "pull", "Qwen2.5-0.5B-Instruct"]) == 1  # this hub does not have it
    assert "has no Qwen/Qwen2.5-0.5B-Instruct" in capsys.readouterr().err
    assert cli.main(["models", "pull", "llama3:13b"]) == 1
    assert "a hub id is 'owner/name'" in capsys.readouterr().err


def test_a_name_without_an_owner_is_looked_for_in_the_catalogue_only(hub, capsys):
    for name, complaint, fix in (
        ("smolm2", "but no smolm2; similar names are smollm2", "course models pull smollm2-135m-instruct"),
        ("chat", "chat is a role, not a model; in tier tiny it is haneul-4m", "course models pull haneul-4m"),
        ("nosuch", "but no nosuch", "course models list"),
    ):
        assert cli.main(["models", "pull", name]) == 1
        said = capsys.readouterr().err
        assert complaint in said and fix in said
    with pytest.raises(CourseError, match="haneul-4m") as error:
        load("chat")
    assert error.value.fix == 'load("haneul-4m")'
    assert hub.requests == []


def test_a_missing_path_has_no_other_model_as_its_fix(tmp_path):
    with pytest.raises(CourseError, match="does not exist") as error:
        load(f"{tmp_path}/nonexist.gguf")
    assert "give the path" in error.value.fix
    (tmp_path / "my-model.gguf").write_text("")
    with pytest.raises(CourseError, match="does not exist") as error:
        load(f"{tmp_path}/my-modle.gguf")
    assert error.value.fix == f'load("{tmp_path}/my-model.gguf")'


def test_a_context_that_is_too_long_for_a_plan_has_a_shell_command_as_its_fix(capsys):
    assert cli.main(["models", "plan", "haneul-300k", "--context", "100000"]) == 1
    command = capsys.readouterr().err.split("models ")[-1].split()
    assert command[:2] == ["plan", "haneul-300k"] and cli.main(["models", *command]) == 0
