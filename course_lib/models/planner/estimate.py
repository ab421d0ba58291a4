"""How much memory a model will take, from its configuration alone.

Weights, embeddings, norms and the cache of keys and values are computed as the drivers hold them; what an engine needs on top
is a small model of its own buffers, fitted to what they were measured to be. Not counted: the program itself (Python, the
libraries, a GPU's context), and what the screen and other programs take. Nor, on a CPU, what the system takes back when memory
is short: the mapped file, where llama.cpp keeps q4_0 weights a second time, rearranged for the processor, or transformers packs
only a part of them. The plan is of one instance: of a model below 64 MB, `load` may start one for every core.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from course_lib.errors import CourseError
from course_lib.models.planner.architectures import Architecture, architecture
from course_lib.models.planner.memory import BITS_OF
from course_lib.models.schema.spec import QUANTIZATIONS
from course_lib.tables import table

Driver = Literal["huggingface", "llamacpp"]
MIB, GIB = 2**20, 2**30
WHOLE = ("float32", "float16", "bfloat16")
PACKED = QUANTIZATIONS["huggingface"]  # by bitsandbytes: the matrices of the layers alone
BITS = BITS_OF | {
    "q4_k_m": 4.89
}  # bits a weight; q4_k_m: llama.cpp's own average over Llama-3.1-8B, an approximation
FORMATS = ("q4_0", "q4_k_m", "q8_0", "nf4", "fp4", "int8", "bfloat16", "float16", "float32")
CELLS, READ_AT_ONCE = (
    256,
    512,
)  # llama.cpp rounds a cache up to so many tokens, and reads a prompt in pieces of so many


@dataclass(frozen=True)
class Plan:
    """Bytes that a model will take while it reads `batch` texts, each as long as the context.

    weights: in the matrices of the layers; kv: keys and values of all tokens, as held after reading; overhead: what the engine
    needs for a while on top.
    """

    model: str
    weight_format: str
    driver: Driver
    context: int
    batch: int
    weights: int
    embeddings: int
    norms: int
    kv: int
    overhead: int

    @property
    def total(self) -> int:
        return sum(self.parts.values())

    @property
    def parts(self) -> dict[str, int]:
        """Part -> bytes."""
        return {
            "weights": self.weights,
            "embeddings": self.embeddings,
            "norms": self.norms,
            "KV cache": self.kv,
            "overhead": self.overhead,
        }

    def __str__(self) -> str:
        title = f"{self.model}, {self.weight_format}, {self.driver}: {self.batch} x {self.context:,} tokens"
        rows = [
            [name, size(n), f"{n / self.total:.0%}"]
            for name, n in (self.parts | {"total": self.total}).items()
        ]
        return f"{title}\n{table(['part', 'bytes', 'share'], rows)}"


def size(number: float) -> str:
    """Bytes in words.

    >>> size(24 * 2**30), size(3 * 2**20)
    ('24.00 GiB', '3.00 MiB')
    """
    return f"{number / GIB:,.2f} GiB" if number >= GIB / 10 else f"{number / MIB:,.2f} MiB"


def plan(
    model: str | Path | Architecture,
    weight_format: str = "q4_0",
    context: int = 4096,
    batch: int = 1,
    *,
    driver: Driver | None = None,
    precision: str | None = None,
    kv: str | None = None,
    double_quantization: bool = False,
    threads: int = 0,
) -> Plan:
    """The plan for a model: a well-known or shipped one by its name, or a folder, of which the config.json is read.

    weight_format: one of FORMATS. llama.cpp has q4_0, q4_k_m and q8_0, bitsandbytes nf4, fp4 and int8; the whole ones are of both,
    transformers' where no driver is named. precision: of what nf4, fp4 and int8 leave whole, bfloat16 where none is named (on a
    CPU `load` takes float32). kv: of llama.cpp's cache: float16, float32, bfloat16, q8_0 or q4_0; transformers keeps it in the
    precision. threads: of a CPU on which transformers will run float16, as `float16_threads()` counts them. Raises CourseError
    for what cannot be combined, and for a context that the model does not read.
    """
    sizes = architecture(model)
    chosen = _driver(weight_format, driver)
    _check(sizes, weight_format, chosen, context, batch, precision, kv, double_quantization)
    if chosen == "llamacpp":
        rest, norms, cache = weight_format, "float32", kv or "float16"
    else:
        rest = norms = cache = weight_format if weight_format in WHOLE else precision or "bfloat16"
    matrices = sum(
        _matrix(rows, columns, weight_format, double_quantization) for rows, columns in sizes.matrices
    )
    return Plan(
        sizes.name,
        weight_format,
        chosen,
        context,
        batch,
        weights=round(sizes.layers * matrices),
        embeddings=round(sizes.embedding_parameters * BITS[rest] / 8),
        norms=round(sizes.norm_parameters * BITS[norms] / 8),
        kv=kv_bytes(sizes, context, batch, cache, chosen),
        overhead=_llamacpp(sizes, context, batch)
        if chosen == "llamacpp"
        else _huggingface(sizes, weight_format, context, batch, rest, threads),
    )


def _driver(weight_format: str, driver: Driver | None) -> Driver:
    if weight_format not in FORMATS:
        raise CourseError(f"weight_format={weight_format!r} is unknown", f"name one of {', '.join(FORMATS)}")
    if driver not in (None, "huggingface", "llamacpp"):
        raise CourseError(f"driver={driver!r} is not planned for", "name huggingface or llamacpp")
    if weight_format in WHOLE:
        return driver or "huggingface"
    has: Driver = "huggingface" if weight_format in PACKED else "llamacpp"
    if driver not in (None, has):
        raise CourseError(f"the driver {driver} has no format {weight_format}", f"name driver {has}, or none")
    return has


def _check(
    sizes: Architecture,
    weight_format: str,
    driver: Driver,
    context: int,
    batch: int,
    precision: str | None,
    kv: str | None,
    double: bool,
) -> None:
    if not 0 < context <= sizes.context or batch < 1:
        raise CourseError(
            f"{batch} x {context:,} tokens; {sizes.name} reads 1 to {sizes.context:,}",
            "change context or batch",
        )
    if sizes.family.encoder and driver == "llamacpp":
        raise CourseError(
            f"{sizes.name} is an encoder, which was not measured in llama.cpp", "name driver huggingface"
        )
    if precision not in (None, *WHOLE) or (precision and weight_format not in PACKED):
        raise CourseError(
            f"precision={precision!r} beside {weight_format}: it is for what {', '.join(PACKED)} leave whole, and one of "
            f"{', '.join(WHOLE)}",
            "leave it out",
        )
    if kv not in (None, *WHOLE, "q8_0", "q4_0") or (kv and driver != "llamacpp"):
        raise CourseError(
            f"kv={kv!r} for {driver}: llama.cpp has {', '.join(WHOLE)}, q8_0 and q4_0; transformers keeps keys and "
            "values in the precision of the rest",
            "leave it out",
        )
    if double and weight_format not in ("nf4", "fp4"):
        raise CourseError(
            f"double_quantization beside {weight_format}: it packs the scales of nf4 and fp4", "leave it out"
        )


def _matrix(rows: int, columns: int, weight_format: str, double: bool) -> float:
    """Bytes of a matrix with its scales: int8 one of 4 bytes a row (arXiv:2208.07339); nf4 and fp4 one for 64 weights and a
    table of 16 values, and doubly quantized one byte for 64 weights and 4 bytes for 256 of these (arXiv:2305.14314).
    """
    weights = rows * columns
    if weight_format == "int8":
        return weights + 4 * rows
    if weight_format not in ("nf4", "fp4"):
        return weights * BITS[weight_format] / 8
    blocks = -(-weights // 64)
    scales = blocks + 4 * -(-blocks // 256) + 4 * 256 + 4 if double else 4 * blocks
    return -(-weights // 2) + 4 * 16 + scales


def _up(number: int) -> int:
    return CELLS * -(-number // CELLS)


def _held(sizes: Architecture, context: int, driver: Driver) -> tuple[int, int]:
    """Tokens that the cache holds of a text: in a layer that sees all, and in one that sees a window.

    llama.cpp keeps the window and the piece that it reads, and for Mistral and Phi-3 everything; transformers the window.
    """
    if driver == "huggingface":
        return context, min(context, sizes.window or context)
    full = _up(context)
    return full, min(full, _up(sizes.window + READ_AT_ONCE)) if sizes.family.ring and sizes.window else full


def kv_bytes(
    sizes: Architecture, context: int, batch: int = 1, kv: str = "float16", driver: Driver = "llamacpp"
) -> int:
    """Bytes of the keys and values of `batch` texts: 2 x kv_heads x head_dim for every token in every layer.

    >>> kv_bytes(architecture("Llama-3.1-8B"), 8192) == 2**30
    True
    """
    if sizes.family.encoder:
        return 0
    full, window = _held(sizes, context, driver)
    tokens = (sizes.layers - sizes.windowed) * full + sizes.windowed * window
    return round(batch * 2 * sizes.kv_heads * sizes.head_dim * tokens * BITS[kv] / 8)


def _llamacpp(sizes: Architecture, context: int, batch: int) -> int:
    """llama.cpp's compute and output buffers, as it reports them (version 2026.10 of xllamacpp, on a CPU, flash attention on).

    A piece of the prompt needs 3 rows as wide as the feed-forward layer and 5 as wide as the hidden one, 3 where the
    feed-forward layer is at most twice as wide, all of 32 bits, 36 bytes for its places, and a mask of 2 bytes for every token
    in a cache; then 32 bits for every word of the vocabulary.
    """
    piece = min(READ_AT_ONCE, batch * context)
    rows = 3 * sizes.feed_forward + (5 if sizes.feed_forward > 2 * sizes.hidden else 3) * sizes.hidden
    full, window = _held(sizes, context, "llamacpp")
    masks = full + (window if sizes.family.ring and sizes.window else 0)
    return piece * (4 * rows + 36 + 2 * masks) + 4 * batch * sizes.vocabulary


def _huggingface(
    sizes: Architecture, weight_format: str, context: int, batch: int, precision: str, threads: int
) -> int:
    """The most that torch holds at once beside weights and cache while it reads whole prompts of one length, on a CPU.

    That is in a feed-forward layer, or where the logits of the last token are sorted out. int8 needs its products in 32 bits,
    too; nf4 and fp4 unpack one matrix at a time. Layers with a window keep the whole prompt until it has been read, and need a
    mask for every two tokens; where attention is multiplied out, there are scores for every two tokens and head. Such parts
    grow four times where a context doubles. Measured with transformers 5.23, torch 2.13 and bitsandbytes 0.50.
    """
    tokens, width, each = batch * context, _width(sizes), BITS[precision] / 8
    seen = min(context, sizes.window or context)
    masked = context**2 if seen < context and not sizes.family.encoder else 0
    needs = [tokens * width * each + masked, 33 * batch * sizes.vocabulary * (not sizes.family.encoder)]
    if (
        weight_format == "float16" and threads
    ):  # in the matrix that leaves the feed-forward layer, where what it multiplied has gone
        gone = (1 if sizes.family.encoder or sizes.family.fused else 2) * sizes.feed_forward - sizes.hidden
        needs.append(
            tokens * (width - gone) * each
            + masked
            + _widened(sizes.hidden, sizes.feed_forward, tokens, threads)
        )
    if weight_format == "int8":
        needs[0] += tokens * ((8 if precision == "float32" else 12) * sizes.feed_forward + sizes.hidden)
    if weight_format in ("nf4", "fp4"):
        largest = max(rows * columns for rows, columns in sizes.matrices)
        needs.append((tokens * (width - sizes.feed_forward) + largest) * each + masked)
    attention = tokens * (3 * sizes.hidden + (4 * sizes.heads + 2) * sizes.head_dim) * each
    if sizes.family.eager:
        scores = (8 if each == 4 else 10) * sizes.heads * context**2
        needs.append(attention + batch * (scores + each * (context**2 + masked)))
    elif masked:
        needs.append(attention + (2 + each) * masked)
    unread = 2 * sizes.kv_heads * sizes.head_dim * sizes.windowed * (context - seen)
    return round(max(needs) + batch * unread * each)


def _width(sizes: Architecture) -> int:
    """Numbers that torch holds at once for a token, in the feed-forward layer, where they are most."""
    if sizes.family.encoder:
        return 2 * sizes.feed_forward + 3 * sizes.hidden
    return (4 if sizes.family.fused else 3) * sizes.feed_forward + 4 * sizes.hidden + 2 * sizes.head_dim


def float16_threads() -> int:
    """Threads with which torch multiplies float16 on this CPU, where it widens pieces of matrices (`_widened`); else 0."""
    import torch

    has = torch.cpu.get_capabilities()
    return torch.get_num_threads() if has.get("avx512_fp16") and not has.get("amx_fp16") else 0


def _widened(rows: int, columns: int, tokens: int, threads: int) -> int:
    """Bytes that threads hold while they multiply tokens by a matrix in float16, with avx512_fp16 (oneDNN 3.12, as measured).

    Each holds in 32 bits up to 256 tokens and 64 of the matrix' rows, whole or 512 columns at a time (1024 of more than 1024),
    and the sums: of these rows, or of up to 1024 where a row comes in pieces. So it is where threads divide the tokens; with less
    than 256 for each they may divide the matrix, and hold up to twice as much.
    """
    piece = min(columns, 512 if columns <= 1024 else 1024)
    sums = 64 if piece == columns else min(rows, 1024) + 16
    return 4 * threads * (min(256, -(-tokens // threads)) * (piece + sums) + 64 * piece)
