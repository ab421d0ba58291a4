"""The zip for a classroom: complete, with solutions or without a trace of them."""

import zipfile

import nbformat
import pytest

from course_lib.chapters import all_chapters
from course_lib.data import ROOT
from course_lib.errors import CourseError
from course_lib.learn.handout import FOLDER, course_files, handout
from course_lib.learn.student import student_copy


def chapters_of(path):
    with zipfile.ZipFile(path) as z:
        assert z.testzip() is None
        names = set(z.namelist())
        return names, {p.name: z.read(f"{FOLDER}/chapters/{p.name}").decode() for p in all_chapters()}


def test_with_solutions_it_is_the_course(tmp_path, capsys):
    names, chapters = chapters_of(handout(tmp_path / "new" / "folder"))
    assert {f"{FOLDER}/{p.as_posix()}" for p in course_files()} == names
    assert all(
        text == p.read_text("utf-8") for p, text in zip(all_chapters(), chapters.values(), strict=True)
    )
    assert "with solutions" in capsys.readouterr().out


def test_without_solutions_the_chapters_are_the_students(tmp_path):
    names, chapters = chapters_of(handout(tmp_path, solutions=False))
    assert not [n for n in names if n.startswith(f"{FOLDER}/tests/")], "tests hold answers, too"
    assert {f"{FOLDER}/Makefile", f"{FOLDER}/bootstrap/environment.py"} <= names
    for text in chapters.values():
        assert "SOLUTION" not in text and 'check(\\"' in text
        notebook = nbformat.reads(text, as_version=4)
        assert student_copy(notebook) == notebook, "a student's `course start` finds nothing more to blank"


def test_files_can_be_read_by_everyone(tmp_path):
    with zipfile.ZipFile(handout(tmp_path, solutions=False)) as z:
        modes = {i.filename: i.external_attr >> 16 & 0o777 for i in z.infolist()}
    assert all(
        mode & 0o400 and mode == (ROOT / n.partition("/")[2]).stat().st_mode & 0o777
        for n, mode in modes.items()
    )


def test_without_git_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CourseError, match="git is not installed"):
        handout(tmp_path)


def test_a_place_that_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CourseError, match="cannot be written"):
        handout(tmp_path / "file")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
