"""Which driver acts on which field. `python -m course_lib.models.drivers.capability_table` prints the page docs/model-fields.md."""

from __future__ import annotations

from typing import get_args

from pydantic import BaseModel

from course_lib.models.drivers import CLASSES, OF_EVERY_DRIVER, driver_class
from course_lib.models.drivers.engine import NEEDS
from course_lib.models.schema import Generation, HuggingFaceSource, LocalSource, ModelSpec, ServerSource
from course_lib.models.schema.spec import QUANTIZATIONS, Quantization

PAGE = """# The fields of a model specification

Written by `python -m course_lib.models.drivers.capability_table`; a test keeps it true. A driver *acts* on a field, which a test shows by its
effect, or loading *raises* an error that names the field and the drivers that act on it. Nothing is ignored.

unsloth and vllm need an NVIDIA GPU and are not driven in this process: their specification is read, and loading says what is
missing and how the model is served or loaded instead. Of the driver custom, the registered class says on which fields it acts.

## Fields

{fields}

## Quantizations

{packs}

int8, nf4 and fp4 are bitsandbytes': the matrices of all layers are packed while the model is loaded, and embeddings, norms and
the head keep the `precision`. `compute_dtype` and `double_quantization` act beside nf4 and fp4 and are refused elsewhere; with
`compute_dtype: auto` products are computed in the precision. Adapters stay beside packed weights, which would be
rounded anew if they were added; such a model is not saved as one.
A folder of packed weights (`Engine.save` writes one) is loaded as its own configuration says; `quantization` is then left out, or
names the same. On a CPU with AVX512-BF16, 4-bit weights that are multiplied in bfloat16 are rearranged by their first use, and
can be saved before it only.

q8_0 and q4_0 are GGUF's: all matrices are packed, by 32 weights a scale, and `precision` is refused beside them. A .gguf file has
its own; another one is refused.

## Tasks

{tasks}

## Every driver

`source`, `driver`, `task` and `generation` say what is loaded, by what, and for what. `implementation` names the class of the
driver custom and is refused beside any other. `keep_alive` is the manager's: seconds without use until it unloads the model
(-1: never); the driver ollama passes it on.

## Sources

{sources}

A source may be written as a text: one that begins with `/`, `./`, `../`, `~/`, `.\\` or a drive such as `C:\\` is a path; the
name of a model that the course carries is that model; with the drivers ollama and openai it is the name at the server; anything
else is a hub id. A token is never written down: `${{env.NAME}}` names the variable that holds it.

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


def cells() -> dict[tuple[str, str], bool]:
    """(driver, field) -> whether the driver acts on it. Fields of generation have the prefix `generation.`."""
    fields = [f for f in ModelSpec.model_fields if f not in OF_EVERY_DRIVER] + [
        f"generation.{f}" for f in Generation.model_fields
    ]
    return {(d, f): f in driver_class(d).acts for d in CLASSES for f in fields}


def packs() -> dict[tuple[str, str], bool]:
    """(driver, quantization) -> whether the driver has it."""
    return {
        (d, q): q in QUANTIZATIONS.get(d, ()) for d in CLASSES for q in get_args(Quantization) if q != "none"
    }


def tasks() -> dict[tuple[str, str], bool]:
    """(driver, task) -> whether the driver has it."""
    abilities: dict[str, set[str]] = {task: {"generate"} for task in ("chat-completion", "text-generation")}
    for ability, needed in NEEDS.items():
        for task in needed:
            abilities.setdefault(task, set()).add(ability)
    return {(d, task): bool(some & driver_class(d).can) for d in CLASSES for task, some in abilities.items()}


def page() -> str:
    """The whole page, in Markdown."""
    sources = [
        f"- **{name}**: {', '.join(f'`{f}`' for f in kind.model_fields if f != 'type')}. {(kind.__doc__ or '').strip()}"
        for name, kind in SOURCES.items()
    ]
    return PAGE.format(
        fields=_grid("field", cells()),
        packs=_grid("quantization", packs()),
        tasks=_grid("task", tasks()),
        sources="\n".join(sources),
        values="\n".join([*_values(ModelSpec, ""), *_values(Generation, "generation.")]),
    )


def _grid(what: str, found: dict[tuple[str, str], bool]) -> str:
    rows = dict.fromkeys(name for _, name in found)
    head = [f"| {what} | {' | '.join(CLASSES)} |", "|---" * (len(CLASSES) + 1) + "|"]
    return "\n".join(
        head + [f"| {r} | {' | '.join('acts' if found[d, r] else 'raises' for d in CLASSES)} |" for r in rows]
    )


def _values(kind: type[ModelSpec] | type[Generation], prefix: str) -> list[str]:
    properties, out = kind.model_json_schema()["properties"], []
    for name, field in kind.model_fields.items():
        if name in ("source", "generation"):
            continue
        said = properties[name]
        bounds = {k: said.get(k, next((o[k] for o in said.get("anyOf", []) if k in o), None)) for k in BOUNDS}
        allowed = [f"`{v}`" for v in said.get("enum", [])]
        allowed += [f"{sign} {bounds[k]:,}" for k, sign in BOUNDS.items() if bounds[k] is not None]
        default = field.get_default(call_default_factory=True)
        out.append(f"| {prefix}{name} | `{default}` | {', '.join(allowed)} | {field.description or ''} |")
    return out


if __name__ == "__main__":
    print(page(), end="")
