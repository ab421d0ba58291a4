"""Checkers of chapter 04's exercises on the limits of reranking, and on late interaction.

A reranker sorts again what a search found. Late interaction is to compare the vectors of single tokens.

A checker takes the student's answer, and returns feedback, or None if the answer is right. Each known mistake
is a wrong solution with the feedback for it, see `comparing.diagnose`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

import numpy as np

from course_lib.learn.exercises.comparing import as_array, diagnose

# -- 04.1 ----------------------------------------------------------------------------------------------------

PLACES = 3  # ranks that count


def _reciprocal(order: Sequence[str], gold: Collection[str], places: int = PLACES) -> float:
    """Return the reciprocal rank of the first gold passage; 0 if it is not among the first `places`."""
    return next((1 / place for place, id_ in enumerate(order[:places], start=1) if id_ in gold), 0.0)


def _limits(
    ids: list[str],
    gold: tuple[str, ...],
    n: int,
    *,
    places: int = PLACES,
    behind: bool = True,
    all_: bool = False,
) -> tuple[float, float]:
    """The right solution of 04.1, or a mistake if an option is given.

    behind: keep the candidates after the first n. all_: rerank all candidates.
    """
    seen = ids if all_ else ids[:n]
    best, rest = sorted(seen, key=lambda id_: id_ not in gold), ids[len(seen) :] if behind else []
    return _reciprocal(best[::-1] + rest, gold, places), _reciprocal(best + rest, gold, places)


def _searches() -> list[tuple[list[str], tuple[str, ...], int]]:
    """Return cases (ids of a ranking, gold ids, n)."""
    rng = random.Random(0)
    cases: list[tuple[list[str], tuple[str, ...], int]] = [(list("abcdef"), ("d",), 4)]
    for _ in range(60):
        ids = rng.sample("abcdefgh", rng.randint(1, 8))
        gold = tuple(rng.sample("abcdefghxy", rng.randint(1, 4)))
        cases.append((ids, gold, rng.randint(1, 8)))
    return cases


def check_limits(limits: Callable[[list[str], tuple[str, ...], int], tuple[float, float]]) -> str | None:
    """Check 04.1: `limits(ids, gold, n)`, the worst and the best that sorting the first n ids again can give.

    Measured by the reciprocal rank: 1 / place of the first gold (right) passage, 0 beyond PLACES.
    """
    mistakes: tuple[tuple[Callable[..., Any], str], ...] = (
        (
            lambda ids, gold, n: (0.0, float(any(i in gold for i in ids[:n]))),
            "the worst is not always 0: put the answers last among the first n, and see where they stand. "
            "And an answer behind the n-th keeps its place, which may be among the first three",
        ),
        (
            lambda ids, gold, n: (0.0, _limits(ids, gold, n)[1]),
            "the worst is not always 0: with few candidates, or many answers, one stays among "
            "the first three",
        ),
        (
            lambda ids, gold, n: (_limits(ids, gold, n)[0], float(any(i in gold for i in ids[:n]))),
            "the best is not 0 where the first n hold no answer: one at place 2 or 3 behind "
            "them keeps its place",
        ),
        (
            lambda ids, gold, n: (_limits(ids, gold, n)[0], 1.0),
            "the best is not always 1: a reranker cannot put first what it does not see",
        ),
        (
            partial(_limits, behind=False),
            "the candidates behind the n-th are lost; they keep their places behind the first n",
        ),
        (partial(_limits, all_=True), "the reranker sees only the first n candidates; yours sees all"),
        (
            partial(_limits, places=100),
            "a first answer beyond the third place counts 0 (reciprocal rank at 3)",
        ),
        (lambda *case: _limits(*case)[::-1], "the lowest comes first, then the highest"),
        (
            lambda ids, gold, n: (_reciprocal(ids[::-1], gold), _limits(ids, gold, n)[1]),
            "the worst order is not the reverse of the search: it puts the answers last among the first n",
        ),
        (
            lambda ids, gold, n: (_reciprocal(ids, gold),) * 2,
            "that is the order of the search; asked are the worst and the best order of the first n",
        ),
    )
    return diagnose(limits, _limits, _searches(), mistakes, name="limits")


# -- 04.2 ----------------------------------------------------------------------------------------------------


def _maxsim_batch(
    question: np.ndarray,
    passages: np.ndarray,
    lengths: list[int],
    *,
    padding: float | None = -np.inf,
    change: Callable[[np.ndarray], np.ndarray] = np.asarray,
    reduce: Callable[[np.ndarray], np.ndarray] = lambda best: best.sum(axis=1),
    axis: int = 2,
) -> np.ndarray:
    """The right solution of 04.2, or a mistake if an option is given.

    padding: the cosine that padding gets. change: applied to all cosines. reduce: makes a score of the
    maxima. axis: of the maximum.
    """
    cosines = change(np.einsum("qd,npd->nqp", question, passages))
    if padding is not None:
        beyond = np.arange(passages.shape[1]) >= np.array(lengths)[:, None]
        cosines = np.where(beyond[:, None], padding, cosines)
    best: np.ndarray = cosines.max(axis=axis)
    return reduce(np.where(np.isfinite(best), best, 0.0))


def _token_vectors() -> list[tuple[np.ndarray, np.ndarray, list[int]]]:
    """Return cases with negative cosines, and with numbers in the padding."""
    rng = np.random.default_rng(0)

    def unit(*shape: int) -> np.ndarray:
        vectors = rng.standard_normal(shape)
        return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)

    cases = []
    for _ in range(8):
        lengths = rng.integers(1, 6, 4).tolist()
        cases.append((unit(3, 3), unit(4, 6, 3), lengths))
    return cases


def check_maxsim(maxsim_batch: Callable[[Any, Any, Any], Any]) -> str | None:
    """Check 04.2: `maxsim_batch(question, passages, lengths)`, the MaxSim score of each passage.

    It is, summed over the question's tokens, the highest cosine with a token of the passage. question:
    vectors, (tokens, dimensions). passages: (passages, tokens, dimensions), filled up to the longest passage
    (padding). lengths: tokens of each passage.
    """
    mistakes: tuple[tuple[Callable[..., Any], str], ...] = (
        (
            partial(_maxsim_batch, padding=None),
            "what stands in the padding counts: a passage must not score with rows beyond its length",
        ),
        (
            partial(_maxsim_batch, padding=0.0),
            "padding set to 0 wins where all cosines with a passage are negative: set it to -inf",
        ),
        (
            partial(_maxsim_batch, change=np.abs),
            "abs() takes an opposite for a match: a cosine of -1 is the worst, not the best",
        ),
        (
            partial(_maxsim_batch, axis=1),
            "you took the best cosine for each token of the passage, so a longer passage would score higher; "
            "take it for each token of the question",
        ),
        (
            partial(_maxsim_batch, axis=1, padding=None),
            "you took the best cosine for each token of the passage, its padding among them; take it for "
            "each token of the question, and leave the padding out",
        ),
        (
            lambda question, passages, lengths: np.full(len(passages), -np.inf),
            "all scores are -inf: your maximum runs over the question's tokens, so the padding's columns "
            "stay -inf; take it over the passage's tokens, the last axis",
        ),
        (
            partial(_maxsim_batch, reduce=lambda best: best.mean(axis=1)),
            "that is the mean of the best cosines; MaxSim is their sum",
        ),
        (
            partial(_maxsim_batch, reduce=lambda best: best.max(axis=1)),
            "that is the best cosine of a single token; add up those of all tokens of the question",
        ),
        (
            partial(_maxsim_batch, reduce=lambda best: best),
            "an array of shape (passages, tokens) came back: add up the best cosines of each passage",
        ),
        (
            lambda *case: float(_maxsim_batch(*case).sum()),
            "one number came back; a score for each passage is asked",
        ),
    )
    case = _token_vectors()[0]
    try:
        result = maxsim_batch(*case)
    except ValueError as error:
        if "broadcast" not in str(error) and "matmul" not in str(error):
            raise
        shapes = f"{case[0].shape} and {case[1].shape}"
        return (
            f"the shapes {shapes} do not fit: * multiplies number by number; cosines of all pairs are "
            "question @ passages.transpose(0, 2, 1)"
        )
    if isinstance(result, list):
        return diagnose(lambda *c: as_array(maxsim_batch(*c)), _maxsim_batch, _token_vectors(), mistakes)
    return diagnose(maxsim_batch, _maxsim_batch, _token_vectors(), mistakes, name="maxsim_batch")
