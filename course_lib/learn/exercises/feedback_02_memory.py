"""Checkers of chapter 02's exercises on memory: return feedback, None if right.

Each known mistake is a function that makes it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from course_lib.learn.exercises.comparing import diagnose

Report = tuple[int, int, float, float, int]  # weights in layers, in embeddings, bits of both, bytes reported


def _expected(report: Report) -> float:
    layers, embeddings, bits, embedding_bits, _ = report
    return (layers * bits + embeddings * embedding_bits) / 8


def _false(reports: Mapping[str, Report]) -> list[str]:
    return sorted(n for n, r in reports.items() if abs(r[4] / _expected(r) - 1) > 0.05)


def _named(wrong: Callable[[Report], bool]) -> Callable[[Mapping[str, Report]], list[str]]:
    return lambda reports: sorted(name for name, report in reports.items() if wrong(report))


LAYERS, TABLE = 3_407_872, 1_050_880
REPORTS: dict[str, Report] = {
    "rounded, not packed": (LAYERS, TABLE, 4.5, 32, 4 * (LAYERS + TABLE)),
    "packed layers not counted": (LAYERS, TABLE, 8.03, 32, 4 * TABLE),
    "nf4": (LAYERS, TABLE, 4.5, 32, 6_120_448),
    "int8 without its scales": (LAYERS, TABLE, 8.03, 32, LAYERS + 4 * TABLE),  # under 1% off
    "q4_0, all packed": (LAYERS, TABLE, 4.5, 4.5, 2_508_048),
    "as if all were packed": (LAYERS, TABLE, 4.5, 32, 2_508_048),
}
LIES: tuple[tuple[Callable[[Mapping[str, Report]], list[str]], str], ...] = (
    (
        _named(lambda r: r[4] == 4 * (r[0] + r[1])),
        "only the report that did not change was found; one can also report too little",
    ),
    (
        _named(lambda r: r[4] > 1.05 * _expected(r)),
        "only too much was found; 'packed layers not counted' reports too little",
    ),
    (
        _named(lambda r: r[4] < 0.95 * _expected(r)),
        "only too little was found; 'rounded, not packed' still holds 32 bits for each weight",
    ),
    (
        _named(lambda r: r[4] != round(_expected(r))),
        "a scale more or less is no lie: leave five per cent to either side",
    ),
    (
        _named(lambda r: abs(r[4] / ((r[0] + r[1]) * r[2] / 8) - 1) > 0.05),
        "the embeddings have bits of their own; the reports of nf4 are true",
    ),
    (
        _named(lambda r: abs(r[4] / (_expected(r) * 8) - 1) > 0.05),
        "bits were taken for bytes: divide by 8",
    ),
    (
        _named(lambda r: abs(r[4] / (r[0] * r[2] / 8) - 1) > 0.05),
        "the embeddings take memory, too: add them, at their own bits",
    ),
)


def check_false(false_reports: Callable[[Mapping[str, Report]], Sequence[str]]) -> str | None:
    chance = random.Random(6)
    cases: list[tuple[Mapping[str, Report]]] = [(REPORTS,)]
    for _ in range(20):
        layers, table = chance.randint(10**6, 10**9), chance.randint(10**5, 10**8)
        bits, table_bits = chance.choice((4.5, 8.5, 16)), chance.choice((4.5, 16, 32))
        true = (layers * bits + table * table_bits) / 8
        factor = chance.choice((0.5, 0.8, 0.98, 1, 1.02, 1.3, 2))
        cases.append(({"model": (layers, table, bits, table_bits, round(true * factor))},))

    def names(reports: Mapping[str, Report]) -> Any:
        found = false_reports(reports)
        return sorted(found) if isinstance(found, (list, tuple, set)) else found

    return diagnose(names, _false, cases, LIES, name="false_reports")


def _cache(
    layers: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    tokens: int,
    bytes_each: int,
    windowed: int,
    window: int,
) -> int:
    kept = (layers - windowed) * tokens + windowed * min(tokens, window)
    return 2 * kv_heads * head_dim * bytes_each * kept


CACHES: tuple[tuple[Callable[..., float], str], ...] = (
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
        lambda n, h, k, d, t, b, w, size: _cache(n, h, h, d, t, b, w, size),
        "several heads share one key and value: count the KV heads, not the heads",
    ),
    (
        lambda n, h, k, d, t, b, w, size: _cache(n, h, max(1, h // k), d, t, b, w, size),
        "heads // kv_heads says how many heads share one; what is stored are kv_heads",
    ),
    (
        lambda n, h, k, d, t, b, w, size: _cache(n, h, k, d, t, b, w, size) / 2,
        "keys *and* values are stored: multiply by 2",
    ),
    (
        lambda n, h, k, d, t, b, w, size: _cache(n, h, k, d, t, b, w, size) * 8,
        "that is in bits; return bytes",
    ),
    (
        lambda n, h, k, d, t, b, w, size: 2 * k * d * b * (n * t + w * min(t, size)),
        "the windowed layers are counted twice: layers - windowed of them keep all tokens",
    ),
)


def check_cache(cache_bytes: Callable[..., int]) -> str | None:
    cases = [
        (32, 32, 8, 128, 8192, 2, 0, 0),
        (42, 16, 8, 256, 8192, 2, 21, 4096),
        (26, 4, 1, 256, 300, 2, 22, 512),
    ]
    chance = random.Random(8)
    for _ in range(20):
        kv, layers = chance.choice((1, 2, 8)), chance.randint(4, 48)
        cases.append(
            (layers, 4 * kv, kv, 64, chance.randint(100, 9000), 2, chance.randint(1, layers - 1), 1024)
        )
    return diagnose(cache_bytes, _cache, cases, CACHES, name="cache_bytes")
