"""Prepare a base model for LoRA training with the library peft, compute its loss, and save the adapter.

A LoRA adapter is a set of small matrices that are trained while the model's own weights stay as they are.
Used by `training`. An engine is a loaded model. Logits are a model's scores of all tokens as the next one.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from course_lib.atomic import atomic_file, atomic_write_text
from course_lib.errors import CourseError
from course_lib.models import load
from course_lib.models.drivers.adapters import BASE_FILE, CONFIG_FILE, WEIGHTS_FILE
from course_lib.models.schema import ModelSpec
from course_lib.quiet import quiet
from course_lib.tuning.config import LoRATrainingConfig
from course_lib.tuning.dataset import padded_length
from course_lib.tuning.lora import linear_layers

if TYPE_CHECKING:
    from course_lib.models.drivers.huggingface import HuggingFace


def load_base(base: Any, config: LoRATrainingConfig) -> HuggingFace:
    """Load the base model in the training precision. Raises CourseError if it cannot be trained."""
    spec = ModelSpec.parse(base)
    language_model = spec.task in ("chat-completion", "text-generation")
    if spec.driver != "huggingface" or not language_model or spec.adapters:
        raise CourseError(
            f"{spec.name}: the base must be a language model of the driver huggingface without adapters",
            'train("haneul-4m", examples, folder)',
        )
    auto = "bfloat16" if has_native_bfloat16() else "float32"
    precision = auto if config.precision == "auto" else config.precision
    if spec.precision not in ("auto", precision):
        raise CourseError(
            f"the base {spec.name} has precision={spec.precision!r}, but training computes in {precision}",
            f"train(base, examples, folder, precision={precision!r})  # base without a precision",
        )
    engine: Any = load(spec, precision=precision)
    if getattr(engine.model, "is_loaded_in_8bit", False):
        raise CourseError(
            f"{spec.name} in int8: bitsandbytes' 8-bit layers give no gradients on a CPU",
            'train({"source": ..., "quantization": "nf4"}, examples, folder)',
        )
    if precision == "bfloat16" and engine.device == "cpu":
        # In 16 bits the backward pass of the default attention is five times as slow as "eager" (measured).
        engine.model.set_attn_implementation("eager")
    for layer in engine.model.modules():
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False  # bitsandbytes' code for it has no backward pass
    base_engine: HuggingFace = engine
    return base_engine


def has_native_bfloat16() -> bool:
    """Whether this machine has instructions for bfloat16: a GPU, or a CPU with AVX512-BF16."""
    return torch.cuda.is_available() or bool(torch.cpu._is_avx512_bf16_supported())


def add_lora(engine: HuggingFace, config: LoRATrainingConfig) -> Any:
    """Add LoRA layers to the engine's model and return it as a PeftModel in training mode.

    Raises CourseError for an unknown target module.
    """
    from peft import LoraConfig, get_peft_model

    targets = config.target_modules
    if targets != "all-linear":
        targets = tuple(targets)
        linear_layers(engine.model, targets, engine.name)  # raises for an unknown name
    lora_config = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,  # type: ignore[arg-type] # a float works too
        lora_dropout=config.dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]), quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about weights that layers share, which merging handles
        torch.manual_seed(config.seed)
        model: Any = get_peft_model(engine.model, lora_config, autocast_adapter_dtype=False)
        if config.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
    return model.train()


def loss_of(model: Any, ids: torch.Tensor, answer_mask: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy of the answer tokens in nats (natural logarithm), summed over the batch.

    ids, answer_mask: token ids, and which of them are the answer's, (examples, length). The output layer
    computes logits only for the answer tokens (padded to a `padded_length`); with short answers this saves
    about 90% of its work.
    """
    predicted = answer_mask[:, 1:]
    labels = ids[:, 1:][predicted]
    padding = (0, 0, 0, padded_length(len(labels)) - len(labels))
    hook = model.get_output_embeddings().register_forward_pre_hook(
        lambda head, inputs: (torch.nn.functional.pad(inputs[0][:, :-1][predicted], padding)[None],)
    )
    try:
        logits = model(input_ids=ids, use_cache=False).logits[0, : len(labels)]
    finally:
        hook.remove()
    return torch.nn.functional.cross_entropy(logits.float(), labels, reduction="sum")


@contextmanager
def seeded(seed: int, step: int) -> Iterator[None]:
    """Seed torch for one step, so that a resumed run has the same dropout as an uninterrupted one."""
    with torch.random.fork_rng():
        torch.manual_seed(seed * 1_000_003 + step)
        yield


def save_adapter(model: Any, folder: Path, base: dict[str, Any]) -> None:
    """Write the adapter's configuration, the record of its base model and, last, its weights.

    A folder that has the weights is therefore complete.
    """
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    changes = {"base_model_name_or_path": base["model"], "inference_mode": True}
    config = {
        key: sorted(value) if isinstance(value, set) else getattr(value, "value", value)
        for key, value in (model.peft_config["default"].to_dict() | changes).items()
    }
    atomic_write_text(folder / CONFIG_FILE, json.dumps(config, indent=1, sort_keys=True) + "\n")
    atomic_write_text(folder / BASE_FILE, json.dumps(base, indent=1) + "\n")
    weights = get_peft_model_state_dict(model, save_embedding_layers=False)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    with atomic_file(folder / WEIGHTS_FILE) as partial:
        save_file(tensors, partial, {"format": "pt"})
