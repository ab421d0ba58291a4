"""Exercises of chapter 07, on serving: streams, load tests, batches, queues, memory, failures, and drafts.

A slot is a place for one answer in the batch that a model writes; a draft is a small model's guess at the
next tokens, which the large model checks; a KV cache is what a model keeps of a text's tokens. A replica is
one of several copies of the model. The chapter's notebook tells the student what each one asks; the docstring
of its checker says it in short. The last of the hints is nearly the solution.
"""

from __future__ import annotations

from course_lib.learn.exercises.engine import Exercise
from course_lib.learn.exercises.feedback_07_capacity import (
    check_batches,
    check_draft,
    check_replicas,
    check_users,
)
from course_lib.learn.exercises.feedback_07_requests import (
    check_events,
    check_next,
    check_queue,
    check_report,
)

EXERCISES = (
    Exercise(
        "07.1",
        "events of a stream that is cut anywhere",
        (
            "A chunk may end within a line. Keep the unfinished line, and put the next chunk behind it.",
            "Split bytes, not text: a chunk may end within a character. b'...'.split(b'\\n') works on bytes.",
            "The last part of a split is unfinished; json.loads accepts the bytes of a whole line.",
        ),
        check_events,
    ),
    Exercise(
        "07.2",
        "the honest report of a load test",
        (
            "A user waits from the moment at which the request was due, not from when it could be sent.",
            "When did the user of a failed request have an answer? Sort that time with the others.",
            "Of 40 sorted times, 38 are 95 of a hundred: the 38th has the index 37.",
        ),
        check_report,
    ),
    Exercise(
        "07.3",
        "answers for which static batching is slow",
        (
            "A static batch takes as long as its longest answer. What wastes the most slots?",
            "Sixteen answers make four batches. How many long answers are needed to make all four long?",
            "Continuous batching is fast if the long ones can all be written at the same time.",
        ),
        check_batches,
    ),
    Exercise(
        "07.4",
        "the longest queue",
        (
            "All slots are busy, and have just begun. When is the first one free?",
            "Then `slots` requests begin at once. The next ones begin after another `seconds`.",
            "How often does `seconds` fit into the limit, as a whole number?",
        ),
        check_queue,
    ),
    Exercise(
        "07.5",
        "users in memory",
        (
            "The weights are there once, for all users. What is left is for KV caches.",
            "Contiguous: each user gets room for the whole context, used or not.",
            "Count in pages: all that are free, those of the prefix that are full, and those of one text. "
            "-(-a // b) rounds up.",
        ),
        check_users,
    ),
    Exercise(
        "07.6",
        "what to do after a failure",
        (
            "If the user has seen tokens, another try would begin a second answer.",
            "503 means: not now. Asking again at once makes the crowd larger.",
            "Decide in this order: is it done, may it be tried at all, and then now or later?",
        ),
        check_next,
    ),
    Exercise(
        "07.7",
        "how many replicas",
        (
            "Requests per second times seconds per answer is how many answers are written at once.",
            "One replica may write slots * most answers at once, and not more.",
            "Round up, then add the spare ones: what is left when they fail must be enough.",
        ),
        check_replicas,
    ),
    Exercise(
        "07.8",
        "how many tokens to draft",
        (
            "The second drafted token counts only if the first was accepted: its chance is alpha * alpha.",
            "A round gives 1 + alpha + alpha**2 + ... + alpha**k tokens: one comes from the large model.",
            "A round takes 1 + k * cost. Compare tokens / time for every k from 0 to most.",
        ),
        check_draft,
    ),
)
