"""The checks of chapter 04: each takes an answer and returns None when it is right, else feedback."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from course_lib.learn.exercises.comparing import compare, known_mistake

IDS, SCORES = ["d", "b", "a", "c", "e"], [0.2, 0.9, 0.5, 0.9, 0.5]
RIGHT = ["b", "c", "a"]


def check_order(order: Callable[[list[str], list[float], int], Sequence[str]]) -> str | None:
    asked = f"best({IDS}, {SCORES}, 3)"
    got = order(list(IDS), list(SCORES), 3)
    if isinstance(got, str) or not all(isinstance(id_, str) for id_ in got):
        return f"{asked} gave {got!r}; a list of ids is wanted, not scores or places"
    mistakes = (
        (["d", "a", "e"], "the worst came first: the highest score is the best"),
        (
            ["b", "a", "d"],
            "the first 3 candidates were taken and then ordered; c, in place 4, has one of the highest "
            "scores: order all, then take k",
        ),
        (
            ["c", "b", "e"],
            "b and c both have 0.9 and changed places, and so did a and e: of equal scores the one that "
            "the search had first stays first",
        ),
        (["b", "c", "a", "e", "d"], "all 5 came back; the best k = 3 are wanted"),
        (["d", "b", "a"], "the order of the search came back: the scores were not used"),
    )
    if feedback := known_mistake(list(got), mistakes):
        return feedback
    if list(got) != RIGHT:
        return f"{asked} gave {list(got)}; it should be {RIGHT}"
    named = list(order(["z", "y"], [1.0, 1.0], 2))
    if named != ["z", "y"]:
        return f"z and y have the same score, and {named} came back: equal scores are not ordered by name"
    try:
        order(["a", "b"], [math.nan, 1.0], 2)
    except ValueError:
        return None
    return (
        "a score of NaN compares as neither more nor less, so any order may come out: raise a ValueError "
        "for it"
    )


QUESTION = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
PASSAGE = np.array([[0.8, 0.6, 0.0], [0.0, 0.28, 0.96], [0.6, 0.0, 0.8]])


def check_maxsim(maxsim: Callable[[Any, Any], float]) -> str | None:
    cosines = QUESTION @ PASSAGE.T
    best, for_passage = cosines.max(axis=1), cosines.max(axis=0).sum()
    pooled = QUESTION.mean(axis=0) @ PASSAGE.mean(axis=0)
    lengths = np.linalg.norm(QUESTION.mean(axis=0)) * np.linalg.norm(PASSAGE.mean(axis=0))
    got = maxsim(QUESTION.copy(), PASSAGE.copy())
    if isinstance(got, np.ndarray) and got.ndim:
        return f"an array of shape {got.shape} came back: add up the best cosines, so that one number is left"
    return compare(
        "maxsim of 2 and 3 tokens",
        got,
        best.sum(),
        {
            for_passage: "the best was taken for each token of the passage: a long passage would win by its "
            "length; take it for each of the question",
            best.mean(): f"{best.mean():.2f} is the mean of the best cosines; MaxSim is their sum",
            cosines.sum(): "all cosines were added up: only the best for each token of the question counts",
            cosines.mean(): (
                "that is the mean of all cosines, as averaging the tokens first would give: one good match "
                "drowns in it"
            ),
            cosines.max(): "one token alone decided: every token of the question needs its match",
            pooled / lengths: "the tokens were averaged into one vector each: that is the bi-encoder",
            cosines.min(axis=1).sum(): "min took the worst match of each token",
        },
    )


def check_windows(windows: Callable[[int, int, int], Sequence[tuple[int, int]]]) -> str | None:
    right = [(0, 4), (3, 7), (6, 10)]
    got = [tuple(span) for span in windows(10, 4, 1)]
    mistakes = (
        (
            [(0, 4)],
            (
                "the first window alone came back: tokens 4 to 9 are cut off, silently, which is the very "
                "mistake"
            ),
        ),
        (
            [(0, 4), (4, 8), (8, 10)],
            "the windows do not overlap: an answer that begins in one and ends in the next is in none; "
            "go on by room - overlap",
        ),
        ([(0, 4), (3, 7)], "tokens 7 to 9 are in no window: the last window ends where the document does"),
        (
            [(0, 4), (3, 7), (6, 10), (9, 10)],
            "the window (9, 10) holds nothing that (6, 10) has not: stop once the end is reached",
        ),
        (
            [(s, s + 4) for s in range(7)],
            "a step of 1 makes 7 windows, where 3 will do: each costs a run of the model; overlap "
            "is what two windows share, not the step",
        ),
        (
            [(0, 4), (4, 8), (8, 12)],
            "they do not overlap, and (8, 12) ends behind the document, which has 10 tokens",
        ),
    )
    if feedback := known_mistake(got, mistakes):
        return feedback
    if got != right:
        return f"windows(10, 4, 1) gave {got}; it should be {right}"
    ends = [tuple(span) for span in windows(9, 4, 1)]
    if ends == [(0, 4), (3, 7), (6, 10)]:
        return "a document of 9 tokens got the window (6, 10): a window ends where the document does, at 9"
    if ends != [(0, 4), (3, 7), (6, 9)]:
        return f"windows(9, 4, 1) gave {ends}; it should be [(0, 4), (3, 7), (6, 9)]"
    short = [tuple(span) for span in windows(3, 4, 1)]
    if short != [(0, 3)]:
        return f"a document of 3 tokens, which fits, gave {short}: it is one window, (0, 3)"
    return None


LENGTHS, MOST = [10, 200, 12, 190, 11, 13], 400


def padded(batches: Sequence[Sequence[int]], lengths: Sequence[int]) -> int:
    """Tokens that are computed when every text of a batch is filled up to its longest."""
    return sum(len(batch) * max(lengths[i] for i in batch) for batch in batches if batch)


def check_batches(batches: Callable[[list[int], int], Sequence[Sequence[int]]]) -> str | None:
    got = [list(batch) for batch in batches(list(LENGTHS), MOST)]
    flat = [i for batch in got for i in batch]
    if flat and not all(isinstance(i, (int, np.integer)) for i in flat):
        return f"{got} holds something else than numbers of texts"
    if sorted(flat) == sorted(LENGTHS):
        return (
            "those are the lengths; the texts' numbers are wanted, 0 to 5, so that scores find their way back"
        )
    if sorted(flat) != list(range(6)):
        lost = sorted(set(range(6)) - set(flat))
        return (
            f"texts {lost} are in no batch: is the last batch kept?"
            if lost
            else f"a text is in two batches: {got}"
        )
    if any(padded([batch], LENGTHS) > MOST for batch in got):
        worst = max(got, key=lambda batch: padded([batch], LENGTHS))
        return (
            f"the batch {worst} has {sum(LENGTHS[i] for i in worst)} tokens, but is computed with "
            f"{padded([worst], LENGTHS)}, more than {MOST}: every text is filled up to the longest"
        )
    if len(got) == len(LENGTHS):
        return "each text is alone: nothing is padded, and nothing is gained by batches either"
    if padded(got, LENGTHS) > 452:
        return (
            f"{padded(got, LENGTHS)} tokens are computed for {sum(LENGTHS)}: short texts stand beside long "
            "ones; put like lengths together first"
        )
    if len(got) > 2:
        return f"{len(got)} batches, where 2 have room for all: fill a batch before you open the next"
    alone = [list(batch) for batch in batches([500], MOST)]
    return (
        None
        if alone == [[0]]
        else f"a text longer than a batch must still be read, alone; batches([500], 400) gave {alone}"
    )


SECONDS = {5: 0.3, 10: 0.6, 25: 1.5, 50: 3.0, 100: 6.0}
QUALITY = {5: 0.88, 10: 0.93, 25: 0.95, 50: 0.95, 100: 0.94}


def check_budget(choose: Callable[[Mapping[int, float], Mapping[int, float], float], int]) -> str | None:
    def of(allowed: float) -> int:
        return choose(dict(SECONDS), dict(QUALITY), allowed)

    got = of(10)
    mistakes = (
        (
            100,
            (
                "100 candidates fit into 10 seconds, but 25 do better: more candidates are more chances to "
                "be wrong"
            ),
        ),
        (50, "50 candidates are no better than 25 and take twice as long: of equals take the fewest"),
        (5, "5 candidates are the quickest; within the 10 seconds allowed 25 do better"),
        (0.95, "that is the quality; how many candidates is asked"),
    )
    if feedback := known_mistake(got, mistakes):
        return feedback
    if got != 25:
        return f"with 10 seconds allowed {got!r} came back; it should be 25"
    if (got := of(0.7)) != 10:
        late = f", which take {SECONDS[got]} seconds" if got in SECONDS else ""
        return f"0.7 seconds are allowed, and {got!r} came back{late}: 10 are the best that fit"
    if of(0.6) != 10:
        return "10 candidates take 0.6 seconds, and 0.6 are allowed: that fits"
    try:
        got = of(0.1)
    except ValueError:
        return "where nothing fits there is no largest of nothing: return 0, do not rerank"
    return (
        None
        if got == 0
        else f"0.1 seconds are allowed, in which not even 5 fit, and {got!r} came back: return 0"
    )


def _cases() -> dict[str, tuple[list[float], list[float]]]:
    """Verdict -> reciprocal ranks before and after."""
    rng = np.random.default_rng(0)
    hard = rng.choice([0.0, 1 / 3, 0.5, 1.0], 80)
    helped = np.where(np.arange(80) % 8 == 0, np.minimum(1, hard + 0.5), hard)
    noise = np.clip(hard + rng.choice([-0.5, 0, 0.55], 80), 0, 1)
    return {
        "rerank": (hard.tolist(), helped.tolist()),
        "do not": (helped.tolist(), hard.tolist()),
        "undecided": (hard.tolist(), noise.tolist()),
    }


def check_decide(decide: Callable[[list[float], list[float]], str]) -> str | None:
    cases = _cases()
    got = {name: decide(list(before), list(after)) for name, (before, after) in cases.items()}
    if got == {name: name for name in cases}:
        return None
    if not set(got.values()) <= cases.keys():
        odd = next(answer for answer in got.values() if answer not in cases)
        return f"{odd!r} is none of 'rerank', 'do not', 'undecided'"
    if got == {"rerank": "do not", "do not": "rerank", "undecided": "undecided"}:
        return "the two were swapped: difference(a, b) tells of a - b, so the ranks after come first"
    if got == {"rerank": "rerank", "do not": "do not", "undecided": "rerank"}:
        gap = np.mean(cases["undecided"][1]) - np.mean(cases["undecided"][0])
        return (
            f"a mean gain of {gap:+.3f} was enough for 'rerank', but its interval holds 0: luck can do that"
        )
    if got == dict.fromkeys(cases, "undecided"):
        return (
            "where 10 of 80 questions gained and none lost it said 'undecided': compare question by "
            "question; two intervals of their own overlap because questions differ"
        )
    if len(set(got.values())) == 1:
        return f"it always says {got['rerank']!r}, whatever the questions tell"
    wrong = next(name for name in cases if got[name] != name)
    return f"where the interval says {wrong!r} it said {got[wrong]!r}"
