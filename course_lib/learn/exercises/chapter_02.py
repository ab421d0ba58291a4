"""Exercises of chapter 02: quantization by hand, the Pareto front, the KV cache, and what fits on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from course_lib.learn.exercises.comparing import check_length, check_letter, compare
from course_lib.learn.exercises.engine import Exercise

LARGEST_CODE = 127  # of eight bits with a sign
TAKE_ABS = "the weight with the largest absolute value is negative: take abs() before max()"


def check_absmax(absmax_codes: Callable[[np.ndarray], tuple[np.ndarray, float]]) -> str | None:
    weights = np.array([[0.2, -1.27, 0.0], [0.634, 0.008, -0.3]], dtype=np.float32)
    expected = [[20, -127, 0], [63, 1, -30]]
    truncated = (
        [[20, -127, 0], [63, 0, -30]],
        [[20, -126, 0], [63, 0, -30]],
    )  # the second by float32 rounding
    absmax = 1.27
    result = absmax_codes(weights.copy())
    if feedback := check_length(result, "values: the codes and the scale"):
        return feedback
    codes, scale = np.asarray(result[0]), result[1]
    if feedback := compare(
        f"the scale of weights whose largest is {-absmax}",
        scale,
        absmax / LARGEST_CODE,
        {
            0.634 / LARGEST_CODE: TAKE_ABS,
            absmax / 128: "128 does not fit into 8 bits with a sign; the largest code is 127",
            LARGEST_CODE
            / absmax: "that is upside down; the scale turns a code back into a weight: absmax / 127",
            absmax: "that is the largest absolute weight; divide it by 127 to get the scale",
            absmax / 255: "255 covers both signs; divide by 127, the largest code on one side of zero",
        },
        tolerance=1e-5,
    ):
        return feedback
    if codes.shape != weights.shape:
        return f"the codes have the shape {codes.shape}; they need the shape of the weights, {weights.shape}"
    if codes.dtype != np.int8:
        return f"the codes are {codes.dtype}, but each should take one byte: use .astype(np.int8)"
    if codes.tolist() in truncated:
        return (
            "0.008 / 0.01 is 0.8, which rounds to 1: use np.rint first, since astype only cuts off decimals"
        )
    return (
        None if codes.tolist() == expected else f"the codes are {codes.tolist()}; they should be {expected}"
    )


def check_bits(bits_per_weight: Callable[[int, int, int], float]) -> str | None:
    bits, block, scale_bits = 4, 32, 16
    return compare(
        f"bits_per_weight({bits}, {block}, {scale_bits})",
        bits_per_weight(bits, block, scale_bits),
        bits + scale_bits / block,
        {
            bits: "the scale must be stored too: add its bits, divided by the number of weights in a block",
            bits
            + scale_bits: "there is one scale per block, not per weight: divide its bits by the block size",
            bits + block / scale_bits: (
                "that is upside down: divide the 16 bits of the scale by the 32 weights of the block"
            ),
            bits + scale_bits / 8 / block: "that counts the scale in bytes; count it in bits",
            bits * block + scale_bits: "that is the whole block; divide by its number of weights",
        },
    ) or compare("bits_per_weight(4, 64, 32)", bits_per_weight(4, 64, 32), 4 + 32 / 64)


VALUES = np.array([-1.0, -0.4, 0.0, 0.1, 1.0], dtype=np.float32)


def check_nearest(nearest_codes: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, float]]) -> str | None:
    block = np.array([0.02, -2.0, 0.3, 1.4, -0.75, -1.5], dtype=np.float32)
    result = nearest_codes(block.copy(), VALUES.copy())
    if feedback := check_length(result, "values: the indices and the absmax"):
        return feedback
    indices = np.asarray(result[0])
    if feedback := compare(
        "the absmax of a block whose largest is -2",
        result[1],
        2.0,
        {
            1.4: TAKE_ABS,
            -2.0: "that is the largest weight with its sign; the absmax has no sign",
        },
    ):
        return feedback
    if indices.shape != block.shape:
        return (
            f"{indices.size} indices came back for {block.size} weights; find the nearest value for each "
            "weight (axis=1), not for each value"
        )
    if indices.dtype.kind == "f":
        return "those are the values themselves; return their indices in `values`, 0 to 4"
    feedbacks = {
        (2, 0, 3, 4, 1, 0): None,
        (2, 0, 3, 4, 0, 0): "the weights were not divided by the absmax before they were compared",
        (4,) * 6: "that takes the smallest *signed* difference; take abs() of the difference first",
        (3, 0, 4, 4, 2, 1): "that is always the next value above; the nearest one may lie below",
    }
    return feedbacks.get(
        tuple(indices.tolist()), f"the indices are {indices.tolist()}; they should be [2, 0, 3, 4, 1, 0]"
    )


POINTS = {  # name -> (megabytes, right answers)
    "tiny": (1.0, 10.0),
    "small": (3.0, 70.0),
    "small whole": (6.0, 70.0),
    "large q4": (5.0, 84.0),
    "large": (20.0, 84.0),
    "twin": (5.0, 84.0),
    "largest": (30.0, 86.0),
}
UNBEATEN = {"tiny", "small", "large q4", "twin", "largest"}


def check_front(front: Callable[[Mapping[str, tuple[float, float]]], Sequence[str]]) -> str | None:
    names = list(front(dict(POINTS)))
    if set(names) == UNBEATEN - {"large q4", "twin"}:
        return "large q4 and twin are the same point: neither is better in anything, so neither is beaten"
    if names == ["largest"]:
        return "that is only the one with the most right answers; smaller ones can be unbeaten too"
    if names == ["tiny"]:
        return "one comparison points the wrong way: more right answers are better"
    if len(names) == len(POINTS):
        return "small whole is beaten by small: as many right answers, fewer megabytes; leave it out"
    if "large" in names and "large q4" in names:
        return "large is beaten by large q4: equal in one number and better in the other is enough to beat it"
    if set(names) == UNBEATEN:
        sizes = [POINTS[name][0] for name in names]
        return None if sizes == sorted(sizes) else "these are the right names; sort them, the smallest first"
    return f"{names} came back; unbeaten are tiny, small, large q4, twin and largest"


READINGS = {
    "a": "four bits take less memory, but nf4 is unpacked to 16 bits or more before each use",
    "b": None,
    "c": "with a longer prompt unpacking is a smaller part of the work, but still a cost and not a gain",
    "d": "double quantization packs the scales too: it takes less memory, but adds one more thing to unpack",
}


def check_cache(cache_bytes: Callable[[int, int, int, int, int, int], int]) -> str | None:
    layers, heads, kv_heads, head_dim, tokens, bytes_each = 32, 32, 8, 128, 8192, 2
    keys = layers * kv_heads * head_dim * tokens * bytes_each
    several = "several heads share one key and value: count the KV heads, not the heads"
    return compare(
        "cache_bytes(32, 32, 8, 128, 8192, 2), Llama-3.1-8B",
        cache_bytes(layers, heads, kv_heads, head_dim, tokens, bytes_each),
        2 * keys,
        {
            keys: "keys *and* values are stored: multiply by 2",
            2 * keys * heads // kv_heads: several,
            keys * heads // kv_heads: f"{several}; and the values are missing",
            2 * keys // layers: "that is for one layer; every layer stores its own keys and values",
            2 * keys * 8: "that is in bits; return bytes",
            2 * keys // tokens: "that is for one token; multiply by the number of tokens",
        },
    ) or compare(
        "cache_bytes(4, 4, 2, 64, 100, 4)", cache_bytes(4, 4, 2, 64, 100, 4), 2 * 4 * 2 * 64 * 100 * 4
    )


def check_billions(billions: Callable[[float, float, float, float], float]) -> str | None:
    memory, bits, kv, reserve = 24, 4.5, 2, 0.1
    left = memory * (1 - reserve) - kv  # GiB for the weights
    per_gib = 2**30 * 8 / bits / 1e9  # billions of weights
    return compare(
        f"billions({memory}, {bits}, {kv}, {reserve})",
        billions(memory, bits, kv, reserve),
        left * per_gib,
        {
            (memory - kv)
            * per_gib: "nothing is kept free: subtract the reserve, a share of the GPU's memory",
            memory
            * (1 - reserve)
            * per_gib: "the cache is missing: subtract kv_gib before the weights are counted",
            (memory - kv) * (1 - reserve) * per_gib: (
                "the reserve is a share of the whole GPU: subtract first the reserve, then the cache"
            ),
            left * 8 / bits: "a gibibyte is 2**30 bytes, not a billion",
            left * per_gib / 8: "that takes bits for bytes: a byte has 8 bits",
            left * per_gib * 1e9: "that is the number of weights; return billions of weights",
        },
    ) or compare(
        "billions(48, 16, 4, 0.2)", billions(48, 16, 4, 0.2), (48 * (1 - 0.2) - 4) * 2**30 * 8 / 16 / 1e9
    )


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
        "bits per weight, including the scale",
        (
            "How many bits does a whole block take?",
            "Its codes take bits * block, and its scale takes scale_bits.",
            "bits + scale_bits / block",
        ),
        check_bits,
    ),
    Exercise(
        "02.3",
        "index of the nearest value",
        (
            "Divide by largest = abs(block).max(); then every weight lies between -1 and 1.",
            "block[:, None] - values is a table with a row for each weight and a column for each value.",
            "abs(block[:, None] / largest - values).argmin(axis=1), largest",
        ),
        check_nearest,
    ),
    Exercise(
        "02.4",
        "the Pareto front",
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
            "What must be done with a 4-bit weight before it can be multiplied?",
            "Look at the row of nf4 in the table of speeds, and at its megabytes.",
        ),
        lambda answer: check_letter(answer, READINGS),
    ),
    Exercise(
        "02.6",
        "bytes of the KV cache",
        (
            "Storing keys and values gives a factor of two.",
            "Only the KV heads store them.",
            "2 * layers * kv_heads * head_dim * tokens * bytes_each",
        ),
        check_cache,
    ),
    Exercise(
        "02.7",
        "what fits on a GPU",
        (
            "First subtract the reserve: memory_gib * (1 - reserve).",
            "Then subtract kv_gib. Convert what is left to bits and divide by the bits of a weight.",
            "(memory_gib * (1 - reserve) - kv_gib) * 2**30 * 8 / bits / 1e9",
        ),
        check_billions,
    ),
)
