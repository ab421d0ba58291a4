"""Model details for the Ollama API (`/api/show`): size, quantization, options, template, metadata.

A tag is the record of a model in the server's store.
"""

from __future__ import annotations

import functools
import json
from typing import Any

from starlette.responses import JSONResponse

from course_lib.serve.store import Store
from course_lib.serve.tags import Tag, header_of


def details(tag: Tag) -> dict[str, Any]:
    """Return family, size and quantization, as in Ollama's `details` object."""
    count = float(tag.parameters)
    units = ((1e9, "B"), (1e6, "M"), (1e3, "K"))
    unit, letter = next(((u, c) for u, c in units if count >= 0.9995 * u), (1, ""))  # 999.6M is 1B
    return {
        "parent_model": tag.parent,
        "format": "gguf" if tag.is_gguf else "safetensors",
        "family": tag.family,
        "families": [tag.family],
        "parameter_size": f"{count / unit:.3g}{letter}",
        "quantization_level": tag.kind,
    }


@functools.lru_cache(maxsize=2)
def verbose_answer(store: Store, tag: Tag) -> bytes:
    """Return the response to /api/show with `verbose`. Cached: a large vocabulary takes 0.3 s and 6 MB."""
    return bytes(JSONResponse(model_info(store, tag, verbose=True)).body)


def model_info(store: Store, tag: Tag, verbose: bool = False) -> dict[str, Any]:
    """Return the response to /api/show. Arrays such as the vocabulary are empty unless `verbose`.

    Raises CourseError if the file is missing or damaged.
    """
    info = _info_of_gguf(store, tag, verbose) if tag.is_gguf else _info_of_folder(store, tag)
    template = info.pop("tokenizer.chat_template", "")
    lines = [
        f"{name:<30} {json.dumps(value, ensure_ascii=False)}"
        for name, values in tag.options.items()
        for value in (values if isinstance(values, list) else [values])
    ]
    modelfile = [f"# FROM {tag.name}", f"FROM sha256:{tag.digest}", *(f"PARAMETER {line}" for line in lines)]
    modelfile += [f'SYSTEM """{tag.system}"""'] if tag.system else []
    modelfile += [f"ADAPTER sha256:{tag.adapter}"] if tag.adapter else []
    return {
        "modelfile": "\n".join(modelfile),
        "parameters": "\n".join(lines),
        "template": template,
        **({"system": tag.system} if tag.system else {}),
        "license": tag.licence,
        "details": details(tag),
        "model_info": info,
        "capabilities": ["embedding"] if tag.embeds else ["completion"],
        "modified_at": tag.modified_at,
    }


def _info_of_gguf(store: Store, tag: Tag, verbose: bool) -> dict[str, Any]:
    fields = header_of(store.file(tag), decode_arrays=verbose).fields
    info = {name: [] if value is None else value for name, value in fields.items()}
    return info | {"general.parameter_count": tag.parameters}


def _info_of_folder(store: Store, tag: Tag) -> dict[str, Any]:
    folder, family = store.file(tag).parent, tag.family
    config = json.loads((folder / "config.json").read_text("utf-8"))
    return {
        "general.architecture": family,
        "general.parameter_count": tag.parameters,
        f"{family}.context_length": tag.context,
        f"{family}.embedding_length": config["hidden_size"],
        f"{family}.block_count": config["num_hidden_layers"],
        f"{family}.attention.head_count": config["num_attention_heads"],
    }
