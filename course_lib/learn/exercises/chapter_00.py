"""Exercises of chapter 00: replace a text in a passage, count refusals, and tell reading from remembering.

A checker runs the student's function, and returns feedback, or None if it is right. Each known mistake is a
wrong solution with the feedback for it, see `comparing.diagnose`. REFUSAL is what a model writes if the
passages hold no answer.
"""

from __future__ import annotations

import numbers
import re
from collections.abc import Callable

from course_lib.learn.exercises.comparing import compare, diagnose
from course_lib.learn.exercises.engine import Exercise
from course_lib.rag.prompt import REFUSAL

PASSAGE = "It opens at 10:30. On Mondays, too, it opens at 10:30."


def check_forge(forge: Callable[[str, str, str], str]) -> str | None:
    """Check 00.1: `forge(text, old, new)`, the text with every `old` replaced; ValueError without one."""
    forged = forge(PASSAGE, "10:30", "07:15")
    if forged is None:
        return "your function returned None; it must return the new text"
    if forged == PASSAGE:
        return "the text came back unchanged; replace() does not change a string but returns a new one"
    if forged == PASSAGE.replace("10:30", "07:15", 1):
        return "only the first of two occurrences was replaced, so the passage now contradicts itself"
    if forged != PASSAGE.replace("10:30", "07:15"):
        return f"forge({PASSAGE!r}, '10:30', '07:15') gave {forged!r}"
    rate, old = "It pays 1.50%, and 1450% of nothing.", "1.50%"
    if forge(rate, old, "2.00%") == re.sub(old, "2.00%", rate) != rate.replace(old, "2.00%"):
        return (
            "in a regular expression the full stop of 1.50% stands for any character, so 1450% was replaced, "
            "too; use text.replace"
        )
    return _check_missing(forge)


def _check_missing(forge: Callable[[str, str, str], str]) -> str | None:
    """Return feedback unless `forge` raises ValueError for a text that is not in the passage."""
    for missing in ("09:00", "10.30"):
        try:
            forge(PASSAGE, missing, "07:15")
        except ValueError:
            continue
        except Exception as error:
            return (
                f"{missing} is not in the text: that calls for ValueError, and you raised "
                f"{type(error).__name__}"
            )
        return (
            f"{missing} is not in the text, but no ValueError was raised; check that `old` is in `text` first"
        )
    return None


def _strict(answers: list[str]) -> float:
    """The right solution of 00.2."""
    return answers.count(REFUSAL) / len(answers) if answers else 0.0


def _share(matches: Callable[[str], bool]) -> Callable[[list[str]], float]:
    """Return a function that gives the share of answers for which `matches` holds."""
    return lambda answers: sum(map(matches, answers)) / max(1, len(answers))


ANSWERS = [
    REFUSAL,
    "10:30",
    REFUSAL,
    f"10:30, I think. {REFUSAL}",
    f"{REFUSAL} But 10:30.",
    f" {REFUSAL}\n",
    REFUSAL.lower(),
]
INEXACT = "counts an answer that contains REFUSAL together with other text; a refusal is exactly REFUSAL"
COUNTED_WRONGLY = (
    (
        lambda answers: answers.count(REFUSAL),
        "that is the number of refusals; divide it by the number of answers",
    ),
    (lambda answers: 100 * _strict(answers), "that is per cent; a share goes from 0 to 1"),
    (
        lambda answers: round(_strict(answers), 1),
        "that is rounded to one digit: 2 of 7 are 0.2857; round only when you print",
    ),
    (
        lambda answers: round(_strict(answers), 2),
        "that is rounded to two digits: 2 of 7 are 0.2857; round only when you print",
    ),
    (
        _share(lambda a: a.strip() == REFUSAL),
        "strip() counts ' Not in the handbook.\\n' too; it is not exactly REFUSAL",
    ),
    (
        _share(lambda a: a.lower() == REFUSAL.lower()),
        "lower() counts 'not in the handbook.' too; it is not exactly REFUSAL",
    ),
    (
        _share(lambda a: a.strip().lower() == REFUSAL.lower()),
        "strip() and lower() count two more answers, which are not exactly REFUSAL",
    ),
    (_share(lambda a: REFUSAL in a), f"your function {INEXACT}"),
    (
        _share(lambda a: REFUSAL.lower().strip(".") in a.lower()),
        f"like your colleague's, your function {INEXACT}",
    ),
    (_share(lambda a: a.endswith(REFUSAL)), f"endswith {INEXACT}"),
    (_share(lambda a: a.startswith(REFUSAL)), f"startswith {INEXACT}"),
)


def check_refusals(refusals: Callable[[list[str]], float]) -> str | None:
    """Check 00.2: `refusals(answers)`, the share of answers that are exactly REFUSAL."""
    share = refusals(list(ANSWERS))
    if isinstance(share, bool) or not isinstance(share, numbers.Real):
        return f"refusals() gave {share!r} of type {type(share).__name__}; expected a number"
    cases = [([answer],) for answer in ANSWERS] + [(ANSWERS[: n + 1],) for n in range(len(ANSWERS))]
    if feedback := diagnose(refusals, _strict, cases, COUNTED_WRONGLY, name="refusals"):
        return feedback
    try:
        return compare("refusals([])", refusals([]), 0.0)
    except ZeroDivisionError:
        return "for an empty list your code divides by zero; it should return 0 there"


