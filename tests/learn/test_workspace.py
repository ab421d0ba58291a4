"""Making and updating the student's copies: what they wrote stays."""

import json
import os
import subprocess
import sys

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib import data
from course_lib.chapters import read_notebook
from course_lib.errors import CourseError
from course_lib.learn.workspace import NEWER_ID, CopyUpdate, fresh_copy, merge, start, update_copy

TEXTS = st.sampled_from(["a", "b", "c", "하늘은행", ""])
IDS = st.sampled_from([f"cell-{i}" for i in range(5)])


def notebook(cells):
    return nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(text, id=id_) for id_, text in cells.items()]
    )


def sources(nb):
    return {c.id: c.source for c in nb.cells}


def test_an_untouched_cell_takes_the_new_text_and_a_changed_one_stays():
    copy = fresh_copy(notebook({"x": "old", "y": "old", "z": "same"}))
    copy.cells[1].source = "mine"
    update = CopyUpdate("n")
    merged = merge(copy, fresh_copy(notebook({"x": "new", "y": "new", "z": "same", "w": "added"})), update)
    assert [c.id.split(NEWER_ID)[0] for c in merged.cells] == ["x", "y", "y", "z", "w"]
    assert [c.source for c in merged.cells[:2]] == ["new", "mine"]
    assert "new" in merged.cells[2].source and merged.cells[2].cell_type == "markdown"
    assert (update.conflicts, update.updated_cells) == (["y"], 2)


def test_a_second_update_adds_nothing():
    copy = fresh_copy(notebook({"x": "old"}))
    copy.cells[0].source = "mine"
    once = merge(copy, fresh_copy(notebook({"x": "new"})), CopyUpdate("n"))
    before = nbformat.writes(once)
    again = CopyUpdate("n")
    assert nbformat.writes(merge(once, fresh_copy(notebook({"x": "new"})), again)) == before
    assert again == CopyUpdate("n")


def test_a_note_that_was_deleted_stays_deleted_and_an_edited_one_stays():
    copy = fresh_copy(notebook({"x": "old"}))
    copy.cells[0].source = "mine"
    once = merge(copy, fresh_copy(notebook({"x": "new"})), CopyUpdate("n"))
    once.cells[1].source = "my remark"
    twice = merge(once, fresh_copy(notebook({"x": "new"})), CopyUpdate("n"))
    assert [c.source for c in twice.cells] == ["mine", "my remark"]
    del twice.cells[1]
    assert [c.source for c in merge(twice, fresh_copy(notebook({"x": "new"})), CopyUpdate("n")).cells] == [
        "mine"
    ]


def test_own_cells_keep_their_place_and_deleted_ones_stay_deleted():
    copy = fresh_copy(notebook({"x": "1", "y": "2", "z": "3"}))
    copy.cells.insert(1, nbformat.v4.new_markdown_cell("note to self", id="own"))
    del copy.cells[2]
    merged = merge(copy, fresh_copy(notebook({"x": "1", "y": "2", "z": "new"})), CopyUpdate("n"))
    assert [(c.id, c.source) for c in merged.cells] == [("x", "1"), ("own", "note to self"), ("z", "new")]


def test_a_cell_that_the_course_dropped_goes_unless_it_was_changed():
    copy = fresh_copy(notebook({"x": "1", "y": "2", "z": "3"}))
    copy.cells[1].source = "mine"
    merged = merge(copy, fresh_copy(notebook({"z": "3"})), CopyUpdate("n"))
    assert [c.source for c in merged.cells] == ["mine", "3"]


@given(st.dictionaries(IDS, TEXTS), st.lists(st.dictionaries(IDS, TEXTS), max_size=3), st.data())
def test_no_text_of_the_learner_is_ever_lost(first, versions, data):
    copy, seen = fresh_copy(notebook(first)), set(first)
    for version in versions:
        written = {}
        for cell in copy.cells:
            if data.draw(st.booleans()):
                cell.source = written[cell.id] = data.draw(st.sampled_from(["mine 1", "mine 2"]))
        if data.draw(st.booleans()):
            copy.cells.append(nbformat.v4.new_code_cell("my own"))
            written[copy.cells[-1].id] = "my own"
        copy = merge(copy, fresh_copy(notebook(version)), CopyUpdate("n"))
        kept = sources(copy)
        assert all(kept.get(id_) == text for id_, text in written.items())
        assert len(kept) == len(copy.cells), "two cells share an id"
        assert seen | set(version) - set(kept) <= seen, "a cell that is new in the course is missing"
        seen |= set(version)
        assert nbformat.validate(copy) is None


