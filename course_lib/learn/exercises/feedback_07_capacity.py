"""Checkers of chapter 07's exercises on batches, memory, replicas, and draft tokens.

A checker takes the student's answer, and returns feedback, or None if the answer is right. Each known mistake
is a wrong solution with the feedback for it, see `comparing.diagnose`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from course_lib.learn.exercises.comparing import diagnose
from course_lib.serve.batching import Server, continuously, in_batches

SLOTS, ANSWERS, LONGEST_ANSWER = 4, 16, 100  # of the task: batch size, number of answers, tokens of an answer
TIMES = 3.0  # how many times as long static batching must take


def check_batches(tokens: Sequence[int]) -> str | None:
    """Check 07.3: answer lengths for which static batching takes 3 times as long as continuous batching.

    A static batch waits for its longest answer; a continuous one fills each free slot at once.
    """
    if not isinstance(tokens, (list, tuple)) or len(tokens) != ANSWERS:
        return f"expected a list of {ANSWERS} answer lengths; got {tokens!r}"
    if wrong := [n for n in tokens if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= 100]:
        return f"{wrong[0]!r} is not a whole number of tokens from 1 to {LONGEST_ANSWER}"
    # Each step takes 1 second, whatever the batch; reading takes none, and all requests arrive at 0.
    server, together = Server(lambda size: 1.0, 0.0, SLOTS), [0.0] * ANSWERS
    static = max(in_batches(server, together, tokens))
    continuous = max(continuously(server, together, tokens))
    if static >= TIMES * continuous:
        return None
    took = f"static takes {static:.0f} steps, continuous {continuous:.0f}"
    if len(set(tokens)) == 1:
        return f"{took}: answers of one length leave a batch together, and no slot is ever wasted"
    batches = [tokens[i : i + SLOTS] for i in range(0, ANSWERS, SLOTS)]
    long = [sum(n > max(tokens) / 2 for n in batch) for batch in batches]
    if not all(long):
        return f"{took}: not every batch of four has a long answer, so static batching has short batches, too"
    if max(long) > 1:
        return (
            f"{took}: several long answers share a batch; static batching writes those together for nothing"
        )
    return f"{took}: one long answer in each batch is the idea; now the others must be much shorter"


def _users(
    memory: int,
    weights: int,
    token: int,
    context: int,
    mean: int,
    page: int,
    prefix: int,
    *,
    per_user: int = 0,
) -> tuple[int, int]:
    """The right solution of 07.5. per_user: further memory that each user takes, for a mistake.

    memory, weights: bytes. token: bytes of the KV cache of a token. context: the longest text of a user,
    mean: the mean one. page: tokens per page. prefix: tokens at the start of all texts.
    """
    free, shared = memory - weights, prefix // page
    own_pages = token * page * (-(-mean // page) - shared)
    return free // (token * context + per_user), (free - shared * page * token) // (own_pages + per_user)


def check_users(users: Callable[[int, int, int, int, int, int, int], tuple[int, int]]) -> str | None:
    """Check 07.5: `users_that_fit`, how many users' KV caches (keys and values of earlier tokens) fit.

    First if each user gets room for the longest text, then in pages, of which those of the prefix are shared.
    """
    cases = [
        (20_000, 8_000, 1, 4096, 1000, 16, 410),
        (1_000_000, 400_000, 2, 4096, 600, 16, 0),
        (50_000, 10_000, 1, 1000, 101, 100, 100),
        (9_000, 8_000, 1, 4096, 100, 16, 15),
        (30_000, 10_000, 1, 2000, 330, 100, 199),
    ]

    def pages_of(count: Callable[[int, int, int, int, int], float]) -> Callable[..., tuple[int, int]]:
        """Return a mistake in the second number: count(free bytes, token, mean, page, prefix)."""

        def other(m: int, w: int, t: int, c: int, n: int, p: int, x: int) -> tuple[int, int]:
            return (m - w) // (t * c), int(count(m - w, t, n, p, x))

        return other

    mistakes = (
        (
            lambda m, w, t, c, n, p, x: _users(m, 0, t, c, n, p, x, per_user=w),
            "you gave each user a copy of the weights; all users share one",
        ),
        (
            lambda m, w, t, c, n, p, x: _users(m, 0, t, c, n, p, x),
            "the weights take memory, too: only what they leave is for KV caches",
        ),
        (
            pages_of(lambda free, t, n, p, x: free // (t * p * -(-n // p))),
            "each user has pages for the prefix, too: keep those once",
        ),
        (
            pages_of(lambda free, t, n, p, x: free // (t * p * (-(-n // p) - x // p))),
            "the shared pages take memory once: subtract them before you divide",
        ),
        (
            pages_of(lambda free, t, n, p, x: (free - t * p * -(-x // p)) // (t * p * -(-(n - x) // p))),
            "the last page of the prefix holds a user's own tokens, too, so it cannot be shared: "
            "count only whole pages of the prefix",
        ),
        (
            pages_of(lambda free, t, n, p, x: (free - t * x) // (t * (n - x))),
            "memory is given in whole pages: how many pages does a user have, and how many are shared?",
        ),
        (
            pages_of(lambda free, t, n, p, x: (free - t * p * (x // p)) // (t * (n - p * (x // p)))),
            "a user has whole pages: round the tokens up to a multiple of the page",
        ),
        (
            lambda m, w, t, c, n, p, x: _users(m, w, t, c, c, p, x),
            "with pages a user takes what the text needs (`mean`), not what it could need (`context`)",
        ),
        (
            lambda m, w, t, c, n, p, x: _users(m, w, t, c, n, p, x)[::-1],
            "the two numbers are the wrong way round",
        ),
    )
    return diagnose(users, _users, cases, mistakes, name="users_that_fit")


def _load_of(users: int, per_hour: float, seconds: float, slots: int) -> float:
    """Return how many replicas would be fully busy."""
    return users * per_hour / 3600 * seconds / slots


def check_replicas(replicas: Callable[[int, float, float, int, float, int], int]) -> str | None:
    """Check 07.7: `replicas(users, per_hour, seconds, slots, most, spare)`.

    It is the number of copies of the model that are busy for at most the share `most` of the time, plus
    `spare` ones. Beyond some load, the knee, waiting times rise steeply.
    """
    cases = [
        (2000, 12, 6.0, 8, 0.7, 1),
        (300, 6, 4.0, 4, 0.7, 0),
        (50, 2, 3.0, 4, 0.5, 2),
        (10_000, 20, 9.0, 16, 0.8, 1),
    ]

    def reference(users: int, hour: float, seconds: float, slots: int, most: float, spare: int) -> int:
        return math.ceil(_load_of(users, hour, seconds, slots) / most - 1e-9) + spare

    mistakes = (
        (
            lambda u, h, s, n, m, x: math.ceil(_load_of(u, h, s, n) / m - 1e-9),
            "without the spare ones: if one fails, the others are beyond the knee",
        ),
        (
            lambda u, h, s, n, m, x: math.ceil(_load_of(u, h, s, n) - 1e-9) + x,
            "these would run at full load, far beyond the knee: keep them at `most`",
        ),
        (
            lambda u, h, s, n, m, x: math.ceil(_load_of(u, h, s, n) * m - 1e-9) + x,
            "a lower limit on the load needs more replicas, not fewer: divide by `most`",
        ),
        (
            lambda u, h, s, n, m, x: int(_load_of(u, h, s, n) / m) + x,
            "a part of a replica cannot be bought: round up",
        ),
        (
            lambda u, h, s, n, m, x: math.ceil(_load_of(u, h, s, 1) / m - 1e-9) + x,
            "a replica writes `slots` answers at once",
        ),
        (
            lambda u, h, s, n, m, x: math.ceil(_load_of(u, h * 60, s, n) / m - 1e-9) + x,
            "an hour has 3,600 seconds, not 60",
        ),
    )
    return diagnose(replicas, reference, cases, mistakes, name="replicas")


def _best(gain: Callable[[int], float], most: int) -> int:
    """Return the number of draft tokens, 0 to `most`, with the highest gain."""
    return max(range(most + 1), key=gain)


def check_draft(draft_length: Callable[[float, float, int], int]) -> str | None:
    """Check 07.8: `draft_length(alpha, cost, most)`, how many tokens a small model should draft at a time.

    The large model checks the drafted tokens in one step, and accepts them up to the first wrong one. alpha:
    the probability that a draft token is accepted. cost: its time, in steps of the large model.
    """
    cases = [(0.8, 0.1, 8), (0.6, 0.2, 8), (0.3, 0.5, 8), (0.9, 0.02, 12), (0.7, 0.3, 8), (0.5, 0.4, 8)]

    def tokens(alpha: float, k: int, first: int = 0) -> float:
        """Return the expected number of accepted tokens."""
        return sum(alpha**i for i in range(first, k + 1))

    def reference(alpha: float, cost: float, most: int) -> int:
        return _best(lambda k: tokens(alpha, k) / (1 + k * cost), most)

    mistakes = (
        (
            lambda a, c, m: m,
            "the longest draft is not the best: its last tokens are rarely accepted, and cost time",
        ),
        (
            lambda a, c, m: _best(lambda k: (1 + k * a) / (1 + k * c), m),
            "the third token counts only if both before it were accepted: alpha ** 3, not alpha",
        ),
        (
            lambda a, c, m: _best(lambda k: tokens(a, k, 1) / (1 + k * c), m),
            "each round also gives one token of the large model itself, even if no draft is accepted",
        ),
        (
            lambda a, c, m: _best(lambda k: tokens(a, k) / (k * c) if k else 1.0, m),
            "the large model must check the draft: a round takes 1 + k * cost",
        ),
        (
            lambda a, c, m: max(range(1, m + 1), key=lambda k: tokens(a, k) / (1 + k * c)),
            "sometimes no draft at all is best: let k begin at 0",
        ),
        (
            lambda a, c, m: _best(lambda k: tokens(a, k) - k * c, m),
            "compare tokens per time: divide by the time of the round, do not subtract",
        ),
    )
    return diagnose(draft_length, reference, cases, mistakes, name="draft_length")
