"""Exercises of chapter 04: reranking, late interaction, windows, batches, and whether to rerank."""

from __future__ import annotations

from course_lib.learn.exercises.engine import Exercise
from course_lib.learn.exercises.feedback_04 import (
    check_batches,
    check_budget,
    check_decide,
    check_maxsim,
    check_order,
    check_windows,
)

EXERCISES = (
    Exercise(
        "04.1",
        "sort by score",
        (
            (
                "sorted(range(len(ids)), key=...) gives indices; use -scores[i] as the key of index i, so "
                "that the highest score comes first."
            ),
            (
                "Python's sorted keeps items with equal keys in the order in which they came, here the order "
                "of the search."
            ),
            "math.isnan recognises NaN: raise ValueError before you sort.",
        ),
        check_order,
    ),
    Exercise(
        "04.2",
        "late interaction",
        (
            "question @ passage.T holds the cosine of every pair, with a row for each token of the question.",
            "Take the largest of each row: .max(axis=1).",
            "Their sum is the score.",
        ),
        check_maxsim,
    ),
    Exercise(
        "04.3",
        "windows over a long document",
        (
            "Each window starts room - overlap tokens after the one before: range(0, ..., room - overlap).",
            "The last window must reach the end, and no other may follow it: stop at length - overlap.",
            (
                "Use range(0, max(1, length - overlap), room - overlap); each window ends at min(start + "
                "room, length)."
            ),
        ),
        check_windows,
    ),
    Exercise(
        "04.4",
        "batches of similar length",
        (
            "Go through the texts by length, the shortest first: sorted(range(len(lengths)), key=...).",
            (
                "A batch of n texts costs n times its longest text; with text i added it costs (n + 1) * "
                "lengths[i]."
            ),
            (
                "Append the text to the last batch if that is at most `most`; else start a new batch with "
                "this text."
            ),
        ),
        check_batches,
    ),
    Exercise(
        "04.5",
        "how many candidates",
        (
            "Keep the numbers of candidates that take at most the seconds allowed.",
            (
                "Choose the highest quality, and among equals the fewest candidates: max(..., key=lambda n: "
                "(quality[n], -n))."
            ),
            "max(..., default=0) returns 0 if nothing fits.",
        ),
        check_budget,
    ),
    Exercise(
        "04.6",
        "should you rerank?",
        (
            "difference(a, b) takes dicts from question to value; dict(enumerate(after)) makes one.",
            (
                "difference(after, before).verdict is 'A' if reranking is better, 'B' if it is worse, else "
                "'undecided'."
            ),
        ),
        check_decide,
    ),
)
