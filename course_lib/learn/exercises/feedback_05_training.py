"""Checkers of chapter 05's exercises on training labels, early stopping, and the factor alpha of an adapter.

A checker takes the student's answer, and returns feedback, or None if the answer is right. Each known mistake
is a wrong solution with the feedback for it, see `comparing.diagnose`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from numbers import Integral, Real
from typing import Any

import numpy as np

from course_lib.learn.exercises import stopping_rules
from course_lib.learn.exercises.comparing import diagnose

Turn = tuple[str, list[int]]  # role and token ids
IGNORED = -100  # the label of a token that is not trained on
END = 2  # the id of the token that ends a turn


def _labels(turns: Sequence[Turn], end: int) -> list[int]:
    """The right solution of 05.4."""
    rows = ([*ids, end] if role == "assistant" else [IGNORED] * (len(ids) + 1) for role, ids in turns)
    return [label for row in rows for label in row]


def _all_tokens(turns: Sequence[Turn], end: int) -> list[int]:
    """A mistake: all tokens get labels."""
    return [token for _, ids in turns for token in [*ids, end]]


def _ends_of_users_too(turns: Sequence[Turn], end: int) -> list[int]:
    """A mistake: the end tokens of the user's turns get labels."""
    rows = ([*ids, end] if role == "assistant" else [IGNORED] * len(ids) + [end] for role, ids in turns)
    return [label for row in rows for label in row]


def _masked_ends(turns: Sequence[Turn], end: int) -> list[int]:
    """A mistake: the end tokens of the assistant's turns get none."""
    rows = ([*ids, IGNORED] if role == "assistant" else [IGNORED] * (len(ids) + 1) for role, ids in turns)
    return [label for row in rows for label in row]


def _without_ends(turns: Sequence[Turn], end: int) -> list[int]:
    """A mistake: the end tokens are left out."""
    rows = (ids if role == "assistant" else [IGNORED] * len(ids) for role, ids in turns)
    return [label for row in rows for label in row]


def _last_only(turns: Sequence[Turn], end: int) -> list[int]:
    """A mistake: only the last answer gets labels."""
    last = max((i for i, (role, _) in enumerate(turns) if role == "assistant"), default=-1)
    rows = ([*ids, end] if i == last else [IGNORED] * (len(ids) + 1) for i, (_, ids) in enumerate(turns))
    return [label for row in rows for label in row]


def _last_turn(turns: Sequence[Turn], end: int, *, any_role: bool = False) -> list[int]:
    """A mistake: only the last turn gets labels. any_role: even if it is not the assistant's."""
    others = [("user", ids) for _, ids in turns[:-1]]
    return _labels([*others, ("assistant" if any_role else turns[-1][0], turns[-1][1])], end)


def _swapped(turns: Sequence[Turn], end: int) -> list[int]:
    """A mistake: the user's turns get labels instead of the assistant's."""
    return _labels([("assistant" if role == "user" else "user", ids) for role, ids in turns], end)


def _every_second(turns: Sequence[Turn], end: int) -> list[int]:
    """A mistake: every second turn gets labels, whatever its role."""
    return _labels([(("user", "assistant")[i % 2], ids) for i, (_, ids) in enumerate(turns)], end)


def _not_user(turns: Sequence[Turn], end: int) -> list[int]:
    """A mistake: all turns but the user's get labels, the system's included."""
    return _labels([("user" if role == "user" else "assistant", ids) for role, ids in turns], end)


def _by_id(turns: Sequence[Turn], end: int) -> list[int]:
    """A mistake: a token that also occurs in a question gets no label."""
    asked = {token for role, ids in turns for token in ids if role != "assistant"}
    return [IGNORED if label in asked else label for label in _labels(turns, end)]


