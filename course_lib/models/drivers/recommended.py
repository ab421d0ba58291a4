"""The sampling options that a model's author recommends. The course shows them, and applies none by itself.

For an option that a call leaves out, transformers would take the value in the folder's
generation_config.json, and llama.cpp the one in the GGUF file. Here it has the default of the class
`Generation` (course_lib/models/schema), the same for every model and driver. GGUF is the file format of
llama.cpp.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from course_lib.models.files.headers import read_json
from course_lib.models.gguf.header import read_header

GENERATION_FILE = "generation_config.json"
GGUF_NAMES = {  # our option -> the field of a GGUF file, after "general.sampling."
    "temperature": "temp",
    "top_p": "top_p",
    "top_k": "top_k",
    "repetition_penalty": "penalty_repeat",
}


def recommended_options(path: Path) -> dict[str, float]:
    """The options that a model folder or a .gguf file recommends, as arguments of `Engine.generate`."""
    if path.is_dir():
        config = read_json(path, GENERATION_FILE)
        do_sample = bool(config.get("do_sample"))  # without it, transformers ignores all but the penalty
        values = {name: config.get(name) for name in GGUF_NAMES if do_sample or name == "repetition_penalty"}
    else:
        fields = read_header(path).fields
        values = {name: fields.get(f"general.sampling.{field}") for name, field in GGUF_NAMES.items()}
    return {name: value for name, value in values.items() if isinstance(value, int | float)}


def special_tokens_only(config: Any) -> Any:
    """A copy of transformers' GenerationConfig with only its tokens for beginning (BOS), end and padding."""
    from transformers import GenerationConfig

    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    return GenerationConfig(**{name: getattr(config, name) for name in names})
