"""Tables of what each driver supports: its methods (capabilities), and the fields of a specification."""

from __future__ import annotations

from typing import Literal

from course_lib.models.schema.generation import Generation
from course_lib.models.schema.spec import ModelSpec

Capability = Literal[
    "generate", "stream", "json_schema", "score", "embed", "embed_tokens", "rerank", "classify"
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
}
CAPABILITIES: dict[str, frozenset[Capability]] = {  # driver -> its capabilities
    "huggingface": frozenset(TASKS) - {"json_schema"},
    "llamacpp": frozenset({"generate", "stream", "json_schema", "embed"}),
    "ollama": frozenset({"generate", "stream", "json_schema", "embed"}),
    "openai": frozenset({"generate", "stream", "json_schema", "embed"}),
    "tgi": frozenset({"generate", "stream", "json_schema"}),
}
REFUSED_TASKS = {("tgi", "chat-completion")}  # /generate continues a text; TGI chats in OpenAI's protocol

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
    }
)
_GENERATION = frozenset(f"generation.{name}" for name in Generation.model_fields)
_WEIGHTS = frozenset(ModelSpec.model_fields) - COMMON_FIELDS
_OPENAI = ("max_output_length", "temperature", "top_p", "stop", "seed", "json_schema")
# driver -> the other fields that have an effect; those of ModelSpec.generation have the prefix `generation.`
SUPPORTED_FIELDS: dict[str, frozenset[str]] = {
    "huggingface": _WEIGHTS - {"low_cpu_mem_usage"} | _GENERATION - {"generation.json_schema"},
    "llamacpp": _WEIGHTS - {"device_mode", "compute_dtype", "double_quantization"} | _GENERATION,
    "ollama": frozenset({"context_length", "batch_size"}) | _GENERATION - {"generation.min_output_length"},
    "openai": frozenset({"batch_size"}) | {f"generation.{name}" for name in _OPENAI},
    "tgi": frozenset({"batch_size"}) | _GENERATION - {"generation.min_output_length"},
}


def supports_task(driver: str, capabilities: frozenset[Capability], task: str) -> bool:
    """Whether a driver with these capabilities supports a task."""
    return (driver, task) not in REFUSED_TASKS and any(task in TASKS[one] for one in capabilities)


def drivers_with(capability: Capability) -> list[str]:
    """The drivers that have a capability."""
    return [driver for driver, capabilities in CAPABILITIES.items() if capability in capabilities]


def drivers_supporting(field: str) -> list[str]:
    """The drivers on which a field of the specification has an effect."""
    return [driver for driver, fields in SUPPORTED_FIELDS.items() if field in fields]
