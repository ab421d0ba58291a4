"""Load weights in 8 or 4 bits with bitsandbytes (Dettmers et al., arXiv:2208.07339 and arXiv:2305.14314).

A specification (ModelSpec) says which model to load, and how.
"""

from __future__ import annotations

import logging
from typing import Any

from course_lib.errors import CourseError
from course_lib.models.drivers.engine import Unsupported
from course_lib.models.schema.spec import ModelSpec

FOUR_BITS = ("nf4", "fp4")
FOUR_BIT_FIELDS = ("compute_dtype", "double_quantization")  # have an effect with 4-bit weights only
# bitsandbytes' fused CPU kernel (code that unpacks and multiplies 4-bit weights in one step) needs matrices
# whose sizes are multiples of these.
FUSED_ROW_MULTIPLE, FUSED_COLUMN_MULTIPLE = 32, 64
# The beginnings of messages that bitsandbytes logs for every layer or at every import.
NOISE = ("MatMul8bitLt: inputs will be cast", "Failed to load CPU gemm_4bit_forward")


def _check_spec(spec: ModelSpec) -> None:
    """Raise Unsupported if a field for 4-bit weights is set with another quantization."""
    for name in FOUR_BIT_FIELDS:
        value = getattr(spec, name)
        if spec.quantization not in FOUR_BITS and value not in ("auto", False):
            what = f"{name}={value!r} applies to 4-bit weights, and quantization is {spec.quantization}"
            raise Unsupported(what, 'load(..., quantization="nf4")')


def format_name(config: dict[str, Any]) -> str:
    """The quantization in a `quantization_config`: int8, nf4, fp4, or another library's method."""
    if config.get("load_in_4bit"):
        return str(config.get("bnb_4bit_quant_type", "fp4"))
    return "int8" if config.get("load_in_8bit") else str(config.get("quant_method", "unknown"))


def loading_options(
    spec: ModelSpec, name: str, config: dict[str, Any], dtype: Any, device: str
) -> dict[str, Any]:
    """Keyword arguments of `from_pretrained` for quantized weights; empty for a model that is not quantized.

    config: the `quantization_config` of the model's files, empty if they are not quantized. dtype: the type
    of the weights that stay unquantized, in which products are computed if `compute_dtype` is auto. Raises
    CourseError if the files have another quantization than the specification, and Unsupported if a field for
    4-bit weights is set with another quantization.
    """
    _check_spec(spec)
    _silence_messages()  # before peft is imported: it imports bitsandbytes, which logs messages
    if not config and spec.quantization == "none":
        return {}
    placement = {"device_map": {"": device}}  # bitsandbytes quantizes weights as they move to the device
    if config:
        _check_matches_files(spec, name, config)
        return placement
    import torch
    from transformers import BitsAndBytesConfig

    if spec.quantization == "int8":
        return placement | {"quantization_config": BitsAndBytesConfig(load_in_8bit=True)}
    compute_dtype = dtype if spec.compute_dtype == "auto" else getattr(torch, spec.compute_dtype)
    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=spec.quantization,
        bnb_4bit_compute_dtype=torch.bfloat16 if compute_dtype == "auto" else compute_dtype,
        bnb_4bit_use_double_quant=spec.double_quantization,
    )
    return placement | {"quantization_config": quantization}


def _check_matches_files(spec: ModelSpec, name: str, config: dict[str, Any]) -> None:
    """Raise CourseError if the specification asks for another quantization than the files have."""
    quantization, double = format_name(config), bool(config.get("bnb_4bit_use_double_quant"))
    if spec.quantization not in ("none", quantization):
        what = f"{name} holds weights quantized as {quantization}, not {spec.quantization}"
        raise CourseError(what, "leave quantization out, or name a folder of unquantized weights")
    if "double_quantization" in spec.model_fields_set and spec.double_quantization != double:
        what = f"{name} was quantized with double_quantization={double}"
        raise CourseError(what, "leave double_quantization out")


def set_compute_dtype(model: Any, spec: ModelSpec) -> None:
    """Make every 4-bit layer compute in the specification's `compute_dtype`.

    bitsandbytes 0.50.2 has a fused kernel (dequantizes and multiplies at once) for CPUs with AVX512-BF16. It
    always computes in bfloat16, and fails on matrices that do not divide into its blocks. This function turns
    it off for such layers and other types.
    """
    import torch
    from bitsandbytes.nn import Linear4bit

    for layer in (m for m in model.modules() if isinstance(m, Linear4bit)):
        if spec.compute_dtype != "auto":
            layer.compute_dtype = getattr(torch, spec.compute_dtype)
            model.config.quantization_config.bnb_4bit_compute_dtype = layer.compute_dtype
        fits = layer.out_features % FUSED_ROW_MULTIPLE == 0 and layer.in_features % FUSED_COLUMN_MULTIPLE == 0
        layer.support_avx512bf16_for_cpu &= fits and layer.compute_dtype == torch.bfloat16


def check_saveable(model: Any, name: str) -> None:
    """Raise CourseError if the fused CPU kernel has rearranged the weights: their exact scales are lost."""
    states = (getattr(parameter, "quant_state", None) for parameter in model.parameters())
    if any(getattr(state, "packing_format_for_cpu", False) for state in states):
        raise CourseError(
            f"{name} has been used: bitsandbytes rearranged its weights for this CPU and rounded the scales",
            "load it again and save it before its first use",
        )


def is_quantized(parameter: Any) -> bool:
    """Whether a parameter consists of quantized weights."""
    return type(parameter).__name__ in ("Params4bit", "Int8Params")


def weight_count(parameter: Any) -> int:
    """The number of weights in a parameter. A 4-bit parameter stores two in each element."""
    state = getattr(parameter, "quant_state", None)
    return int(parameter.numel() if state is None else state.shape.numel())


def _silence_messages() -> None:
    """Drop the log messages that begin with NOISE, and no others."""
    for name in ("bitsandbytes.autograd._functions", "bitsandbytes.backends.cpu.ops"):
        logging.getLogger(name).addFilter(_is_not_noise)


def _is_not_noise(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(NOISE)
