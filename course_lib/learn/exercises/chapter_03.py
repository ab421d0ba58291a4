"""Exercises of chapter 03: nDCG, the weight of a word, bigrams, fusion, filters, and reading intervals."""

from __future__ import annotations

from course_lib.learn.exercises.comparing import check_letter
from course_lib.learn.exercises.engine import Exercise
from course_lib.learn.exercises.feedback_03 import (
    CHOICES,
    check_bigrams,
    check_idf,
    check_min_max,
    check_ndcg,
    check_nearest,
    check_rrf,
)

EXERCISES = (
    Exercise(
        "03.1",
        "nDCG by hand",
        (
            (
                "The gain of a passage is its grade, 0 without one; at place 1, 2, 3 it is divided by "
                "log2(2), log2(3), log2(4)."
            ),
            "Do the same for the best ranking that could be: all grades, highest first, cut at k.",
            "Divide the one by the other; where the best is 0, return 0.",
        ),
        check_ndcg,
    ),
    Exercise(
        "03.2",
        "the weight of a word",
        (
            "Divide how many documents lack the word by how many have it, each with 0.5 added.",
            "1 + that, and of the sum the natural logarithm: math.log.",
            "math.log(1 + (n - df + 0.5) / (df + 0.5))",
        ),
        check_idf,
    ),
    Exercise(
        "03.3",
        "pairs of syllables",
        (
            'First unicodedata.normalize("NFC", text), so that a syllable is one character; then .split().',
            (
                "A word of n syllables has n - 1 pairs: word[i : i + 2] for i in range(n - 1). What has a "
                "word of one?"
            ),
            (
                "Go through range(max(1, len(word) - 1)): then a word of one syllable gives word[0:2], which "
                "is all of it."
            ),
        ),
        check_bigrams,
    ),
    Exercise(
        "03.4",
        "scores that can be compared",
        (
            "(score - lowest) / (highest - lowest) makes the best 1 and the worst 0.",
            "Where highest and lowest are the same there is nothing to divide by: each gets 1.",
            "min() and max() of nothing raise an error: an empty dict is given back before.",
        ),
        check_min_max,
    ),
    Exercise(
        "03.5",
        "ranks alone",
        (
            "Go through every ranking; enumerate(ranking, start=1) gives rank and id.",
            "Add 1 / (k + rank) to what the id has so far: fused.get(id, 0).",
        ),
        check_rrf,
    ),
    Exercise(
        "03.6",
        "what the intervals say for your users",
        (
            "Which of the two kinds of question do your users ask?",
            (
                "An interval on one side of 0 tells which is better on that kind; how much is gained there, "
                "how much lost here?"
            ),
        ),
        lambda answer: check_letter(answer, CHOICES),
    ),
    Exercise(
        "03.7",
        "filter first",
        (
            "np.flatnonzero(allowed) gives the numbers of the allowed rows.",
            "vectors[rows] @ query are their scores; np.argsort(-scores)[:k] says which of *them* are best.",
            "rows[best] turns places among the allowed into numbers of `vectors`.",
        ),
        check_nearest,
    ),
)
