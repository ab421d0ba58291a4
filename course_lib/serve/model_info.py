"""Model details for the Ollama API (`/api/show`): size, quantization, options, template, metadata."""

from __future__ import annotations

import json
import re
from typing import Any

from course_lib.models import catalog
from course_lib.models.gguf.header import read_header
from course_lib.models.schema import Generation
from course_lib.serve.store import Store, Tag

SHOWN_OPTIONS = {  # Ollama's name of an option -> its name in Generation
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "repeat_penalty": "repetition_penalty",
    "seed": "seed",
}


def details(tag: Tag) -> dict[str, Any]:
    """Return family, size and quantization, as in Ollama's `details` object."""
    family = "bert" if tag.embeds else "llama"
    unit, letter = (1e6, "M") if tag.parameters >= 1e6 else (1e3, "K")
    return {
        "parent_model": "",
        "format": "safetensors" if tag.embeds else "gguf",
        "family": family,
        "families": [family],
        "parameter_size": f"{tag.parameters / unit:.3g}{letter}",
        "quantization_level": tag.kind.upper(),
    }


def model_info(store: Store, tag: Tag, verbose: bool) -> dict[str, Any]:
    """Return the response to /api/show. Arrays such as the vocabulary are empty unless `verbose`."""
    info = _info_of_folder(tag) if tag.embeds else _info_of_gguf(store, tag, verbose)
    template = info.pop("tokenizer.chat_template", "")
    options = (
        {} if tag.embeds else {name: getattr(Generation(), ours) for name, ours in SHOWN_OPTIONS.items()}
    )
    lines = [f"{name:<30} {value}" for name, value in options.items()]
    card = (catalog.verify_shipped(tag.model) / "README.md").read_text("utf-8")
    licence = re.search(r"^license: *(\S+)", card, re.MULTILINE)
    modelfile = [f"# FROM {tag.name}", f"FROM sha256:{tag.digest}", *(f"PARAMETER {line}" for line in lines)]
    return {
        "modelfile": "\n".join(modelfile),
        "parameters": "\n".join(lines),
        "template": template,
        "license": licence[1] if licence else "",
        "details": details(tag),
        "model_info": info,
        "capabilities": ["embedding"] if tag.embeds else ["completion"],
        "modified_at": tag.modified_at,
    }


def _info_of_gguf(store: Store, tag: Tag, verbose: bool) -> dict[str, Any]:
    fields = read_header(store.file(tag), decode_arrays=verbose).fields
    info = {name: [] if value is None else value for name, value in fields.items()}
    return info | {"general.parameter_count": tag.parameters}


def _info_of_folder(tag: Tag) -> dict[str, Any]:
    folder = catalog.verify_shipped(tag.model)
    config, training = (
        json.loads((folder / name).read_text("utf-8"))
        for name in ("config.json", "sentence_bert_config.json")
    )
    return {
        "general.architecture": "bert",
        "general.parameter_count": tag.parameters,
        "bert.context_length": training["max_seq_length"],
        "bert.embedding_length": config["hidden_size"],
        "bert.block_count": config["num_hidden_layers"],
        "bert.attention.head_count": config["num_attention_heads"],
    }
