"""Checkers of chapter 02's exercises on choosing models by their bytes and by right answers.

A checker takes the student's answer, and returns feedback, or None if the answer is right. Each known mistake
is a wrong solution with the feedback for it, see `comparing.diagnose`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from course_lib.learn.exercises.comparing import diagnose

Points = Mapping[str, tuple[float, float]]  # model -> (megabytes, right answers)
POINTS: Points = {
    "largest": (30.0, 86.0),
    "tiny": (1.0, 10.0),
    "large": (20.0, 84.0),
    "small": (3.0, 70.0),
    "large q4": (5.0, 84.0),
    "small whole": (6.0, 70.0),
    "twin": (5.0, 84.0),
}


def _unbeaten(points: Points, beats: Callable[[Any, Any], bool]) -> list[str]:
    """Return the names of the points that no other point beats, the smallest first."""
    kept = [name for name, p in points.items() if not any(beats(q, p) for q in points.values())]
    return sorted(kept, key=lambda name: points[name][0])


def _front(points: Points) -> list[str]:
    """The right solution of 02.5."""
    return _unbeaten(points, lambda a, b: a[0] <= b[0] and a[1] >= b[1] and a != b)


def _twins_beat(points: Points) -> list[str]:
    """A mistake: equal points beat each other, so both are left out."""
    kept = [
        n
        for n, (mb, right) in points.items()
        if not any(m != n and a <= mb and b >= right for m, (a, b) in points.items())
    ]
    return sorted(kept, key=lambda name: points[name][0])


def _sweep(points: Points) -> list[str]:
    """A mistake: in order of size, keep a point only if it has more right answers than the last."""
    kept: list[str] = []
    for name in sorted(points, key=lambda n: (points[n][0], -points[n][1])):
        if not kept or points[name][1] > points[kept[-1]][1]:
            kept.append(name)
    return kept


# Known mistakes: a wrong answer, and the feedback on it.
FRONTS: tuple[tuple[Callable[[Points], Any], str], ...] = (
    (
        lambda points: [name for name in points if name in _front(points)],
        "these are the right names; sort them, the smallest first",
    ),
    (lambda points: _front(points)[::-1], "these are the right names; sort them, the smallest first"),
    (
        lambda points: sorted(_front(points)),
        "these are the right names, in the order of the alphabet; sort them by megabytes",
    ),
    (
        _twins_beat,
        "large q4 and twin are the same point: neither is better in anything, so neither is beaten",
    ),
    (
        _sweep,
        "large q4 and twin are the same point, and only one of them was kept: a sweep that waits for more "
        "right answers drops the other, though nothing beats it",
    ),
    (
        lambda points: _unbeaten(points, lambda a, b: a[0] < b[0] and a[1] > b[1]),
        "large is beaten by large q4: equal in one number and better in the other is enough to beat it",
    ),
    (
        lambda points: _unbeaten(points, lambda a, b: a[0] <= b[0] and a[1] <= b[1] and a != b),
        "one comparison points the wrong way: more right answers are better",
    ),
    (
        lambda points: [max(points, key=lambda n: points[n][1])],
        "that is only the one with the most right answers; smaller ones can be unbeaten too",
    ),
    (
        lambda points: sorted(points, key=lambda n: points[n][0]),
        "small whole is beaten by small: as many right answers, fewer megabytes; leave it out",
    ),
)


def check_front(front: Callable[[Points], Sequence[str]]) -> str | None:
    """Check 02.5: `front(points)`, the names of the models on the Pareto front, the smallest first.

    On it are those that no other beats, being at least as good in bytes and right answers, and better in one.
    """
    chance = random.Random(4)
    cases: list[tuple[Points]] = [(POINTS,)]
    for _ in range(20):  # with many ties in right answers
        sizes = chance.sample(range(1, 40), 9)
        cases.append(
            ({f"model {i}": (float(mb), float(chance.randint(60, 68))) for i, mb in enumerate(sizes)},)
        )

    mistakes = [(_as_points(mistake), feedback) for mistake, feedback in FRONTS]
    return diagnose(_as_points(front), _as_points(_front), cases, mistakes, name="front")


def _as_points(front: Callable[[Points], Sequence[str]]) -> Callable[[Points], list[tuple[float, float]]]:
    """Return a function that gives points instead of names, so that equal points may come in any order."""
    return lambda points: [points[name] for name in front(points)]


Models = Mapping[str, tuple[float, int]]  # name -> (billions of weights, bytes of cache for a token)
Choice = tuple[str, str] | None
GIB = 2**30


def _choose_by(
    limit: Callable[[float], float] = lambda gib: 0.9 * gib * GIB,
    cache: Callable[[int, int], float] = lambda tokens, each: tokens * each,
    best: Callable[[float, float], Any] = lambda billions, bits: (billions, bits),
    each: float = 8,
    billion: float = 1e9,
) -> Callable[[float, int, Models, Mapping[str, float]], Choice]:
    """Return the right solution of 02.7, or a mistake if an argument is given.

    limit: memory in GiB -> usable bytes. cache: bytes of the KV cache (what a model keeps of the text). best:
    the sort key of a choice. each: bits per byte. billion: the factor of the number of weights.
    """

    def choose(memory_gib: float, tokens: int, models: Models, formats: Mapping[str, float]) -> Choice:
        fitting = [
            (best(billions, bits), model, name)
            for model, (billions, kv) in models.items()
            for name, bits in formats.items()
            if billion * billions * bits / each + cache(tokens, kv) <= limit(memory_gib)
        ]
        return max(fitting)[1:] if fitting else None

    return choose


_choose = _choose_by()
CHOICES: tuple[tuple[Callable[..., Choice], str], ...] = (
    (_choose_by(limit=lambda gib: gib * GIB), "a tenth of the memory must stay free"),
    (
        _choose_by(cache=lambda tokens, each: 0),
        "the cache is missing, or it is that of one token: multiply it by the tokens",
    ),
    (_choose_by(limit=lambda gib: 0.9 * gib * 1e9), "a gibibyte is 2**30 bytes, not a billion"),
    (
        _choose_by(best=lambda billions, bits: (billions, -bits)),
        "the largest model is right, but of its formats that fit take the one with the most bits",
    ),
    (
        _choose_by(best=lambda billions, bits: (bits, billions)),
        "the size goes first: a larger model in fewer bits before a smaller one in more",
    ),
    (_choose_by(best=lambda billions, bits: (-billions, bits)), "that is the smallest model that fits"),
    (_choose_by(each=1), "bits were taken for bytes: divide by 8"),
    (
        _choose_by(billion=GIB),
        "2**30 counts bytes in a gibibyte; a billion weights are 10**9, whatever the memory is counted in",
    ),
    (
        _choose_by(billion=GIB, limit=lambda gib: gib * GIB),
        "a tenth of the memory must stay free, and a billion weights are 10**9, not 2**30",
    ),
)


def check_choose(choose: Callable[..., Choice]) -> str | None:
    """Check 02.7: `choose(memory_gib, tokens, models, formats)`.

    It is the largest model that fits, in the format with the most bits, as (model, format); None if none
    fits.
    """
    models: Models = {
        "1B": (1.24, 32_768),
        "3B": (3.21, 114_688),
        "8B": (8.03, 131_072),
        "14B": (14.8, 196_608),
    }
    formats = {"float16": 16.0, "q8_0": 8.5, "q4_0": 4.6}
    chance = random.Random(10)
    cases = [(8.0, 8192, models, formats), (24.0, 65_536, models, formats), (0.5, 8192, models, formats)]
    cases += [
        (chance.uniform(2, 40), chance.choice((2048, 8192, 32_768)), models, formats) for _ in range(40)
    ]
    return diagnose(choose, _choose, cases, CHOICES, name="choose")
