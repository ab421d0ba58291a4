"""Exercises of chapter 02: rounding, bits of a weight, the Pareto front, the KV cache, what fits on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from course_lib.learn.exercises.comparing import choose_letter, compare, count_values
from course_lib.learn.exercises.engine import Exercise


def check_absmax(codes_of: Callable[[np.ndarray], tuple[np.ndarray, float]]) -> str | None:
    weights = np.array([[0.2, -1.27, 0.0], [0.634, 0.008, -0.3]], dtype=np.float32)
    got = codes_of(weights.copy())
    if feedback := count_values(got, "values are wanted, the codes and the scale"):
        return feedback
    codes, scale = np.asarray(got[0]), got[1]
    if feedback := compare(
        "the scale of weights whose largest is -1.27",
        scale,
        0.01,
        {
            0.634 / 127: "the largest weight is the negative one: take abs() before max()",
            1.27 / 128: "128 does not fit into 8 bits with a sign; the largest code is 127",
            100.0: "that is codes per weight; the scale is what a code is multiplied by on the way back",
            1.27: "that is the largest weight; a step is one of its 127 parts",
            1.27 / 255: "255 steps from end to end leave 127 on each side: divide by 127",
        },
        tolerance=1e-5,
    ):
        return feedback
    if codes.shape != weights.shape:
        return (
            f"the codes have the shape {codes.shape}, the weights {weights.shape}: every weight gets a code"
        )
    if codes.dtype != np.int8:
        return f"the codes are {codes.dtype}; a byte each is what was to be saved: .astype(np.int8)"
    right = [[20, -127, 0], [63, 1, -30]]
    if codes.tolist() in ([[20, -127, 0], [63, 0, -30]], [[20, -126, 0], [63, 0, -30]]):
        return "0.008 / 0.01 is 0.8, nearer to 1 than to 0: round with np.rint, astype alone cuts off"
    return None if codes.tolist() == right else f"the codes are {codes.tolist()}; they should be {right}"


def check_bits(bits_of: Callable[[int, int, int], float]) -> str | None:
    return compare(
        "bits_per_weight(4, 32, 16)",
        bits_of(4, 32, 16),
        4.5,
        {
            4.0: "the scale must be stored, too, and its bits are shared by the block",
            20.0: "a scale is stored once for a block, not for every weight: divide its bits by the block",
            6.0: "the block is in weights, the scale in bits: 16 bits are shared by 32 weights",
            4.0625: "that is the scale in bytes; it is wanted in bits",
            144.0: "that is the whole block; how much of it falls to one weight?",
        },
    ) or compare("bits_per_weight(4, 64, 32)", bits_of(4, 64, 32), 4.5)


VALUES = np.array([-1.0, -0.4, 0.0, 0.1, 1.0], dtype=np.float32)


def check_nearest(codes_of: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, float]]) -> str | None:
    block = np.array([0.02, -2.0, 0.3, 1.4, -0.75, -1.5], dtype=np.float32)
    got = codes_of(block.copy(), VALUES.copy())
    if feedback := count_values(got, "values are wanted, the places and the absmax"):
        return feedback
    places = np.asarray(got[0])
    if feedback := compare(
        "the absmax of a block whose largest is -2",
        got[1],
        2.0,
        {
            1.4: "the largest weight is the negative one: take abs() before max()",
            -2.0: "that is the largest with its sign; the absmax has none",
        },
    ):
        return feedback
    if places.shape != block.shape:
        return (
            f"{places.size} places for {block.size} weights: the nearest is wanted for each weight "
            "(axis=1), not each value"
        )
    feedbacks = {
        (2, 0, 3, 4, 1, 0): None,
        (2, 0, 3, 4, 0, 0): "the weights were not divided by the absmax before they were compared",
        (4,) * 6: "the smallest *signed* difference is not the nearest: take abs() of the difference",
        (3, 0, 4, 4, 2, 1): "that is the next value above; the nearest may lie below",
    }
    if places.dtype.kind == "f":
        return (
            "those are the values themselves; their places in the list are wanted, 0 to 4: they need fewer "
            "bits"
        )
    return feedbacks.get(
        tuple(places.tolist()), f"the places are {places.tolist()}; they should be [2, 0, 3, 4, 1, 0]"
    )


POINTS = {
    "tiny": (1.0, 10.0),
    "small": (3.0, 70.0),
    "small whole": (6.0, 70.0),
    "large q4": (5.0, 84.0),
    "large": (20.0, 84.0),
    "twin": (5.0, 84.0),
    "largest": (30.0, 86.0),
}


def check_front(front: Callable[[Mapping[str, tuple[float, float]]], Sequence[str]]) -> str | None:
    got = list(front(dict(POINTS)))
    if set(got) == {"tiny", "small", "largest"}:
        return "large q4 and twin are the same point: neither is better in anything, so neither is beaten"
    if got == ["largest"]:
        return "that is the one with most right answers; a smaller one with fewer may be unbeaten as well"
    if got == ["tiny"]:
        return "more right answers are better: one of the two comparisons is the wrong way round"
    if len(got) == len(POINTS):
        return (
            "small whole is beaten by small: as many right answers, fewer megabytes; leave the beaten ones "
            "out"
        )
    if "large" in got and "large q4" in got:
        return "large is beaten by large q4: as good in the one and better in the other is enough to beat"
    if set(got) == {"tiny", "small", "large q4", "twin", "largest"}:
        wanted = [POINTS[n][0] for n in got]
        return None if wanted == sorted(wanted) else "these are the right names; the smallest is wanted first"
    return f"{got}; unbeaten are tiny, small, large q4, twin and largest"


READINGS = {
    "a": (
        "four bits are fewer to store; before each use nf4 is unpacked to 16 bits or more, and the "
        "arithmetic is the same"
    ),
    "b": None,
    "c": (
        "a longer prompt is more arithmetic on unpacked weights; the unpacking weighs less then, but it is "
        "not a gain"
    ),
    "d": "double quantization packs the scales, too: less memory, and one more thing to unpack",
}


def check_cache(cache: Callable[[int, int, int, int, int, int], int]) -> str | None:
    heads = "several heads share one key and value: it is the KV heads that count, not the heads"
    return compare(
        "cache_bytes(32, 32, 8, 128, 8192, 2), Llama-3.1-8B",
        cache(32, 32, 8, 128, 8192, 2),
        2**30,
        {
            2**29: "keys *and* values are kept: twice as much",
            2**32: heads,
            2**31: f"{heads}; and the values are missing",
            2**25: "that is one layer; each of them keeps its own keys and values",
            2**33: "that is in bits; bytes are wanted",
            2**17: "that is for one token; all tokens of the text are kept",
        },
    ) or compare("cache_bytes(4, 4, 2, 64, 100, 4)", cache(4, 4, 2, 64, 100, 4), 409_600)


def check_billions(fit: Callable[[float, float, float, float], float]) -> str | None:
    scale = 2**30 * 8 / 4.5 / 1e9  # from GiB to billions of weights
    return compare(
        "billions(24, 4.5, 2, 0.1)",
        fit(24, 4.5, 2, 0.1),
        (24 * 0.9 - 2) * scale,
        {
            22 * scale: "nothing stays free: the reserve is a share of the card",
            24 * 0.9 * scale: "cache and working memory take their part before the weights do",
            22 * 0.9 * scale: "the reserve is a share of the card: first the reserve, then the cache",
            (24 * 0.9 - 2) * 8 / 4.5: "a gibibyte is 2**30 bytes, not a billion",
            (24 * 0.9 - 2) * scale / 8: "that takes bits for bytes: a byte has 8 bits",
            (24 * 0.9 - 2) * scale * 1e9: "that is in weights; billions are wanted",
        },
    ) or compare("billions(48, 16, 4, 0.2)", fit(48, 16, 4, 0.2), (48 * 0.8 - 4) * 2**30 / 2 / 1e9)


EXERCISES = (
    Exercise(
        "02.1",
        "eight bits by hand",
        (
            "The scale is the largest absolute weight divided by 127.",
            "Divide by the scale and round: np.rint.",
            "np.rint(weights / scale).astype(np.int8), scale",
        ),
        check_absmax,
    ),
    Exercise(
        "02.2",
        "bits of a weight, all told",
        (
            "How many bits does a whole block take?",
            "Its codes take bits * block, its scale scale_bits.",
            "bits + scale_bits / block",
        ),
        check_bits,
    ),
    Exercise(
        "02.3",
        "the nearest of the values",
        (
            "largest = abs(block).max(); then every weight lies between -1 and 1.",
            "block[:, None] - values is a table: a row for each weight, a column for each value.",
            "abs(block[:, None] / largest - values).argmin(axis=1), largest",
        ),
        check_nearest,
    ),
    Exercise(
        "02.4",
        "the points that nobody beats",
        (
            "A beats B when it has no more megabytes, no fewer right answers, and is not the same in both.",
            "Keep a name when no other point beats it.",
            "sorted(unbeaten, key=lambda name: points[name][0])",
        ),
        check_front,
    ),
    Exercise(
        "02.5",
        "why fewer bits were slower",
        (
            "What must happen to a 4-bit weight before it can be multiplied?",
            "Look at nf4's row in the table of speeds, and at its megabytes.",
        ),
        lambda answer: choose_letter(answer, READINGS),
    ),
    Exercise(
        "02.6",
        "bytes of the KV cache",
        (
            "Keys and values: a factor of two.",
            "Only KV heads keep them.",
            "2 * layers * kv_heads * head_dim * tokens * bytes_each",
        ),
        check_cache,
    ),
    Exercise(
        "02.7",
        "what fits on a card",
        (
            "First take the reserve away: memory_gib * (1 - reserve).",
            "Then the cache: - kv_gib. What is left, in bits, is divided by the bits of a weight.",
            "(memory_gib * (1 - reserve) - kv_gib) * 2**30 * 8 / bits / 1e9",
        ),
        check_billions,
    ),
)
