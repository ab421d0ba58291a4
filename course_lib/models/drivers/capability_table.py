"""Print docs/model-fields.md, the page of the fields of a model specification, from the code.

Run it as `python -m course_lib.models.drivers.capability_table > docs/model-fields.md`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

from pydantic import BaseModel

from course_lib.models.drivers.capabilities import CAPABILITIES, COMMON_FIELDS, SUPPORTED_FIELDS, TASKS
from course_lib.models.schema.generation import Generation
from course_lib.models.schema.sources import HuggingFaceSource, LocalSource, ServerSource
from course_lib.models.schema.spec import QUANTIZATIONS, ModelSpec, Quantization, Task

PAGE = """# The fields of a model specification

Written by `python -m course_lib.models.drivers.capability_table`; a test keeps it true.
A driver *supports* a field, and a test shows its effect; or `load` *refuses* the field by its name, and
names the drivers that support it. No field is ignored.

The drivers unsloth and vllm do not run in this process: a specification may name them, and `load` says how
to go on. For the driver custom, the registered class says which fields it supports.

## Fields

{fields}

## Quantizations

{quantizations}

int8, nf4 and fp4 are bitsandbytes': the matrices of all layers are quantized while the model is loaded, and
embeddings, norms and the head keep the `precision`. `compute_dtype` and `double_quantization` apply to nf4
and fp4, and are refused with others; with `compute_dtype` auto, products are computed in the precision.
Adapters stay beside quantized weights, for merging would round these a second time; such a model cannot be
saved. A folder of quantized weights (`Engine.save` writes one) is loaded by its own configuration; leave
`quantization` out, or name the same. On a CPU with AVX512-BF16, 4-bit weights that are multiplied in
bfloat16 are rearranged by their first use, and can only be saved before it.

q8_0 and q4_0 are GGUF's: all matrices are quantized, with a scale for 32 weights, and `precision` is refused
with them. A .gguf file has its own quantization; another one is refused.

## Tasks

{tasks}

## Every driver

`source`, `driver`, `task` and `generation` say what is loaded, by what, and for what. `implementation` names
the class of the driver custom, and is refused with other drivers. `keep_alive` is the manager's: seconds
without use until it unloads the model (-1: never). The driver ollama passes it on to the server.

## Sources

{sources}

A source may be written as a text. One that begins with `/`, `./`, `../`, `~/`, `.\\` or a drive such as
`C:\\` is a path. The name of a model that the course carries is that model. With the drivers ollama and
openai it is the model's name on the server. Anything else is a hub id. A token is never written down:
`${{env.NAME}}` names the variable that holds it.

## Values

| field | default | allowed | meaning |
|---|---|---|---|
{values}
"""
SOURCES: dict[str, type[BaseModel]] = {
    "huggingface": HuggingFaceSource,
    "local": LocalSource,
    "server": ServerSource,
}
BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
}
Grid = dict[tuple[str, str], bool]


def _grid(names: list[str], supports: Callable[[str, str], bool]) -> Grid:
    return {(driver, name): supports(driver, name) for driver in CAPABILITIES for name in names}


def fields() -> Grid:
    """(driver, field) -> whether the driver supports it. Those of generation begin with `generation.`."""
    names = [name for name in ModelSpec.model_fields if name not in COMMON_FIELDS]
    names += [f"generation.{name}" for name in Generation.model_fields]
    return _grid(names, lambda driver, name: name in SUPPORTED_FIELDS[driver])


def quantizations() -> Grid:
    """(driver, quantization) -> whether the driver has it."""
    names = [name for name in get_args(Quantization) if name != "none"]
    return _grid(names, lambda driver, name: name in QUANTIZATIONS.get(driver, ()))


def tasks() -> Grid:
    """(driver, task) -> whether the driver has it."""
    needed = {task: {name for name, of in TASKS.items() if task in of} for task in get_args(Task)}
    return _grid(sorted(needed), lambda driver, task: bool(needed[task] & CAPABILITIES[driver]))


def page() -> str:
    """The page in Markdown."""
    sources = []
    for name, source in SOURCES.items():
        names = ", ".join(f"`{field}`" for field in source.model_fields if field != "type")
        sources.append(f"- **{name}**: {names}. {(source.__doc__ or '').strip()}")
    return PAGE.format(
        fields=_table("field", fields()),
        quantizations=_table("quantization", quantizations()),
        tasks=_table("task", tasks()),
        sources="\n".join(sources),
        values="\n".join([*_values(ModelSpec, ""), *_values(Generation, "generation.")]),
    )


def _table(title: str, grid: Grid) -> str:
    drivers = list(CAPABILITIES)
    lines = [f"| {title} | {' | '.join(drivers)} |", "|---" * (len(drivers) + 1) + "|"]
    for name in dict.fromkeys(name for _, name in grid):
        marks = ("supports" if grid[driver, name] else "refuses" for driver in drivers)
        lines.append(f"| {name} | {' | '.join(marks)} |")
    return "\n".join(lines)


def _values(model: type[ModelSpec] | type[Generation], prefix: str) -> list[str]:
    properties, lines = model.model_json_schema()["properties"], []
    for name, field in model.model_fields.items():
        if name in ("source", "generation"):
            continue
        schema = properties[name]
        options = [schema, *schema.get("anyOf", [])]
        bounds = {key: next((o[key] for o in options if key in o), None) for key in BOUNDS}
        allowed = [f"`{value}`" for value in schema.get("enum", [])]
        allowed += [f"{sign} {bounds[key]:,}" for key, sign in BOUNDS.items() if bounds[key] is not None]
        default = field.get_default(call_default_factory=True)
        lines.append(f"| {prefix}{name} | `{default}` | {', '.join(allowed)} | {field.description or ''} |")
    return lines


if __name__ == "__main__":
    print(page(), end="")
