"""Early stopping in an exercise of chapter 05: the right rule for the weights to keep, and three wrong ones.

Each rule takes the validation losses in order and `patience`, and returns the index of the evaluation whose
weights are kept. Training ends after `patience` evaluations in a row without a new lowest loss.
"""

from __future__ import annotations

from collections.abc import Sequence


def kept(losses: Sequence[float], patience: int) -> int:
    """Return the index of the lowest loss before training ends; if several are equal, the first."""
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


# No docstrings: exercise 05.5 prints these rules, and its learner finds out what is wrong with each.
# `rule_a` sees what follows the end; `rule_b` counts losses that are not below the one before;
# `rule_c` counts all losses without a new lowest one, not only those in a row.


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
