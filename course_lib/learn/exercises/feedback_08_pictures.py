"""Checkers of chapter 08's exercises on what a model sees, on blur, and on invented details.

A checker takes the student's answer, and returns feedback, or None if the answer is right. Each known mistake
is a wrong solution with the feedback for it, see `comparing.diagnose`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from course_lib.learn.exercises.comparing import diagnose, result_of

GREY = 0.5  # the value of a covered patch


def _covered(
    score: Callable[[np.ndarray], float],
    picture: np.ndarray,
    patch: int,
    *,
    keep: bool = False,
    colour: float | None = GREY,
) -> np.ndarray:
    """The right solution of 08.1, or a mistake if an option is given.

    keep: earlier patches stay covered. colour: of a covered patch; None means the mean of the picture.
    """
    height, width = picture.shape
    drops, copy = np.zeros((height // patch, width // patch)), picture.copy()
    for row, column in np.ndindex(drops.shape):
        copy = copy if keep else picture.copy()
        place = np.s_[row * patch : (row + 1) * patch, column * patch : (column + 1) * patch]
        copy[place] = picture.mean() if colour is None else colour
        drops[row, column] = score(picture) - score(copy)
    return drops


def _one_more(score: Callable[[np.ndarray], float], picture: np.ndarray, patch: int) -> np.ndarray:
    """A mistake: by how much each patch lowers the score if the earlier ones stay covered."""
    drops = _covered(score, picture, patch, keep=True)
    return np.diff(drops.ravel(), prepend=0.0).reshape(drops.shape)


def _left_alone(score: Callable[[np.ndarray], float], picture: np.ndarray, patch: int) -> np.ndarray:
    """A mistake: how much each patch adds to the score of a grey picture."""
    grey = np.full_like(picture, GREY)
    drops = np.zeros((picture.shape[0] // patch, picture.shape[1] // patch))
    for row, column in np.ndindex(drops.shape):
        copy = grey.copy()
        place = np.s_[row * patch : (row + 1) * patch, column * patch : (column + 1) * patch]
        copy[place] = picture[place]
        drops[row, column] = score(copy) - score(grey)
    return drops


def check_covering(by_covering: Callable[..., np.ndarray]) -> str | None:
    """Check 08.1: `by_covering(score, picture, patch)`, by how much covering each patch lowers the score.

    A patch is a square of patch x patch pixels; score: a function from a picture to a model's score.
    """
    rng = np.random.default_rng(8)
    cases = []
    for height, width, patch in ((4, 6, 2), (6, 3, 3), (8, 4, 2)):
        weights = rng.normal(size=(height, width))
        # Squared, so that the effect of a patch depends on which others are covered.
        cases.append((lambda p, w=weights: float((w * p).sum() ** 2), rng.random((height, width)), patch))

    def answer(score: Any, picture: np.ndarray, patch: int) -> Any:
        before = picture.copy()
        result = by_covering(score, picture, patch)
        if not np.array_equal(before, picture):
            return "changed"
        return result

    got = [result_of(answer, (score, picture, patch)) for score, picture, patch in cases]
    if any(isinstance(result, str) and result == "changed" for result in got):
        return (
            "your function changed the picture that it was given, so later patches were covered, "
            "too: work on a copy"
        )
    mistakes = (
        (
            lambda *a: _covered(*a, keep=True),
            "earlier patches stay covered: begin with a fresh copy for each patch",
        ),
        (
            lambda *a: -_covered(*a),
            "the sign is the wrong way round: an important patch lowers the score, so its number is positive",
        ),
        (
            lambda s, p, n: s(p) - _covered(s, p, n),
            "these are the scores of the covered pictures; how much lower are they than the whole picture's?",
        ),
        (
            lambda *a: _covered(*a).T,
            "rows and columns are exchanged: the first index of an array counts rows, from the top",
        ),
        (
            _one_more,
            "each patch was covered among the earlier ones: cover it alone, and compare with the whole",
        ),
        (
            _left_alone,
            "that leaves a single patch and covers all others: cover the patch, and leave the others",
        ),
        (lambda *a: _covered(*a, colour=0.0), "black is no neutral colour here: cover with grey, 0.5"),
        (lambda *a: _covered(*a, colour=None), "cover with the grey 0.5, not with the mean of the picture"),
    )
    return diagnose(by_covering, _covered, cases, mistakes, name="by_covering")


def _psnr(error: float) -> float:
    return math.inf if error == 0 else 10 * math.log10(1 / error)


def _blur(values: list[float], chances: list[float]) -> tuple[float, float]:
    """The right solution of 08.4."""
    mean = sum(v * c for v, c in zip(values, chances, strict=True))
    error = sum(c * (v - mean) ** 2 for v, c in zip(values, chances, strict=True))
    return _psnr(error), _psnr(2 * error)


def check_blur(two_psnrs: Callable[..., tuple[float, float]]) -> str | None:
    """Check 08.4: `two_psnrs(values, chances)`, the PSNR of the best single guess, and of a random draw.

    A painter, a model that draws pictures, draws a value at random. PSNR is 10 log10(1 / mean squared
    error), in dB. A true value is one of `values`, with these chances.
    """
    cases = [
        ([0.0, 1.0], [0.5, 0.5]),
        ([0.1, 0.9], [0.8, 0.2]),
        ([0.0, 0.5, 1.0], [0.2, 0.3, 0.5]),
        ([0.2, 0.3, 0.7, 0.9], [0.4, 0.1, 0.1, 0.4]),
    ]

    def error(values: list[float], chances: list[float], guess: float) -> float:
        return sum(c * (v - guess) ** 2 for v, c in zip(values, chances, strict=True))

    def with_guess(pick: Callable[[list[float], list[float]], float]) -> Callable[..., tuple[float, float]]:
        return lambda v, c: (_psnr(error(v, c, pick(v, c))), _blur(v, c)[1])

    mistakes = (
        (
            lambda v, c: _blur(v, c)[::-1],
            "the two numbers are the wrong way round: first the single guess, then the painter",
        ),
        (
            with_guess(lambda v, c: v[c.index(max(c))]),
            "the likeliest value is not the best single guess; which number has the least mean "
            "squared error?",
        ),
        (with_guess(lambda v, c: sum(v) / len(v)), "the mean must be weighted by the chances"),
        (
            lambda v, c: (_blur(v, c)[0],) * 2,
            "the painter's value and the truth both vary, independently: its error is larger "
            "than that of the mean",
        ),
        (
            lambda v, c: tuple(2 * n for n in _blur(v, c)),
            "20 * log10 goes with the root of the error; with the mean squared error it is 10 * log10",
        ),
        (
            lambda v, c: tuple(10 ** (-n / 10) for n in _blur(v, c)),
            "these are the errors; PSNR is 10 * log10(1 / error), in dB",
        ),
        (lambda v, c: tuple(-n for n in _blur(v, c)), "the sign: a small error is a large PSNR"),
    )
    return diagnose(two_psnrs, _blur, cases, mistakes, name="two_psnrs")


def _block_means(values: np.ndarray, scale: int) -> np.ndarray:
    """Return an array of the same shape with each block of scale x scale replaced by its mean."""
    height, width = values.shape
    means = values.reshape(height // scale, scale, width // scale, scale).mean((1, 3))
    return means.repeat(scale, 0).repeat(scale, 1)


def _split(large: np.ndarray, truth: np.ndarray, scale: int) -> tuple[float, float]:
    """The right solution of 08.5."""
    error = large - truth
    seen = _block_means(error, scale)
    return float((seen**2).mean()), float(((error - seen) ** 2).mean())


def check_split(split_error: Callable[..., tuple[float, float]]) -> str | None:
    """Check 08.5: `split_error(large, truth, scale)`, two parts of an enlarged picture's mean squared error.

    The first part contradicts the small picture (means of blocks); the second one is invented detail.
    """
    rng = np.random.default_rng(5)
    cases = [
        (rng.random(shape), rng.random(shape), scale)
        for shape, scale in (((4, 4), 2), ((6, 9), 3), ((8, 4), 4))
    ]

    def parts(large: np.ndarray, truth: np.ndarray, scale: int) -> tuple[np.ndarray, np.ndarray]:
        seen = _block_means(large - truth, scale)
        return seen, large - truth - seen

    mistakes = (
        (
            lambda *a: _split(*a)[::-1],
            "the two numbers are the wrong way round: first what the small picture contradicts",
        ),
        (
            lambda a, b, s: (_split(a, b, s)[0], float(((a - b) ** 2).mean())),
            "the second number is the whole error: take away what the small picture contradicts",
        ),
        (
            lambda a, b, s: (float(((a - b)[::s, ::s] ** 2).mean()), _split(a, b, s)[1]),
            "a small pixel is the mean of its block, not its first pixel",
        ),
        (
            lambda a, b, s: (
                float(((a - b)[::s, ::s] ** 2).mean()),
                float(((a - b - (a - b)[::s, ::s].repeat(s, 0).repeat(s, 1)) ** 2).mean()),
            ),
            "a small pixel is the mean of its block; you took one pixel of each block",
        ),
        (
            lambda *a: tuple(float(np.sqrt((p**2).mean())) for p in parts(*a)),
            "the mean squares are asked for, without the root: only they add up to the whole error",
        ),
        (
            lambda *a: tuple(float((p**2).sum()) for p in parts(*a)),
            "these are sums; the mean over all pixels is asked for",
        ),
        (
            lambda *a: tuple(float(np.abs(p).mean()) for p in parts(*a)),
            "square the errors: absolute values do not add up to the whole error",
        ),
        (
            lambda a, b, s: (float((_block_means((a - b) ** 2, s)).mean()), _split(a, b, s)[1]),
            "first the mean of the block, then the square: errors of both signs cancel in a small pixel",
        ),
    )
    return diagnose(split_error, _split, cases, mistakes, name="split_error")
