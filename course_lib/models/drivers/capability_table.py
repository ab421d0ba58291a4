"""Print docs/model-fields.md: which fields of a model specification each driver supports, from the code.

Usage: `python -m course_lib.models.drivers.capability_table > docs/model-fields.md`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

from pydantic import BaseModel

from course_lib.models.drivers.capabilities import (
    CAPABILITIES,
    COMMON_FIELDS,
    PICTURE_FIELDS,
    SUPPORTED_FIELDS,
    supports_task,
)
from course_lib.models.schema.generation import Generation
from course_lib.models.schema.pictures import Params
from course_lib.models.schema.sources import HuggingFaceSource, LocalSource, ServerSource
from course_lib.models.schema.spec import QUANTIZATIONS, ModelSpec, Quantization, Task

PAGE = """# The fields of a model specification

`python -m course_lib.models.drivers.capability_table` writes this page; a test checks that it is up to date.

A driver is the software that runs a model. A driver either *supports* a field, and a test shows the field's
effect; or it *refuses* the field: `load` raises an error that names the drivers that support it. No field is
ignored. The driver tgi was tested against TGI's documented requests and answers; TGI itself needs a GPU.

A specification may also name vllm or unsloth, which do not run in this process: `load` raises an error that
says what to do instead. For the driver custom, the registered class lists the fields that it supports.

## Fields

{fields}

## Quantizations

{quantizations}

int8, nf4 and fp4 are formats of bitsandbytes. Loading quantizes the matrices of all layers; embeddings, norms
and the head keep the `precision`. `compute_dtype` and `double_quantization` apply to nf4 and fp4, and are
refused with other formats. With `compute_dtype` auto, products are computed in the `precision`.

Adapters are not merged into quantized weights, because that would round the weights a second time. A
quantized model with adapters cannot be saved. A folder of quantized weights, such as `Engine.save` writes, is
loaded with the quantization in its config.json: leave `quantization` out, or give the same value. On a CPU
with AVX512-BF16, the first use rearranges 4-bit weights that are multiplied in bfloat16: save them before it.

q8_0 and q4_0 are formats of GGUF. All matrices are quantized, with one scale for every 32 weights, and
`precision` is refused. A .gguf file keeps the quantization that it has; another one is refused.

## Prompts

The drivers huggingface and llamacpp give a model the same token ids, those of transformers and, but for the
differences told here, of llama.cpp's own server. Tests compare them for ten families of models.

- **BOS**, the token for the beginning of a text, stands before a prompt if the tokenizer puts it before each
  text (in a GGUF file: `tokenizer.ggml.add_bos_token`) or if the chat template writes it. There is never a
  second one, also if a raw text begins with it. With a template without BOS and a tokenizer with it, a prompt
  has BOS, as in llama.cpp; transformers' `apply_chat_template` would leave it out.
- **Control tokens**, such as `<|im_end|>`: with chat-completion only the chat template writes them, and their
  names in the text of a turn stay text, as with transformers' option `sanitize_control_tokens`. So no passage
  and no user can end a turn. With text-generation, the text is the whole input of the model, and the names in
  it become the tokens.
- **A turn is never lost or moved.** A template that has no place for a system turn refuses the conversation;
  llama.cpp would join it to the first user turn.
- **Base models** have no chat template: load them with `task="text-generation"`. A chat is refused at once.
- Tokenizers that compose letters (Qwen, Unicode NFC) get composed text in llama.cpp too.

Without `context_length`, a model reads the context of its training, but at most 4,096 tokens, and fewer if
the memory is short; `repr` shows how many. A prompt that does not fit with its answer is an error with the
numbers.

What a model's author recommends (generation_config.json, or `general.sampling` in a GGUF file) is applied by
no driver. `repr` shows it, and `engine.generate(prompts, **engine.recommended)` applies it.

With `json_schema`, the driver llamacpp gives an object no keys beside those that its schema names, unless
`additionalProperties` allows them, and no white space but one space after `:` and `,`. An integer, and a
number before its point, has at most 15 digits, and a number at most 9 decimals, unless it is negative:
llama.cpp cannot bound the decimals of those, so set `"minimum": 0` where you can. It writes no negative
multiples either: `multipleOf` without a minimum of 0 is refused, and so is, by name, every keyword that it
does not enforce. Servers get the schema as it is. The form is enforced, and nothing else: SmolLM2, asked
about Paris, gave it `population=111111111111111`. A schema with `allOf` bounds integers only. An answer
that `max_output_length` cuts has the finish reason `length`; `with_structured_output` makes it an error,
which names the limit, or the bound that the schema lacks if the answer repeats itself.

