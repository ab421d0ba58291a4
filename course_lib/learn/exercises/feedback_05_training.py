"""Checkers of chapter 05's exercises on labels, early stopping and choosing: feedback, None if right."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from course_lib.learn.exercises.comparing import known_mistake

PROMPT, ANSWER, END = [11, 7, 12, 7], [5, 7, 9], 2  # token ids
IGNORED = -100  # the label of a token that is not trained on


def check_labels(labels: Callable[[list[int], list[int], int], Any]) -> str | None:
    call, ignored_prompt = f"labels({PROMPT}, {ANSWER}, {END})", [IGNORED] * len(PROMPT)
    expected = [*ignored_prompt, *ANSWER, END]
    prompt, answer = list(PROMPT), list(ANSWER)
    result = labels(prompt, answer, END)
    if result is None or isinstance(result, (str, int)):
        return f"{call} gave {result!r}; expected a list of labels"
    result = [int(label) for label in result]
    mistakes = (
        ([*PROMPT, *ANSWER, END], "the prompt is trained on too: its tokens should get the label -100"),
        (
            [*ignored_prompt, *ANSWER],
            "7 labels for 8 tokens: without a label for the end mark the model does not learn to stop",
        ),
        (
            [*ignored_prompt, *ANSWER, IGNORED],
            "the end mark got -100, so the model does not learn to stop: give it its own id",
        ),
        (
            [*expected[1:], IGNORED],
            "all labels were moved one position to the left; leave each at its own token, because the "
            "library moves them itself",
        ),
        (
            expected[1:],
            "7 labels, each one position too early: leave each at its own token, because the library moves "
            "them itself",
        ),
        (
            [IGNORED, *expected[:-1]],
            "all labels are one position too late, and the end mark is lost: leave each at its own token",
        ),
        ([*ANSWER, END], "4 labels for 8 tokens: each token of the prompt needs the label -100"),
        (
            [*ignored_prompt, 5, IGNORED, 9, END],
            "the 7 in the answer got -100 because the prompt has a 7 too: choose by position, not by id",
        ),
        (
            [0] * len(PROMPT) + [1] * len([*ANSWER, END]),
            "that is a mask of 0 and 1; a label is the token's id, or -100",
        ),
        ([IGNORED] * len(expected), "all 8 labels are -100, so nothing is learnt"),
    )
    if feedback := known_mistake(result, mistakes):
        return feedback
    given_prompt, given_rest = result[: len(PROMPT)], result[len(PROMPT) :]
    if (
        given_rest == expected[len(PROMPT) :]
        and len(set(given_prompt)) == 1
        and given_prompt != ignored_prompt
    ):
        meaning = (
            "which is the id of a token to be learnt" if given_prompt[0] >= 0 else "which is no token id"
        )
        return (
            f"the prompt got {given_prompt[0]}, {meaning}; only -100 tells the library to leave a token out"
        )
    if len(result) != len(expected):
        return f"{call} gave {len(result)} labels; prompt, answer and end mark have 4 + 3 + 1 = 8 tokens"
    if result != expected:
        return f"{call} gave {result}; it should be {expected}"
    if prompt != PROMPT or answer != ANSWER:
        return (
            f"the labels are right, but the lists were changed, to {prompt} and {answer}: build a new list "
            "instead"
        )
    with_end_in_prompt = [int(label) for label in labels([1, END], [4], END)]
    return (
        None
        if with_end_in_prompt == [IGNORED, IGNORED, 4, END]
        else f"labels([1, 2], [4], 2) gave {with_end_in_prompt}; it should be [-100, -100, 4, 2]"
    )


LOSSES = dict(
    zip(
        range(100, 1700, 100),
        [2.0, 1.5, 1.6, 1.4, 1.5, 1.35, 1.4, 1.33, 1.36, 1.37, 1.3, 1.34, 1.4, 1.32, 1.1, 1.2],
        strict=True,
    )
)
PATIENCE = 3
BEST_STEP, STOP, LOWEST_STEP = (
    1100,
    1400,
    1500,
)  # the lowest loss of all comes only after training has stopped


def check_stop(best_step: Callable[[dict[int, float], int], object]) -> str | None:
    def best_of(losses: list[float], patience: int = PATIENCE) -> object:
        """Return the student's answer for losses of the steps 1, 2, ..."""
        return best_step(dict(enumerate(losses, start=1)), patience)

    result = best_step(dict(LOSSES), PATIENCE)
    mistakes = (
        (
            max(LOSSES),
            (
                "1600 is the last step in `losses`, but training ended at 1400; return the best step until "
                "then, 1100"
            ),
        ),
        (STOP, "1400 is where training ended; return the step with the lowest loss until then, 1100"),
        (100, "step 100 has the highest loss, 2.0; a lower loss is better"),
        (200, "you stopped at the first loss that was worse, at 300; patience=3 means three in a row"),
        (
            600,
            "you counted the losses without a gain in total (300, 500, 700); a better loss, as at 400, "
            "must reset the count to 0",
        ),
        (800, "you stopped after two losses without a gain, at 900 and 1000; patience=3 allows a third"),
        (LOSSES[BEST_STEP], "1.3 is the loss; return its step"),
        (list(LOSSES).index(BEST_STEP), "10 is the index in the dict; return the step"),
    )
    if feedback := known_mistake(result, mistakes):
        return feedback
    if result == LOWEST_STEP:
        if best_of([2.0, 2.1, 2.2, 2.3, 2.4, 1.0]) == 6:
            return (
                "1500 has the lowest loss of all but was never reached: training ended at 1400, after "
                "three losses without a gain"
            )
        if best_of([2.0, 2.1, 2.2, 2.3, 1.0]) == 5:
            return (
                "you stopped one step too late: with patience=3 the losses at 1200, 1300 and 1400 end "
                "training"
            )
        return (
            "the loss at 1400 is lower than at 1300, but not lower than the best, 1.3 at 1100: compare "
            "with the best so far, not with the previous loss"
        )
    if result != BEST_STEP:
        return f"{result!r} came back; the lowest loss before three in a row without a gain is at 1100"
    if (tied := best_of([1.5, 1.2, 1.2, 1.4])) != 2:
        hint = ": among equal losses keep the earlier step" if tied == 3 else ""
        return f"the losses 1.5, 1.2, 1.2, 1.4 of steps 1 to 4 gave {tied!r}, not 2{hint}"
    if (tied := best_of([1.2, 1.2, 1.2, 1.0], patience=2)) != 1:
        return (
            f"the losses 1.2, 1.2, 1.2, 1.0 with patience=2 gave {tied!r}, not 1: an equal loss is no gain, "
            "so training ends at step 3"
        )
    return None


