"""How much memory a model will take, from its configuration alone.

Weights, embeddings, norms and the KV cache are computed as the drivers hold them. What an engine needs beside
them is a small model of its buffers, fitted to measurements. Not counted are the program itself (Python, its
libraries, a GPU's context), and on a CPU what the system takes back when memory is short: the mapped file,
where llama.cpp keeps a second copy of q4_0 weights or transformers quantizes a part of them. The plan is of
one instance; `load` may start one for every core of a model below 64 MB.
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
UNQUANTIZED = ("float32", "float16", "bfloat16")
BITSANDBYTES = QUANTIZATIONS["huggingface"]  # it quantizes the matrices of the layers alone
BITS = BITS_OF | {"q4_k_m": 4.89}  # a weight; of q4_k_m the average over Llama-3.1-8B, an approximation
FORMATS = ("q4_0", "q4_k_m", "q8_0", "nf4", "fp4", "int8", "bfloat16", "float16", "float32")
CACHE_STEP = 256  # llama.cpp rounds its KV cache up to a multiple of so many tokens
PROMPT_CHUNK = 512  # tokens of a prompt that llama.cpp reads at once


@dataclass(frozen=True)
class Plan:
    """Bytes that a model takes while it reads `batch` texts, each as long as the context.

    weights: in the matrices of layers. kv: keys and values of all tokens. overhead: buffers of the engine.
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
        parts = self.parts | {"total": self.total}
        rows = [[name, format_bytes(n), f"{n / self.total:.0%}"] for name, n in parts.items()]
        return f"{title}\n{table(['part', 'bytes', 'share'], rows)}"