`stream` returns an iterator over the pieces; after the last one its `reply` is what `generate` would have
returned, with token counts and finish reason. The last chunk of a LangChain model's stream has them too.

LoRA adapters can be weighted and combined. An adapter with other tensors than LoRA's matrices (DoRA, a head
of its own, other kinds of peft) can be used alone with weight 1. Prompt tuning (trained vectors before the
prompt) and pickles (files that can run code) are refused.

## Tasks

{tasks}

## Pictures

The four tasks of pictures have drivers of their own; [docs/pictures.md](pictures.md) describes them. `image`
is the picture, and `prompt` the text, of a call that names none. `architecture` and `params.scale` raise an
error unless the model's files have them.

{pictures}

## Fields of every driver

`source`, `driver`, `task`, `generation` and `params` apply to every driver. `implementation` names the
registered class of the driver custom, and is refused with other drivers.

`query_prefix` and `passage_prefix` are for the task
text-embedding: `embed(texts, "query")` puts the first before each text, `embed(texts, "passage")` the second,
and `embed(texts)` none. LangChain's `embed_query` and `embed_documents`, and with them `Dense` and
`HybridRetriever`, do so. Without the fields, the prefixes are those in the model's files
(config_sentence_transformers.json), and `save` writes them there. A text that is longer than the context with
its prefix is refused: split it first, with `course_lib.retrieval.chunk`.

`keep_alive` is the number of seconds without use after which the model manager unloads the model (-1: never).
The driver ollama passes it on to the server.

## Sources

{sources}

A source may also be a string. With the drivers ollama, openai and tgi, the string is the model's name on the
server. Otherwise a string that begins with `/`, `./`, `../`, `~/`, `.\\` or a drive such as `C:\\` is a path,
the name of a model that ships with the course means that model, and any other string is a Hugging Face hub
id. A specification never contains a token: `${{env.NAME}}` names the environment variable that holds it.

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
    """(driver, field) -> whether it supports the field. Those of `generation` and `params` have a prefix."""
    return _grid(_field_names(), lambda driver, name: name in SUPPORTED_FIELDS[driver])


def picture_fields() -> Grid:
    """("task, driver", field) -> whether the driver supports it with that task of pictures."""
    return {
        (f"{task}, {driver}", name): name in supported
        for (task, driver), supported in PICTURE_FIELDS.items()
        for name in _field_names()
    }


def _field_names() -> list[str]:
    names = [name for name in ModelSpec.model_fields if name not in COMMON_FIELDS]
    names += [f"generation.{name}" for name in Generation.model_fields]
    return names + [f"params.{name}" for name in Params.model_fields]


def quantizations() -> Grid:
    """(driver, quantization) -> whether the driver supports it."""
    names = [name for name in get_args(Quantization) if name != "none"]
    return _grid(names, lambda driver, name: name in QUANTIZATIONS.get(driver, ()))


def tasks() -> Grid:
    """(driver, task) -> whether the driver supports it."""
    names = sorted(set(get_args(Task)) - {task for task, _ in PICTURE_FIELDS})
    return _grid(names, lambda driver, task: supports_task(driver, CAPABILITIES[driver], task))


def page() -> str:
    """The text of docs/model-fields.md."""
    sources = []
    for name, source in SOURCES.items():
        names = ", ".join(f"`{field}`" for field in source.model_fields if field != "type")
        sources.append(f"- **{name}**: {names}. {(source.__doc__ or '').strip()}")
    return PAGE.format(
        fields=_table("field", fields()),
        quantizations=_table("quantization", quantizations()),
        tasks=_table("task", tasks()),
        sources="\n".join(sources),
        pictures=_table("field", picture_fields()),
        values="\n".join(
            [*_values(ModelSpec, ""), *_values(Generation, "generation."), *_values(Params, "params.")]
        ),
    )


def _table(title: str, grid: Grid) -> str:
    """A grid as a Markdown table with a column for each driver."""
    drivers = list(dict.fromkeys(driver for driver, _ in grid))
    lines = [f"| {title} | {' | '.join(drivers)} |", "|---" * (len(drivers) + 1) + "|"]
    for name in dict.fromkeys(name for _, name in grid):
        marks = ("supports" if grid[driver, name] else "refuses" for driver in drivers)
        lines.append(f"| {name} | {' | '.join(marks)} |")
    return "\n".join(lines)


def _values(model: type[BaseModel], prefix: str) -> list[str]:
    """The rows of the table of values: the default, the allowed values and the meaning of each field."""
    properties, lines = model.model_json_schema()["properties"], []
    for name, field in model.model_fields.items():
        if name in ("source", "generation", "params"):
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
