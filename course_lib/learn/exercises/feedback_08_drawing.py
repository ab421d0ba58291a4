"""Checkers of chapter 08's exercises on drawing by diffusion: noise is removed from a picture step by step.

A checker takes the student's answer, and returns feedback, or None if the answer is right. Each known mistake
is a wrong solution with the feedback for it, see `comparing.diagnose`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from course_lib.learn.exercises.comparing import diagnose, result_of


def _noise(
    x: np.ndarray, sigma: float, points: np.ndarray, *, scale: float | None = None, equal: bool = False
) -> np.ndarray:
    """The right solution of 08.2, or a mistake if an option is given.

    scale: the divisor of the squared distance, by default 2 sigma^2. equal: all points have the same weight.
    """
    exponents = -((x - points) ** 2).sum(1) / (2 * sigma**2 if scale is None else scale)
    weights = np.exp(exponents - exponents.max())
    weights = np.ones(len(points)) if equal else weights
    mean = weights @ points / weights.sum()
    return (x - mean) / sigma


def check_perfect(perfect_noise: Callable[..., np.ndarray]) -> str | None:
    """Check 08.2: `perfect_noise(x, sigma, points)`, the mean noise in x = point + sigma * noise.

    The point is one of `points`, each as likely as the others before x is seen; the noise is normal.
    """
    points = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0], [-1.5, 0.5]])
    cases = [
        (np.array([0.4, 0.3]), 0.5, points),
        (np.array([0.6, 1.0]), 2.0, points),
        (np.array([-0.9, 0.2]), 1.3, points[1:]),
    ]
    far = (np.array([9.0, 5.0]), 0.05, points)
    mistakes = (
        (
            lambda x, s, p: x - s * _noise(x, s, p),
            "that is the mean of the points, the clean guess; the noise is what was added to it, "
            "in units of sigma",
        ),
        (lambda x, s, p: -_noise(x, s, p), "the sign is the wrong way round: x = point + sigma * noise"),
        (lambda x, s, p: s * _noise(x, s, p), "x - point is sigma times the noise: divide by sigma"),
        (
            lambda x, s, p: _noise(x, s, p, equal=True),
            "all points weigh the same here; but a point near x is likelier to have been the one",
        ),
        (
            lambda x, s, p: (x - p[((x - p) ** 2).sum(1).argmin()]) / s,
            "only the nearest point counts here; the others may have been the one, too, with a "
            "smaller chance",
        ),
        (
            lambda x, s, p: _noise(x, s, p, scale=2 * s),
            "the exponent of the normal density has sigma squared",
        ),
        (
            lambda x, s, p: _noise(x, s, p, scale=s**2),
            "the exponent of the normal density has a 2: -distance**2 / (2 * sigma**2)",
        ),
        (
            lambda x, s, p: _noise(x, s, p, scale=2.0),
            "the weights must depend on sigma: with much noise, far points are likely, too",
        ),
    )
    if feedback := diagnose(perfect_noise, _noise, cases, mistakes, name="perfect_noise"):
        return feedback
    with np.errstate(all="ignore"):
        result = result_of(perfect_noise, far)
    if isinstance(result, Exception):
        return f"far from all points it stopped with {type(result).__name__}: {result}"
    if not np.isfinite(np.asarray(result, dtype=float)).all():
        return (
            "far from all points every weight became 0, and 0 / 0 is no number: subtract the "
            "largest exponent from all"
        )
    return diagnose(perfect_noise, _noise, [far], name="perfect_noise")


def _steps(
    seconds: float,
    pictures: int,
    text: float,
    network: float,
    decode: float,
    guidance: float,
    *,
    empty: float = 1.0,
    passes: int | None = None,
) -> int:
    """The right solution of 08.3, or a mistake if an option is given.

    text, network, decode: seconds to encode a prompt, for one pass of the network, and to decode a picture.
    guidance: how strongly the prompt acts; unless 1, a step needs a second pass, with the empty prompt.
    empty: how often the empty prompt is encoded. passes: passes of the network per step.
    """
    twice = guidance != 1
    per_step = (2 if twice else 1) if passes is None else passes
    left = seconds - pictures * (text + decode) - empty * twice * text
    return max(0, math.floor(left / (pictures * network * per_step) + 1e-9))


def check_steps(most_steps: Callable[..., int]) -> str | None:
    """Check 08.3: `most_steps`, how many denoising steps fit into a time limit."""
    cases = [
        (60.0, 4, 0.5, 0.25, 1.0, 3.5),
        (60.0, 4, 0.5, 0.25, 1.0, 1.0),
        (30.0, 7, 1.0, 0.125, 0.5, 5.0),
        (3.0, 4, 0.5, 0.25, 0.5, 2.0),
        (20.0, 1, 2.0, 0.5, 1.0, 8.0),
    ]

    def free(s: float, n: int, t: float, w: float, d: float, g: float) -> int:
        """A mistake: the number may be negative."""
        return math.floor((s - n * (t + d) - (g != 1) * t) / (n * w * (1 + (g != 1))) + 1e-9)

    mistakes: tuple[tuple[Callable[..., int], str], ...] = (
        (
            lambda *a: _steps(*a, passes=1),
            "with guidance the network is asked twice at each step, with and without the prompt",
        ),
        (
            lambda *a: _steps(*a, passes=2),
            "with guidance 1 the answer without the prompt drops out, so one pass is enough",
        ),
        (lambda *a: _steps(*a, empty=0.0), "the empty prompt must be encoded, too"),
        (
            lambda s, n, t, w, d, g: _steps(s, n, t, w, d, g, empty=n),
            "the empty prompt is the same for all pictures: encode it once",
        ),
        (
            lambda s, n, t, w, d, g: _steps(s, 1, t, w, d, g),
            "that is the number for one picture; the time is for all of them",
        ),
        (
            lambda s, n, t, w, d, g: _steps(s, n, t, w, 0.0, g),
            "each picture is decoded at the end: that takes time, too",
        ),
        (
            lambda s, n, t, w, d, g: _steps(s, n, 0.0, w, d, g),
            "each prompt is encoded before the first step: that takes time, too",
        ),
        (
            lambda s, n, t, w, d, g: math.floor(s / (n * (t + d + w * (1 + (g != 1)))) + 1e-9),
            "encoding and decoding happen once for a picture, not at each step",
        ),
        (free, "a negative number of steps: where the time is too short, return 0"),
        (
            lambda *a: _steps(*a) + (1 if _steps(*a) else 0),
            "one step too many: a step that ends after the time is over does not count",
        ),
    )
    return diagnose(most_steps, _steps, cases, mistakes, name="most_steps")
