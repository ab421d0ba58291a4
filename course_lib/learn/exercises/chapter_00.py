"""Exercises of chapter 00: change one thing, and count instead of trying."""

from __future__ import annotations

from collections.abc import Callable

from course_lib.learn.exercises.comparing import compare
from course_lib.learn.exercises.engine import Exercise
from course_lib.rag.prompt import REFUSAL

TEXT = "It opens at 10:30. On Mondays, too, it opens at 10:30."
MIXED = "counts an answer that refuses and answers at once; a refusal is exactly the sentence REFUSAL"


def check_forge(forge: Callable[[str, str, str], str]) -> str | None:
    forged = forge(TEXT, "10:30", "07:15")
    if forged is None:
        return "your function gives back None: the new text must be returned"
    if forged == TEXT:
        return "the text came back unchanged; strings cannot be changed in place, replace() gives a new one"
    if forged == TEXT.replace("10:30", "07:15", 1):
        return "only the first of two places was changed, so the passage contradicts itself"
    if forged != TEXT.replace("10:30", "07:15"):
        return f"forge({TEXT!r}, '10:30', '07:15') gave {forged!r}"
    try:
        forge(TEXT, "09:00", "07:15")
    except ValueError:
        return None
    return (
        "09:00 is not in the text, yet no ValueError was raised: an experiment that changes nothing would "
        "go unnoticed"
    )


def check_refusals(refusals: Callable[[list[str]], float]) -> str | None:
    answers = [REFUSAL, "10:30", REFUSAL, f"10:30, I think. {REFUSAL}", f"{REFUSAL} But 10:30."]
    feedback = compare(
        "the share in five answers, two of them exactly REFUSAL,",
        refusals(answers),
        0.4,
        {
            2.0: "2 is the number of refusals; the share is that number divided by all answers",
            0.8: f"0.8 {MIXED}",
            0.6: f"0.6 {MIXED}",
        },
    )
    if feedback:
        return feedback
    try:
        return compare("refusals([])", refusals([]), 0.0)
    except ZeroDivisionError:
        return "an empty list divides by zero; no answers hold no refusals, so the share is 0"


EXERCISES = (
    Exercise(
        "00.1",
        "forge a passage",
        (
            "`text.replace(old, new)` gives a new string in which every `old` has become `new`.",
            "`if old not in text:` comes first, and raises ValueError.",
            (
                "if old not in text: raise ValueError(f'{old} is not in the text'), then return "
                "text.replace(old, new)."
            ),
        ),
        check_forge,
    ),
    Exercise(
        "00.2",
        "count refusals",
        (
            "A refusal is an answer that equals REFUSAL.",
            "`sum(a == REFUSAL for a in answers)` counts them, because True counts as 1.",
            "Divide by len(answers), and return 0.0 first when the list is empty.",
        ),
        check_refusals,
    ),
)
