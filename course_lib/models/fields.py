"""Which driver acts on which field. `python -m course_lib.models.fields` prints the page docs/model-fields.md."""

from __future__ import annotations

from course_lib.models.drivers import CLASSES, OF_EVERY_DRIVER, driver_class
from course_lib.models.engine import NEEDS
from course_lib.models.options import Generation
from course_lib.models.spec import HuggingFaceSource, LocalSource, ModelSpec, ServerSource

PAGE = """# The fields of a model specification

Written by `python -m course_lib.models.fields`; a test keeps it true. A driver *acts* on a field, which a test shows by its
effect, or loading *raises* an error that names the field and the drivers that act on it. Nothing is ignored.

unsloth and vllm need an NVIDIA GPU and are not driven in this process: their specification is read, and loading says what is
missing and how the model is served or loaded instead. Of the driver custom, the registered class says on which fields it acts.

## Fields

{fields}

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
SOURCES = {"huggingface": HuggingFaceSource, "local": LocalSource, "server": ServerSource}
BOUNDS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}


def cells() -> dict[tuple[str, str], bool]:
    """(driver, field) -> whether the driver acts on it. Fields of generation have the prefix `generation.`."""
    fields = [f for f in ModelSpec.model_fields if f not in OF_EVERY_DRIVER] + [
        f"generation.{f}" for f in Generation.model_fields
    ]
    return {(d, f): f in driver_class(d).acts for d in CLASSES for f in fields}


def tasks() -> dict[tuple[str, str], bool]:
    """(driver, task) -> whether the driver has it."""
    of_task = {task: ability for ability, needed in NEEDS.items() for task in needed}
    known = ("chat-completion", "text-generation", *of_task)
    return {(d, t): of_task.get(t, "generate") in driver_class(d).can for d in CLASSES for t in known}


def page() -> str:
    """The whole page, in Markdown."""
    sources = [
        f"- **{name}**: {', '.join(f'`{f}`' for f in kind.model_fields if f != 'type')}. {(kind.__doc__ or '').strip()}"
        for name, kind in SOURCES.items()
    ]
    return PAGE.format(
        fields=_grid("field", cells()), tasks=_grid("task", tasks()), sources="\n".join(sources),
        values="\n".join([*_values(ModelSpec, ""), *_values(Generation, "generation.")]),
    )  # fmt: skip


def _grid(what: str, found: dict[tuple[str, str], bool]) -> str:
    rows = dict.fromkeys(name for _, name in found)
    head = [f"| {what} | {' | '.join(CLASSES)} |", "|---" * (len(CLASSES) + 1) + "|"]
    return "\n".join(head + [f"| {r} | {' | '.join('acts' if found[d, r] else 'raises' for d in CLASSES)} |" for r in rows])


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
