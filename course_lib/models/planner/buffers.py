"""Estimate the bytes of a model's KV cache, and of the other buffers of llama.cpp and transformers.

The KV cache holds the keys and values of earlier tokens. A full-attention layer attends to all of them, a
sliding-window layer to the latest ones. `hidden` is the width of a layer, `feed_forward` that of its inner
part. An encoder reads a text and gives vectors or labels, but generates no text.
"""

from __future__ import annotations

from typing import Literal

from course_lib.models.planner.architectures import Architecture
from course_lib.models.planner.memory import BITS_OF

Driver = Literal["huggingface", "llamacpp"]
CACHE_STEP = 256  # tokens; llama.cpp rounds the length of its KV cache up to a multiple of this
PROMPT_CHUNK = 512  # tokens of a prompt that llama.cpp processes in one batch


def _round_up_tokens(tokens: int) -> int:
    return CACHE_STEP * -(-tokens // CACHE_STEP)


def _cached_tokens(sizes: Architecture, context: int, driver: Driver) -> tuple[int, int]:
    """Return the cached tokens per text in a full-attention layer and in a sliding-window layer.

    In the latter kind, transformers caches the window; llama.cpp caches the window plus one prompt chunk, or
    all tokens for families without `rolling_cache` (Mistral, Phi-3).
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
    return round(batch * 2 * sizes.kv_heads * sizes.head_dim * tokens * BITS_OF[kv] / 8)


def llamacpp_overhead(sizes: Architecture, context: int, batch: int) -> int:
    """Return the bytes of llama.cpp's buffers, with flash attention, which stores no matrix of scores.

    Fitted to the sizes that xllamacpp 2026.10 reports. Each token of a prompt chunk needs some rows of
    float32 (see `_rows`), 36 bytes for positions, and an attention mask of 2 bytes per cached token. The
    output needs a float32 per vocabulary entry and text.
    """
    if sizes.family.encoder:  # it reads a text in one piece
        return context * (4 * _rows(sizes) + 36 + 2 * context) + 4 * batch * sizes.vocabulary
    chunk, rows = min(PROMPT_CHUNK, batch * context), _rows(sizes)
    full, window = _cached_tokens(sizes, context, "llamacpp")
    masks = full + (window if sizes.family.rolling_cache and sizes.window else 0)
    return chunk * (4 * rows + 36 + 2 * masks) + 4 * batch * sizes.vocabulary


def _rows(sizes: Architecture) -> int:
    """Return how many values llama.cpp holds per token: 3 feed-forward rows, and 5 or 3 hidden ones.

    An encoder has no gate, and holds 1 feed-forward row. A mixture of experts (parallel networks, of which
    each token uses a few) holds the rows of all chosen experts, and another hidden row for each if hidden
    rows are more than twice as wide.
    """
    wide, hidden = sizes.feed_forward, sizes.hidden
    if sizes.family.encoder:
        return wide + 5 * hidden
    if not sizes.experts:
        return 3 * wide + (5 if wide > 2 * hidden else 3) * hidden
    outputs = sizes.experts_used if 2 * wide < hidden else 0
    return 3 * sizes.experts_used * wide + (5 + outputs + sizes.family.shared) * hidden


def huggingface_overhead(
    sizes: Architecture, weight_format: str, context: int, batch: int, precision: str
) -> int:
    """Return the peak bytes that torch needs for prompts on a CPU, in addition to weights and KV cache.

    The peak is in a feed-forward layer, in attention, or when the scores of all tokens are sorted. int8 also
    holds 32-bit products; nf4 and fp4 dequantize one matrix at a time. Sliding-window layers hold the whole
    prompt until it is processed, and a mask of context x context; "eager" attention stores its scores, heads
    x context x context. Measured with transformers 5.23, torch 2.13 and bitsandbytes 0.50, on CPUs with
    AVX-512 and without avx512_fp16. With the latter, float16 needs more. Without AVX-512, bitsandbytes
    multiplies int8 matrices in float32: it needs 4 more bytes for each weight of the largest matrix.
    """
    tokens, width, size = batch * context, _feed_forward_values(sizes), BITS_OF[precision] / 8
    visible = min(context, sizes.window or context)
    mask = context**2 if visible < context and not sizes.family.encoder else 0
    feed_forward = tokens * width * size + mask
    if weight_format == "int8":
        feed_forward += tokens * ((8 if precision == "float32" else 12) * sizes.feed_forward + sizes.hidden)
    needs = [feed_forward, 33 * batch * sizes.vocabulary * (not sizes.family.encoder)]
    if weight_format in ("nf4", "fp4"):
        largest = max(m.rows * m.columns for m in sizes.matrices)
        needs.append((tokens * (width - sizes.feed_forward) + largest) * size + mask)
    attention = tokens * (3 * sizes.hidden + (4 * sizes.heads + 2) * sizes.head_dim) * size
    if sizes.family.eager:
        scores = (8 if size == 4 else 10) * sizes.heads * context**2
        needs.append(attention + batch * (scores + size * (context**2 + mask)))
    elif mask:
        needs.append(attention + (2 + size) * mask)
    beyond = 2 * sizes.kv_heads * sizes.head_dim * sizes.windowed * (context - visible)  # outside the window
    return round(max(needs) + batch * beyond * size)


def _feed_forward_values(sizes: Architecture) -> int:
    """Return how many values torch holds per token at the peak of a feed-forward layer."""
    if sizes.family.encoder:
        return 2 * sizes.feed_forward + 3 * sizes.hidden
    return (4 if sizes.family.fused else 3) * sizes.feed_forward + 4 * sizes.hidden + 2 * sizes.head_dim