def _verdict(answer_from: Callable[[str], str], text: str, old: str, new: str) -> str:
    """The right solution of 00.3."""
    if old not in text:
        raise ValueError(f"{old!r} is not in the text")
    before, after = answer_from(text), answer_from(text.replace(old, new))
    if old not in before or new in before:
        return "cannot tell"
    if new in after and old not in after:
        return "reads"
    return "remembers" if old in after and new not in after else "cannot tell"


def _forged_only(answer_from: Callable[[str], str], text: str, old: str, new: str) -> str:
    """A mistake: ask the model about the changed text only."""
    if old not in text:
        raise ValueError
    after = answer_from(text.replace(old, new))
    if (old in after) == (new in after):
        return "cannot tell"
    return "reads" if new in after else "remembers"


def _says_both(answer_from: Callable[[str], str], text: str, old: str, new: str) -> str:
    """A mistake: an answer may contain both values."""
    if old not in text:
        raise ValueError
    before, after = answer_from(text), answer_from(text.replace(old, new))
    if old in before and new in after:
        return "reads"
    return "remembers" if old in before and old in after else "cannot tell"


def _unchanged(answer_from: Callable[[str], str], text: str, old: str, new: str) -> str:
    """A mistake: no error if `old` is not in the text."""
    try:
        return _verdict(answer_from, text, old, new)
    except ValueError:
        return "remembers"


def _two_verdicts(answer_from: Callable[[str], str], text: str, old: str, new: str) -> str:
    """A mistake: never "cannot tell"."""
    return "reads" if _verdict(answer_from, text, old, new) == "reads" else "remembers"


def _time_in(text: str) -> str:
    """Return the first time such as 10:30 in a text, or a refusal."""
    return next(iter(re.findall(r"\d\d:\d\d", text)), REFUSAL)


MODELS = {  # what a model answers, given the text
    "that reads": _time_in,
    "that reads and makes a sentence of it": lambda text: f"It opens at {_time_in(text)}, I believe.",
    "that remembers 10:30": lambda text: "10:30",
    "that always says 07:15": lambda text: "07:15",
    "that always refuses": lambda text: REFUSAL,
    "that gives two times at once": lambda text: "10:30 or 07:15",
    "that refuses the forged text": lambda text: "10:30" if "10:30" in text else REFUSAL,
    "that adds 10:30 to what it reads": lambda text: f"{_time_in(text)}, once 10:30",
    "that remembers 10:30 and adds what it reads": lambda text: f"10:30, or {_time_in(text)}",
}
MISJUDGED = (
    (_forged_only, "a model that always says 07:15 was said to read; ask it about the text as it is, too"),
    (_says_both, "an answer that gives both values proves nothing: ask that the other one is not in it"),
    (_two_verdicts, 'a model that refuses neither reads nor remembers; that is the case "cannot tell"'),
    (_unchanged, "where `old` is not in the text, nothing was forged: raise ValueError"),
)


def check_verdict(verdict: Callable[[Callable[[str], str], str, str, str], str]) -> str | None:
    """Check 00.3: `verdict(answer_from, text, old, new)`: whether a model reads or remembers.

    It asks the model about the text and about the text with a value replaced. The verdict is "reads",
    "remembers" or "cannot tell".
    """
    cases = [(model, PASSAGE, "10:30", "07:15") for model in MODELS.values()]
    cases.append((_time_in, "It opens at half past ten.", "10:30", "07:15"))
    got = diagnose(verdict, _verdict, cases, MISJUDGED)
    if got is None or any(got == feedback for _, feedback in MISJUDGED):
        return got
    for name, model in MODELS.items():
        given, right = verdict(model, PASSAGE, "10:30", "07:15"), _verdict(model, PASSAGE, "10:30", "07:15")
        if given != right:
            return f"of a model {name} your function said {given!r}; it should say {right!r}"
    return "`old` is not in 'It opens at half past ten.': raise ValueError, since nothing was forged"


EXERCISES = (
    Exercise(
        "00.1",
        "forge a passage",
        (
            "What shows, before anything is replaced, that the replacement would change nothing?",
            "A method of strings returns a copy with all occurrences replaced; `in` tells what one holds.",
            "It begins with `if old not in text:`.",
        ),
        check_forge,
    ),
    Exercise(
        "00.2",
        "count refusals",
        (
            "Is it exactly REFUSAL with a space before it? In small letters? With more text behind it?",
            "True counts as 1, so a sum of comparisons counts. What is 0 divided by 0?",
            "It begins with the empty list: `if not answers:`.",
        ),
        check_refusals,
    ),
    Exercise(
        "00.3",
        "read or remembered?",
        (
            "What does a model that always says 07:15 answer to the forged text, and what to the true one?",
            "Ask twice, about both texts, and look in each answer for both values.",
            "After the test of `old`: `before = answer_from(text)`, and `after` from the forged text.",
        ),
        check_verdict,
    ),
)
