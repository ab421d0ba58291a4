"""Weights packed into 8 or 4 bits by bitsandbytes (Dettmers et al. 2022, arXiv:2208.07339; 2023, arXiv:2305.14314)."""

from __future__ import annotations

import logging
from typing import Any

from course_lib.errors import CourseError
from course_lib.models.drivers.engine import Unsupported
from course_lib.models.schema import ModelSpec

FOUR_BITS = ("nf4", "fp4")
OF_FOUR_BITS = (
    "compute_dtype",
    "double_quantization",
)  # fields that say how 4-bit weights are packed and multiplied
FUSED_ROWS, FUSED_BLOCK = (
    32,
    64,
)  # what divides the rows and columns of a matrix that the CPU's own kernel multiplies
NOISE = (
    "MatMul8bitLt: inputs will be cast",
    "Failed to load CPU gemm_4bit_forward",
)  # at every layer; at every import


def check(spec: ModelSpec) -> None:
    """Raise Unsupported where a field beside `quantization` could not act."""
    for name in OF_FOUR_BITS:
        if spec.quantization not in FOUR_BITS and getattr(spec, name) not in ("auto", False):
            raise Unsupported(
                f"{name}={getattr(spec, name)!r} acts on 4-bit weights, and quantization is {spec.quantization}",
                "leave it out, or say quantization: nf4",
            )


def kind_of(said: dict[str, Any]) -> str:
    """The name of a packing, from a quantization_config: int8, nf4, fp4, or another library's own name for its method."""
    if said.get("load_in_4bit"):
        return str(said.get("bnb_4bit_quant_type", "fp4"))
    return "int8" if said.get("load_in_8bit") else str(said.get("quant_method", "unknown"))


def how(spec: ModelSpec, name: str, said: dict[str, Any], dtype: Any, device: str) -> dict[str, Any]:
    """Arguments of `from_pretrained` for weights that are packed, or are to be; none where neither.

    said: the quantization_config of the model's own files, empty where they hold whole weights. dtype: of what is not packed;
    products are computed in it where `compute_dtype` is auto. Raises CourseError for files that are packed in another way.
    """
    if not said and spec.quantization == "none":
        return {}
    where = {"device_map": {"": device}}  # bitsandbytes packs on the way to the device
    if said:
        _check_same(spec, name, said)
        return where
    import torch
    from transformers import BitsAndBytesConfig

    if spec.quantization == "int8":
        return where | {"quantization_config": BitsAndBytesConfig(load_in_8bit=True)}
    wanted = dtype if spec.compute_dtype == "auto" else getattr(torch, spec.compute_dtype)
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=spec.quantization,
        bnb_4bit_compute_dtype=torch.bfloat16 if wanted == "auto" else wanted,
        bnb_4bit_use_double_quant=spec.double_quantization,
    )
    return where | {"quantization_config": config}


def _check_same(spec: ModelSpec, name: str, said: dict[str, Any]) -> None:
    kind, double = kind_of(said), bool(said.get("bnb_4bit_use_double_quant"))
    if spec.quantization not in ("none", kind):
        raise CourseError(
            f"{name} holds weights packed as {kind}, not {spec.quantization}",
            "leave quantization out, or name a folder of unpacked weights",
        )
    if "double_quantization" in spec.model_fields_set and spec.double_quantization != double:
        raise CourseError(
            f"{name} was packed with double_quantization={double}", "leave double_quantization out"
        )


def settle(model: Any, spec: ModelSpec) -> None:
    """Make every 4-bit layer compute in the type that was asked for.

    bitsandbytes 0.50.2 has a kernel for CPUs with AVX512-BF16 that computes in bfloat16, whatever the type asked for, and
    fails on sizes that its blocks do not divide: it is left on where neither matters.
    """
    import torch
    from bitsandbytes.nn import Linear4bit

    for layer in (m for m in model.modules() if isinstance(m, Linear4bit)):
        if spec.compute_dtype != "auto":
            layer.compute_dtype = getattr(torch, spec.compute_dtype)
            model.config.quantization_config.bnb_4bit_compute_dtype = layer.compute_dtype
        divide = layer.out_features % FUSED_ROWS == 0 and layer.in_features % FUSED_BLOCK == 0
        layer.support_avx512bf16_for_cpu &= divide and layer.compute_dtype == torch.bfloat16


def check_whole(model: Any, name: str) -> None:
    """Raise CourseError where the kernel of `settle` has rearranged weights: their scales cannot be written any more."""
    if any(
        getattr(getattr(p, "quant_state", None), "packing_format_for_cpu", False) for p in model.parameters()
    ):
        raise CourseError(
            f"{name} has been used: bitsandbytes rearranged its weights for this CPU and rounded their scales",
            "load it again and save it before its first use, or load it with compute_dtype: float32",
        )


def is_packed(parameter: Any) -> bool:
    """Whether a parameter holds codes in place of weights."""
    return type(parameter).__name__ in ("Params4bit", "Int8Params")


def count(parameter: Any) -> int:
    """Number of weights in a parameter: two in a byte of a 4-bit one."""
    state = getattr(parameter, "quant_state", None)
    return int(parameter.numel() if state is None else state.shape.numel())


def silence() -> None:
    """Keep what bitsandbytes writes for every layer of every answer off the screen, and nothing else."""
    for name in ("bitsandbytes.autograd._functions", "bitsandbytes.backends.cpu.ops"):
        logging.getLogger(name).addFilter(_worth_reading)


def _worth_reading(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(NOISE)
