"""Exercises of chapter 02, on quantization: rounding weights, choosing a model, and what fills the memory.

A rounded weight is a code, a small whole number, times a scale that a block of weights shares. The KV cache
is what a model keeps of a text's tokens; a layer with a window keeps only the last ones. The chapter's
notebook tells the student what each one asks; the docstring of its checker says it in short. The last of the
hints is nearly the solution.
"""

from __future__ import annotations

from course_lib.learn.exercises.engine import Exercise
from course_lib.learn.exercises.feedback_02_choices import check_choose, check_front
from course_lib.learn.exercises.feedback_02_memory import check_cache, check_diagnosis
from course_lib.learn.exercises.feedback_02_rounding import check_absmax, check_bits, check_nearest

EXERCISES = (
    Exercise(
        "02.1",
        "eight bits by hand",
        (
            "Which weight sets the scale, and what becomes of the division when it is 0?",
            "np.rint rounds to the nearest step; astype alone cuts off.",
            "It begins with `scale = abs(weights).max() / 127`.",
        ),
        check_absmax,
    ),
    Exercise(
        "02.2",
        "bits per weight, with scales of scales",
        (
            "How many weights share the scale of a block? How many share the scale of a group?",
            "Add up what one weight pays: its code, its share of a scale, its share of a group's scale.",
            "It begins with `bits + scale_bits / block`.",
        ),
        check_bits,
    ),
    Exercise(
        "02.3",
        "index of the nearest value",
        (
            "Between which numbers do the weights lie after the division? What if the largest is 0?",
            "block[:, None] - values is a table with a row for each weight and a column for each value.",
            "It begins with `largest = abs(block).max()`.",
        ),
        check_nearest,
    ),
    Exercise(
        "02.4",
        "catch a false report",
        (
            "What would the report be if the layers had been left out? And what if nothing had been packed?",
            "Each explanation is a number of bytes. The first that comes within five per cent is the word.",
            'Inside the loop: `counted = {"right": ..., "layers left out": ..., ...}`, all in bits.',
        ),
        check_diagnosis,
    ),
    Exercise(
        "02.5",
        "the Pareto front",
        (
            "When does one point beat another, and when does it not although it is equal in one number?",
            "Keep a name when no other point beats it; then sort by megabytes.",
            "It begins with a function `beats(a, b)` of two points.",
        ),
        check_front,
    ),
    Exercise(
        "02.6",
        "bytes of a KV cache with windows",
        (
            "How many tokens does a layer with a window keep, of a short text and of a long one?",
            "Count the kept tokens over all layers first: those without a window, then those with.",
            "It begins with `kept = (layers - windowed) * tokens + ...`.",
        ),
        check_cache,
    ),
    Exercise(
        "02.7",
        "choose a model and a format",
        (
            "What must fit together into nine tenths of the memory?",
            "Of all pairs of model and format keep those that fit; take the largest by (size, bits).",
            "It begins with `limit = 0.9 * memory_gib * 2**30`.",
        ),
        check_choose,
    ),
)