def format_bytes(number: float) -> str:
    """Bytes in GiB or MiB.

    >>> format_bytes(24 * 2**30), format_bytes(3 * 2**20)
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
) -> Plan:
    """The plan for a well-known or shipped model by its name, or for a folder by its config.json.

    weight_format: one of FORMATS. llama.cpp has q4_0, q4_k_m and q8_0; bitsandbytes nf4, fp4 and int8; both
    have the unquantized ones, which are planned for transformers where no driver is given. precision: of what
    bitsandbytes does not quantize, by default bfloat16 (on a CPU `load` takes float32). kv: type of
    llama.cpp's KV cache: float16, float32, bfloat16, q8_0 or q4_0; that of transformers has the precision.
    Raises CourseError for what cannot be combined, and for a longer context than the model reads.
    """
    sizes = architecture(model)
    driver = _driver(weight_format, driver)
    _check(sizes, weight_format, driver, context, batch, precision, kv, double_quantization)
    if driver == "llamacpp":
        rest, norms, cache = weight_format, "float32", kv or "float16"
        overhead = _llamacpp_overhead(sizes, context, batch)
    else:
        rest = norms = cache = weight_format if weight_format in UNQUANTIZED else precision or "bfloat16"
        overhead = _huggingface_overhead(sizes, weight_format, context, batch, rest)
    matrices = [
        _matrix_bytes(rows, columns, weight_format, double_quantization) for rows, columns in sizes.matrices
    ]
    return Plan(
        model=sizes.name,
        weight_format=weight_format,
        driver=driver,
        context=context,
        batch=batch,
        weights=round(sizes.layers * sum(matrices)),
        embeddings=round(sizes.embedding_parameters * BITS[rest] / 8),
        norms=round(sizes.norm_parameters * BITS[norms] / 8),
        kv=kv_bytes(sizes, context, batch, cache, driver),
        overhead=overhead,
    )


def _driver(weight_format: str, driver: Driver | None) -> Driver:
    if weight_format not in FORMATS:
        raise CourseError(
            f"weight_format={weight_format!r} is unknown", f"choose one of {', '.join(FORMATS)}"
        )
    if driver not in (None, "huggingface", "llamacpp"):
        raise CourseError(f"driver={driver!r} is not planned for", "choose huggingface or llamacpp")
    if weight_format in UNQUANTIZED:
        return driver or "huggingface"
    only: Driver = "huggingface" if weight_format in BITSANDBYTES else "llamacpp"
    if driver not in (None, only):
        raise CourseError(
            f"the driver {driver} has no format {weight_format}",
            f'plan(..., weight_format="{weight_format}", driver="{only}")',
        )
    return only


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
        what = f"{batch} x {context:,} tokens; {sizes.name} reads 1 to {sizes.context:,}"
        raise CourseError(what, f"plan(..., context={sizes.context}, batch=1)")
    if sizes.family.encoder and driver == "llamacpp":
        what = f"{sizes.name} is an encoder, which was not measured in llama.cpp"
        raise CourseError(what, 'plan(..., weight_format="float32", driver="huggingface")')
    if precision not in (None, *UNQUANTIZED) or (precision and weight_format not in BITSANDBYTES):
        what = f"precision={precision!r} beside {weight_format}: {', '.join(BITSANDBYTES)} take one of"
        raise CourseError(f"{what} {', '.join(UNQUANTIZED)}", "leave precision out")
    if kv not in (None, *UNQUANTIZED, "q8_0", "q4_0") or (kv and driver != "llamacpp"):
        what = f"kv={kv!r} for {driver}: only llama.cpp has a choice"
        raise CourseError(f"{what}, of {', '.join(UNQUANTIZED)}, q8_0 and q4_0", "leave kv out")
    if double and weight_format not in ("nf4", "fp4"):
        what = f"double_quantization beside {weight_format}: it is for the scales of nf4 and fp4"
        raise CourseError(what, "leave double_quantization out")


def _matrix_bytes(rows: int, columns: int, weight_format: str, double: bool) -> float:
    """Bytes of a matrix with its scales.

    int8: a scale of 4 bytes for each row (arXiv:2208.07339). nf4 and fp4: one for each 64 weights, and a
    table of 16 values; doubly quantized, one byte for each 64 weights and 4 bytes for 256 of these
    (arXiv:2305.14314).
    """
    weights = rows * columns
    if weight_format == "int8":
        return weights + 4 * rows
    if weight_format not in ("nf4", "fp4"):
        return weights * BITS[weight_format] / 8
    blocks = -(-weights // 64)
    scales = blocks + 4 * -(-blocks // 256) + 4 * 256 + 4 if double else 4 * blocks
    return -(-weights // 2) + 4 * 16 + scales


def _round_up(tokens: int) -> int:
    return CACHE_STEP * -(-tokens // CACHE_STEP)


def _cached_tokens(sizes: Architecture, context: int, driver: Driver) -> tuple[int, int]:
    """Cached tokens of a text, in a layer that sees all tokens and in one that sees a window.

    transformers keeps the window; llama.cpp keeps it and the chunk that it reads, but everything of Mistral
    and Phi-3.
    """
    if driver == "huggingface":
        return context, min(context, sizes.window or context)
    full = _round_up(context)
    if not (sizes.family.rolling_cache and sizes.window):
        return full, full
    return full, min(full, _round_up(sizes.window + PROMPT_CHUNK))


def kv_bytes(
    sizes: Architecture, context: int, batch: int = 1, kv: str = "float16", driver: Driver = "llamacpp"
) -> int:
    """Bytes of the keys and values of `batch` texts: 2 x kv_heads x head_dim for every token in every layer.

    >>> kv_bytes(architecture("Llama-3.1-8B"), 8192) == 2**30
    True
    """
    if sizes.family.encoder:
        return 0
    full, window = _cached_tokens(sizes, context, driver)
    tokens = (sizes.layers - sizes.windowed) * full + sizes.windowed * window
    return round(batch * 2 * sizes.kv_heads * sizes.head_dim * tokens * BITS[kv] / 8)


def _llamacpp_overhead(sizes: Architecture, context: int, batch: int) -> int:
    """llama.cpp's compute and output buffers, as xllamacpp 2026.10 reports them with flash attention.

    A chunk of the prompt needs 3 rows as wide as the feed-forward layer and 5 as wide as the hidden one (3
    where the feed-forward layer is at most twice as wide), each in 32 bits; 36 bytes for positions; and a
    mask of 2 bytes for every cached token. The output needs 32 bits for every token of the vocabulary.
    """
    chunk = min(PROMPT_CHUNK, batch * context)
    rows = 3 * sizes.feed_forward + (5 if sizes.feed_forward > 2 * sizes.hidden else 3) * sizes.hidden
    full, window = _cached_tokens(sizes, context, "llamacpp")
    masks = full + (window if sizes.family.rolling_cache and sizes.window else 0)
    return chunk * (4 * rows + 36 + 2 * masks) + 4 * batch * sizes.vocabulary


def _huggingface_overhead(
    sizes: Architecture, weight_format: str, context: int, batch: int, precision: str
) -> int:
    """The most that torch holds at once beside weights and cache while it reads prompts on a CPU.

    That is in a feed-forward layer, or where the logits of the last token are sorted. int8 needs its products
    in 32 bits as well; nf4 and fp4 dequantize one matrix at a time. Layers with a window keep the whole
    prompt until it has been read, and need a mask for every two tokens; eager attention has scores for every
    two tokens and head, which grow four times where a context doubles. Measured with transformers 5.23, torch
    2.13 and bitsandbytes 0.50, on CPUs without avx512_fp16, which needs more for float16.
    """
    tokens, width, size = batch * context, _widest_layer(sizes), BITS[precision] / 8
    visible = min(context, sizes.window or context)
    mask = context**2 if visible < context and not sizes.family.encoder else 0
    feed_forward = tokens * width * size + mask
    if weight_format == "int8":
        feed_forward += tokens * ((8 if precision == "float32" else 12) * sizes.feed_forward + sizes.hidden)
    needs = [feed_forward, 33 * batch * sizes.vocabulary * (not sizes.family.encoder)]
    if weight_format in ("nf4", "fp4"):
        largest = max(rows * columns for rows, columns in sizes.matrices)
        needs.append((tokens * (width - sizes.feed_forward) + largest) * size + mask)
    attention = tokens * (3 * sizes.hidden + (4 * sizes.heads + 2) * sizes.head_dim) * size
    if sizes.family.eager:
        scores = (8 if size == 4 else 10) * sizes.heads * context**2
        needs.append(attention + batch * (scores + size * (context**2 + mask)))
    elif mask:
        needs.append(attention + (2 + size) * mask)
    unread = 2 * sizes.kv_heads * sizes.head_dim * sizes.windowed * (context - visible)
    return round(max(needs) + batch * unread * size)


def _widest_layer(sizes: Architecture) -> int:
    """Numbers that torch holds at once for a token in the feed-forward layer."""
    if sizes.family.encoder:
        return 2 * sizes.feed_forward + 3 * sizes.hidden
    return (4 if sizes.family.fused else 3) * sizes.feed_forward + 4 * sizes.hidden + 2 * sizes.head_dim
