"""`load` and the drivers that run models: one class of `Engine` for each driver and kind of task."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from course_lib.models.drivers.capabilities import GENERATION_TASKS
from course_lib.models.drivers.engine import Engine, Unsupported, check_fields
from course_lib.models.schema.spec import ModelSpec
from course_lib.models.schema.validation import SpecError

CLASSES = {  # driver -> module:class; encoders are another class of the driver huggingface
    "huggingface": "huggingface:HuggingFace",
    "llamacpp": "llamacpp:LlamaCpp",
    "ollama": "ollama:Ollama",
    "openai": "openai:OpenAI",
}
ENCODER = "encoder:Encoder"
# Drivers that a specification may name and that do not run in this process: what happened, and how to go on.
_SERVER = '{"type": "server", "model": "MODEL", "url": "http://HOST:8000/v1"}'
ELSEWHERE = {
    "vllm": (
        "vllm is a server, not a driver: start `vllm serve MODEL --port 8000` on a machine with a GPU",
        f'load({{"source": {_SERVER}, "driver": "openai"}})',
    ),
    "unsloth": (
        "unsloth trains models and is not a driver: save with `save_pretrained_merged(FOLDER, tokenizer)`",
        'load("./FOLDER")',
    ),
}
_custom: dict[str, type[Engine]] = {}


def register(name: str, engine: type[Engine]) -> None:
    """Register a class as `implementation=NAME` of the driver custom. Raises TypeError if it is no Engine."""
    if not (isinstance(engine, type) and issubclass(engine, Engine)):
        raise TypeError(f"{engine!r} is not a subclass of Engine")
    _custom[name] = engine


def driver_class(spec: ModelSpec) -> type[Engine]:
    """The class that runs a specification, imported on first use.

    Raises SpecError for an unknown implementation, and Unsupported for vllm and unsloth.
    """
    if spec.driver in ELSEWHERE:
        raise Unsupported(*ELSEWHERE[spec.driver])
    if spec.driver == "custom":
        if spec.implementation not in _custom:
            known = ", ".join(sorted(_custom)) or "none"
            raise SpecError(
                f"implementation: {spec.implementation!r} is not registered; registered: {known}",
                f"register({spec.implementation!r}, MyEngine)",
            )
        return _custom[str(spec.implementation)]
    encoder = spec.driver == "huggingface" and spec.task not in GENERATION_TASKS
    module, name = (ENCODER if encoder else CLASSES[spec.driver]).split(":")
    engine: type[Engine] = getattr(import_module(f"{__name__}.{module}"), name)
    return engine


def load(spec: ModelSpec | str | Path | dict[str, Any], **changes: Any) -> Engine:
    """Load a model: a shipped one by its name, a path, a hub id, a dict or a ModelSpec, with fields changed.

    Raises SpecError for an invalid specification, Unsupported for a field that has no effect on the driver,
    and CourseError for missing or damaged files.

    >>> load("haneul-300k").parameters
    344384
    """
    spec = ModelSpec.parse(spec, **changes)
    engine = driver_class(spec)
    check_fields(engine, spec)
    return engine.load(spec)
