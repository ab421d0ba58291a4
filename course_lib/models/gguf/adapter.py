"""Convert a LoRA adapter that PEFT saved to GGUF, for llama.cpp.

The adapter's weights are matrices A and B, whose product, scaled by alpha, is added to a matrix of the model.
GGUF is the file format of llama.cpp.
"""

from __future__ import annotations

import json
from pathlib import Path

from course_lib.errors import CourseError
from course_lib.models.gguf.architecture import USE_TRANSFORMERS, read_architecture
from course_lib.models.gguf.writer import CHOOSE_ANOTHER_FOLDER, gguf_writer


def export_adapter(folder: Path, base: Path, target: Path) -> Path:
    """Write the adapter in `folder`, trained on the model in `base`, to the file `target` and return it.

    llama.cpp scales the adapter by alpha / rank. For rsLoRA, whose scale is alpha / sqrt(rank), the file gets
    alpha x sqrt(rank).
    Raises CourseError if `folder` is not a LoRA adapter of a supported model or has parts that GGUF cannot
    represent, and if `target` cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        adapter = json.loads((folder / "adapter_config.json").read_text("utf-8"))
        weights, architecture = load_file(folder / "adapter_model.safetensors"), read_architecture(base)
        alpha = adapter["lora_alpha"] * (int(adapter["r"]) ** 0.5 if adapter.get("use_rslora") else 1)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        message = f"{folder} is not a LoRA adapter: {error}"
        raise CourseError(message, "use the folder that save_pretrained wrote") from error
    if adapter.get("alpha_pattern") or (adapter.get("use_rslora") and adapter.get("rank_pattern")):
        message = f"{folder.name} has a separate alpha for some layers, but GGUF supports only one for all"
        raise CourseError(message, USE_TRANSFORMERS)
    try:
        with gguf_writer(target, architecture.name) as writer:
            writer.add_type("adapter")
            writer.add_string("adapter.type", "lora")
            writer.add_float32("adapter.lora.alpha", alpha)
            for name, tensor in weights.items():
                path = name.removeprefix("base_model.model.").removesuffix(".weight")
                module, _, half = path.rpartition(".")
                if half not in ("lora_A", "lora_B"):
                    what = f"{folder.name}: llama.cpp does not support the tensor {name}"
                    raise CourseError(what, USE_TRANSFORMERS)
                weight = tensor.float().numpy()
                if half == "lora_B":
                    weight = architecture.to_gguf(module, weight)
                writer.add_tensor(f"{architecture.gguf_name(module)}.weight.{half.lower()}", weight)
    except OSError as error:
        raise CourseError(f"{target} cannot be written: {error}", CHOOSE_ANOTHER_FOLDER) from error
    return target
