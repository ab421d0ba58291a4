"""Chapter 05's exercises: answers right in another way pass, odd ones are told what is wanted."""

import math

import numpy as np
import pytest
import torch

from course_lib.learn.exercises import find_exercise
from course_lib.learn.exercises.engine import judge
from course_lib.tuning import cost
from course_lib.tuning.lora import LoRALinear


def by_layer(x, W, A, B, alpha):
    """The course's own layer."""
    base = torch.nn.Linear(W.shape[1], W.shape[0], bias=False).double()
    base.weight.data = torch.tensor(W)
    layer = LoRALinear(base, len(A), alpha)
    layer.A.data, layer.B.data = torch.tensor(A), torch.tensor(B)
    return layer(torch.tensor(x)).detach().numpy()


def by_loop(x, W, A, B, alpha):
    return [[float(W[o] @ row + alpha / B.shape[1] * B[o] @ (A @ row)) for o in range(len(W))] for row in x]


def by_counter(shapes, rank):
    total = 0
    for outputs, inputs in shapes.values():
        total += np.zeros((rank, inputs)).size + np.zeros((outputs, rank)).size
    return total


def by_if(parameters, trainable=None):
    if trainable is None:
        trainable, frozen = parameters, 0
    else:
        frozen = parameters
    return 2.0 * frozen + (2 + 2 + 4 + 8) * trainable


def by_array(prompt, answer, end):
    ids = np.array([*prompt, *answer, end])
    ids[: len(prompt)] = -100
    return ids


def by_tensor(prompt, answer, end):
    return torch.tensor(by_array(prompt, answer, end))


def delta(adapters, weights):
    return sum(w * alpha / A.shape[0] * (B @ A) for w, (A, B, alpha) in zip(weights, adapters, strict=True))


def on_a(adapters, weights):
    rows = [w * alpha / B.shape[1] * A for w, (A, B, alpha) in zip(weights, adapters, strict=True)]
    return [np.concatenate(rows), np.concatenate([B for _, B, _ in adapters], axis=1)]


def by_svd(adapters, weights):
    """Another pair with the same product."""
    U, S, V = np.linalg.svd(delta(adapters, weights))
    r = sum(len(A) for A, _, _ in adapters)
    return V[:r], U[:, :r] * S[:r]


def by_roots(adapters, weights):
    """The root of each weight on both sides, its sign on one."""
    parts = [
        (np.sqrt(abs(w) * alpha / len(A)), np.sign(w), A, B)
        for w, (A, B, alpha) in zip(weights, adapters, strict=True)
    ]
    return np.vstack([s * A for s, _, A, _ in parts]), np.hstack([s * sign * B for s, sign, _, B in parts])


def in_float32(adapters, weights):
    A, B = on_a(adapters, weights)
    return A.astype(np.float32), B.astype(np.float32)


def by_looking_back(losses, patience):
    """As the course's own training does."""
    steps, values = list(losses), list(losses.values())
    for i in range(len(steps)):
        kept = values.index(min(values[: i + 1]))
        if i - kept >= patience:
            return steps[kept]
    return steps[values.index(min(values))]


def by_cases(situations):
    def one(facts):
        if not facts["form"]:
            return "search"
        return "both" if facts["must_cite"] or facts["changes_daily"] else "adapter"

    return {name: one(situations[name]) for name in sorted(situations)}


@pytest.mark.parametrize(
    ("id_", "answer"),
    [
        ("05.1", by_layer),
        ("05.1", by_loop),
        ("05.1", lambda x, W, A, B, alpha: x @ (W + alpha / len(A) * B @ A).T),
        ("05.2", by_counter),
        ("05.2", cost.adapter_weights),
        ("05.3", by_if),
        ("05.3", lambda *n: cost.training_bytes(*n).all),
        ("05.4", by_array),
        ("05.4", by_tensor),
        ("05.4", lambda prompt, answer, end: (*(-100 for _ in prompt), *answer, end)),
        ("05.6", on_a),
        ("05.6", by_svd),
        ("05.6", by_roots),
        ("05.6", in_float32),
        ("05.5", by_looking_back),
        ("05.7", by_cases),
    ],
)
def test_what_is_right_in_another_way_is_right(id_, answer):
    assert judge(find_exercise(id_), answer) == ("right", find_exercise(id_).title)


def nothing(*given):
    """It prints, or ends without return."""


def shapes_of_nothing(x, W, A, B, alpha):
    return np.zeros((2, 2)) @ np.zeros(3)


def only_this_case(losses, patience):
    return 1100 if 1100 in losses else min(losses, key=losses.get)


@pytest.mark.parametrize(
    ("id_", "answer", "told"),
    [
        ("05.1", nothing, "an array of shape () came back"),
        ("05.1", shapes_of_nothing, "shapes do not fit, where x is (5, 3)"),
        ("05.1", lambda x, W, A, B, alpha: 0 * x @ W.T, "the values are off by up to"),
        ("05.1", lambda x, W, A, B, alpha: x @ W, "shapes do not fit"),
        ("05.2", nothing, "expected a number"),
        ("05.2", lambda shapes, rank: 3712, "gave 3712; it should be 20"),
        ("05.3", cost.training_bytes, "of type Cost; expected a number"),
        ("05.3", lambda *n: 1, "gave 1; it should be 1.12e+11"),
        ("05.4", nothing, "a list of labels is wanted"),
        ("05.4", lambda *row: [1], "gave 1 labels"),
        ("05.4", lambda *row: [-100] * 7 + [2], "it should be [-100, -100, -100, -100, 5, 7, 9, 2]"),
        ("05.4", lambda *row: [-100] * 4 + [5, 7, 9, 2], "it should be [-100, -100, 4, 2]"),
        ("05.6", nothing, "two matrices are wanted"),
        ("05.6", lambda adapters, weights: (1.0, 2.0), "with rows and columns"),
        (
            "05.6",
            lambda adapters, weights: (np.zeros((4, 9)), np.zeros((8, 3))),
            "A has 4 rows and B 3 columns",
        ),
        ("05.6", lambda adapters, weights: (np.zeros((4, 9)), np.zeros((8, 4))), "100% off"),
        ("05.6", lambda adapters, weights: on_a(adapters, [max(0, w) for w in weights]), "was left out"),
        ("05.6", lambda adapters, weights: on_a(adapters[:2], weights[:2]), "the third adapter is missing"),
        ("05.5", nothing, "None came back"),
        ("05.5", only_this_case, "and 4 came back"),
        ("05.7", nothing, "a dict is wanted"),
        ("05.7", lambda situations: {"rates": "search"}, "the situations are"),
        ("05.7", lambda situations: by_cases(situations) | {"news": "both"}, "news, {'changes_daily': True"),
        ("05.7", lambda situations: dict.fromkeys(situations, math.nan), "is none of"),
    ],
)
def test_an_odd_answer_is_told_what_is_wanted(id_, answer, told):
    verdict, said = judge(find_exercise(id_), answer)
    assert verdict == "not yet" and told in said
