"""Estimate how much memory a model will need, from its configuration alone.

The sizes of weights, embeddings, norms and KV cache are computed for the driver (the software that runs the
model). The size of its other buffers is a simple formula fitted to measurements. Not counted: the program
itself (Python, its libraries, a GPU's context), and on a CPU the memory-mapped model file, which the system
can drop when memory is short. The estimate is for one instance of the model; `load` may start one instance
per core for a model below 64 MB.
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
BITSANDBYTES = QUANTIZATIONS["huggingface"]  # bitsandbytes quantizes only the matrices of the layers
BITS = BITS_OF | {"q4_k_m": 4.89}  # bits per weight; for q4_k_m approximately: its average in Llama-3.1-8B
FORMATS = ("q4_0", "q4_k_m", "q8_0", "nf4", "fp4", "int8", "bfloat16", "float16", "float32")
CACHE_STEP = 256  # tokens; llama.cpp rounds the length of its KV cache up to a multiple of this
PROMPT_CHUNK = 512  # tokens of a prompt that llama.cpp processes in one batch


@dataclass(frozen=True)
class Plan:
    """The bytes that a model needs while it processes `batch` texts of `context` tokens each.

    weights: The matrices of the layers. kv: The KV cache. overhead: The engine's other buffers.
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
        """The sum of all parts in bytes."""
        return sum(self.parts.values())

    @property
    def parts(self) -> dict[str, int]:
        """The bytes of each part by its name."""
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
    """Format a number of bytes as GiB or MiB.

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
    """Return the memory plan of a model: a well-known or shipped one by name, or a folder with a config.json.

    weight_format: One of FORMATS. q4_0, q4_k_m and q8_0 are for llama.cpp; nf4, fp4 and int8 for
    transformers with bitsandbytes; the unquantized formats for both (by default transformers).
    precision: The type of the weights that bitsandbytes does not quantize, by default bfloat16 (on a CPU,
    `load` uses float32).
    kv: The type of llama.cpp's KV cache: float16 (default), float32, bfloat16, q8_0 or q4_0. In transformers
    the cache has the type of the unquantized weights.
    Raises CourseError for invalid combinations, and for a context longer than the model supports.
    """
    sizes = architecture(model)
    driver = _resolve_driver(weight_format, driver)
    _check_options(sizes, weight_format, driver, context, batch, precision, kv, double_quantization)
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


def _resolve_driver(weight_format: str, driver: Driver | None) -> Driver:
    if weight_format not in FORMATS:
        raise CourseError(
            f"weight_format={weight_format!r} is unknown", f"choose one of {', '.join(FORMATS)}"
        )
    if driver not in (None, "huggingface", "llamacpp"):
        raise CourseError(
            f"driver={driver!r} is not supported by the planner", "choose huggingface or llamacpp"
        )
    if weight_format in UNQUANTIZED:
        return driver or "huggingface"
    only: Driver = "huggingface" if weight_format in BITSANDBYTES else "llamacpp"
    if driver not in (None, only):
        raise CourseError(
            f"the driver {driver} has no format {weight_format}",
            f'plan(..., weight_format="{weight_format}", driver="{only}")',
        )
    return only


def _check_options(
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
        message = f"{batch} x {context:,} tokens; {sizes.name} reads 1 to {sizes.context:,}"
        raise CourseError(message, f"plan(..., context={sizes.context}, batch=1)")
    if sizes.family.encoder and driver == "llamacpp":
        message = f"{sizes.name} is an encoder, which was not measured in llama.cpp"
        raise CourseError(message, 'plan(..., weight_format="float32", driver="huggingface")')
    if precision not in (None, *UNQUANTIZED) or (precision and weight_format not in BITSANDBYTES):
        message = f"precision={precision!r} with {weight_format}: only {', '.join(BITSANDBYTES)} take one"
        raise CourseError(f"{message}, of {', '.join(UNQUANTIZED)}", "leave precision out")
    if kv not in (None, *UNQUANTIZED, "q8_0", "q4_0") or (kv and driver != "llamacpp"):
        message = f"kv={kv!r} for {driver}: only llamacpp takes a kv type, one of"
        raise CourseError(f"{message} {', '.join(UNQUANTIZED)}, q8_0, q4_0", "leave kv out")
    if double and weight_format not in ("nf4", "fp4"):
        message = f"double_quantization with {weight_format}: only nf4 and fp4 support it"
        raise CourseError(message, "leave double_quantization out")


def _matrix_bytes(rows: int, columns: int, weight_format: str, double: bool) -> float:
    """Return the bytes of a matrix with its quantization scales.

    int8 has a scale of 4 bytes per row (arXiv:2208.07339). nf4 and fp4 have a scale of 4 bytes per block of
    64 weights, and a table of 16 values. With double quantization, a block has a scale of 1 byte, and 256
    blocks share 4 more bytes (arXiv:2305.14314).
    """
    weights = rows * columns
    if weight_format == "int8":
        return weights + 4 * rows
    if weight_format not in ("nf4", "fp4"):
        return weights * BITS[weight_format] / 8
    blocks = -(-weights // 64)
    scales = blocks + 4 * -(-blocks // 256) + 4 * 256 + 4 if double else 4 * blocks
    return -(-weights // 2) + 4 * 16 + scales


def _round_up_tokens(tokens: int) -> int:
    return CACHE_STEP * -(-tokens // CACHE_STEP)


def _cached_tokens(sizes: Architecture, context: int, driver: Driver) -> tuple[int, int]:
    """Return the cached tokens per text in a full-attention layer and in a sliding-window layer.

    In the latter, transformers caches the window; llama.cpp caches the window plus one prompt chunk, or all
    tokens for families without `rolling_cache` (Mistral, Phi-3).
    """
    if driver == "huggingface":
        return context, min(context, sizes.window or context)
    full = _round_up_tokens(context)
    if not (sizes.family.rolling_cache and sizes.window):
        return full, full
    return full, min(full, _round_up_tokens(sizes.window + PROMPT_CHUNK))


def kv_bytes(
    sizes: Architecture, context: int, batch: int = 1, kv: str = "float16", driver: Driver = "llamacpp"
) -> int:
    """Return the bytes of the KV cache of `batch` texts: 2 x kv_heads x head_dim values per token and layer.

    >>> kv_bytes(architecture("Llama-3.1-8B"), 8192) == 2**30
    True
    """
    if sizes.family.encoder:
        return 0
    full, window = _cached_tokens(sizes, context, driver)
    tokens = (sizes.layers - sizes.windowed) * full + sizes.windowed * window
    return round(batch * 2 * sizes.kv_heads * sizes.head_dim * tokens * BITS[kv] / 8)


def _llamacpp_overhead(sizes: Architecture, context: int, batch: int) -> int:
    """Return the bytes of llama.cpp's compute and output buffers, with flash attention.

    Fitted to the sizes that xllamacpp 2026.10 reports. Each token of a prompt chunk needs 3 feed-forward rows
    and 5 hidden rows (3 if feed_forward <= 2 * hidden) of float32, 36 bytes for positions, and an attention
    mask of 2 bytes per cached token. The output needs a float32 per vocabulary entry and text.
    """
    chunk = min(PROMPT_CHUNK, batch * context)
    rows = 3 * sizes.feed_forward + (5 if sizes.feed_forward > 2 * sizes.hidden else 3) * sizes.hidden
    full, window = _cached_tokens(sizes, context, "llamacpp")
    masks = full + (window if sizes.family.rolling_cache and sizes.window else 0)
    return chunk * (4 * rows + 36 + 2 * masks) + 4 * batch * sizes.vocabulary


def _huggingface_overhead(
    sizes: Architecture, weight_format: str, context: int, batch: int, precision: str
) -> int:
    """Return the peak bytes that torch needs for prompts on a CPU, in addition to weights and KV cache.

    The peak is in a feed-forward layer, in attention, or when the logits of the last token are sorted. int8
    also holds 32-bit products; nf4 and fp4 dequantize one matrix at a time. Sliding-window layers hold the
    whole prompt until it is processed, and a mask of context x context; eager attention holds scores of
    heads x context x context. Measured with transformers 5.23, torch 2.13 and bitsandbytes 0.50, on CPUs
    without avx512_fp16 (with it, float16 needs more).
    """
    tokens, width, size = batch * context, _feed_forward_values(sizes), BITS[precision] / 8
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


def _feed_forward_values(sizes: Architecture) -> int:
    """Return how many values torch holds per token at the peak of a feed-forward layer."""
    if sizes.family.encoder:
        return 2 * sizes.feed_forward + 3 * sizes.hidden
    return (4 if sizes.family.fused else 3) * sizes.feed_forward + 4 * sizes.hidden + 2 * sizes.head_dim
