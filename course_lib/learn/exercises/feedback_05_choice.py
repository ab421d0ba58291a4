"""Checkers of chapter 05's exercises on the causes of wrong answers, and on the choice of adapter or search.

An adapter is a small addition to a model's weights that is trained on facts or on a form of answers; a search
finds the passages that a model then reads. A checker takes the student's answer, and returns feedback, or
None if the answer is right. Each known mistake is a wrong solution with the feedback for it, see
`comparing.diagnose`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from course_lib.learn.exercises.comparing import diagnose

Flags = Sequence[bool]  # one for each question


def shares_of_causes(found: Flags, searched: Flags, given: Flags, *, blind: bool = False) -> dict[str, float]:
    """Return outcome -> share of all questions: the right solution of 05.7, or a mistake with `blind`.

    found: whether the search found the right passage. searched: whether the answer from the found passages is
    right. given: whether the answer from the right passage alone is right. blind: a right answer without the
    right passage counts as "not found".
    """
    counts = dict.fromkeys(("right", "not found", "distracted", "misread"), 0)
    for was_found, with_search, alone in zip(found, searched, given, strict=True):
        if with_search and not (blind and not was_found):
            counts["right"] += 1
        elif not was_found:
            counts["not found"] += 1
        else:
            counts["distracted" if alone else "misread"] += 1
    return {name: count / len(found) for name, count in counts.items()}


def _of_the_wrong(found: Flags, searched: Flags, given: Flags) -> dict[str, float]:
    """A mistake: shares of the wrong answers only."""
    causes = shares_of_causes(found, searched, given)
    wrong = 1 - causes["right"] or 1
    return {name: share if name == "right" else share / wrong for name, share in causes.items()}


def _reader_first(found: Flags, searched: Flags, given: Flags) -> dict[str, float]:
    """A mistake: ask first whether the model can read the passage, and only then whether it was found."""
    counts = dict.fromkeys(("right", "not found", "distracted", "misread"), 0)
    for was_found, with_search, alone in zip(found, searched, given, strict=True):
        name = (
            "right" if with_search else "misread" if not alone else "distracted" if was_found else "not found"
        )
        counts[name] += 1
    return {name: count / len(found) for name, count in counts.items()}


def _swap(causes: dict[str, float], one: str, other: str) -> dict[str, float]:
    """Return the shares with two outcomes exchanged."""
    return {**causes, one: causes[other], other: causes[one]}


def _marginal(found: Flags, searched: Flags, given: Flags) -> dict[str, float]:
    """A mistake: count each cause over all questions, independently of the others."""
    n = len(found)
    right, missed, misread = sum(searched) / n, 1 - sum(found) / n, 1 - sum(given) / n
    return {
        "right": right,
        "not found": missed,
        "misread": misread,
        "distracted": 1 - right - missed - misread,
    }


# Known mistakes: a wrong answer, and the feedback on it.
CAUSE_MISTAKES: tuple[tuple[Callable[..., Any], str], ...] = (
    (
        lambda f, s, g: shares_of_causes(f, s, g, blind=True),
        "an answer that was right counts as right, even where the passage was not found (another one may say "
        "it, too): each question has one outcome, and they add up to 1",
    ),
    (
        _of_the_wrong,
        "shares of all questions are asked for, those of the wrong ones came back: the four must add up to 1",
    ),
    (
        _reader_first,
        "where the passage was not found, that is the cause, whatever the model would have made of it: ask "
        "about `found` first",
    ),
    (
        lambda f, s, g: _swap(shares_of_causes(f, s, g), "distracted", "misread"),
        "distracted and misread are swapped: who reads the passage rightly when it stands alone can read it",
    ),
    (
        lambda f, s, g: _swap(shares_of_causes(f, s, g), "distracted", "not found"),
        "distracted and not found are swapped: nobody is distracted from a passage that is not there",
    ),
    (
        _marginal,
        "the shares of not found and misread were taken over all questions, each by itself, so that some "
        "questions count twice; go through the questions one by one",
    ),
    (
        lambda f, s, g: {name: share * len(f) for name, share in shares_of_causes(f, s, g).items()},
        "counts came back; divide by the number of questions",
    ),
    (
        lambda f, s, g: {name: share * 100 for name, share in shares_of_causes(f, s, g).items()},
        "per cent came back; a share lies between 0 and 1",
    ),
    (
        lambda f, s, g: {name: share for name, share in shares_of_causes(f, s, g).items() if share},
        "an outcome that did not happen is missing; its share is 0",
    ),
    (
        lambda f, s, g: {name: share for name, share in shares_of_causes(f, s, g).items() if name != "right"},
        '"right" is missing: four outcomes are asked for, and they add up to 1',
    ),
)


def check_causes(causes: Callable[[list[bool], list[bool], list[bool]], Any]) -> str | None:
    """Check 05.7: `causes(found, searched, given)`, outcome -> share of the questions.

    Outcomes: "right"; "not found"; "distracted": found, but the other passages mislead; "misread": wrong even
    with the right passage alone.
    """

    def as_dict(*flags: list[bool]) -> Any:
        result = causes(*flags)
        return (
            {name: round(share, 6) for name, share in result.items()} if isinstance(result, dict) else result
        )

    def rounded(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *flags: {name: round(share, 6) for name, share in function(*flags).items()}

    rng = np.random.default_rng(4)
    cases = [tuple((rng.random((3, n)) < 0.6).tolist()) for n in (12, 30, 50, 7, 20)]
    cases += [([True, True], [True, True], [True, False])]
    mistakes = [(rounded(function), feedback) for function, feedback in CAUSE_MISTAKES]
    return diagnose(as_dict, rounded(shares_of_causes), cases, mistakes, name="causes")


Facts = dict[str, bool | float]
EXAMPLE: Facts = {
    "days_between_changes": 30,  # of the facts that are asked
    "days_to_retrain": 1,
    "must_cite": False,  # name the source of each answer
    "must_refuse": False,  # where there is no answer
    "form": True,  # whether answers must have a form that the model does not know yet
    "questions_per_second": 20,
}


def _reasons(f: Facts) -> tuple[bool, bool]:
    """Return whether there is a reason for a search, and one for an adapter."""
    stale = f["days_between_changes"] <= f["days_to_retrain"]
    return bool(stale or f["must_cite"] or f["must_refuse"]), bool(f["form"])


def _choose(f: Facts, search: bool | None = None, adapter: bool | None = None) -> str:
    """The right solution of 05.8, or a mistake if an option is given.

    search, adapter: whether there is a reason for it, instead of what is right.
    """
    needs_search, needs_adapter = _reasons(f)
    needs_search = needs_search if search is None else search
    needs_adapter = needs_adapter if adapter is None else adapter
    return "both" if needs_search and needs_adapter else "adapter" if needs_adapter else "search"


def _stale(f: Facts) -> bool:
    """Whether the facts change at least as fast as an adapter can be trained."""
    return f["days_between_changes"] <= f["days_to_retrain"]


# Known mistakes: a wrong answer, and the feedback on it.
CHOICE_MISTAKES: tuple[tuple[Callable[..., Any], str], ...] = (
    (lambda f: "search", "you always choose the search: it brings facts, but teaches no form"),
    (
        lambda f: "adapter",
        "you always choose the adapter: it cites nothing, never refuses, and is of the day of its training",
    ),
    (lambda f: "both", "you always choose both: each costs something, so each needs a reason"),
    (
        lambda f: {"search": "adapter", "adapter": "search"}.get(_choose(f), "both"),
        "search and adapter are swapped",
    ),
    (
        lambda f: _choose(f, search=bool(f["must_cite"] or f["must_refuse"])),
        "how often the facts change makes no difference in your rule: an adapter whose training takes as "
        "long as the facts last is never up to date",
    ),
    (
        lambda f: _choose(
            f,
            search=f["days_between_changes"] < f["days_to_retrain"]
            or bool(f["must_cite"] or f["must_refuse"]),
        ),
        "where the facts last exactly as long as training takes, the adapter is out of date the moment it is "
        "ready: that is a reason for a search, too",
    ),
    (
        lambda f: _choose(f, search=bool(_stale(f) or f["must_refuse"])),
        "must_cite makes no difference in your rule: an adapter cannot say where it has a fact from",
    ),
    (
        lambda f: _choose(f, search=bool(_stale(f) or f["must_cite"])),
        "must_refuse makes no difference in your rule: the adapter of this chapter refused none of the "
        "questions that the handbook does not answer",
    ),
    (
        lambda f: _choose(f, search=bool(_stale(f) and f["must_cite"] and f["must_refuse"])),
        "one reason for a search is enough: `or`, not `and`",
    ),
    (
        lambda f: _choose(f, search=not _stale(f) or bool(f["must_cite"] or f["must_refuse"])),
        "the days are compared the wrong way round: facts that last longer than training can be trained",
    ),
    (
        lambda f: _choose(
            f, search=bool(f["days_between_changes"] <= 1 or f["must_cite"] or f["must_refuse"])
        ),
        "you compare with one day, whatever training takes; compare with days_to_retrain",
    ),
    (
        lambda f: "search" if _reasons(f)[0] else "adapter",
        "where neither has a reason, the search is the choice, for it needs no training; and a form beside a "
        'reason for a search needs "both"',
    ),
    (
        lambda f: "both" if all(_reasons(f)) else "search" if _reasons(f)[0] else "adapter",
        "where neither has a reason you choose the adapter; the search needs no training",
    ),
    (
        lambda f: "search" if _reasons(f)[0] else _choose(f),
        "a form beside a reason for a search needs both: the search does not teach the form",
    ),
    (
        lambda f: "adapter" if f["form"] else "search",
        "a form beside a reason for a search needs both: the adapter does not bring the facts",
    ),
)
LOAD = (  # feedback for an answer that depends on questions_per_second
    "the load changes your answer: {0} questions a second gave {1!r}, {2} gave {3!r}. Nothing in the chapter "
    "makes it a reason"
)


def check_choose(choose: Callable[[Facts], Any]) -> str | None:
    """Check 05.8: `choose(facts)`, "search", "adapter" or "both" for a task described like EXAMPLE."""
    rng = np.random.default_rng(2)
    cases: list[Facts] = []
    for flags in np.ndindex(2, 2, 2, 3, 4):
        cite, refuse, form = map(bool, flags[:3])
        retrain = float(rng.choice([0.05, 0.5, 4, 30]) * rng.uniform(1, 2))
        between = (retrain / 2, retrain, retrain * 3)[flags[3]]
        cases.append(
            {
                "days_between_changes": between,
                "days_to_retrain": retrain,
                "must_cite": cite,
                "must_refuse": refuse,
                "form": form,
                "questions_per_second": float(10 ** rng.uniform(-2, 4)),
            }
        )
    for case in cases:
        rates = (0.001, 1, 30, 1_000, 100_000)
        answers = [choose({**case, "questions_per_second": rate}) for rate in rates]
        if other := [i for i, answer in enumerate(answers) if answer != answers[0]]:
            return LOAD.format(rates[0], answers[0], rates[other[0]], answers[other[0]])
        if answers[0] not in ("search", "adapter", "both"):
            return f'{answers[0]!r} came back; expected "search", "adapter" or "both"'
    return diagnose(choose, _choose, [(case,) for case in cases], CHOICE_MISTAKES, name="choose")
