"""Exercises with instant feedback: `check`, `hint` and `solution` are what a student types.

`chapter_NN.py` declares the exercises of chapter NN. Their stubs and solutions are in the chapter's notebook,
in exercise cells, between `### BEGIN SOLUTION` and `### END SOLUTION`.
"""

from course_lib.learn.exercises.engine import (
    Exercise,
    all_exercises,
    chapter_exercises,
    check,
    find_exercise,
    hint,
    solution,
)

__all__ = ["Exercise", "all_exercises", "chapter_exercises", "check", "find_exercise", "hint", "solution"]
