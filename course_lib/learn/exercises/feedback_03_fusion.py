"""Checkers of chapter 03's exercises on fusion, filters and intervals: return feedback, None if right."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from course_lib.learn.exercises.comparing import known_mistake

Scores = Mapping[str, float]


def _equal_scores(a: Scores, b: Scores) -> bool:
    """Whether both have the same ids and, within rounding, the same scores."""
    return a.keys() == b.keys() and all(math.isclose(a[id_], b[id_], rel_tol=1e-6, abs_tol=1e-6) for id_ in b)


def _compare_scores(
    call: str, result: object, expected: Scores, mistakes: Sequence[tuple[Scores, str]] = ()
) -> str | None:
    """Return None if the result is a dict with the expected scores, else feedback."""
    if not isinstance(result, Mapping) or not all(isinstance(s, numbers.Real) for s in result.values()):
        return f"{call} gave {result!r}; expected a dict from id to number"
    if _equal_scores(result, expected):
        return None
    gave, should_be = ({i: round(float(s), 4) for i, s in scores.items()} for scores in (result, expected))
    return known_mistake(result, mistakes, _equal_scores) or f"{call} gave {gave}; it should be {should_be}"


def check_min_max(min_max: Callable[[dict[str, float]], dict[str, float]]) -> str | None:
    scores = {"a": 12.0, "b": 10.0, "c": 4.0}
    low, high, total = min(scores.values()), max(scores.values()), sum(scores.values())
    feedback = _compare_scores(
        f"min_max({scores})",
        min_max(dict(scores)),
        {i: (s - low) / (high - low) for i, s in scores.items()},
        [
            (
                {i: s / high for i, s in scores.items()},
                "c, the worst, got 0.333 and should get 0: subtract the lowest score, 4, first",
            ),
            (
                {i: s - low for i, s in scores.items()},
                "a, the best, got 8 and should get 1: divide by 12 - 4",
            ),
            (
                {i: (s - low) / high for i, s in scores.items()},
                (
                    "a, the best, got 0.667 and should get 1: divide by the range, 12 - 4 = 8, not by the "
                    "highest score"
                ),
            ),
            (
                {i: (high - s) / (high - low) for i, s in scores.items()},
                "that is upside down: the best got 0 and the worst 1; use (score - lowest) in the numerator",
            ),
            (
                {"a": 1.0, "b": 0.5, "c": 0.0},
                "b got 0.5, for its rank; use its score, 10, which gives (10 - 4) / (12 - 4) = 0.75",
            ),
            (
                {i: s / total for i, s in scores.items()},
                f"those are shares of the sum, {total:.0f}; the best should get 1 and the worst 0",
            ),
        ],
    )
    return feedback or _check_min_max_edges(min_max)


def _check_min_max_edges(min_max: Callable[[dict[str, float]], dict[str, float]]) -> str | None:
    try:
        equal, single = min_max({"a": 0.7, "b": 0.7}), min_max({"a": 5.0})
    except ZeroDivisionError:
        return (
            "two scores of 0.7 have a range of 0, which cannot be divided by: where all are equal, all get 1"
        )
    best = "got 0, like a document that was not found; it should get 1, because nothing scored higher"
    feedback = _compare_scores(
        "min_max({'a': 0.7, 'b': 0.7})",
        equal,
        {"a": 1.0, "b": 1.0},
        [({"a": 0.0, "b": 0.0}, f"each of two equal scores {best}")],
    ) or _compare_scores("min_max({'a': 5.0})", single, {"a": 1.0}, [({"a": 0.0}, f"the only hit {best}")])
    if feedback:
        return feedback
    try:
        return _compare_scores("min_max({})", min_max({}), {})
    except (ValueError, ZeroDivisionError, StopIteration, IndexError) as error:
        return (
            f"your code raised {type(error).__name__} for 0 documents; return an empty dict for an empty dict"
        )


def check_rrf(rrf: Callable[..., dict[str, float]]) -> str | None:
    rankings = [["a", "b", "c"], ["b", "d"]]
    expected = {"a": 1 / 61, "b": 1 / 62 + 1 / 61, "c": 1 / 63, "d": 1 / 62}
    feedback = _compare_scores(
        f"rrf({rankings})",
        rrf([list(r) for r in rankings]),
        expected,
        [
            (
                {"a": 1 / 60, "b": 1 / 61 + 1 / 60, "c": 1 / 62, "d": 1 / 61},
                "a got 1/60; ranks begin with 1, so it should get 1/61",
            ),
            (
                expected | {"b": 1 / 61},
                "b is in both rankings and got only 1/61, from its last one: add 1/62 and 1/61",
            ),
            (
                expected | {"b": 1 / 62},
                "b is in both rankings and got only 1/62, from its first one: add 1/62 and 1/61",
            ),
            (
                {"b": expected["b"]},
                "b alone came back; keep the ids that are in only one of the rankings too",
            ),
            (
                {i: expected[i] for i in "abc"},
                "d is lost; it is only in the second ranking, and must be kept",
            ),
            (
                {"a": 1 / 61 + 1 / 63, "b": expected["b"], "c": 2 / 63, "d": 1 / 62 + 1 / 64},
                "a got 1/63 for the ranking that lacks it; a ranking adds nothing to an id that it lacks",
            ),
            (
                {"a": 1.0, "b": 1 / 2 + 1, "c": 1 / 3, "d": 1 / 2},
                "a got 1/1; add k to the rank, which gives 1/(60 + 1)",
            ),
            (
                {"a": 61.0, "b": 62.0 + 61.0, "c": 63.0, "d": 62.0},
                "a got 61; take the reciprocal, 1/61, so that the first rank gets most",
            ),
            (
                {"a": 1 / 60 + 1, "b": 2 / 60 + 3, "c": 1 / 60 + 3, "d": 1 / 60 + 2},
                "a got 1/60 + 1, which favours the last of a ranking; write 1/(60 + 1), with parentheses",
            ),
            (
                {i: s / 2 for i, s in expected.items()},
                "a got 0.0082, half of 1/61; take the sum over the rankings, not the mean",
            ),
        ],
    )
    with_k_1 = {"a": 1 / 2, "b": 1 / 3 + 1 / 2, "c": 1 / 4, "d": 1 / 3}
    return feedback or _compare_scores(
        f"rrf({rankings}, k=1)",
        rrf([list(r) for r in rankings], k=1),
        with_k_1,
        [(expected, "k=1 was passed, but the result is that of k=60: use k in the formula")],
    )


def _directions(degrees: Sequence[float]) -> np.ndarray:
    """Return vectors of length 1 at these angles, in degrees, to (1, 0); shape (number of angles, 2)."""
    radians = np.radians(np.asarray(degrees, dtype=np.float64))
    return np.stack([np.cos(radians), np.sin(radians)], axis=1)


def _compare_rows(
    call: str, result: object, expected: list[int], mistakes: Sequence[tuple[list[int], str]] = ()
) -> str | None:
    """Return None if the result holds the expected row indices in order, else feedback."""
    rows = np.asarray(list(result) if isinstance(result, Iterable) else [result])
    if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
        return f"{call} gave {result!r}; expected a list of row indices, such as {expected}"
    indices = rows.tolist()
    if indices == expected:
        return None
    return known_mistake(indices, mistakes) or f"{call} gave {indices}; it should be {expected}"


def check_nearest(nearest: Callable[[np.ndarray, np.ndarray, np.ndarray, int], list[int]]) -> str | None:
    vectors, query = _directions([80, 5, 40, 10, 60, 170]), np.array([1.0, 0.0])
    allowed = np.array([True, False, True, False, True, True])

    not_allowed = (
        "only 4 rows are allowed, but 5 came back: return fewer than k rather than a row not allowed"
    )
    lost = (
        f"row 5 is missing: its score, {vectors[5, 0]:.2f}, is below the 0 given to rows that are not "
        "allowed; leave those out instead"
    )

    def first(k: int) -> list[int]:
        return nearest(vectors.copy(), query.copy(), allowed.copy(), k)

    return (
        _compare_rows(
            "nearest, k=2, with rows 0, 2, 4 and 5 allowed,",
            first(2),
            [2, 4],
            [
                (
                    [],
                    "the filter removed both of the 2 nearest rows, 1 and 3: filter first, then take k",
                ),
                (
                    [1, 2],
                    "1 and 2 are positions among the 4 allowed rows; convert them to row indices of "
                    "`vectors`, 2 and 4",
                ),
                ([1, 3], "rows 1 and 3 are the nearest of all, but they are not allowed"),
                ([4, 2], "those are the right rows in the wrong order; put the best one, 2, first"),
                (
                    [5, 0],
                    "5 and 0 are the farthest of the allowed rows: argsort begins with the smallest, so "
                    "sort the negative scores",
                ),
            ],
        )
        or _compare_rows(
            "nearest, k=5, with rows 0, 2, 4 and 5 allowed,",
            first(5),
            [2, 4, 0, 5],
            [
                *((rows, not_allowed) for rows in ([2, 4, 0, 5, 1], [2, 4, 0, 5, 3])),
                *((rows, lost) for rows in ([2, 4, 0, 1, 3], [2, 4, 0, 3, 1])),
            ],
        )
        or _check_nearest_of_many(nearest)
    )


def _check_nearest_of_many(
    nearest: Callable[[np.ndarray, np.ndarray, np.ndarray, int], list[int]],
) -> str | None:
    count, allowed_rows = 60, [50, 57]
    vectors, query = _directions(range(count)), np.array([1.0, 0.0])
    allowed = np.isin(np.arange(count), allowed_rows)
    extra_candidates_feedback = (
        f"{allowed_rows[0]} rows that are not allowed are nearer, so fetching some extra candidates does not "
        "help: filter before you take k"
    )
    two, none = nearest(vectors, query, allowed, 2), nearest(vectors, query, np.zeros(count, dtype=bool), 2)
    return _compare_rows(
        f"nearest, k=2, with rows 50 and 57 of {count} allowed,",
        two,
        allowed_rows,
        [([], extra_candidates_feedback)],
    ) or _compare_rows("nearest with no row allowed", none, [])


# Exercise 03.6 shows, for each kind of question, their number and the mean gain of hybrid search with its 95%
# interval, and asks which of four conclusions follows. Choice -> feedback; None: right.
COPIES, COPY_LOSS = 459, 0.009  # questions in the words of the passage that answers them
PARAPHRASES, PARAPHRASE_GAIN = 242, 0.039  # questions in other words
TOTAL_GAIN = PARAPHRASES * PARAPHRASE_GAIN - COPIES * COPY_LOSS
CHOICES = {
    "a": (
        f"{COPIES} and {PARAPHRASES} are the questions that were written, not how your customers ask; "
        f"they type paraphrases, where hybrid gains {PARAPHRASE_GAIN}, four times the {COPY_LOSS} that it "
        "loses elsewhere"
    ),
    "b": None,
    "c": (
        "it is the other way round: an interval without 0 shows that chance is an unlikely explanation, and "
        "neither interval holds 0"
    ),
    "d": (
        f"the sum, {PARAPHRASES} x {PARAPHRASE_GAIN} - {COPIES} x {COPY_LOSS} = {TOTAL_GAIN:+.1f}, "
        'depends on how many questions of each kind were written, so "always" does not follow'
    ),
}
