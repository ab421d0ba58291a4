"""Exercises of chapter 06, on question answering from documents: scores, errors, refusals, calibration.

Calibration is how well a model's confidence agrees with how often it is right; `squad_tokens` gives the words
of a text, without articles and punctuation. The chapter's notebook tells the student what each one asks; the
docstring of its checker says it in short. The last of the hints is nearly the solution.
"""

from __future__ import annotations

from course_lib.learn.exercises.engine import Exercise
from course_lib.learn.exercises.feedback_06 import (
    check_calibration,
    check_f1,
    check_fit,
    check_resume,
    check_supported,
    check_threshold,
    check_where_lost,
)

EXERCISES = (
    Exercise(
        "06.1",
        "the F1 of two answers",
        (
            (
                "Counter(words) counts each word; a & b of two Counters keeps what both have, as "
                "often as both."
            ),
            "Precision is shared / words of the prediction, recall is shared / words of the right answer.",
            (
                "Their harmonic mean is 2 * shared / (words of the one + words of the other); "
                "without a shared word, 0."
            ),
        ),
        check_f1,
    ),
    Exercise(
        "06.2",
        "where an answer was lost",
        (
            "Only questions that the pipeline got wrong are lost; skip the others first.",
            "If the right passage was in the prompt, the search did its part: what is left is reading.",
            (
                "If it was not in the prompt, would the model have read it rightly? That decides "
                "between the other two."
            ),
        ),
        check_where_lost,
    ),
    Exercise(
        "06.3",
        "what fits into the prompt",
        (
            "Go through the passages in order, with what is left of the room.",
            "A passage that is as long as what is left still fits.",
            "A long passage that does not fit says nothing about a short one after it.",
        ),
        check_fit,
    ),
    Exercise(
        "06.4",
        "is the answer in the passage?",
        (
            "Compare words, not letters: squad_tokens gives the words of both.",
            (
                "The answer's n words must be n neighbouring words of the passage: compare each "
                "slice of length n."
            ),
            "An answer without any word is in no passage.",
        ),
        check_supported,
    ),
    Exercise(
        "06.5",
        "a threshold for refusing",
        (
            "Only questions that have an answer can be refused falsely: look at their confidences alone.",
            "Sort these. With the third lowest as the threshold, exactly two of them lie below it.",
            "How many may lie below it? int(allowed * how many there are).",
        ),
        check_threshold,
    ),
    Exercise(
        "06.6",
        "where to go on",
        (
            "A row is complete if its line ends in a newline; text.count counts those.",
            "The batches must be the same as in a run that nobody killed: keep whole batches only.",
            "The last batch of all may be short; if every row is there, nothing is left to do.",
        ),
        check_resume,
    ),
    Exercise(
        "06.7",
        "expected calibration error",
        (
            "The bin of a confidence is int(confidence * bins); a confidence of 1 belongs to the last one.",
            (
                "In each bin: the distance of the mean confidence and the share of right "
                "answers, without its sign."
            ),
            (
                "A bin weighs as much as it has answers: multiply by its count, and divide the "
                "sum by all answers."
            ),
        ),
        check_calibration,
    ),
)
