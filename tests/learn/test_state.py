"""The student's file: kept whole, set aside when damaged, never a reason to stop a lesson."""

import json
import os
import subprocess
import sys

import pytest

from course_lib.data import CHAPTERS, WORKSPACE
from course_lib.errors import CourseError
from course_lib.learn import state
from course_lib.learn.exercises import check


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_STATE", str(tmp_path / "progress.json"))
    return tmp_path / "progress.json"


def test_a_change_is_there_for_the_next_reader(file):
    with state.change() as s:
        s.exercises["00.1"] = state.ExerciseRecord(attempts=2, verdict="right", passed=True)
    assert state.current().exercises["00.1"].attempts == 2
    assert json.loads(file.read_text())["version"] == 1  # readable by anyone
    assert not list(file.parent.glob("*.partial"))


def test_only_copies_in_the_workspace_keep_anything(monkeypatch):
    monkeypatch.delenv("COURSE_STATE", raising=False)
    monkeypatch.chdir(CHAPTERS)
    assert state.path() is None
    WORKSPACE.mkdir(exist_ok=True)
    monkeypatch.chdir(WORKSPACE)
    assert state.path() == state.default_path()


DAMAGED = (
    "",
    "{",
    "[]",
    '{"version": "x"}',
    '{"version": 1, "exercises": 3}',
    '{"version": 1, "grade": 5}',
    "\x00",
    '{"version": 1e999}',
)


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_file_is_kept_under_another_name(file, capsys, text):
    file.write_text(text)
    assert state.file_problem(file)
    assert state.load(file) == state.State()
    assert (file.parent / "progress.damaged-1.json").read_text() == text and not file.exists()
    assert "kept as progress.damaged-1.json" in capsys.readouterr().out
    file.write_text(text)
    state.load(file)
    assert (file.parent / "progress.damaged-2.json").exists()


def test_bytes_that_are_no_text_are_damage_too(file):
    file.write_bytes(b"\xff\xfe\x00")
    assert state.load(file) == state.State()


def test_a_newer_file_is_left_alone(file):
    file.write_text('{"version": 2, "stars": 3}')
    with pytest.raises(CourseError, match="newer course"):
        state.load(file)
    assert file.read_text() == '{"version": 2, "stars": 3}'


def test_two_processes_lose_nothing(file):
    code = """from course_lib.learn import state
for i in range(30):
    with state.change() as s:
        s.exercises.setdefault("00.1", state.ExerciseRecord()).attempts += 1"""
    environment = os.environ | {"COURSE_STATE": str(file)}
    running = [subprocess.Popen([sys.executable, "-c", code], env=environment) for _ in range(2)]
    assert [p.wait(120) for p in running] == [0, 0]
    assert state.load(file).exercises["00.1"].attempts == 60


def test_an_interruption_while_writing_leaves_the_old_file(file, monkeypatch):
    with state.change() as s:
        s.exercises["00.1"] = state.ExerciseRecord()

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", stop)
    with pytest.raises(KeyboardInterrupt), state.change() as s:
        s.exercises.clear()
    assert "00.1" in state.load(file).exercises
    assert [p.name for p in file.parent.iterdir() if "partial" in p.name] == []


def test_a_file_that_cannot_be_opened_is_not_called_damaged(file, monkeypatch, capsys):
    file.write_text('{"version": 1, "exercises": {"00.1": {"passed": true}}}')

    def full(*_, **__):
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.read_text", full)
        assert state.current() == state.State()
        with state.change() as s:
            s.exercises["00.2"] = state.ExerciseRecord(hints=2)
        assert state.current().exercises["00.2"].hints == 2, "the session knows its own"
    assert "could not be saved this time" in capsys.readouterr().out
    with state.change():
        pass
    assert set(state.load(file).exercises) == {"00.1", "00.2"}, (
        "what could not be written is written with the next change"
    )


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_does_not_stop_the_lesson(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COURSE_STATE", str(tmp_path / "progress.json"))
    (tmp_path / f".progress.json.{os.getpid()}.partial").symlink_to("/dev/full")
    with state.change() as s:
        s.exercises["00.1"] = state.ExerciseRecord()
    assert "could not be saved this time" in capsys.readouterr().out


def test_a_place_that_cannot_be_written_does_not_stop_the_lesson(tmp_path, monkeypatch, capsys):
    (tmp_path / "taken").write_text("a file where the folder should be")
    monkeypatch.setenv("COURSE_STATE", str(tmp_path / "taken" / "progress.json"))
    check("00.2", ...)
    out = capsys.readouterr().out
    assert "00.2 not answered" in out and "could not be saved this time" in out


def test_what_could_not_be_saved_overwrites_no_newer_record_of_another_notebook(file, monkeypatch):
    """One notebook fails to save its exercise; meanwhile another one passes the exercise that it had read."""
    with state.change() as s:
        s.exercises["00.1"] = state.ExerciseRecord(attempts=1, verdict="not yet")

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(state, "atomic_write_text", full)
        with state.change() as s:
            s.exercises["00.2"] = state.ExerciseRecord(attempts=1, verdict="right", passed=True)
    mine = dict(state._unsaved)
    state._unsaved.clear()  # as in another process
    with state.change() as s:
        s.exercises["00.1"] = state.ExerciseRecord(attempts=2, verdict="right", passed=True)
    state._unsaved.update(mine)
    with state.change() as s:
        s.exercises["00.3"] = state.ExerciseRecord(attempts=1, verdict="not yet")
    saved = state.load(file).exercises
    assert {name: (record.attempts, record.passed) for name, record in saved.items()} == {
        "00.1": (2, True),
        "00.2": (1, True),
        "00.3": (1, False),
    }


def test_an_error_of_the_block_is_not_taken_for_one_of_the_disk(file):
    with pytest.raises(FileNotFoundError), state.change():
        raise FileNotFoundError("a file of the lesson")
