"""The command `course models`: lists as ever, and pulls from the hub what is asked for."""

from course_lib import cli
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


def test_pull_knows_the_names_of_the_course(hub, capsys, monkeypatch):
    assert cli.main(["models", "pull", "haneul-1m"]) == 0
    assert "comes with the course" in capsys.readouterr().out
    assert cli.main(["models", "pull", "Qwen2.5-0.5B-Instruct"]) == 1  # this hub does not have it
    assert "has no Qwen/Qwen2.5-0.5B-Instruct" in capsys.readouterr().err
    assert cli.main(["models", "pull", "llama3:13b"]) == 1
    assert "a hub id is 'owner/name'" in capsys.readouterr().err
