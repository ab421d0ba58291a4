"""What runs a model. One class a driver; `load` picks it, checks that it acts on every field that was set, and loads."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from course_lib.models.drivers.engine import Engine, Unsupported, changed, refuse_unused
from course_lib.models.schema import ModelSpec, SpecError

CLASSES = {
    "huggingface": "huggingface:HuggingFace",
    "llamacpp": "llamacpp:LlamaCpp",
    "ollama": "ollama:Ollama",
    "openai": "openai:OpenAI",
    "unsloth": "gpu_only:Unsloth",
    "vllm": "gpu_only:Vllm",
}
OF_EVERY_DRIVER = frozenset({"source", "driver", "implementation", "task", "keep_alive", "generation"})
_custom: dict[str, type[Engine]] = {}


def register(name: str, engine: type[Engine]) -> None:
    """Make a class of one's own known as `implementation: NAME` of the driver custom. Raises TypeError for no Engine."""
    if not (isinstance(engine, type) and issubclass(engine, Engine)):
        raise TypeError(f"{engine!r} is no subclass of Engine")
    _custom[name] = engine


def driver_class(driver: str, implementation: str | None = None) -> type[Engine]:
    """The class of a driver, imported when it is first asked for. Raises SpecError for an unknown implementation."""
    if driver == "custom":
        if implementation not in _custom:
            known = ", ".join(sorted(_custom)) or "none"
            raise SpecError(
                f"implementation: {implementation!r} is not registered; registered: {known}",
                "register(name, class)",
            )
        return _custom[implementation]
    module, name = CLASSES[driver].split(":")
    found: type[Engine] = getattr(import_module(f"course_lib.models.drivers.{module}"), name)
    return found


def able(ability: str) -> list[str]:
    """The drivers with an ability."""
    return [d for d in CLASSES if ability in driver_class(d).can]


def acting(field: str) -> list[str]:
    """The drivers that act on a field."""
    return [d for d in CLASSES if field in driver_class(d).acts]


def load(spec: ModelSpec | str | Path | dict[str, Any], **changes: Any) -> Engine:
    """Load a model: a shipped one by its name, a path, a hub id, a dict or a ModelSpec, with fields changed.

    Raises SpecError for a specification that cannot be, Unsupported for a field on which the driver does not act, and
    CourseError for what is missing or damaged.

    >>> load("haneul-300k").parameters
    344384
    """
    spec = ModelSpec.parse(spec, **changes)
    engine = driver_class(spec.driver, spec.implementation)
    fields = {k: v for k, v in changed(spec).items() if k not in OF_EVERY_DRIVER}
    options = changed(spec.generation)
    if options and spec.task not in ("text-generation", "chat-completion"):
        raise Unsupported(
            f"task {spec.task} generates nothing, and generation.{next(iter(options))} is set", "leave it out"
        )
    refuse_unused(engine, fields | {f"generation.{k}": v for k, v in options.items()})
    return engine.load(spec)