def test_start_makes_updates_and_reports(tmp_path, capsys):
    chapters, workspace = tmp_path / "chapters", tmp_path / "workspace"
    chapters.mkdir()
    nbformat.write(notebook({"x": "old", "y": "old"}), chapters / "00-a.ipynb")
    start(workspace, chapters)
    assert "1 new" in capsys.readouterr().out
    stamp = (workspace / "00-a.ipynb").stat().st_mtime_ns
    start(workspace, chapters)
    assert (workspace / "00-a.ipynb").stat().st_mtime_ns == stamp  # unchanged, so not written
    mine = read_notebook(workspace / "00-a.ipynb")
    mine.cells[0].source = "mine"
    nbformat.write(mine, workspace / "00-a.ipynb")
    nbformat.write(notebook({"x": "new", "y": "new"}), chapters / "00-a.ipynb")
    capsys.readouterr()
    start(workspace, chapters)
    out = capsys.readouterr().out
    assert (
        "you changed cell x, and so did the course. Yours is kept" in out
        and "1 cells brought up to date" in out
    )


def test_a_copy_that_cannot_be_read_is_kept(tmp_path, capsys):
    nbformat.write(notebook({"x": "1"}), tmp_path / "00-a.ipynb")
    target = tmp_path / "workspace" / "00-a.ipynb"
    target.parent.mkdir()
    target.write_text("{ half a noteb")
    update_copy(tmp_path / "00-a.ipynb", target)
    assert (target.parent / "00-a.damaged-1.txt").read_text() == "{ half a noteb"
    assert sources(read_notebook(target)) == {"x": "1"} and "kept as" in capsys.readouterr().out


@pytest.mark.parametrize("spoil", ["no ids", "no given", "given is a list", "nbformat 4.4"])
def test_a_copy_of_which_nothing_is_known_is_left_as_it_is(tmp_path, capsys, spoil):
    nbformat.write(notebook({"x": "1"}), tmp_path / "00-a.ipynb")
    start(tmp_path / "workspace", tmp_path)
    target = tmp_path / "workspace" / "00-a.ipynb"
    said = json.loads(target.read_text())
    if spoil in ("no ids", "nbformat 4.4"):
        del said["cells"][0]["id"]
        said["nbformat_minor"] = 4
    if spoil in ("no given", "given is a list"):
        said["metadata"]["course"]["given"] = [] if "list" in spoil else {}
    target.write_text(json.dumps(said))
    before = target.read_text()
    start(tmp_path / "workspace", tmp_path)
    assert target.read_text() == before and "left unchanged" in capsys.readouterr().out


HEADER = '"metadata": {}, "nbformat": 4, "nbformat_minor": 5'


@pytest.mark.parametrize(
    "broken", ["{" + HEADER + "}", '{"cells": [{}], ' + HEADER + "}", '{"cells": 3, ' + HEADER + "}", "[]"]
)
def test_a_copy_that_is_no_notebook_is_set_aside(tmp_path, broken):
    nbformat.write(notebook({"x": "1"}), tmp_path / "00-a.ipynb")
    (tmp_path / "workspace").mkdir()
    (tmp_path / "workspace" / "00-a.ipynb").write_text(broken)
    start(tmp_path / "workspace", tmp_path)
    assert (tmp_path / "workspace" / "00-a.damaged-1.txt").read_text() == broken


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    nbformat.write(notebook({"x": "1"}), tmp_path / "00-a.ipynb")
    (tmp_path / "workspace").write_text("a file where the folder should be")
    with pytest.raises(CourseError, match="cannot be written"):
        start(tmp_path / "workspace", tmp_path)


def test_the_workspace_is_in_the_course_or_named_or_at_home(tmp_path, monkeypatch):
    monkeypatch.delenv("COURSE_WORKSPACE", raising=False)
    assert data.find_workspace() == data.ROOT / "workspace"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    assert data.find_workspace() == tmp_path / "local-ai-measured"
    monkeypatch.setenv("COURSE_WORKSPACE", "~/of my own")
    assert data.find_workspace() == tmp_path / "of my own"


AT_HOME = """
from pathlib import Path
from course_lib.learn import state
from course_lib.learn.exercises import check
from course_lib.learn.workspace import start
from course_lib.lab import lab_command
start()
print(state.path())
check("00.2", 1)
print(state.path().read_text())
print(lab_command(8888, True))
"""


def test_with_a_workspace_elsewhere_copies_progress_and_jupyterlab_are_there(tmp_path):
    workspace = tmp_path / "my own"
    workspace.mkdir()
    environment = {k: v for k, v in os.environ.items() if k not in ("COURSE_STATE", "COURSE_CHECK")}
    environment |= {"COURSE_WORKSPACE": str(workspace), "PYTHONPATH": str(data.ROOT)}
    command = [sys.executable, "-c", AT_HOME]
    done = subprocess.run(command, cwd=workspace, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (workspace / "00-start-here.ipynb").is_file()
    assert f"\n{workspace / 'progress.json'}\n" in done.stdout and '"attempts": 1' in done.stdout
    assert f"--ServerApp.root_dir={workspace}" in done.stdout
    assert "--LabApp.default_url=/lab/tree/00-start-here.ipynb" in done.stdout
