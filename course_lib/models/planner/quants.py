"""Which type llama.cpp gives to each matrix of a quantized model, and the bytes that follow.

The rules are those of llama_tensor_get_type in llama.cpp's src/llama-quant.cpp (version b11434), for a file
written without an importance matrix (measured data about which weights matter most). A mixture such as q4_k_m
gives more bits to the matrices that need them. Norms are not quantized, nor is the router, which chooses
among the experts of a layer. GGUF, the file format of llama.cpp, holds quantized weights: numbers of a few
bits.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

from course_lib.errors import CourseError
from course_lib.models.planner.architectures import ROUTER, Architecture
from course_lib.models.planner.memory import BITS_OF

BASES = {  # mixture -> the type of most of its matrices
    "q4_0": "q4_0", "q4_k_m": "q4_k", "q5_k_m": "q5_k", "q6_k": "q6_k", "q8_0": "q8_0", "q2_k": "q2_k",
    "q3_k_s": "q3_k", "q3_k_m": "q3_k", "q3_k_l": "q3_k", "q4_1": "q4_1", "q4_k_s": "q4_k",
    "iq4_nl": "iq4_nl", "q5_0": "q5_0", "q5_1": "q5_1", "q5_k_s": "q5_k",
    "bfloat16": "bfloat16", "float16": "float16", "float32": "float32",
}  # fmt: skip
BLOCKS = {"q2_k": 256, "q3_k": 256, "q4_k": 256, "q5_k": 256, "q6_k": 256}  # weights in a block; others: 32
SMALL_BLOCK = 32
# The type for rows that are not a multiple of 256 weights.
FALLBACK = {"q2_k": "q4_0", "q3_k": "q4_0", "q4_k": "q5_0", "q5_k": "q5_1", "q6_k": "q8_0"}
WHOLE = ("float32", "float16", "bfloat16")  # not quantized
# Mixtures that store attn_output in q5_k if the model has eight experts.
EIGHT_EXPERTS_OUTPUT = ("q2_k", "q3_k_s", "q3_k_m", "iq4_nl", "q4_k_s", "q4_k_m")


class TensorType(NamedTuple):
    """The name of a tensor in a GGUF file, its number of weights, and its type."""

    name: str
    weights: int
    type: str

    @property
    def bytes(self) -> float:
        return self.weights * BITS_OF[self.type] / 8


@functools.lru_cache(maxsize=1024)
def tensor_types(sizes: Architecture, mixture: str, pure: bool = False) -> tuple[TensorType, ...]:
    """Return the type of every matrix of a model in a GGUF file of this mixture, one of BASES.

    pure: Whether all matrices have the same type, as in the files that the course writes.
    Raises CourseError for rows that do not divide into the type's blocks of 32 weights.
    """
    matrices = sizes.matrices
    tensors = [
        TensorType(
            f"blk.{layer}.{m.name}.weight",
            m.weights,
            _fitting(_type(sizes, mixture, m.name, layer, pure), m.columns, m.name),
        )
        for layer in range(sizes.layers)
        for m in matrices
    ]
    for name in ("token_embd",) if sizes.tied else ("token_embd", "output"):
        kind = BASES[mixture] if pure else _embedding_type(sizes, mixture, name)
        kind = _fitting(kind, sizes.hidden, name)
        tensors.append(TensorType(f"{name}.weight", sizes.vocabulary * sizes.hidden, kind))
    return tuple(tensors)


def _fitting(kind: str, columns: int, name: str) -> str:
    """Return `kind`, or its substitute if rows of `columns` weights do not divide into blocks."""
    if kind in WHOLE or columns % BLOCKS.get(kind, SMALL_BLOCK) == 0:
        return kind
    if kind in FALLBACK:
        return FALLBACK[kind] if columns % SMALL_BLOCK == 0 else "float16"
    message = (
        f"{name} has rows of {columns:,} weights, which do not divide into {kind}'s blocks of {SMALL_BLOCK}"
    )
    raise CourseError(message, 'plan(..., weight_format="float16")')


def _embedding_type(sizes: Architecture, mixture: str, name: str) -> str:
    """Return the type of the output matrix or shared embeddings, or else of the input embeddings."""
    kind = BASES[mixture]
    if kind in WHOLE or (name == "token_embd" and not sizes.tied):
        return kind
    return "q8_0" if kind == "q8_0" or sizes.hidden % BLOCKS.get(kind, SMALL_BLOCK) else "q6_k"


def _type(sizes: Architecture, mixture: str, name: str, layer: int, pure: bool) -> str:
    kind, layers = BASES[mixture], sizes.layers
    if name == ROUTER:
        return "float32"
    if pure or kind in WHOLE:
        return kind
    # Mixtures give more bits to the first and last eighth of the layers, and to every third between them.
    more = layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2
    if name in ("attn_v", "attn_qkv"):
        return _value_type(sizes, mixture, layer, more)
    if name == "attn_k" and sizes.experts == 8:
        return "q8_0"
    if name == "attn_output" and sizes.experts == 8:
        return "q5_k" if mixture in EIGHT_EXPERTS_OUTPUT else kind
    if name == "attn_output":
        return {"q2_k": "q3_k", "q3_k_m": "q4_k", "q3_k_l": "q5_k"}.get(mixture, kind)
    if name.startswith("ffn_down"):
        first = layer < layers // 8
        return {
            "q2_k": "q3_k",
            "q3_k_m": "q5_k" if layer < layers // 16 else "q4_k",
            "q3_k_l": "q5_k",
            "iq4_nl": "q5_k" if first else kind,
            "q4_k_s": "q5_k" if first else kind,
            "q4_k_m": "q6_k" if more else kind,
            "q5_k_m": "q6_k" if more else kind,
        }.get(mixture, kind)
    return kind


def _value_type(sizes: Architecture, mixture: str, layer: int, more: bool) -> str:
    """Return the type of the matrix of values, which is the most sensitive one. more: see `_type`."""
    if sizes.experts == 8:
        return "q8_0"
    kind, grouped = BASES[mixture], sizes.heads // sizes.kv_heads >= 4
    chosen = {
        "q2_k": "q4_k" if grouped else "q3_k",
        "q3_k_m": "q5_k" if layer < 2 else "q4_k",
        "q3_k_l": "q5_k",
        "iq4_nl": "q5_k" if grouped else kind,
        "q4_k_s": "q5_k" if layer < 4 else kind,
        "q4_k_m": "q6_k" if more else kind,
        "q5_k_m": "q6_k" if more else kind,
    }.get(mixture, kind)
    large = sizes.layers == 80 and sizes.type in ("llama", "qwen2") and grouped  # llama.cpp's type 70B
    return "q5_k" if large and chosen in ("q3_k", "q4_k") else chosen
