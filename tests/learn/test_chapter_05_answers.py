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


def by_counting_up(shapes):
    rank = 1
    while rank * sum(o + i for o, i in shapes.values()) < sum(o * i for o, i in shapes.values()):
        rank += 1
    return rank


def in_whole_weights(memory, share=None, bits=16):
    return int(memory // 16) if share is None else int(memory / (2 * (bits / 16) + (2 + 2 + 4 + 8) * share))


def with_array(turns, end):
    return np.concatenate(
        [np.array([*ids, end]) if r == "assistant" else np.full(len(ids) + 1, -100) for r, ids in turns]
    )


def with_tensor(turns, end):
    return torch.tensor(with_array(turns, end))


def with_mask(turns, end):
    row = [(token, role == "assistant") for role, ids in turns for token in (*ids, end)]
    return tuple(token if own else -100 for token, own in row)


def with_numpy(found, searched, given):
    f, s, g = (np.array(flags) for flags in (found, searched, given))
    rows = {"distracted": ~s & f & g, "misread": ~s & f & ~g, "not found": ~s & ~f, "right": s}
    return {name: row.mean() for name, row in rows.items()}


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


def one_list_for_all():
    """One list on which all three rules are wrong, after an early rise and a loss below the one before it."""
    return {key: [(5.0, 6.0, 4.0, 4.5, 3.0, 4.3, 4.2, 1.0), 2] for key in "abc"}


def with_cases(facts):
    table = {
        (True, True): "both",
        (True, False): "search",
        (False, True): "adapter",
        (False, False): "search",
    }
    in_time = facts["days_to_retrain"] < facts["days_between_changes"]
    return table[not in_time or facts["must_cite"] or facts["must_refuse"], facts["form"]]


@pytest.mark.parametrize(
    ("id_", "answer"),
    [
        ("05.1", with_course_layer),
        ("05.1", with_a_loop),
        ("05.1", lambda x, W, A, B, alpha: x @ (W + alpha / len(A) * B @ A).T),
        ("05.2", by_counting_up),
        (
            "05.2",
            lambda shapes: math.ceil(np.prod(list(shapes.values()), 1).sum() / np.sum(list(shapes.values()))),
        ),
        ("05.3", in_whole_weights),
        (
            "05.3",
            lambda memory, share=None, bits=16: 8 * memory / (128 if share is None else bits + 128 * share),
        ),
        ("05.4", with_array),
        ("05.4", with_tensor),
        ("05.4", with_mask),
        ("05.5", one_list_for_all()),
        ("05.5", {"c": ([1, 2, 0, 1, -1], 2), "b": ([2, 5, 4, 1], 2), "a": ([2, 5, 1], 1)}),
        ("05.6", lambda alpha, rank, new_rank: alpha / rank**0.5 * math.sqrt(new_rank)),
        ("05.7", with_numpy),
        ("05.8", with_cases),
        ("05.9", scaled_a),
        ("05.9", with_svd),
        ("05.9", with_roots),
        ("05.9", in_float32),
    ],
)
def test_another_right_solution_is_accepted(id_, answer):
    assert judge(find_exercise(id_), answer) == ("right", find_exercise(id_).title)


def returns_none(*arguments):
    """As if the student printed the result instead of returning it."""


def unrelated_shapes(x, W, A, B, alpha):
    return np.zeros((2, 2)) @ np.zeros(3)


def right_shape_for_five_rows(x, W, A, B, alpha):
    return x @ W.T + (alpha / len(A) if len(x) == 5 else alpha) * x @ A.T @ B.T


@pytest.mark.parametrize(
    ("id_", "answer", "expected"),
    [
        ("05.1", returns_none, "an array of shape () came back"),
        ("05.1", unrelated_shapes, "shapes do not fit, where x is (5, 3)"),
        ("05.1", lambda x, W, A, B, alpha: 0 * x @ W.T, "the values are off by up to"),
        ("05.1", lambda x, W, A, B, alpha: x @ W, "shapes do not fit"),
        ("05.1", right_shape_for_five_rows, "right for the first shapes, but not for"),
        ("05.2", returns_none, "break_even returned None"),
        ("05.2", lambda shapes: [o * i for o, i in shapes], "goes over the names"),
        ("05.2", lambda shapes: sum(shape[0] * shape[1] for shape in shapes), "goes over the names"),
        ("05.2", lambda shapes: 8, "gave 8; it should give"),
        ("05.3", cost.training_bytes, "largest_model(2.4e+10) gave Cost"),
        ("05.3", lambda *n: 1, "gave 1; it should give 1.5e+09"),
        ("05.4", returns_none, "labels returned None"),
        ("05.4", lambda turns, end: 7, "gave 7; it should give [-100, -100, -100, 5, 7, 9, 2]"),
        ("05.5", [1, 2, 3], "expected a dict with the keys"),
        ("05.5", {"a": ([], 1), "b": 1, "c": 2}, "a: the losses must be a list of numbers"),
        ("05.6", returns_none, "fair_alpha returned None"),
        ("05.6", lambda alpha, rank, new_rank: 16, "gave 16; it should give 8"),
        ("05.7", lambda *flags: {"right": 1}, "gave {'right': 1}; it should give"),
        ("05.8", returns_none, "None came back; expected"),
        ("05.8", lambda facts: "both" if facts["must_cite"] else "search", "gave 'search'; it should give"),
        (
            "05.8",
            lambda facts: "adapter" if facts["questions_per_second"] > 100 else with_cases(facts),
            "the load",
        ),
        (
            "05.8",
            lambda facts: "search" if facts["questions_per_second"] > 9e4 else with_cases(facts),
            "the load",
        ),
        ("05.9", returns_none, "expected two matrices"),
        ("05.9", lambda adapters, weights: (1.0, 2.0), "with rows and columns"),
        (
            "05.9",
            lambda adapters, weights: (np.zeros((4, 9)), np.zeros((8, 3))),
            "A has 4 rows and B 3 columns",
        ),
        ("05.9", lambda adapters, weights: (np.zeros((4, 9)), np.zeros((8, 4))), "100% off"),
        ("05.9", lambda adapters, weights: scaled_a(adapters, [max(0, w) for w in weights]), "was left out"),
        (
            "05.9",
            lambda adapters, weights: scaled_a(adapters[:2], weights[:2]),
            "the third adapter is missing",
        ),
    ],
)
def test_an_unusual_wrong_answer_gets_feedback(id_, answer, expected):
    verdict, reply = judge(find_exercise(id_), answer)
    assert verdict == "not yet" and expected in reply
