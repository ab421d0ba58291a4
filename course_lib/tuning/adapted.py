"""The model that is trained: a base in the precision to compute in, with peft's layers in it; its loss; its adapter's files."""

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
from course_lib.models.drivers.quiet import quiet
from course_lib.models.schema import ModelSpec
from course_lib.tuning.lora import linear_layers
from course_lib.tuning.recipe import Recipe
from course_lib.tuning.rows import recurring

if TYPE_CHECKING:
    from course_lib.models.drivers.huggingface import HuggingFace


def base_of(said: Any, how: Recipe) -> HuggingFace:
    """The model to adapt, in the precision to compute in. Raises CourseError for one that cannot be trained."""
    spec = ModelSpec.parse(said)
    if (
        spec.driver != "huggingface"
        or spec.task not in ("chat-completion", "text-generation")
        or spec.adapters
    ):
        raise CourseError(
            f"{spec.name}: adapters are trained on a language model of the driver huggingface, without adapters",
            "name the model itself, such as haneul-4m",
        )
    precision = (
        ("bfloat16" if _native_bfloat16() else "float32") if how.precision == "auto" else how.precision
    )
    if spec.precision not in ("auto", precision):
        raise CourseError(
            f"{spec.name} in {spec.precision}, and a recipe that computes in {precision}",
            "leave the base's precision out: the recipe's counts",
        )
    engine: Any = load(spec, precision=precision)
    if getattr(engine.model, "is_loaded_in_8bit", False):
        raise CourseError(
            f"{spec.name} in int8: bitsandbytes' 8-bit layers give no gradients on a CPU",
            "say quantization: nf4",
        )
    if precision == "bfloat16" and engine.device == "cpu":
        engine.model.set_attn_implementation(
            "eager"
        )  # the other's backward pass is five times as slow in 16 bits (measured)
    for layer in engine.model.modules():
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False  # bitsandbytes' fused kernel has no backward pass
    trainable: HuggingFace = engine
    return trainable


def _native_bfloat16() -> bool:
    return torch.cuda.is_available() or bool(torch.cpu._is_avx512_bf16_supported())


def adapted(engine: HuggingFace, how: Recipe) -> Any:
    """The engine's model with peft's layers in it, ready to be trained. Raises CourseError for an unknown target module."""
    from peft import LoraConfig, get_peft_model

    targets = how.targets if how.targets == "all-linear" else list(how.targets)
    said: dict[str, Any] = {
        "r": how.rank,
        "lora_alpha": how.alpha,
        "lora_dropout": how.dropout,
        "target_modules": targets,
    }
    config = LoraConfig(**said, task_type="CAUSAL_LM")
    if isinstance(targets, list):
        linear_layers(engine.model, targets, engine.name)  # an unknown one is told
    with torch.random.fork_rng(devices=[]), quiet(), warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", UserWarning
        )  # of tied weights, which are told apart when they are merged
        torch.manual_seed(how.seed)
        model: Any = get_peft_model(engine.model, config, autocast_adapter_dtype=False)
        if how.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
    return model.train()


def loss_of(model: Any, ids: torch.Tensor, learn: torch.Tensor) -> torch.Tensor:
    """The summed cross-entropy of the tokens to learn, each given all before it. ids, learn: (rows, length).

    The output layer computes those alone, and zeros up to a number that recurs: of a batch of questions with short answers that
    is a tenth of the work there.
    """
    chosen = learn[:, 1:]
    wanted = ids[:, 1:][chosen]
    more = (0, 0, 0, recurring(len(wanted)) - len(wanted))
    hook = model.get_output_embeddings().register_forward_pre_hook(
        lambda head, given: (torch.nn.functional.pad(given[0][:, :-1][chosen], more)[None],)
    )
    try:
        logits = model(input_ids=ids, use_cache=False).logits[0, : len(wanted)]
    finally:
        hook.remove()
    return torch.nn.functional.cross_entropy(logits.float(), wanted, reduction="sum")


@contextmanager
def seeded(seed: int, step: int) -> Iterator[None]:
    """Dropout, the base's too, depends on the seed and the step alone: a run that goes on draws what it would have drawn."""
    with torch.random.fork_rng():
        torch.manual_seed(seed * 1_000_003 + step)
        yield


def save_adapter(model: Any, folder: Path, base: dict[str, Any]) -> None:
    """Configuration, weights and base of an adapter, the weights last: what is interrupted is no adapter yet."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    config = model.peft_config["default"].to_dict() | {
        "base_model_name_or_path": base["model"],
        "inference_mode": True,
    }
    said = {k: sorted(v) if isinstance(v, set) else getattr(v, "value", v) for k, v in config.items()}
    atomic_write_text(folder / CONFIG_FILE, json.dumps(said, indent=1, sort_keys=True) + "\n")
    atomic_write_text(folder / BASE_FILE, json.dumps(base, indent=1) + "\n")
    weights = get_peft_model_state_dict(model, save_embedding_layers=False)
    with atomic_file(folder / WEIGHTS_FILE) as partial:
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()},
            partial,
            {"format": "pt"},
        )
