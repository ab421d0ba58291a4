"""Checkers of chapter 04's exercises: each takes an answer and returns feedback, or None if it is right."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from course_lib.learn.exercises.comparing import compare, known_mistake

IDS, SCORES, K = ["d", "b", "a", "c", "e"], [0.2, 0.9, 0.5, 0.9, 0.5], 3
BEST = ["b", "c", "a"]


def check_order(best: Callable[[list[str], list[float], int], Sequence[str]]) -> str | None:
    call = f"best({IDS}, {SCORES}, {K})"
    result = best(list(IDS), list(SCORES), K)
    if isinstance(result, str) or not all(isinstance(id_, str) for id_ in result):
        return f"{call} gave {result!r}; expected a list of ids, not of scores or indices"
    mistakes = (
        (["d", "a", "e"], "the lowest scores came first: sort so that the highest score comes first"),
        (
            ["b", "a", "d"],
            "you sorted only the first 3 candidates, and c, the fourth, has one of the highest scores: sort "
            "all of them, then take k",
        ),
        (
            ["c", "b", "e"],
            "b and c both have 0.9 and came in reverse order: ids with equal scores must keep the order of "
            "the search",
        ),
        (["b", "c", "a", "e", "d"], f"all {len(IDS)} ids came back; return the best k = {K}"),
        (["d", "b", "a"], "the order of the search came back unchanged: sort by the scores"),
    )
    if feedback := known_mistake(list(result), mistakes):
        return feedback
    if list(result) != BEST:
        return f"{call} gave {list(result)}; it should be {BEST}"
    tied = list(best(["z", "y"], [1.0, 1.0], 2))
    if tied != ["z", "y"]:
        return f"z and y have the same score, but {tied} came back: do not sort equal scores by id"
    try:
        best(["a", "b"], [math.nan, 1.0], 2)
    except ValueError:
        return None
    return (
        "a score of NaN cannot be sorted, because every comparison with it is false: raise a ValueError "
        "for it"
    )


QUESTION = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
PASSAGE = np.array([[0.8, 0.6, 0.0], [0.0, 0.28, 0.96], [0.6, 0.0, 0.8]])


def check_maxsim(maxsim: Callable[[Any, Any], float]) -> str | None:
    cosines = QUESTION @ PASSAGE.T
    best = cosines.max(axis=1)
    mean_question, mean_passage = QUESTION.mean(axis=0), PASSAGE.mean(axis=0)
    pooled = mean_question @ mean_passage / (np.linalg.norm(mean_question) * np.linalg.norm(mean_passage))
    result = maxsim(QUESTION.copy(), PASSAGE.copy())
    if isinstance(result, np.ndarray) and result.ndim:
        return f"an array of shape {result.shape} came back: add up the best cosines to get one number"
    return compare(
        f"maxsim of {len(QUESTION)} and {len(PASSAGE)} tokens",
        result,
        best.sum(),
        {
            cosines.max(axis=0).sum(): (
                "you took the best cosine for each token of the passage, so a longer passage would score "
                "higher; take it for each token of the question"
            ),
            best.mean(): f"{best.mean():.2f} is the mean of the best cosines; MaxSim is their sum",
            cosines.sum(): "you added up all cosines; add only the best one for each token of the question",
            cosines.mean(): (
                "that is the mean of all cosines, in which one good match has little weight; take the best "
                "cosine for each token of the question"
            ),
            cosines.max(): (
                "that is the best cosine of a single token; add up those of all tokens of the question"
            ),
            pooled: (
                "you averaged the tokens into one vector each: that is a bi-encoder, not late interaction"
            ),
            cosines.min(axis=1).sum(): "min takes the worst match of each token; use max",
        },
    )


def check_windows(windows: Callable[[int, int, int], Sequence[tuple[int, int]]]) -> str | None:
    length, room, overlap = 10, 4, 1
    expected = [(0, 4), (3, 7), (6, 10)]
    spans = [tuple(span) for span in windows(length, room, overlap)]
    mistakes = (
        ([(0, 4)], "only the first window came back: tokens 4 to 9 are in no window"),
        (
            [(0, 4), (4, 8), (8, 10)],
            "the windows do not overlap, so an answer at a boundary is split: each window must start "
            "room - overlap tokens after the previous one",
        ),
        ([(0, 4), (3, 7)], "tokens 7 to 9 are missing: the last window must reach the end of the document"),
        (
            [(0, 4), (3, 7), (6, 10), (9, 10)],
            "the window (9, 10) lies inside (6, 10): stop when a window has reached the end",
        ),
        (
            [(start, start + room) for start in range(0, length - room + 1, overlap)],
            f"a step of 1 makes {length - room + 1} windows where 3 are enough: overlap is what two windows "
            "share, not the step",
        ),
        (
            [(0, 4), (4, 8), (8, 12)],
            "the windows do not overlap, and (8, 12) ends after the document, which has 10 tokens",
        ),
    )
    if feedback := known_mistake(spans, mistakes):
        return feedback
    if spans != expected:
        return f"windows({length}, {room}, {overlap}) gave {spans}; it should be {expected}"
    shorter = [tuple(span) for span in windows(9, room, overlap)]
    if shorter == expected:
        return "for a document of 9 tokens the last window was (6, 10): it must end with the document, at 9"
    if shorter != [(0, 4), (3, 7), (6, 9)]:
        return f"windows(9, {room}, {overlap}) gave {shorter}; it should be [(0, 4), (3, 7), (6, 9)]"
    fitting = [tuple(span) for span in windows(3, room, overlap)]
    if fitting != [(0, 3)]:
        return f"a document of 3 tokens fits into one window, (0, 3), but {fitting} came back"
    return None


LENGTHS, MAX_TOKENS = [10, 200, 12, 190, 11, 13], 400
BEST_BATCHES = [[0, 4, 2, 5], [3, 1]]


def padded_tokens(batches: Sequence[Sequence[int]], lengths: Sequence[int]) -> int:
    """Return the number of tokens computed when each text is padded to the longest of its batch."""
    return sum(len(batch) * max(lengths[i] for i in batch) for batch in batches if batch)


def check_batches(make_batches: Callable[[list[int], int], Sequence[Sequence[int]]]) -> str | None:
    batches = [list(batch) for batch in make_batches(list(LENGTHS), MAX_TOKENS)]
    indices = [i for batch in batches for i in batch]
    if indices and not all(isinstance(i, (int, np.integer)) for i in indices):
        return f"{batches} came back; expected lists of text indices"
    if sorted(indices) == sorted(LENGTHS):
        return f"those are the lengths; return the indices of the texts, 0 to {len(LENGTHS) - 1}"
    if sorted(indices) != list(range(len(LENGTHS))):
        lost = sorted(set(range(len(LENGTHS))) - set(indices))
        return (
            f"texts {lost} are in no batch: did you append the last batch?"
            if lost
            else f"a text is in two batches: {batches}"
        )
    largest = max(batches, key=lambda batch: padded_tokens([batch], LENGTHS))
    if padded_tokens([largest], LENGTHS) > MAX_TOKENS:
        return (
            f"the batch {largest} has {sum(LENGTHS[i] for i in largest)} tokens, but padded to its longest "
            f"text it has {padded_tokens([largest], LENGTHS)}, more than {MAX_TOKENS}: count the padding too"
        )
    if len(batches) == len(LENGTHS):
        return "each text is alone in its batch, so batching gains nothing: put several texts into a batch"
    if padded_tokens(batches, LENGTHS) > padded_tokens(BEST_BATCHES, LENGTHS):
        return (
            f"{padded_tokens(batches, LENGTHS)} tokens are computed for texts of {sum(LENGTHS)} tokens, "
            "because short texts share a batch with long ones: sort the texts by length first"
        )
    if len(batches) > len(BEST_BATCHES):
        return f"{len(batches)} batches came back where 2 are enough: fill a batch before you start the next"
    too_long = [list(batch) for batch in make_batches([MAX_TOKENS + 100], MAX_TOKENS)]
    return (
        None
        if too_long == [[0]]
        else f"a text longer than `most` must get a batch of its own; batches([500], 400) gave {too_long}"
    )


SECONDS = {5: 0.3, 10: 0.6, 25: 1.5, 50: 3.0, 100: 6.0}  # number of candidates -> seconds
QUALITY = {5: 0.88, 10: 0.93, 25: 0.95, 50: 0.95, 100: 0.94}


def check_budget(how_many: Callable[[Mapping[int, float], Mapping[int, float], float], int]) -> str | None:
    def chosen(allowed: float) -> int:
        return how_many(dict(SECONDS), dict(QUALITY), allowed)

    result = chosen(10)
    mistakes = (
        (100, "100 candidates fit into 10 seconds, but 25 have a higher quality: choose by quality"),
        (50, "50 candidates are no better than 25 and take twice as long: among equals take the fewest"),
        (5, "5 candidates are the fastest, but 25 also fit into 10 seconds and have a higher quality"),
        (max(QUALITY.values()), "that is the quality; return the number of candidates"),
    )
    if feedback := known_mistake(result, mistakes):
        return feedback
    if result != 25:
        return f"with 10 seconds allowed {result!r} came back; it should be 25"
    if (result := chosen(0.7)) != 10:
        duration = f", which take {SECONDS[result]} seconds" if result in SECONDS else ""
        return (
            f"0.7 seconds are allowed, but {result!r} came back{duration}: 10 candidates are the best that "
            "fit"
        )
    if chosen(0.6) != 10:
        return "10 candidates take 0.6 seconds and 0.6 seconds are allowed: use <= so that they fit"
    try:
        result = chosen(0.1)
    except ValueError:
        return "max() raises a ValueError when no number of candidates fits: return 0 then"
    return (
        None
        if result == 0
        else f"0.1 seconds are allowed, too few even for 5 candidates, but {result!r} came back: return 0"
    )


QUESTION_COUNT = 80
HELPED_EVERY = 8  # in the first case reranking helps one question of eight


def _cases() -> dict[str, tuple[list[float], list[float]]]:
    """Return, for each expected verdict, reciprocal ranks before and after reranking."""
    rng = np.random.default_rng(0)
    ranks = rng.choice([0.0, 1 / 3, 0.5, 1.0], QUESTION_COUNT)
    helped = np.where(np.arange(QUESTION_COUNT) % HELPED_EVERY == 0, np.minimum(1, ranks + 0.5), ranks)
    noisy = np.clip(ranks + rng.choice([-0.5, 0, 0.55], QUESTION_COUNT), 0, 1)
    return {
        "rerank": (ranks.tolist(), helped.tolist()),
        "do not": (helped.tolist(), ranks.tolist()),
        "undecided": (ranks.tolist(), noisy.tolist()),
    }


def check_decide(decide: Callable[[list[float], list[float]], str]) -> str | None:
    cases = _cases()
    verdicts = {expected: decide(list(before), list(after)) for expected, (before, after) in cases.items()}
    if verdicts == {expected: expected for expected in cases}:
        return None
    if not set(verdicts.values()) <= cases.keys():
        unknown = next(verdict for verdict in verdicts.values() if verdict not in cases)
        return f"{unknown!r} is not one of 'rerank', 'do not', 'undecided'"
    if verdicts == {"rerank": "do not", "do not": "rerank", "undecided": "undecided"}:
        return "before and after are swapped: difference(a, b) measures a - b, so `after` must come first"
    if verdicts == {"rerank": "rerank", "do not": "do not", "undecided": "rerank"}:
        gain = np.mean(cases["undecided"][1]) - np.mean(cases["undecided"][0])
        return f"a mean gain of {gain:+.3f} gave 'rerank', but its interval includes 0, so it may be chance"
    if verdicts == dict.fromkeys(cases, "undecided"):
        return (
            f"where {QUESTION_COUNT // HELPED_EVERY} of {QUESTION_COUNT} questions gained and none lost, "
            "'undecided' came back: take one interval of the differences per question, not two separate "
            "intervals"
        )
    if len(set(verdicts.values())) == 1:
        return f"your function always returns {verdicts['rerank']!r}, whatever the ranks are"
    wrong = next(expected for expected in cases if verdicts[expected] != expected)
    return f"for ranks whose interval gives {wrong!r}, your function returned {verdicts[wrong]!r}"
