"""Exercises of chapter 05: LoRA, its size and memory, labels, early stopping, mixing, adapter or search."""

from __future__ import annotations

from course_lib.learn.exercises.engine import Exercise
from course_lib.learn.exercises.feedback_05_adapter import check_bytes, check_lora, check_weights
from course_lib.learn.exercises.feedback_05_mix import check_mix
from course_lib.learn.exercises.feedback_05_training import check_choose, check_labels, check_stop

EXERCISES = (
    Exercise(
        "05.1",
        "a layer with an adapter",
        (
            "The layer alone gives x @ W.T, with a row for each row of x and a column for each output.",
            (
                "The adapter does the same in two steps: x @ A.T gives r numbers per row, and @ B.T turns "
                "them into outputs."
            ),
            "r is len(A), so the answer is x @ W.T + alpha / len(A) * x @ A.T @ B.T.",
        ),
        check_lora,
    ),
    Exercise(
        "05.2",
        "size of an adapter",
        (
            "A has `rank` rows of `inputs` numbers, and B has `rank` columns of `outputs` numbers.",
            "So the adapter of a matrix has rank * inputs + rank * outputs weights.",
            "Add up over shapes.values(), not over a set of them: matrices of equal shape count separately.",
        ),
        check_weights,
    ),
    Exercise(
        "05.3",
        "memory for training",
        (
            "Without an adapter each weight takes 2 + 2 + 4 + 8 bytes.",
            (
                "With an adapter the model's weights are only read and take 2 bytes each; only the adapter's "
                "weights have a gradient, a copy and means."
            ),
            "16 * parameters, or 2 * parameters + 16 * trainable if trainable is not None.",
        ),
        check_bytes,
    ),
    Exercise(
        "05.4",
        "which tokens are trained on",
        (
            "The list is as long as prompt, answer and end together, with one label for each token.",
            "It begins with one -100 for each token of the prompt: [-100] * len(prompt).",
            "Then come the ids of the answer and the id of the end mark, none of them moved.",
        ),
        check_labels,
    ),
    Exercise(
        "05.5",
        "early stopping",
        (
            (
                "Go through the losses in order. Remember the lowest loss so far, its step, and how many "
                "losses came since."
            ),
            "A loss below the lowest resets the count to 0; any other, an equal one too, adds 1 to it.",
            "When the count reaches patience, break; then return the step of the lowest loss.",
        ),
        check_stop,
    ),
    Exercise(
        "05.6",
        "exact mix of adapters",
        (
            (
                "Stack the A on top of each other, and put the B next to each other; B A is then the sum of "
                "the products."
            ),
            "Multiply each B (or each A, but not both) by w * alpha / r, where r is len(A).",
            "Return np.vstack of the A, and np.hstack of the w * alpha / len(A) * B.",
        ),
        check_mix,
    ),
    Exercise(
        "05.7",
        "adapter or search",
        (
            "Answer two questions for each: is there a reason for a search, and is there one for an adapter?",
            (
                "changes_daily or must_cite is a reason for a search, form is one for an adapter, and "
                "questions_per_second is a reason for neither."
            ),
            "With both reasons choose 'both', else the one for which there is a reason.",
        ),
        check_choose,
    ),
)