Facts = dict[str, bool | float]


def _facts(changes_daily: bool, must_cite: bool, form: bool, questions_per_second: float) -> Facts:
    return {
        "changes_daily": changes_daily,
        "must_cite": must_cite,
        "form": form,
        "questions_per_second": questions_per_second,
    }


SITUATIONS = {
    "rates": _facts(True, True, False, 0.1),
    "handbook": _facts(False, True, False, 20),
    "news": _facts(True, False, False, 40),
    "letters": _facts(False, False, True, 0.1),
    "hotline": _facts(True, False, True, 30),
    "audit": _facts(False, True, True, 1),
}
EXPECTED_CHOICES = dict(
    zip(SITUATIONS, ("search", "search", "search", "adapter", "both", "both"), strict=True)
)
ALL_CHOICES = ("search", "adapter", "both")
HIGH_LOAD = 10  # questions per second


def check_choose(choose: Callable[[dict[str, Facts]], Mapping[str, str]]) -> str | None:
    choices = choose({name: dict(facts) for name, facts in SITUATIONS.items()})
    if not isinstance(choices, Mapping):
        return f"{choices!r} came back; expected a dict from each name to its choice"
    if choices.keys() != EXPECTED_CHOICES.keys():
        return f"there are choices for {list(choices)}; the situations are {list(EXPECTED_CHOICES)}"
    if unknown := [choice for choice in choices.values() if choice not in ALL_CHOICES]:
        return f"{unknown[0]!r} is not one of {', '.join(ALL_CHOICES)}"
    mistakes = (
        (
            "search search search search search search",
            "you always chose search: letters needs a form, which a search does not teach",
        ),
        (
            "adapter adapter adapter adapter adapter adapter",
            "you always chose adapter: its knowledge ends with its training, and it cannot cite a source",
        ),
        (
            "both both both both both both",
            "you always chose both: rates has no reason for an adapter, and letters none for a search",
        ),
        (
            "adapter adapter adapter search both both",
            (
                "search and adapter are swapped: facts that change or must be cited need a search, a form "
                "an adapter"
            ),
        ),
        (
            "search adapter search adapter both adapter",
            "you left out must_cite: handbook does not change, but an adapter cannot cite its source",
        ),
        (
            "search search adapter adapter adapter both",
            "you left out changes_daily: news needs no source, but an adapter would give yesterday's facts",
        ),
        (
            "search adapter adapter adapter adapter adapter",
            "one reason is enough for a search: use `or` between changes_daily and must_cite, not `and`",
        ),
        (
            "search search search adapter search search",
            "hotline and audit need a form too, so they need an adapter as well as a search",
        ),
        (
            "search search search adapter adapter adapter",
            "hotline changes daily and audit must cite, so both need a search as well as an adapter",
        ),
        (
            "both search search adapter both both",
            "rates has two reasons for a search but none for an adapter, so a search is enough",
        ),
    )
    if feedback := known_mistake(" ".join(str(choices[name]) for name in EXPECTED_CHOICES), mistakes):
        return feedback
    wrong = [name for name in EXPECTED_CHOICES if choices[name] != EXPECTED_CHOICES[name]]
    if wrong and all(
        (choices[name] == "adapter") == (facts["questions_per_second"] > HIGH_LOAD)
        for name, facts in SITUATIONS.items()
    ):
        return "you chose by questions_per_second: the load is a reason for neither a search nor an adapter"
    if wrong:
        name = wrong[0]
        return f"{name}, {SITUATIONS[name]}, got {choices[name]!r}; it should be {EXPECTED_CHOICES[name]!r}"
    return None
