"""Write the tokenizer of a model folder into a GGUF file, so that llama.cpp produces the same tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from course_lib.errors import CourseError
from course_lib.models.files.headers import read_json

CONVERT = "convert it with convert_hf_to_gguf.py from the llama.cpp repository"
BYTE_LEVEL_SPACES = set("ĠĊĉč")  # how byte-level BPE writes space, newline, tab and carriage return
LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def pre_tokenizer_name(tokenizer: dict[str, Any]) -> str | None:
    """Return llama.cpp's name for the pre-tokenizer of a tokenizer.json; None if it is not supported."""
    model, outer = tokenizer["model"], tokenizer.get("pre_tokenizer") or {"type": "none"}
    *steps, last = outer["pretokenizers"] if outer["type"] == "Sequence" else [outer]
    if model["type"] != "BPE" or model.get("byte_fallback") or tokenizer.get("normalizer"):
        return None
    if last["type"] != "ByteLevel" or last.get("add_prefix_space"):
        return None
    ignores_merges = bool(model.get("ignore_merges"))
    if not last.get("use_regex", True):
        patterns = [step.get("pattern", {}).get("Regex") for step in steps]
        return "llama-bpe" if patterns == [LLAMA_3] and ignores_merges else None
    if ignores_merges or not all(map(_splits_single_characters, steps)):
        return None
    if [step["type"] for step in steps] == ["Digits"]:
        return "smollm"
    # llama.cpp has no pre-tokenizer that isolates punctuation. "gpt-2" gives the same tokens, because merges
    # learnt with isolated punctuation never join it to other text. Only tokens of several spaces differ:
    # "gpt-2" splits off the last space of a run and attaches it to the next word.
    has_space_runs = any(len(token) > 1 and set(token) <= BYTE_LEVEL_SPACES for token in model["vocab"])
    return "gpt-2" if not steps or not has_space_runs else None


def _splits_single_characters(step: dict[str, Any]) -> bool:
    isolates = step["type"] == "Punctuation" and step.get("behavior") == "Isolated"
    return bool(step.get("individual_digits") or isolates)


def write_tokenizer(writer: Any, folder: Path, config: dict[str, Any]) -> None:
    """Write a byte-level BPE tokenizer with its merges, special tokens and chat template.

    Raises CourseError for other kinds of tokenizers, and if the tokenizer does not fit the model.
    """
    tokenizer = read_json(folder, "tokenizer.json")
    pre_tokenizer = pre_tokenizer_name(tokenizer) if tokenizer else None
    if pre_tokenizer is None:
        message = f"{folder.name} has no byte-level BPE tokenizer of a supported kind"
        raise CourseError(message, CONVERT)
    tokens, types = _tokens(tokenizer, config["vocab_size"], folder.name)
    merges = tokenizer["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre_tokenizer)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in merges])
    bos = _write_special_tokens(writer, folder, config)
    template = chat_template(folder)
    if template:
        writer.add_chat_template(template)
    adds_bos = tokens[bos] in json.dumps(tokenizer.get("post_processor"), ensure_ascii=False)
    writer.add_add_bos_token(adds_bos)


def _tokens(tokenizer: dict[str, Any], rows: int, name: str) -> tuple[list[str], list[int]]:
    """Return the texts and types of all tokens by id. Unused embedding rows get names such as [PAD7]."""
    from gguf import TokenType

    added = {token["id"]: token for token in tokenizer["added_tokens"]}
    texts = {id_: text for text, id_ in tokenizer["model"]["vocab"].items()}
    texts |= {id_: token["content"] for id_, token in added.items()}
    if max(texts) >= rows:
        message = f"{name} has {max(texts) + 1} tokens, but the model has only {rows} embeddings"
        raise CourseError(message, "save the model's own tokenizer in the folder")
    types = dict.fromkeys(texts, TokenType.NORMAL)
    types |= {i: TokenType.CONTROL if t["special"] else TokenType.USER_DEFINED for i, t in added.items()}
    return (
        [texts.get(i, f"[PAD{i}]") for i in range(rows)],
        [types.get(i, TokenType.UNUSED) for i in range(rows)],
    )


def _write_special_tokens(writer: Any, folder: Path, config: dict[str, Any]) -> int:
    """Write the ids of the BOS, EOS and padding tokens, and return the BOS id.

    Raises CourseError if BOS or EOS is missing, because llama.cpp would then use default ids.
    """
    eos_ids = read_json(folder, "generation_config.json").get("eos_token_id", config["eos_token_id"])
    eos_ids = eos_ids if isinstance(eos_ids, list) else [eos_ids]
    bos = config["bos_token_id"]
    if bos is None or None in eos_ids or not 1 <= len(eos_ids) <= 3:
        message = f"{folder.name} has the BOS token {bos} and the EOS tokens {eos_ids}"
        need = "llama.cpp needs one BOS token and one to three EOS tokens"
        raise CourseError(f"{message}; {need}", "set bos_token_id and eos_token_id in config.json")
    writer.add_bos_token_id(bos)
    add_eos = (writer.add_eos_token_id, writer.add_eot_token_id, writer.add_eom_token_id)
    for add, token in zip(add_eos, eos_ids, strict=False):
        add(token)
    if config["pad_token_id"] is not None:
        writer.add_pad_token_id(config["pad_token_id"])
    return int(bos)


def chat_template(folder: Path) -> str | None:
    """Return the chat template of a model folder; None if it has none."""
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text("utf-8")
    template = read_json(folder, "tokenizer_config.json").get("chat_template")
    return template if isinstance(template, str) else None
