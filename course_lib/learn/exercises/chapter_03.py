"""Exercises of chapter 03: nDCG, idf, bigrams, rank fusion, filters, and reading intervals."""

from __future__ import annotations

from course_lib.learn.exercises.comparing import check_letter
from course_lib.learn.exercises.engine import Exercise
from course_lib.learn.exercises.feedback_03_fusion import CHOICES, check_min_max, check_nearest, check_rrf
from course_lib.learn.exercises.feedback_03_scoring import check_bigrams, check_idf, check_ndcg

EXERCISES = (
    Exercise(
        "03.1",
        "nDCG by hand",
        (
            (
                "The gain of a passage is its grade, or 0 if it has none; at rank 1, 2, 3 divide it by "
                "log2(2), log2(3), log2(4)."
            ),
            "Do the same for the ideal ranking: all grades, highest first, cut at k.",
            "Divide the first sum by the second; return 0 if the second is 0.",
        ),
        check_ndcg,
    ),
    Exercise(
        "03.2",
        "inverse document frequency",
        (
            (
                "Add 0.5 to the number of documents without the word and to that with it, then divide the "
                "first by the second."
            ),
            "Add 1 to the quotient, and take the natural logarithm, math.log, of the sum.",
            "math.log(1 + (n - df + 0.5) / (df + 0.5))",
        ),
        check_idf,
    ),
    Exercise(
        "03.3",
        "syllable bigrams",
        (
            'First unicodedata.normalize("NFC", text), so that a syllable is one character; then .split().',
            (
                "A word of n syllables has n - 1 pairs: word[i : i + 2] for i in range(n - 1). How many has "
                "a word of one syllable?"
            ),
            (
                "Use range(max(1, len(word) - 1)) instead: a word of one syllable then gives word[0:2], "
                "which is the whole word."
            ),
        ),
        check_bigrams,
    ),
    Exercise(
        "03.4",
        "min-max normalization",
        (
            "(score - lowest) / (highest - lowest) makes the best 1 and the worst 0.",
            "If highest and lowest are equal, do not divide: every id gets 1.",
            "min() and max() raise an error for an empty dict: return an empty dict before you call them.",
        ),
        check_min_max,
    ),
    Exercise(
        "03.5",
        "reciprocal rank fusion",
        (
            "Go through every ranking; enumerate(ranking, start=1) gives rank and id.",
            "Add 1 / (k + rank) to the sum of the id so far: fused.get(id, 0).",
        ),
        check_rrf,
    ),
    Exercise(
        "03.6",
        "what the intervals say for your users",
        (
            "Which of the two kinds of question do your users ask?",
            (
                "An interval without 0 shows which search is better on that kind. Compare the gain on one "
                "kind with the loss on the other."
            ),
        ),
        lambda answer: check_letter(answer, CHOICES),
    ),
    Exercise(
        "03.7",
        "filter before the search",
        (
            "rows = np.flatnonzero(allowed) gives the indices of the allowed rows.",
            (
                "scores = vectors[rows] @ query are their scores; best = np.argsort(-scores)[:k] are "
                "positions in `rows`."
            ),
            "rows[best] converts these positions to row indices of `vectors`.",
        ),
        check_nearest,
    ),
)
