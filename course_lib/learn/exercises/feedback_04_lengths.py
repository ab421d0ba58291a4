"""Checkers of chapter 04's exercises on windows over long documents, and on batches.

A checker takes the student's answer, and returns feedback, or None if the answer is right. Each known mistake
is a wrong solution with the feedback for it, see `comparing.diagnose`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from course_lib.learn.exercises.comparing import diagnose

# -- 04.3 ----------------------------------------------------------------------------------------------------

Spans = list[tuple[int, int]]  # (first token, token after the last)


def _windows(length: int, room: int, overlap: int) -> Spans:
    """The right solution of 04.3. room: the tokens of a window."""
    starts = range(0, max(1, length - overlap), room - overlap)
    return [(start, min(start + room, length)) for start in starts]


def _shifted_back(length: int, room: int, overlap: int) -> Spans:
    """A mistake: the last window is moved back until it is full."""
    spans = _windows(length, room, overlap)
    return [*spans[:-1], (max(0, length - room), length)]


def _documents() -> list[tuple[int, int, int]]:
    """Return cases (length, room, overlap)."""
    rng = random.Random(0)
    cases = [(10, 4, 1), (9, 4, 1), (3, 4, 1), (4, 4, 1)]
    for _ in range(40):
        room = rng.randint(2, 12)
        cases.append((rng.randint(1, 60), room, rng.randint(0, room - 1)))
    return cases


def check_windows(windows: Callable[[int, int, int], Sequence[tuple[int, int]]]) -> str | None:
    """Check 04.3: `windows(length, room, overlap)`, the parts of a document too long to be read at once.

    Each is (first token, token after the last), has `room` tokens (the last may have fewer), and shares
    `overlap` with the one before.
    """

    def in_steps(length: int, room: int, overlap: int, *, end: int, step: str, cut: bool = True) -> Spans:
        """A mistake: windows that start before `end`.

        step: "apart" means without overlap. cut: cut the last window off at the document's end.
        """
        distance = room if step == "apart" else room - overlap
        return [(s, min(s + room, length) if cut else s + room) for s in range(0, max(1, end), distance)]

    mistakes: tuple[tuple[Callable[[int, int, int], Spans], str], ...] = (
        (
            lambda n, room, o: [(0, min(room, n))],
            "only the first window comes back: of 10 tokens in windows of 4, tokens 4 to 9 are in no window",
        ),
        (
            lambda n, room, o: in_steps(n, room, o, end=n, step="apart"),
            "the windows do not overlap, so an answer at a boundary is split: each window must start "
            "room - overlap tokens after the one before",
        ),
        (
            lambda n, room, o: in_steps(n, room, o, end=n, step="apart", cut=False),
            "the windows do not overlap, and the last one ends after the document",
        ),
        (
            lambda n, room, o: [(s, s + room) for s in range(0, n - room, room - o)],
            "the end is missing: the last window must reach the end of the document",
        ),
        (
            lambda n, room, o: in_steps(n, room, o, end=n, step="overlapping"),
            "the last window lies inside the one before, (9, 10) in (6, 10): stop when one has "
            "reached the end",
        ),
        (
            _shifted_back,
            "your last window was moved back to be full, so it shares more than `overlap` "
            "tokens with the one "
            "before and reads them twice: let it be shorter",
        ),
        (
            lambda n, room, o: [(s, s + room) for s in range(0, n - room + 1, o)],
            "overlap is what two windows share, not the step from one to the next",
        ),
        (
            lambda n, room, o: in_steps(n, room, o, end=n - o, step="overlapping", cut=False),
            "the last window ends after the document; cut it at `length`",
        ),
        (
            lambda n, room, o: _windows(n, room, o) if n > room else [],
            "a document that fits into one window gets none: it must get one",
        ),
    )
    return diagnose(windows, _windows, _documents(), mistakes, name="windows")


# -- 04.4 ----------------------------------------------------------------------------------------------------


def _batches(
    lengths: list[int], most: int, *, longest_first: bool = False, padded: bool = True
) -> list[list[int]]:
    """The right solution of 04.4, or a mistake if an option is given."""
    out: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i] if longest_first else lengths[i]):
        now = [*(out[-1] if out else []), i]
        size = len(now) * max(lengths[j] for j in now) if padded else sum(lengths[j] for j in now)
        if out and size <= most:
            out[-1].append(i)
        else:
            out.append([i])
    return out


def _in_order_given(lengths: list[int], most: int) -> list[list[int]]:
    """A mistake: the texts are not sorted by length."""
    out: list[list[int]] = []
    for i in range(len(lengths)):
        if out and (len(out[-1]) + 1) * max(lengths[j] for j in [*out[-1], i]) <= most:
            out[-1].append(i)
        else:
            out.append([i])
    return out


def _fixed(lengths: list[int], most: int, size: int) -> list[list[int]]:
    """A mistake: every batch has `size` texts."""
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    return [order[i : i + size] for i in range(0, len(order), size)]


def _one_after_another(
    lengths: list[int], most: int, *, empty_first: bool, last_lost: bool
) -> list[list[int]]:
    """A mistake in filling one batch at a time.

    empty_first: if the first text is too long, an empty batch comes before it. last_lost: the last batch is
    missing.
    """
    out: list[list[int]] = []
    now: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if (now or empty_first) and (len(now) + 1) * lengths[i] > most:
            out.append(now)
            now = []
        now.append(i)
    return out if last_lost else [*out, now]


def _too_long_dropped(lengths: list[int], most: int) -> list[list[int]]:
    """A mistake: a text that is longer than a batch may be is lost."""
    return [batch for batch in _batches(lengths, most) if lengths[batch[0]] <= most]


LAST_LOST = "the last texts are in no batch: did you append the last batch?"
EMPTY_FIRST = "where the shortest text is longer than `most`, your first batch has no texts: leave it out"
ALONE = "each text is alone in its batch, so batching gains nothing: put several texts into a batch"


def check_batches(make_batches: Callable[[list[int], int], Sequence[Sequence[int]]]) -> str | None:
    """Check 04.4: `make_batches(lengths, most)`, lists of indices, the shortest texts first.

    A batch has at most `most` tokens, with the padding that fills each text up to the longest one; a longer
    text is a batch by itself.
    """
    rng = random.Random(0)
    cases = [([10, 200, 12, 190, 11, 13], 400), ([500], 400)]
    for _ in range(20):  # all lengths differ, so that there is one right order
        cases.append((rng.sample(range(5, 300), rng.randint(1, 12)), rng.choice([200, 400, 600])))
    mistakes: list[tuple[Callable[..., Any], str]] = [
        (
            partial(_batches, longest_first=True),
            "your batches begin with the longest texts: the shortest come first here",
        ),
        (
            partial(_batches, padded=False),
            "you counted the texts' own tokens: padded to its longest text a batch computes more than `most`",
        ),
        (_in_order_given, "short texts share a batch with long ones: sort the texts by length first"),
        *(
            (partial(_one_after_another, empty_first=empty, last_lost=lost), feedback)
            for empty, lost, feedback in (
                (False, True, LAST_LOST),
                (True, True, f"{LAST_LOST} And {EMPTY_FIRST}"),
                (True, False, EMPTY_FIRST),
            )
        ),
        (_too_long_dropped, "a text longer than `most` is lost: it gets a batch of its own"),
        (
            lambda lengths, most: [[lengths[i] for i in batch] for batch in _batches(lengths, most)],
            "those are the lengths; return the numbers of the texts, from 0",
        ),
    ]
    mistakes.append((lambda lengths, most: [[i] for i in range(len(lengths))], ALONE))
    for size in range(1, 9):
        feedback = (
            ALONE
            if size == 1
            else f"every batch has {size} texts, whatever their lengths: count the tokens that it computes"
        )
        mistakes.append((partial(_fixed, size=size), feedback))
    return diagnose(make_batches, _batches, cases, mistakes, name="batches")
