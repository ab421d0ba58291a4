"""What `course submit` writes, says and refuses, and how `course grade` reads it."""

import json
import shlex
import zipfile

import nbformat
import pytest

from course_lib import cli
from course_lib.chapters import all_chapters, read_notebook
from course_lib.grade.submission import read, submit
from course_lib.learn.workspace import fresh_copy, update_copy
from tests.grade.planted import CHAPTER, FIRST, notebook, solved, written
from tests.grade.planted import zip_of as write_zip


@pytest.fixture
def workspace(tmp_path):
    target = tmp_path / "workspace" / CHAPTER.name
    update_copy(CHAPTER, target)
    copy = read_notebook(target)
    for each in copy.cells:
        if each.cell_type == "code":
            each.outputs = [nbformat.v4.new_output("stream", text="/home/kim/secret")]
            each.metadata["path"] = "/home/kim"
    copy.metadata["kernelspec"]["display_name"] = "/home/kim"
    nbformat.write(copy, target)
    return target.parent


def test_submit_takes_sources_and_nothing_of_the_machine(workspace, tmp_path):
    path = submit("Kim / 민지", "kim@example.org", tmp_path, workspace=workspace, progress="{}").path
    assert path.name == "Kim-민지.zip"
    with zipfile.ZipFile(path) as z:
        files = {name: z.read(name).decode() for name in z.namelist()}
    assert sorted(files) == [CHAPTER.name, "progress.json", "submission.json"]
    assert not any("/home" in text for text in files.values())
    card = json.loads(files["submission.json"])
    assert card["student"] == "Kim / 민지" and set(card["versions"]) == {"course", "python"}
    found = read("x.zip", [path])
    assert (found.student, found.login, found.notes) == ("Kim / 민지", "kim@example.org", [])
    assert set(found.cells) == {"00"} and set(found.cells["00"]) == {"00.1", "00.2", "00.3"}


def test_a_changed_file_and_another_python_are_told(workspace, tmp_path):
    path = submit("a", "", tmp_path, workspace=workspace, progress="{}").path
    with zipfile.ZipFile(path) as z:
        files = {name: z.read(name).decode() for name in z.namelist()}
    card = json.loads(files["submission.json"])
    card["versions"]["python"] = "3.99.0"
    write_zip(path, files | {"progress.json": '{"changed": 1}', "submission.json": json.dumps(card)})
    notes = " ".join(read("a.zip", [path]).notes)
    assert "progress.json was changed after" in notes and "written with Python 3.99.0" in notes


def test_submit_without_copies_says_how_to_get_them(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("course_lib.data.WORKSPACE", tmp_path / "workspace")
    monkeypatch.setenv("COURSE_STATE", str(tmp_path / "state.json"))
    assert cli.main(["submit", "--name", "a", "--out", str(tmp_path)]) == 1
    assert "has no chapter at all" in capsys.readouterr().err and not list(tmp_path.glob("*.zip"))


def typed(workspace, out, monkeypatch, *options):
    (workspace / CHAPTER.name).write_text(written(notebook(solved(FIRST), others=False)))
    monkeypatch.setattr("course_lib.data.WORKSPACE", workspace)
    monkeypatch.setenv("COURSE_STATE", str(workspace / "state.json"))
    return cli.main(["submit", "--name", "a", "--out", str(out), *options])


def test_submit_prints_which_chapters_hold_answers(workspace, tmp_path, capsys, monkeypatch):
    for chapter in all_chapters():
        if chapter.name[:2] in ("01", "02"):
            nbformat.write(fresh_copy(nbformat.read(chapter, as_version=4)), workspace / chapter.name)
    (workspace / "mine.ipynb").touch()
    assert typed(workspace, tmp_path, monkeypatch) == 0
    said = capsys.readouterr().out
    assert f"{CHAPTER.name}: 1 of 3 exercises answered" in said and "no answers: 01, 02." in said
    assert "not handed in, since it has no chapter's name: mine.ipynb" in said


@pytest.mark.parametrize(("content", "why"), [('{\n "cells": [', "line 2 column 12"), ("", "is empty")])
def test_a_damaged_notebook_is_told_to_learner_and_teacher(
    workspace, tmp_path, capsys, monkeypatch, content, why
):
    (workspace / "03-hybrid-search.ipynb").write_text(content)
    assert typed(workspace, tmp_path, monkeypatch) == 1
    said = capsys.readouterr()
    assert f"{CHAPTER.name}: 1 of 3" in said.out and why in said.err and said.err.endswith("course start\n")
    found = read("a.zip", [tmp_path / "a.zip"])
    assert (found.unreadable, set(found.cells)) == (["03"], {"00"}) and "damaged on the" in found.notes[0]
    assert typed(workspace, tmp_path / "none", monkeypatch, "--chapter", "3") == 1
    assert "nothing can be handed in" in capsys.readouterr().err and not (tmp_path / "none").exists()


def test_a_folder_that_cannot_be_written_to_is_told_with_a_command_that_works(
    workspace, tmp_path, capsys, monkeypatch
):
    (tmp_path / "file").touch()
    assert typed(workspace, tmp_path / "file", monkeypatch, "--id", "7", "--chapter", "0") == 1
    fix = capsys.readouterr().err.rpartition("submit ")[2]
    assert fix == f"--name a --id 7 --chapter 00 --out {workspace}\n"
    assert cli.main(["submit", *shlex.split(fix)]) == 0 and (workspace / "a.zip").exists()
    (tmp_path / "a.zip").mkdir()
    assert typed(workspace, tmp_path, monkeypatch) == 1
    fix = capsys.readouterr().err.rpartition("submit ")[2]
    assert cli.main(["submit", *shlex.split(fix)]) == 0 and (tmp_path / "a-2.zip").exists()


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_with_a_damaged_file_is_noted_and_raises_nothing(tmp_path, method):
    """One such submission would otherwise end the grading of the whole class."""
    path, name = tmp_path / "a.zip", "03-hybrid-search.ipynb"
    with zipfile.ZipFile(path, "w", method) as z:
        z.writestr(name, '{"cells": []}' * 200)
    content = bytearray(path.read_bytes())
    begin = len("PK\3\4") + 26 + len(name) + 9  # local header, and LZMA's own header
    content[begin : begin + 20] = b"\xff" * 20
    path.write_bytes(content)
    found = read("a.zip", [path])
    assert found.unreadable == [""] and "is not a readable zip" in found.notes[0]


def test_a_zip_that_unpacks_to_gigabytes_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as z:
        for number in range(8):
            z.writestr(f"0{number}.ipynb", bytes(19_000_000))
    found = read("bomb.zip", [tmp_path / "bomb.zip"])
    assert found.unreadable == [""] and "more than 100 MB together" in found.notes[0]
