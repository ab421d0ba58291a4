"""Exercises of chapter 04: reranking, MaxSim, windows, batches by length, a budget, and whether to rerank."""

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
        "the new order",
        (
            (
                "sorted(range(len(ids)), key=...) gives places; the key of place i is -scores[i], so that "
                "the highest comes first."
            ),
            (
                "Python's sorted leaves equals in the order in which they came, which is the order of the "
                "search."
            ),
            "math.isnan tells a score that is none: raise ValueError before sorting.",
        ),
        check_order,
    ),
    Exercise(
        "04.2",
        "late interaction",
        (
            "question @ passage.T holds the cosine of every pair: a row for each token of the question.",
            "In each row only the largest counts: .max(axis=1).",
            "Their sum is the score.",
        ),
        check_maxsim,
    ),
    Exercise(
        "04.3",
        "windows over a long document",
        (
            "A window begins room - overlap tokens behind the one before: range(0, ..., room - overlap).",
            "The last one must reach the end and none may begin behind it: stop at length - overlap.",
            "range(0, max(1, length - overlap), room - overlap), and each ends at min(start + room, length).",
        ),
        check_windows,
    ),
    Exercise(
        "04.4",
        "like lengths together",
        (
            "Go through the texts by length, the shortest first: sorted(range(len(lengths)), key=...).",
            (
                "A batch of n texts is computed as n times its longest: with a text more that is (n + 1) * "
                "lengths[i]."
            ),
            (
                "Append to the last batch while that is at most `most`; else open a new batch with this text "
                "in it."
            ),
        ),
        check_batches,
    ),
    Exercise(
        "04.5",
        "how many candidates",
        (
            "Keep those that take at most the seconds allowed.",
            (
                "Of them the highest quality; of equal quality the fewest candidates: max(..., key=lambda n: "
                "(quality[n], -n))."
            ),
            "max(..., default=0) answers where nothing fits.",
        ),
        check_budget,
    ),
    Exercise(
        "04.6",
        "should you rerank?",
        (
            "difference(a, b) wants dicts: question -> value. dict(enumerate(after)) makes one.",
            (
                "difference(after, before).verdict is 'A' where reranking is better, 'B' where it is worse, "
                "else 'undecided'."
            ),
        ),
        check_decide,
    ),
)
