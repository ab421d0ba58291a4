"""Tables of what each driver supports: its methods (capabilities), and the fields of a specification.

A driver is the software that runs a model, such as llama.cpp. A specification (ModelSpec) says which model to
load, and how. TGI is Hugging Face's server Text Generation Inference.
"""

from __future__ import annotations

from typing import Literal

from course_lib.models.schema.generation import Generation
from course_lib.models.schema.pictures import Params
from course_lib.models.schema.spec import ModelSpec

Capability = Literal[
    "generate",
    "stream",
    "json_schema",
    "score",
    "embed",
    "embed_tokens",
    "rerank",
    "classify",
    "caption",
    "draw",
    "upscale",
    "embed_faces",
]

GENERATION_TASKS = ("text-generation", "chat-completion")
TASKS: dict[Capability, tuple[str, ...]] = {  # capability -> the tasks of a ModelSpec that offer it
    "generate": GENERATION_TASKS,
    "stream": GENERATION_TASKS,
    "json_schema": GENERATION_TASKS,
    "score": GENERATION_TASKS,
    "embed": ("text-embedding",),
    "embed_tokens": ("text-embedding",),
    "rerank": ("rerank",),
    "classify": ("text-classification",),
    "caption": ("image-to-text",),
    "draw": ("image-generation",),
    "upscale": ("image-upscale",),
    "embed_faces": ("face-embedding",),
}
CAPABILITIES: dict[str, frozenset[Capability]] = {  # driver -> its capabilities
    "huggingface": frozenset(TASKS) - {"json_schema", "caption", "draw", "upscale", "embed_faces"},
    "llamacpp": frozenset({"generate", "stream", "json_schema", "embed"}),
    "ollama": frozenset({"generate", "stream", "json_schema", "embed"}),
    "openai": frozenset({"generate", "stream", "json_schema", "embed"}),
    "tgi": frozenset({"generate", "stream", "json_schema"}),
}
REFUSED_TASKS = {("tgi", "chat-completion")}  # TGI has chats only in OpenAI's protocol: the driver openai

# Every driver supports these fields of ModelSpec.
COMMON_FIELDS = frozenset(
    {
        "source",
        "driver",
        "implementation",
        "task",
        "query_prefix",
        "passage_prefix",
        "keep_alive",
        "generation",
        "params",
    }
)
_GENERATION = frozenset(f"generation.{name}" for name in Generation.model_fields)
_PICTURES = frozenset({"architecture", "image", "prompt"})
_WEIGHTS = frozenset(ModelSpec.model_fields) - COMMON_FIELDS - _PICTURES  # how weights are loaded and run
_OPENAI = ("max_output_length", "temperature", "top_p", "stop", "seed", "json_schema")
# driver -> the other fields that have an effect; fields of ModelSpec.generation have the prefix `generation.`
SUPPORTED_FIELDS: dict[str, frozenset[str]] = {
    "huggingface": _WEIGHTS - {"low_cpu_mem_usage"} | _GENERATION - {"generation.json_schema"},
    "llamacpp": _WEIGHTS - {"device_mode", "compute_dtype", "double_quantization"} | _GENERATION,
    "ollama": frozenset({"context_length", "batch_size"}) | _GENERATION - {"generation.min_output_length"},
    "openai": frozenset({"batch_size"}) | {f"generation.{name}" for name in _OPENAI},
    "tgi": frozenset({"batch_size"}) | _GENERATION - {"generation.min_output_length"},
}
# (task, driver) of pictures -> the other fields that have an effect
_COMPUTED = frozenset({"architecture", "device", "precision", "batch_size"})  # for torch and onnxruntime
PICTURE_FIELDS: dict[tuple[str, str], frozenset[str]] = {
    ("image-to-text", "huggingface"): _COMPUTED | {"image", "generation.max_output_length"},
    ("image-generation", "diffusers"): _COMPUTED
    | {"prompt", *(f"params.{name}" for name in Params.model_fields if name != "scale")},
    ("image-upscale", "huggingface"): _COMPUTED | {"image", "params.scale"},
    ("image-upscale", "spandrel"): _COMPUTED | {"image", "params.scale"},
    ("image-upscale", "diffusers"): _COMPUTED - {"batch_size"}
    | {"image", "params.scale", "params.num_inference_steps", "params.seed"},
    ("face-embedding", "huggingface"): _COMPUTED | {"image"},
    ("face-embedding", "onnxruntime"): _COMPUTED - {"precision", "batch_size"} | {"image"},
    ("image-upscale", "ncnn"): frozenset({"architecture", "image", "params.scale"}),
    ("face-embedding", "dlib"): frozenset({"architecture", "batch_size", "image"}),
}


def supports_task(driver: str, capabilities: frozenset[Capability], task: str) -> bool:
    """Whether a driver with these capabilities supports a task."""
    return (driver, task) not in REFUSED_TASKS and any(task in TASKS[one] for one in capabilities)


def drivers_with(capability: Capability) -> list[str]:
    """The drivers that have a capability."""
    drivers = [driver for driver, capabilities in CAPABILITIES.items() if capability in capabilities]
    return drivers + [driver for task, driver in PICTURE_FIELDS if task in TASKS[capability]]


def drivers_supporting(field: str, task: str | None = None) -> list[str]:
    """The drivers on which a field of the specification has an effect.

    task: A task of pictures, to return only its drivers; None for the drivers of all tasks.
    """
    pictures = [
        driver for (one, driver), names in PICTURE_FIELDS.items() if field in names and task in (None, one)
    ]
    texts = [driver for driver, names in SUPPORTED_FIELDS.items() if field in names and task is None]
    return list(dict.fromkeys(texts + pictures))
