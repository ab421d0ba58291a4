"""Exercises of chapter 01: a model's memory and speed, servers, bits per byte, and comparing two models.

A nat is 1 / log(2) = 1.44 bits; num_ctx is the number of tokens that a server is asked to read at most. The
chapter's notebook tells the student what each one asks; the docstring of its checker says it in short. The
last of the hints is nearly the solution.
"""

from __future__ import annotations

from course_lib.learn.exercises.comparing import check_letter
from course_lib.learn.exercises.engine import Exercise
from course_lib.learn.exercises.feedback_01_quality import (
    check_bits,
    check_decide,
    check_megabytes,
    check_needed,
)
from course_lib.learn.exercises.feedback_01_servers import check_cut, check_reading
from course_lib.learn.exercises.feedback_01_speed import check_most, check_speed

# Exercise 01.9: letter -> feedback on the model of that letter; None for the right one.
PROPOSALS = {
    "a": "no model of that name exists: Llama 3 was published with 8 and with 70 billion weights",
    "b": "it fits and it knows Korean, but its licence forbids commercial use",
    "c": None,
    "d": "in Q8_0 its weights alone take 7.5 of the 8 GiB: nothing is left for the program and the context",
}

EXERCISES = (
    Exercise(
        "01.1",
        "megabytes of weights",
        (
            "How many bits is the whole model, and how many bits has a byte?",
            "Bits to bytes, then bytes to millions of bytes; a fraction of a bit stays.",
            "It begins with `bits_in_all = parameters * bits`.",
        ),
        check_megabytes,
    ),
    Exercise(
        "01.2",
        "three faults in a benchmark",
        (
            "Which run is unlike the others? What does `len` count? What does a disturbed run do to a sum?",
            "Give each run but the first a speed of its own; then one number for all of them.",
            "It begins with `speeds = [count_tokens(text) / seconds for ...`.",
        ),
        check_speed,
    ),
    Exercise(
        "01.3",
        "how many passages the reader will wait for",
        (
            "How long may reading take, by each of the two limits?",
            "The stricter limit gives seconds for reading, hence tokens; some are the question's.",
            "It begins with `seconds = min(first, last - ...)`.",
        ),
        check_most,
    ),
    Exercise(
        "01.4",
        "a fair speed of reading",
        (
            "Which of the replies belong to a prompt that the server had in its cache?",
            "Go through the calls in order and keep the first reply of every prompt.",
            "It begins with `first = {}`, and `first.setdefault(prompt, reply)` in a loop.",
        ),
        check_reading,
    ),
    Exercise(
        "01.5",
        "which prompts were cut",
        (
            "Which of the three numbers tells what the model really read?",
            "A template adds tokens. What if fewer were read than the text has?",
            "It begins with `[name for name, (tokens, num_ctx, read) in sent.items() if ...`.",
        ),
        check_cut,
    ),
    Exercise(
        "01.6",
        "bits per byte",
        (
            "What does the sum of the logarithms say about the whole text?",
            "Nats become bits by a division; the text in bytes is text.encode().",
            "It begins with `bits = -sum(logs) / ...`.",
        ),
        check_bits,
    ),
    Exercise(
        "01.7",
        "decide between two models",
        (
            "On which questions can the two be compared, and what is their difference on one of them?",
            "`bootstrap_interval` of the list of differences; then ask on which side of zero all of it lies.",
            "It begins with `both = [id for id in a if id in b]`.",
        ),
        check_decide,
    ),
    Exercise(
        "01.8",
        "how many questions it takes",
        (
            "How far does the interval reach to one side, and how far may it reach?",
            "By which factor must it shrink? The number of questions grows with the square of that.",
            "It begins with `half = (high - low) / 2`.",
        ),
        check_needed,
    ),
    Exercise(
        "01.9",
        "choose one of four models",
        (
            "Do all four exist? Look them up in the catalogue table.",
            "Does the licence allow commercial use? Look at the column `business`.",
            "Which of the others fits into 8 GiB with room to spare?",
        ),
        lambda answer: check_letter(answer, PROPOSALS),
    ),
)
