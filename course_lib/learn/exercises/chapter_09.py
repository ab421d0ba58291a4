"""Exercises of chapter 09, on taking an exam with a model: rules, time, refusals, leaks, and a filter.

A likelihood is the probability that a model gives an option; a system is a way to answer, with a model or
without. The chapter's notebook tells the student what each one asks; the docstring of its checker says it in
short. The last of the hints is nearly the solution.
"""

from __future__ import annotations

from course_lib.learn.exercises.engine import Exercise
from course_lib.learn.exercises.feedback_09 import (
    check_case,
    check_filter,
    check_group,
    check_leaked,
    check_refused,
    check_slow_ones,
    check_system,
    check_worth,
)

EXERCISES = (
    Exercise(
        "09.1",
        "which rules a model breaks",
        (
            "A month such as 2025-08 may mean any day of it. When are all its days before the date?",
            "Texts such as '2025-07' and '2025-08' compare in the order of time. before[:7] is a month.",
            "A GiB has 2**30 bytes; eight bits are a byte. Collect every rule that is broken.",
        ),
        check_refused,
    ),
    Exercise(
        "09.2",
        "how many questions the slow system may have",
        (
            "Give all questions to the fast system first. How much time is left over?",
            "A question that moves from the fast to the slow system costs slow - fast more seconds.",
            "No more than all questions, and no fewer than none: min(n, max(0, ...)).",
        ),
        check_slow_ones,
    ),
    Exercise(
        "09.3",
        "three options, three winners",
        (
            "The sum favours short options: give option 0 one token, and a low likelihood a token.",
            "Option 1 should be long, with a good likelihood for each of its tokens.",
            "Option 2 needs a very low likelihood without the question, so that the difference is large.",
        ),
        check_case,
    ),
    Exercise(
        "09.4",
        "is it worth an answer?",
        (
            "Compare the points that you expect: those of answering, and those of refusing.",
            "An answer gives 1 with probability p, and -cost with probability 1 - p.",
            "A refusal is right, and gives 1, exactly if the question has no answer: with probability u.",
        ),
        check_worth,
    ),
    Exercise(
        "09.5",
        "find the leak",
        (
            "similarity says how much of the wording two questions share. Look at its values for this set.",
            "The same wording about another product is another question. How do product names differ?",
            "Words with a capital letter are names here, but for the first word. Numbers matter, too.",
        ),
        check_leaked,
    ),
    Exercise(
        "09.6",
        "what the filter leaves",
        (
            "Of n written pairs, n * right are right. Which part of them passes? Which part of the others?",
            "A pair that passes is right, or it is wrong: add both to get all that pass.",
            "Turn the first count round: how many must be written so that `wanted` right ones pass?",
        ),
        check_filter,
    ),
    Exercise(
        "09.7",
        "seconds of a group",
        (
            "First the time to read all prompts, then the time of one step, then all steps.",
            "A step moves the weights once, and every text's cache once.",
            "batch * read tokens are read, and each needs two operations for each parameter.",
        ),
        check_group,
    ),
    Exercise(
        "09.8",
        "your own system",
        (
            "Begin with one of the systems above, and look at what it gets wrong on practice questions.",
            "Mix them: one system may choose options, another may write, a third may decide to refuse.",
            "build('best') is the course's own: build('best').answer(ExamQuestion('', question, options)).",
        ),
        check_system,
        seconds=300,  # it may load models and answer a whole exam
    ),
)
