"""Checker of chapter 03's exercise on filters: returns feedback, None if right."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from course_lib.learn.exercises.comparing import known_mistake


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
