"""Roles set by hand: by a variable or in roles.yaml, to a model of the catalogue, a file or a folder."""

import pytest

from course_lib import cli, doctor
from course_lib.data import MODELS
from course_lib.errors import CourseError
from course_lib.models import catalog, load
from course_lib.models.catalog import tiers
from course_lib.models.files import on_this_machine
from course_lib.models.gguf import export


@pytest.fixture
def roles_file(tmp_path, monkeypatch):
    file = tmp_path / "roles.yaml"
    monkeypatch.setattr(tiers, "ROLES_FILE", file)
    return file


def test_a_variable_sets_a_role_to_a_model_of_the_catalogue(monkeypatch):
    monkeypatch.setenv("COURSE_CHAT_SMALL", "haneul-300k")
    entry = catalog.role("chat-small")
    assert (entry.model, entry.role) == ("haneul-300k", "chat-small")
    assert catalog.role("chat").model == "haneul-4m"
    assert load("haneul-300k").spec.source == load(catalog.role("chat-small").spec).spec.source


def test_a_role_may_be_a_gguf_file_or_a_folder_anywhere(tmp_path, monkeypatch):
    file = tmp_path / "my-chat.gguf"
    export(MODELS / "haneul-300k", file, "f16")
    monkeypatch.setenv("COURSE_CHAT_SMALLEST", str(file))
    monkeypatch.setenv("COURSE_CHAT", str(MODELS / "haneul-1m"))
    small, big = catalog.role("chat-smallest"), catalog.role("chat")
    assert (small.model, small.driver, big.model, big.driver) == (
        "my-chat",
        "llamacpp",
        "haneul-1m",
        "huggingface",
    )
    assert on_this_machine(small) and on_this_machine(big)
    assert next(e.role for e in catalog.chat_models()) == "chat-smallest", "ordered by size"
    engine = load(small.spec)
    assert engine.driver == "llamacpp" and engine.generate(["Question: When?"], max_output_length=4)
    engine.close()


def test_a_file_or_folder_in_a_role_is_listed_and_checked(tmp_path, monkeypatch, capsys):
    file, report = tmp_path / "my-chat.gguf", (doctor._models,)
    export(MODELS / "haneul-300k", file, "f16")
    monkeypatch.setenv("COURSE_CHAT_SMALLEST", str(file))
    monkeypatch.setenv("COURSE_CHAT", str(MODELS / "haneul-1m"))
    assert cli.main(["models", "list"]) == doctor.report(checks=report) == 0
    said = capsys.readouterr().out
    assert f"set by hand, in {file}" in said and f"set by hand, in {MODELS / 'haneul-1m'}" in said
    file.write_text("no model")
    assert cli.main(["models", "list"]) == doctor.report(checks=report) == 1
    assert [text.count("my-chat.gguf is not a GGUF file") for text in capsys.readouterr()] == [1, 1]


def test_roles_yaml_sets_roles_and_fields_and_a_variable_wins(roles_file, monkeypatch):
    minilm = catalog.shipped_folder(catalog.MINILM)
    roles_file.write_text(f"chat: haneul-1m\nembed:\n  model: {minilm}\n  query_prefix: 'query: '\n")
    assert catalog.role("chat").model == "haneul-1m"
    assert catalog.role("embed").query_prefix == "query: "
    assert catalog.role("embed").spec["task"] == "text-embedding"
    monkeypatch.setenv("COURSE_CHAT", "haneul-300k")
    assert catalog.role("chat").model == "haneul-300k"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("chat: [", "does not map roles to models"),
        ("chta: haneul-1m", "chta: roles are chat,"),
        ("chat: 3", "does not map"),
        ("chat: {path: x}", "model: roles are"),
        ("chat: {model: haneul-1m, colour: red}", "colour"),
        ("- chat", "does not map"),
    ],
)
def test_a_faulty_roles_yaml_is_refused(roles_file, text, complaint):
    roles_file.write_text(text)
    with pytest.raises(CourseError, match=r"roles\.yaml") as error:
        catalog.role("chat")
    assert complaint in error.value.what


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("haneul-5m", "no model of the catalogue"),
        ("all-MiniLM-L6-v2", "is for text-embedding"),
        ("/nowhere", "folder"),
    ],
)
def test_a_model_that_does_not_exist_or_has_another_task_is_refused(monkeypatch, name, complaint):
    monkeypatch.setenv("COURSE_CHAT", name)
    with pytest.raises(CourseError, match=complaint) as error:
        catalog.role("chat")
    assert error.value.fix.startswith("export COURSE_CHAT=haneul-")