# Known mistakes: a wrong answer, and the feedback on it.
LABEL_MISTAKES: tuple[tuple[Callable[..., Any], str], ...] = (
    (
        _all_tokens,
        "everything is learnt, so the model would learn to write the user's turns too: they get -100",
    ),
    (
        _ends_of_users_too,
        "the end after a turn of the user is learnt: the model does not write it, so it gets -100",
    ),
    (
        _masked_ends,
        "the ends of the assistant's turns got -100, so the model never learns to stop: give them their id",
    ),
    (_without_ends, "each turn is followed by its end in the row, so each needs one label more"),
    (
        lambda t, e: [
            x for role, ids in t for x in ([*ids, e] if role == "assistant" else [IGNORED] * len(ids))
        ],
        "the ends after the other turns have no label: they are in the row, and get -100",
    ),
    (
        lambda t, e: (
            [x for role, ids in t for x in (ids if role == "assistant" else [IGNORED] * len(ids))] + [e]
        ),
        "there is one end, at the very end; each turn has an end of its own",
    ),
    (
        _last_only,
        "only the last answer is learnt; the earlier ones are the assistant's as well, and every one teaches",
    ),
    (
        _last_turn,
        "only the last turn of the row can be learnt; the assistant's earlier turns teach as well, so go by "
        "the role of each turn",
    ),
    (
        lambda t, e: _last_turn(t, e, any_role=True),
        "the last turn is learnt, whoever speaks it, and no other; go by the role: a conversation may end "
        "with a turn of the user",
    ),
    (_swapped, "the roles are swapped: you learn what the user says"),
    (
        _every_second,
        "every second turn is learnt; go by the role: a conversation may begin with a system's turn",
    ),
    (_not_user, "the system's turn is learnt; only what the assistant says is learnt, so ask for that role"),
    (
        lambda t, e: [0 if label == IGNORED else label for label in _labels(t, e)],
        "what is not learnt got 0, which is the id of a token; only -100 tells the library to leave it out",
    ),
    (
        lambda t, e: [-1 if label == IGNORED else label for label in _labels(t, e)],
        "what is not learnt got -1; only -100 tells the library to leave a token out",
    ),
    (
        lambda t, e: [int(label != IGNORED) for label in _labels(t, e)],
        "that is a mask of 0 and 1; a label is the token's id, or -100",
    ),
    (
        lambda t, e: [*_labels(t, e)[1:], IGNORED],
        "all labels were moved one position to the left; leave each at its own token, because the library "
        "moves them itself",
    ),
    (
        lambda t, e: _labels(t, e)[1:],
        "one label is missing, and the others are one position too early: leave each at its own token, "
        "because the library moves them itself",
    ),
    (
        lambda t, e: [IGNORED, *_labels(t, e)[:-1]],
        "all labels are one position too late: leave each at its own token",
    ),
    (_by_id, "tokens of an answer got -100 because the question has them too: choose by position, not by id"),
    (
        lambda t, e: [label for label in _labels(t, e) if label != IGNORED],
        "only what is learnt has a label; every token of the row needs one, the others -100",
    ),
    (lambda t, e: [IGNORED] * len(_labels(t, e)), "all labels are -100, so nothing is learnt"),
)


def check_labels(labels: Callable[[list[Turn], int], Any]) -> str | None:
    """Check 05.4: `labels(turns, end)`, for each token what is to be predicted in its place.

    It is the token's id in the assistant's turns, and IGNORED elsewhere. Each turn is followed by an `end`.
    """

    def as_list(turns: list[Turn], end: int) -> Any:
        result = labels(turns, end)
        return result.tolist() if hasattr(result, "tolist") else result

    turns: list[Turn] = [("user", [11, 7]), ("assistant", [5, 7, 9])]
    cases: list[tuple[list[Turn], int]] = [
        (turns, END),
        ([*turns, ("user", [4]), ("assistant", [8])], END),
        ([("system", [3, 3, 6]), *turns, ("user", [END, 1])], END),
        ([("assistant", [6]), ("assistant", [5, END])], END),
    ]
    rng = np.random.default_rng(3)
    for _ in range(8):
        roles = rng.choice(["user", "assistant", "system"], size=rng.integers(1, 6))
        cases.append(([(str(r), rng.integers(3, 30, size=rng.integers(1, 6)).tolist()) for r in roles], 31))
    if feedback := diagnose(as_list, _labels, cases, LABEL_MISTAKES, name="labels"):
        return feedback
    given: list[Turn] = [(role, list(ids)) for role, ids in turns]
    labels(given, END)
    if given != turns:
        return f"the labels are right, but the given turns were changed, to {given}: build new lists instead"
    return None


# The careless rules of exercise 05.5.
RULES = {"a": stopping_rules.rule_a, "b": stopping_rules.rule_b, "c": stopping_rules.rule_c}


def check_cases(cases: Any) -> str | None:
    """Check 05.5: for each careless rule of early stopping a case (losses, patience) that exposes it.

    Training ends after `patience` evaluations in a row without a new lowest loss, and keeps the weights of
    the lowest. A case exposes a rule if the rule keeps others.
    """
    if not isinstance(cases, Mapping) or set(cases) != set(RULES):
        return f'expected a dict with the keys "a", "b" and "c"; got {cases!r:.80}'
    return next(filter(None, (_check_case(name, cases[name]) for name in RULES)), None)


