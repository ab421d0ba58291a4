"""Checkers of chapter 02's exercises on the memory of weights and of KV caches.

A checker takes the student's answer, and returns feedback, or None if the answer is right. Each known mistake
is a wrong solution with the feedback for it, see `comparing.diagnose`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from course_lib.learn.exercises.comparing import diagnose

# A report of a model's size: the number of weights in the layers and in the embeddings (the table of vectors
# of the tokens), the bits per weight of both, and the bytes that a program reported.
Report = tuple[int, int, float, float, int]
Diagnosis = Callable[[Mapping[str, Report]], dict[str, str]]


def _diagnosis_by(
    counted: Callable[..., dict[str, float]], bits_per_byte: float = 8, within: float = 0.05
) -> Diagnosis:
    """Return a solution: the verdict is the first word whose size is close to the reported one.

    counted: returns word -> bits that were counted if the word is true. within: the tolerance.
    """

    def word(report: Report) -> str:
        reported = report[4] * bits_per_byte
        totals = counted(*report[:4]).items()
        return next((word for word, total in totals if abs(reported / total - 1) <= within), "unknown")

    return lambda reports: {name: word(report) for name, report in reports.items()}


def _counted(layers: int, table: int, bits: float, table_bits: float) -> dict[str, float]:
    """Return verdict -> bits that were counted, in the order in which the verdicts are tried."""
    return {
        "right": layers * bits + table * table_bits,
        "layers left out": table * table_bits,
        "embeddings left out": layers * bits,
        "not packed": 32 * (layers + table),
    }


_right_diagnosis = _diagnosis_by(_counted)


def _swapped(*report: float) -> dict[str, float]:
    """A mistake: two verdicts are swapped."""
    sizes = _counted(*report)  # type: ignore[arg-type]
    a, b = "layers left out", "embeddings left out"
    return {**sizes, a: sizes[b], b: sizes[a]}


LAYERS, TABLE = 3_407_872, 1_050_880  # weights in the layers, and in the table of embeddings
# Cases. int8 and nf4 are formats of about 8 and 4 bits for the layers; the embeddings have 32, once 16.
REPORTS: dict[str, Report] = {
    "rounded, not packed": (LAYERS, TABLE, 4.5, 32, 4 * (LAYERS + TABLE)),
    "torch's int8": (LAYERS, TABLE, 8.03, 32, 4 * TABLE),
    "nf4": (LAYERS, TABLE, 4.5, 32, 6_120_448),
    "int8 without its scales": (
        LAYERS,
        TABLE,
        8.03,
        32,
        LAYERS + 4 * TABLE,
    ),  # one 32-bit scale for each row: under 1%
    "float32": (LAYERS, TABLE, 32, 32, 4 * (LAYERS + TABLE)),
    "layers alone": (LAYERS, TABLE, 8.5, 16, 3_620_864),
    "as if all were packed": (LAYERS, TABLE, 4.5, 32, 2_508_048),
}
DIAGNOSIS_MISTAKES: tuple[tuple[Diagnosis, str], ...] = (
    (_diagnosis_by(_counted, bits_per_byte=1), "bits were taken for bytes: a byte has 8"),
    (
        _diagnosis_by(_counted, within=1e-9),
        "without its scales 'int8 without its scales' is less than 1% smaller, and counts as right: allow 5%",
    ),
    (
        _diagnosis_by(lambda n, t, bits, _: _counted(n, t, bits, bits)),
        "the embeddings have bits of their own: the report of nf4 is right",
    ),
    (
        _diagnosis_by(lambda *report: dict(reversed(_counted(*report).items()))),
        "'float32' has 32 bits for each weight, and says so: see first whether a report is right",
    ),
    (
        _diagnosis_by(_swapped),
        "where the layers are left out, the embeddings are what was counted: you have swapped the two",
    ),
    (
        lambda reports: {n: w for n, w in _right_diagnosis(reports).items() if w != "right"},
        "every report gets a word, also those that are right",
    ),
    (
        _diagnosis_by(lambda *report: {k: v for k, v in _counted(*report).items() if k != "not packed"}),
        "'rounded, not packed' holds 32 bits for each weight, whatever the format says",
    ),
)


def check_diagnosis(diagnosis: Diagnosis) -> str | None:
    """Check 02.4: `diagnosis(reports)`, for each report "right" or what it counts wrongly.

    Packed weights take as many bits as the format says; weights that are only rounded still take 32.
    """
    rng = random.Random(6)
    cases: list[tuple[Mapping[str, Report]]] = [(REPORTS,)]
    for _ in range(40):
        weights = (rng.randint(10**6, 10**9), rng.randint(10**5, 10**8))
        bits = (rng.choice((4.5, 8.5, 16)), rng.choice((4.5, 16, 32)))
        size = rng.choice(list(_counted(*weights, *bits).values())) / 8
        reported = round(size * rng.choice((0.5, 0.98, 1, 1.02, 1.3)))
        cases.append(({"model": (*weights, *bits, reported)},))
    return diagnose(diagnosis, _right_diagnosis, cases, DIAGNOSIS_MISTAKES, name="diagnosis")


def _right_cache_bytes(
    layers: int,
    heads: int,  # not needed; the student has to notice that
    kv_heads: int,
    head_dim: int,
    tokens: int,
    bytes_per_number: int,
    windowed: int,
    window: int,
) -> int:
    """The right solution of 02.6."""
    kept = (layers - windowed) * tokens + windowed * min(tokens, window)
    return 2 * kv_heads * head_dim * bytes_per_number * kept


# Known mistakes: a wrong answer, and the feedback on it.
CACHE_MISTAKES: tuple[tuple[Callable[..., float], str], ...] = (
    (
        lambda n, h, k, d, t, b, w, size: 2 * n * k * d * t * b,
        "the windowed layers keep only the last `window` tokens, not all",
    ),
    (
        lambda n, h, k, d, t, b, w, size: 2 * k * d * b * ((n - w) * t + w * size),
        "a short text does not fill the window: a windowed layer keeps min(tokens, window)",
    ),
    (
        lambda n, h, k, d, t, b, w, size: 2 * k * d * b * n * min(t, size),
        "only `windowed` of the layers have a window; the others keep every token",
    ),
    (
        lambda n, h, k, d, t, b, w, size: _right_cache_bytes(n, h, h, d, t, b, w, size),
        "several heads share one key and value: count the KV heads, not the heads",
    ),
    (
        lambda n, h, k, d, t, b, w, size: _right_cache_bytes(n, h, max(1, h // k), d, t, b, w, size),
        "heads // kv_heads says how many heads share one; kv_heads of them are stored",
    ),
    (
        lambda n, h, k, d, t, b, w, size: _right_cache_bytes(n, h, k, d, t, b, w, size) / 2,
        "keys *and* values are stored: multiply by 2",
    ),
    (
        lambda n, h, k, d, t, b, w, size: _right_cache_bytes(n, h, k, d, t, b, w, size) * 8,
        "that is in bits; return bytes",
    ),
    (
        lambda n, h, k, d, t, b, w, size: 2 * k * d * b * (n * t + w * min(t, size)),
        "the windowed layers are counted twice: layers - windowed of them keep all tokens",
    ),
)


def check_cache(cache_bytes: Callable[..., int]) -> str | None:
    """Check 02.6: `cache_bytes`, the bytes of a KV cache (keys and values of earlier tokens).

    For each token a layer keeps `kv_heads` keys and as many values, each of `head_dim` numbers. `windowed` of
    the layers do so only for the last `window` tokens.
    """
    cases = [
        (32, 32, 8, 128, 8192, 2, 0, 0),  # Llama-3.1-8B
        (42, 16, 8, 256, 8192, 2, 21, 4096),  # gemma-2-9b
        (26, 4, 1, 256, 300, 2, 22, 512),  # gemma-3-1b, a text shorter than its window
    ]
    rng = random.Random(8)
    for _ in range(20):
        kv, layers = rng.choice((1, 2, 8)), rng.randint(4, 48)
        cases.append((layers, 4 * kv, kv, 64, rng.randint(100, 9000), 2, rng.randint(1, layers - 1), 1024))
    return diagnose(cache_bytes, _right_cache_bytes, cases, CACHE_MISTAKES, name="cache_bytes")
