"""Exercises of chapter 05: LoRA, its size and memory, labels, early stopping, mixing, adapter or search."""

from __future__ import annotations

from course_lib.learn.exercises.engine import Exercise
from course_lib.learn.exercises.feedback_05 import (
    check_bytes,
    check_choose,
    check_labels,
    check_lora,
    check_stop,
    check_weights,
)
from course_lib.learn.exercises.feedback_05_mix import check_mix

EXERCISES = (
    Exercise(
        "05.1",
        "an adapter beside a layer",
        (
            "The layer alone gives x @ W.T: a row for each row of x, a column for each output.",
            (
                "The adapter goes the same way in two steps: x @ A.T leaves r numbers, and @ B.T makes "
                "outputs of them."
            ),
            "r is len(A): x @ W.T + alpha / len(A) * x @ A.T @ B.T",
        ),
        check_lora,
    ),
    Exercise(
        "05.2",
        "how large an adapter is",
        (
            "A has a row of all inputs for each rank, B a column of all outputs.",
            "So a matrix gets rank * inputs + rank * outputs weights.",
            "Add up over shapes.values(), not over a set of them: equal shapes are different matrices.",
        ),
        check_weights,
    ),
    Exercise(
        "05.3",
        "what training holds",
        (
            "Without an adapter: 2 + 2 + 4 + 8 for each weight.",
            (
                "With one, the model's weights are only read, two bytes each; gradient, copy and means "
                "belong to what learns."
            ),
            "16 * parameters, or 2 * parameters + 16 * trainable where trainable is not None.",
        ),
        check_bytes,
    ),
    Exercise(
        "05.4",
        "which tokens are learnt",
        (
            "The list is as long as prompt, answer and end together: a label beside each token.",
            "-100 as often as the prompt has tokens: [-100] * len(prompt).",
            "Then the answer's own ids, then the end's, none of them moved.",
        ),
        check_labels,
    ),
    Exercise(
        "05.5",
        "when to stop",
        (
            (
                "Go through the looks in order, and keep the lowest loss so far, its step, and how long "
                "ago it was."
            ),
            "A loss below the lowest begins the count anew; any other, an equal one too, adds 1 to it.",
            "When the count has come to patience, stop looking: break; then return the step of the lowest.",
        ),
        check_stop,
    ),
    Exercise(
        "05.6",
        "adapters mixed exactly",
        (
            (
                "Side by side: put one A below the other, and one B beside the other; B A is then the sum of "
                "the products."
            ),
            "Multiply each B, or each A, but not both, by w * alpha / r, where r is len(A).",
            "np.vstack of the A, and np.hstack of the w * alpha / len(A) * B.",
        ),
        check_mix,
    ),
    Exercise(
        "05.7",
        "adapter or search",
        (
            "Two questions for each: is there a reason for a search, and is there one for an adapter?",
            (
                "A search: changes_daily or must_cite. An adapter: form. questions_per_second is a reason "
                "for neither."
            ),
            "Both reasons: 'both'; else the one that there is.",
        ),
        check_choose,
    ),
)