def _check_case(name: str, case: Any) -> str | None:
    """Return feedback unless the careless rule keeps another evaluation than the right one."""
    if not isinstance(case, (tuple, list)) or len(case) != 2:
        return f"{name}: expected (losses, patience), such as ([3.0, 2.0, 2.5], 1); got {case!r:.80}"
    losses, patience = case
    if not isinstance(losses, (tuple, list)) or not losses:
        return f"{name}: the losses must be a list of numbers; got {losses!r:.80}"
    if not all(isinstance(n, Real) and math.isfinite(n) for n in losses):
        return f"{name}: a loss is a finite number; got {losses!r:.80}"
    if not isinstance(patience, Integral) or patience < 1:
        return f"{name}: patience is a whole number from 1; got {patience!r}"
    losses, patience = list(losses), int(patience)
    right, careless = stopping_rules.kept(losses, patience), RULES[name](losses, patience)
    if right != careless:
        return None
    return f"{name}: both keep losses[{right}] = {losses[right]:g}. {_why_alike(name, losses, patience)}"


def _why_alike(name: str, losses: list[float], patience: int) -> str:
    """Return what the case lacks, if a careless rule and the right one keep the same evaluation."""
    stop = stopping_rules.end(losses, patience)
    behind = losses[stop + 1 :]
    lowest = losses[stopping_rules.kept(losses, patience)]
    waits = stop - stopping_rules.kept(losses, patience)
    if name != "c" and waits < patience:
        return f"Training never ends here: no {patience} losses in a row come without a new lowest one"
    if name == "a":
        return (
            f"Training ends at losses[{stop}], and nothing after it is below {lowest:g}: the rule looks "
            "ahead, but there is nothing to see"
            if behind
            else f"Training ends at losses[{stop}], the last one: what could a rule see that looks further?"
        )
    if name == "b":
        wait = losses[stop - patience : stop + 1]
        if not any(later < earlier for earlier, later in pairwise(wait)):
            return (
                f"While {patience} losses bring no new lowest one, each is at or above the one before it, so "
                "both rules count the same"
            )
        return f"The rule goes on after losses[{stop}], but meets nothing below {lowest:g} before it ends"
    losses_without_gain = sum(loss >= min(losses[:i]) for i, loss in enumerate(losses) if i)
    if losses_without_gain < patience:
        return f"Only {losses_without_gain} losses bring no gain, so with patience={patience} no rule ends"
    return (
        "When the rule's count is full, training by the right rule ends too, or brings nothing lower after "
        "it: where do the two counts differ?"
    )


def _fair(alpha: float, rank: int, new_rank: int) -> float:
    """The right solution of 05.6."""
    return alpha * math.sqrt(new_rank / rank)


# Known mistakes: a wrong answer, and the feedback on it.
ALPHA_MISTAKES: tuple[tuple[Callable[..., Any], str], ...] = (
    (
        lambda alpha, r, new: alpha,
        "with alpha left as it is, the first step shrinks as the rank grows: the table's second column",
    ),
    (
        lambda alpha, r, new: alpha * new / r,
        "alpha in step with the rank makes the first step longer as the rank grows: the table's first column",
    ),
    (
        lambda alpha, r, new: alpha * r / new,
        "a smaller alpha for a larger rank makes the step shrink even faster than with alpha left as it is",
    ),
    (
        lambda alpha, r, new: alpha * math.sqrt(r / new),
        "upside down: with alpha left as it is the step already shrinks, so a larger rank needs more alpha",
    ),
    (lambda alpha, r, new: math.sqrt(new / r), "that is the factor; multiply the old alpha by it"),
    (
        lambda alpha, r, new: alpha * math.sqrt(new),
        "that is right only for r = 1: what counts is the new rank beside the old one",
    ),
    (
        lambda alpha, r, new: alpha * (new / r) ** 2,
        "the square overshoots: look at how the two columns of the table change from rank 4 to rank 16",
    ),
    (
        lambda alpha, r, new: alpha * math.log2(1 + new / r),
        "equal where the rank stays, but from 4 to 16 the table asks for exactly twice alpha",
    ),
)


def check_alpha(fair_alpha: Callable[[float, int, int], Any]) -> str | None:
    """Check 05.6: `fair_alpha(alpha, rank, new_rank)`, with which the first training step keeps its size.

    An adapter's product of two matrices of this rank is multiplied by alpha / rank.
    """
    rng = np.random.default_rng(11)
    drawn = rng.integers(1, 65, size=(6, 3)).tolist()
    cases: list[tuple[float, int, int]] = [(8.0, 4, 16), (8.0, 4, 4), (32.0, 16, 1), *map(tuple, drawn)]
    return diagnose(fair_alpha, _fair, cases, ALPHA_MISTAKES, name="fair_alpha")
