"""Chapter 05's exercises accept other right solutions, and say what they expect for unusual wrong answers."""

import math

import numpy as np
import pytest
import torch

from course_lib.learn.exercises import find_exercise
from course_lib.learn.exercises.engine import judge
from course_lib.tuning import cost
from course_lib.tuning.lora import LoRALinear


def with_course_layer(x, W, A, B, alpha):
    """Use the course's own layer."""
    base = torch.nn.Linear(W.shape[1], W.shape[0], bias=False).double()
    base.weight.data = torch.tensor(W)
    layer = LoRALinear(base, len(A), alpha)
    layer.A.data, layer.B.data = torch.tensor(A), torch.tensor(B)
    return layer(torch.tensor(x)).detach().numpy()


def with_a_loop(x, W, A, B, alpha):
    return [[float(W[o] @ row + alpha / B.shape[1] * B[o] @ (A @ row)) for o in range(len(W))] for row in x]


def with_array_sizes(shapes, rank):
    total = 0
    for outputs, inputs in shapes.values():
        total += np.zeros((rank, inputs)).size + np.zeros((outputs, rank)).size
    return total


def with_if(parameters, trainable=None):
    if trainable is None:
        trainable, frozen = parameters, 0
    else:
        frozen = parameters
    return 2.0 * frozen + (2 + 2 + 4 + 8) * trainable


def with_array(prompt, answer, end):
    ids = np.array([*prompt, *answer, end])
    ids[: len(prompt)] = -100
    return ids


def with_tensor(prompt, answer, end):
    return torch.tensor(with_array(prompt, answer, end))


def delta(adapters, weights):
    return sum(w * alpha / A.shape[0] * (B @ A) for w, (A, B, alpha) in zip(weights, adapters, strict=True))


def scaled_a(adapters, weights):
    rows = [w * alpha / B.shape[1] * A for w, (A, B, alpha) in zip(weights, adapters, strict=True)]
    return [np.concatenate(rows), np.concatenate([B for _, B, _ in adapters], axis=1)]


def with_svd(adapters, weights):
    """Return another pair with the same product."""
    U, S, V = np.linalg.svd(delta(adapters, weights))
    r = sum(len(A) for A, _, _ in adapters)
    return V[:r], U[:, :r] * S[:r]


def with_roots(adapters, weights):
    """Put the root of each weight on both sides, and its sign on B."""
    parts = [
        (np.sqrt(abs(w) * alpha / len(A)), np.sign(w), A, B)
        for w, (A, B, alpha) in zip(weights, adapters, strict=True)
    ]
    return np.vstack([s * A for s, _, A, _ in parts]), np.hstack([s * sign * B for s, sign, _, B in parts])


def in_float32(adapters, weights):
    A, B = scaled_a(adapters, weights)
    return A.astype(np.float32), B.astype(np.float32)


def like_the_training_loop(losses, patience):
    """Decide as the course's training loop does."""
    steps, values = list(losses), list(losses.values())
    for i in range(len(steps)):
        best = values.index(min(values[: i + 1]))
        if i - best >= patience:
            return steps[best]
    return steps[values.index(min(values))]


def with_cases(situations):
    def choice(facts):
        if not facts["form"]:
            return "search"
        return "both" if facts["must_cite"] or facts["changes_daily"] else "adapter"

    return {name: choice(situations[name]) for name in sorted(situations)}


@pytest.mark.parametrize(
    ("id_", "answer"),
    [
        ("05.1", with_course_layer),
        ("05.1", with_a_loop),
        ("05.1", lambda x, W, A, B, alpha: x @ (W + alpha / len(A) * B @ A).T),
        ("05.2", with_array_sizes),
        ("05.2", cost.adapter_weights),
        ("05.3", with_if),
        ("05.3", lambda *n: cost.training_bytes(*n).all),
        ("05.4", with_array),
        ("05.4", with_tensor),
        ("05.4", lambda prompt, answer, end: (*(-100 for _ in prompt), *answer, end)),
        ("05.6", scaled_a),
        ("05.6", with_svd),
        ("05.6", with_roots),
        ("05.6", in_float32),
        ("05.5", like_the_training_loop),
        ("05.7", with_cases),
    ],
)
def test_another_right_solution_is_accepted(id_, answer):
    assert judge(find_exercise(id_), answer) == ("right", find_exercise(id_).title)


def returns_none(*arguments):
    """As if the student printed the result instead of returning it."""


def unrelated_shapes(x, W, A, B, alpha):
    return np.zeros((2, 2)) @ np.zeros(3)


def right_for_one_case(losses, patience):
    return 1100 if 1100 in losses else min(losses, key=losses.get)


@pytest.mark.parametrize(
    ("id_", "answer", "expected"),
    [
        ("05.1", returns_none, "an array of shape () came back"),
        ("05.1", unrelated_shapes, "shapes do not fit, where x is (5, 3)"),
        ("05.1", lambda x, W, A, B, alpha: 0 * x @ W.T, "the values are off by up to"),
        ("05.1", lambda x, W, A, B, alpha: x @ W, "shapes do not fit"),
        ("05.2", returns_none, "expected a number"),
        ("05.2", lambda shapes, rank: 3712, "gave 3712; it should be 20"),
        ("05.3", cost.training_bytes, "of type Cost; expected a number"),
        ("05.3", lambda *n: 1, "gave 1; it should be 1.12e+11"),
        ("05.4", returns_none, "expected a list of labels"),
        ("05.4", lambda *row: [1], "gave 1 labels"),
        ("05.4", lambda *row: [-100] * 7 + [2], "it should be [-100, -100, -100, -100, 5, 7, 9, 2]"),
        ("05.4", lambda *row: [-100] * 4 + [5, 7, 9, 2], "it should be [-100, -100, 4, 2]"),
        ("05.6", returns_none, "expected two matrices"),
        ("05.6", lambda adapters, weights: (1.0, 2.0), "with rows and columns"),
        (
            "05.6",
            lambda adapters, weights: (np.zeros((4, 9)), np.zeros((8, 3))),
            "A has 4 rows and B 3 columns",
        ),
        ("05.6", lambda adapters, weights: (np.zeros((4, 9)), np.zeros((8, 4))), "100% off"),
        ("05.6", lambda adapters, weights: scaled_a(adapters, [max(0, w) for w in weights]), "was left out"),
        (
            "05.6",
            lambda adapters, weights: scaled_a(adapters[:2], weights[:2]),
            "the third adapter is missing",
        ),
        ("05.5", returns_none, "None came back"),
        ("05.5", right_for_one_case, "gave 4, not 1"),
        ("05.7", returns_none, "expected a dict"),
        ("05.7", lambda situations: {"rates": "search"}, "the situations are"),
        (
            "05.7",
            lambda situations: with_cases(situations) | {"news": "both"},
            "news, {'changes_daily': True",
        ),
        ("05.7", lambda situations: dict.fromkeys(situations, math.nan), "is not one of"),
    ],
)
def test_an_unusual_wrong_answer_gets_feedback(id_, answer, expected):
    verdict, reply = judge(find_exercise(id_), answer)
    assert verdict == "not yet" and expected in reply
