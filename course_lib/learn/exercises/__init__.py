"""Exercises with instant feedback: `check`, `hint` and `solution` are what a student types.

`chapter_NN.py` holds the exercises of chapter NN. Their stubs and solutions stand once, in the chapter's own
cells, between `### BEGIN SOLUTION` and `### END SOLUTION`.
"""

from course_lib.learn.exercises.engine import (
    Exercise,
    all_exercises,
    check,
    find_exercise,
    hint,
    of_chapter,
    solution,
)

__all__ = ["Exercise", "all_exercises", "check", "find_exercise", "hint", "of_chapter", "solution"]
