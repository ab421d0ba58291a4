"""Checker of chapter 03's exercise on searching among allowed rows only.

A checker takes the student's answer, and returns feedback, or None if the answer is right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from course_lib.learn.exercises.comparing import as_array, known_mistake


def _directions(degrees: Sequence[float]) -> np.ndarray:
    """Return unit vectors at these angles (degrees) from the x axis; shape (number of angles, 2)."""
    radians = np.radians(np.asarray(degrees, dtype=np.float64))
    return np.stack([np.cos(radians), np.sin(radians)], axis=1)


def _compare_rows(
    what: str, result: object, expected: list[int], mistakes: Sequence[tuple[list[int], str]] = ()
) -> str | None:
    """Return None if the result holds the expected row indices in order, else feedback."""
    rows = as_array(result)
    if not isinstance(result, np.ndarray) and isinstance(result, Iterable):
        rows = as_array(list(result))
    if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
        return f"{what} gave {result!r}; expected a list of row indices, such as {expected}"
    indices = rows.tolist()
    if indices == expected:
        return None
    return known_mistake(indices, mistakes) or f"{what} gave {indices}; it should be {expected}"


Nearest = Callable[[np.ndarray, np.ndarray, np.ndarray, int], list[int]]


def check_nearest(nearest: Nearest) -> str | None:
    """Check 03.7: `nearest(vectors, query, allowed, k)`, the allowed rows that are most similar to the query.

    It returns the indices of at most k rows, the one with the highest cosine first.
    """
    vectors, query = _directions([80, 5, 40, 10, 60, 170]), np.array([1.0, 0.0])
    allowed = np.array([True, False, True, False, True, True])

    not_allowed = (
        "only 4 rows are allowed, but 5 came back: return fewer than k rather than rows that are not allowed"
    )
    lost = (
        f"row 5 is missing: its score, {vectors[5, 0]:.2f}, is below the 0 given to rows that are not "
        "allowed; leave those out instead"
    )

    def run(k: int) -> list[int]:
        return nearest(vectors.copy(), query.copy(), allowed.copy(), k)

    return (
        _compare_rows(
            "nearest, k=2, with rows 0, 2, 4 and 5 allowed,",
            run(2),
            [2, 4],
            [
                ([], "the filter removed both of the 2 nearest rows, 1 and 3: filter first, then take k"),
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
            run(5),
            [2, 4, 0, 5],
            [
                *((rows, not_allowed) for rows in ([2, 4, 0, 5, 1], [2, 4, 0, 5, 3])),
                *((rows, lost) for rows in ([2, 4, 0, 1, 3], [2, 4, 0, 3, 1])),
            ],
        )
        or _check_nearest_of_many(nearest)
    )


def _check_nearest_of_many(nearest: Nearest) -> str | None:
    """Check with 50 rows that are nearer than any allowed one, and with no allowed row."""
    count, allowed_rows = 60, [50, 57]
    vectors, query = _directions(range(count)), np.array([1.0, 0.0])
    allowed = np.isin(np.arange(count), allowed_rows)
    extra_candidates_feedback = (  # rows 0 to 49 are nearer than row 50
        f"{allowed_rows[0]} rows that are not allowed are nearer, so fetching some extra candidates does not "
        "help: filter before you take k"
    )

    def run(rows: np.ndarray) -> list[int]:
        return nearest(vectors.copy(), query.copy(), rows.copy(), 2)

    return _compare_rows(
        f"nearest, k=2, with rows 50 and 57 of {count} allowed,",
        run(allowed),
        allowed_rows,
        [([], extra_candidates_feedback)],
    ) or _compare_rows("nearest with no row allowed", run(np.zeros(count, dtype=bool)), [])
