"""Refuse a specification with a task or a field that its driver does not support.

A driver is the software that runs a model, such as llama.cpp. A specification (ModelSpec) says which model to
load, and how. An engine is a loaded model. GGUF is the file format of llama.cpp.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from course_lib.errors import CourseError
from course_lib.models import catalog
from course_lib.models.drivers.capabilities import (
    COMMON_FIELDS,
    GENERATION_TASKS,
    TASKS,
    drivers_supporting,
    supports_task,
)
from course_lib.models.schema.pictures import default_driver
from course_lib.models.schema.spec import ModelSpec


class Unsupported(CourseError):
    """Raised for a capability or an option that a driver does not support."""


def check_fields(engine: type[Any], spec: ModelSpec) -> None:
    """Raise Unsupported for a task or a field of `spec` that the driver does not support.

    engine: The driver's class.
    """
    if not supports_task(engine.driver, engine.capabilities, spec.task):
        what = f"the driver {engine.driver} does not support the task {spec.task}"
        if engine.driver == "tgi" and spec.task in GENERATION_TASKS:
            what += "; it continues texts, and TGI's chat is in OpenAI's protocol"
            raise Unsupported(what, 'load(..., driver="openai")')
        driver = default_driver(spec.task, spec.architecture, "") or "huggingface"
        raise Unsupported(what, with_driver(spec, driver))
    options = non_default_fields(spec.generation, "generation.")
    if options and spec.task not in (*TASKS["generate"], "image-to-text"):
        what = f"the task {spec.task} generates no text, and {next(iter(options))} is set"
        raise Unsupported(what, f"leave {next(iter(options))} out")
    fields = {k: v for k, v in non_default_fields(spec).items() if k not in COMMON_FIELDS}
    refuse_unsupported(engine, fields | options | non_default_fields(spec.params, "params."))


def with_driver(spec: ModelSpec, driver: str) -> str:
    """Return the call that loads the model with `driver`, or the command that makes this possible.

    transformers does not run a GGUF file: it needs the folder of bfloat16 weights that `course models unpack`
    writes.
    """
    path = getattr(spec.source, "path", None)
    if driver != "huggingface" or path is None or path.suffix != ".gguf":
        return f'load(..., driver="{driver}")'
    if catalog.find(unpacked := f"{catalog.model_name(path)}-bf16"):
        return f'load("{unpacked}")'
    if spec.task in GENERATION_TASKS:
        return shlex.join(["course", "models", "unpack", str(path)])
    return "load the folder with the model's safetensors files in place of the .gguf file"


def non_default_fields(model: Any, prefix: str = "") -> dict[str, Any]:
    """The fields of a pydantic model whose values differ from the defaults, as name -> value."""
    fields = type(model).model_fields
    defaults = {name: fields[name].get_default(call_default_factory=True) for name in model.model_fields_set}
    return {prefix + k: v for k, default in defaults.items() if (v := getattr(model, k)) != default}


def refuse_unsupported(engine: type[Any], fields: Mapping[str, Any]) -> None:
    """Raise Unsupported for the first field that the driver does not support. engine: The driver's class."""
    for name, value in fields.items():
        if name not in engine.supported_fields:
            task = getattr(engine, "task", None)  # only drivers of pictures have one
            others = ", ".join(drivers_supporting(name, task)) or "none"
            what = f"the driver {engine.driver} does not support {name}={value!r}"
            what += f" with the task {task}" if task else ""
            raise Unsupported(f"{what[:250]} (drivers that do: {others})", f"leave {name} out")
