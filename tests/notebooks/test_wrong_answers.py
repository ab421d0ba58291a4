"""Every exercise has wrong answers; a file with too few, or with an unknown exercise, is rejected."""

import re

import pytest

from course_lib.learn.exercises import all_exercises
from tests.notebooks.wrong_answers import FOLDER, Wrong, load, wrong_answers


def test_every_exercise_has_wrong_answers_with_a_feedback_of_their_own():
    assert all(wrong_answers(id_) for id_ in all_exercises())


@pytest.mark.parametrize(
    ("line", "replacement", "complaint"),
    [
        ('"00.1":', '"00.9":', "unknown exercise 00.9"),
        ('"00.1":', '"00.9":', "00.1: 0 wrong answers"),
        ("only the first of two", "came back unchanged", "two wrong answers expect the same feedback"),
    ],
)
def test_a_file_of_wrong_answers_is_checked(tmp_path, line, replacement, complaint):
    path = tmp_path / "chapter_00.yaml"
    path.write_text((FOLDER / path.name).read_text("utf-8").replace(line, replacement), "utf-8")
    with pytest.raises(ValueError, match=re.escape(complaint)):
        load(path)


def test_wrong_answers_are_named():
    assert wrong_answers("00.1")["first place only"] == Wrong(
        "if old not in text:\n    raise ValueError(old)\nreturn text.replace(old, new, 1)",
        "only the first of two",
    )
