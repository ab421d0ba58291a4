"""Exercises with instant feedback: `check`, `hint` and `solution` are what a learner types.

The exercises of chapter NN stand in `chapter_NN.py`. Their stubs and references stand once, in the chapter's own cells, between
`### BEGIN SOLUTION` and `### END SOLUTION`.
"""

from course_lib.learn.exercises.engine import (
    Exercise,
    all_exercises,
    check,
    compare,
    find,
    hint,
    solution,
)

__all__ = ["Exercise", "all_exercises", "check", "compare", "find", "hint", "solution"]
