"""Exercises of chapter 05, on LoRA: a product of two small matrices, B A, is trained and added to a matrix W.

The two are the adapter, r (the rank) is the shorter side of each, and alpha / r the factor of the product.
The chapter's notebook tells the student what each one asks; the docstring of its checker says it in short.
The last of the hints is nearly the solution.
"""

from __future__ import annotations

from course_lib.learn.exercises.engine import Exercise
from course_lib.learn.exercises.feedback_05_adapter import check_break_even, check_largest, check_lora
from course_lib.learn.exercises.feedback_05_choice import check_causes, check_choose
from course_lib.learn.exercises.feedback_05_mix import check_mix
from course_lib.learn.exercises.feedback_05_training import check_alpha, check_cases, check_labels

EXERCISES = (
    Exercise(
        "05.1",
        "a layer with an adapter",
        (
            "Which shape must come out, and which shapes do x @ W.T and the adapter's part have?",
            "A comes first: it turns each row of x into r numbers, and B turns those into outputs.",
            "r can be read off A's shape. Begin with plain = x @ W.T and small = x @ A.T",
        ),
        check_lora,
    ),
    Exercise(
        "05.2",
        "where an adapter stops being small",
        (
            "How many weights has the adapter of all matrices at rank 1? And at rank 2, 3, r?",
            "The adapter grows by the same number with each rank. How often does that fit into all matrices?",
            "whole = sum(outputs * inputs for outputs, inputs in shapes.values())",
        ),
        check_break_even,
    ),
    Exercise(
        "05.3",
        "the largest model that can be trained",
        (
            "How many bytes does *one* weight of the model cost, in each of the ways?",
            "A frozen weight costs bits / 8 bytes, and brings `share` weights of an adapter with it.",
            "Two cases: share is None, or it is a number, which may be 0. For the first: per_weight = 16",
        ),
        check_largest,
    ),
    Exercise(
        "05.4",
        "which tokens of a conversation are learnt",
        (
            "When the model is used, who writes each token, the model or somebody else? And each end?",
            "The row is made of turns, and a turn of its ids and one end. Decide for a whole turn at once.",
            "Begin with row = [] and a loop: for role, ids in turns:",
        ),
        check_labels,
    ),
    Exercise(
        "05.5",
        "losses that unmask a careless rule",
        (
            "Read each rule: what does it look at, or count, that `train` does not? When does that matter?",
            "a sees losses after the end. b forgets its count at each loss below the one before. c never "
            "forgets. In each case the two must end at different places, and a lower loss must lie between.",
            'Begin with a: a lowest loss, then `patience` higher ones, and then? "a": ([2.0, 1.0, 1.5], 1)',
        ),
        check_cases,
    ),
    Exercise(
        "05.6",
        "an alpha for a fair comparison",
        (
            "In the table, by which factor does the step grow from rank 4 to 16 with alpha = 2r?",
            "Alpha multiplies the step. Four times the rank at the same alpha halves it; what mends a half?",
            "The factor depends on new_rank / rank alone, and is 2 where that is 4.",
        ),
        check_alpha,
    ),
    Exercise(
        "05.7",
        "why answers are wrong",
        (
            "Each question has exactly one outcome. In which order must you ask about the three facts?",
            "A right answer is right. Else: was the passage there? Else: can the model read it alone?",
            "Go through zip(found, searched, given) and count; counts = dict.fromkeys(OUTCOMES, 0)",
        ),
        check_causes,
    ),
    Exercise(
        "05.8",
        "adapter or search",
        (
            "What did the adapter do badly in this chapter? And what did no search bring?",
            "Decide twice, by yes or no: is there a reason for a search, is there one for an adapter?",
            "When is a fact that was trained still true? stale = days_between_changes ... days_to_retrain",
        ),
        check_choose,
    ),
    Exercise(
        "05.9",
        "exact mix of adapters",
        (
            "B A is a sum over the columns of B and rows of A. What becomes of it if both get more of them?",
            "Stack the A on top of each other and put the B side by side. Each product then stands alone. "
            "Where can a weight go so that it counts once, and a negative one, too?",
            "Begin with A = np.vstack([A for A, B, alpha in adapters])",
        ),
        check_mix,
    ),
)
