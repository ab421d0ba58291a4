"""Rules that decide which step's weights are kept: the right one, and three careless ones for an exercise.

Each takes the validation losses in order and `patience`, and returns the index of the loss whose weights are
kept. Training ends once `patience` losses in a row brought no new lowest one.
"""

from __future__ import annotations

from collections.abc import Sequence


def kept(losses: Sequence[float], patience: int) -> int:
    """Return the index of the lowest loss before training ends; of equal ones, the earlier."""
    return min(range(end(losses, patience) + 1), key=lambda i: losses[i])


def end(losses: Sequence[float], patience: int) -> int:
    """Return the index of the loss at which training ends: the last one if patience never runs out."""
    best = 0
    for i, loss in enumerate(losses):
        if loss < losses[best]:
            best = i
        elif i - best >= patience:
            return i
    return len(losses) - 1


def rule_a(losses: Sequence[float], patience: int) -> int:
    return losses.index(min(losses))


def rule_b(losses: Sequence[float], patience: int) -> int:
    best = waited = 0
    for i in range(1, len(losses)):
        if losses[i] < losses[best]:
            best = i
        waited = 0 if losses[i] < losses[i - 1] else waited + 1
        if waited == patience:
            break
    return best


def rule_c(losses: Sequence[float], patience: int) -> int:
    best = waited = 0
    for i in range(1, len(losses)):
        if losses[i] < losses[best]:
            best = i
        else:
            waited += 1
        if waited == patience:
            break
    return best
