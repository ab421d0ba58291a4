"""Exercises of chapter 00: replace a text in a passage, and count refusals."""

from __future__ import annotations

from collections.abc import Callable

from course_lib.learn.exercises.comparing import compare
from course_lib.learn.exercises.engine import Exercise
from course_lib.rag.prompt import REFUSAL

PASSAGE = "It opens at 10:30. On Mondays, too, it opens at 10:30."


def check_forge(forge: Callable[[str, str, str], str]) -> str | None:
    forged = forge(PASSAGE, "10:30", "07:15")
    if forged is None:
        return "your function returned None; it must return the new text"
    if forged == PASSAGE:
        return "the text came back unchanged; replace() does not change a string but returns a new one"
    if forged == PASSAGE.replace("10:30", "07:15", 1):
        return "only the first of two occurrences was replaced, so the passage now contradicts itself"
    if forged != PASSAGE.replace("10:30", "07:15"):
        return f"forge({PASSAGE!r}, '10:30', '07:15') gave {forged!r}"
    try:
        forge(PASSAGE, "09:00", "07:15")
    except ValueError:
        return None
    return "09:00 is not in the text, but no ValueError was raised; check that `old` is in `text` first"


def check_refusals(refusals: Callable[[list[str]], float]) -> str | None:
    answers = [REFUSAL, "10:30", REFUSAL, f"10:30, I think. {REFUSAL}", f"{REFUSAL} But 10:30."]
    exact = answers.count(REFUSAL)
    at_the_end = sum(answer.endswith(REFUSAL) for answer in answers)  # as many as at the start
    containing = sum(REFUSAL in answer for answer in answers)

    def inexact(count: int) -> str:
        return (
            f"{count / len(answers)} counts an answer that contains REFUSAL together with other text; "
            "a refusal is exactly REFUSAL"
        )

    feedback = compare(
        f"refusals() of {len(answers)} answers, of which {exact} are exactly REFUSAL,",
        refusals(answers),
        exact / len(answers),
        {
            exact: f"{exact} is the number of refusals; divide it by the number of answers",
            containing / len(answers): inexact(containing),
            at_the_end / len(answers): inexact(at_the_end),
        },
    )
    if feedback:
        return feedback
    try:
        return compare("refusals([])", refusals([]), 0.0)
    except ZeroDivisionError:
        return "for an empty list your code divides by zero; it should return 0 there"


EXERCISES = (
    Exercise(
        "00.1",
        "forge a passage",
        (
            "`text.replace(old, new)` returns a new string with every `old` replaced by `new`.",
            "Test `if old not in text:` first, and raise ValueError there.",
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
