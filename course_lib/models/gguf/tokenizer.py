"""A tokenizer of a model folder, written into a GGUF file so that llama.cpp cuts every text into the same tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from course_lib.errors import CourseError

CONVERT = "convert it with llama.cpp's own convert_hf_to_gguf.py"
SPACES = set("ĠĊĉč")  # space, newline, tab and return, as byte-level BPE writes them
LLAMA_3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def rule(said: dict[str, Any]) -> str | None:
    """llama.cpp's name for how a tokenizer cuts a text before it merges bytes; None where it has none that is known here.

    said: the contents of tokenizer.json.
    """
    model, cuts = said["model"], said.get("pre_tokenizer") or {"type": "none"}
    *first, last = cuts["pretokenizers"] if cuts["type"] == "Sequence" else [cuts]
    if model["type"] != "BPE" or model.get("byte_fallback") or said.get("normalizer"):
        return None
    if last["type"] != "ByteLevel" or last.get("add_prefix_space"):
        return None
    split, whole = [c.get("pattern", {}).get("Regex") for c in first], bool(model.get("ignore_merges"))
    if not last.get("use_regex", True):
        return "llama-bpe" if split == [LLAMA_3] and whole else None
    if whole or not all(_one_by_one(c) for c in first):
        return None
    if [c["type"] for c in first] == ["Digits"]:
        return "smollm"
    # Punctuation cut off one by one has no rule there. The plain one gives the same tokens, for merges that were learnt so never
    # join punctuation to anything, except where several spaces are one token: it leaves the last of them to what follows.
    return "gpt-2" if not first or not any(len(t) > 1 and set(t) <= SPACES for t in model["vocab"]) else None


def _one_by_one(cut: dict[str, Any]) -> bool:
    return bool(
        cut.get("individual_digits") or (cut["type"] == "Punctuation" and cut.get("behavior") == "Isolated")
    )


def write(writer: Any, folder: Path, config: dict[str, Any]) -> None:
    """Byte-level BPE with its merges, special tokens and chat template.

    Raises CourseError for another kind of tokenizer, or one that does not fit the model.
    """
    from course_lib.models.files.headers import (
        read_json,
    )  # lazily, here and below: the command line reads TYPES alone

    said = read_json(folder, "tokenizer.json")
    cut = rule(said) if said else None
    if cut is None:
        raise CourseError(
            f"{folder.name} has no tokenizer of byte-level BPE in a form that is written here", CONVERT
        )
    tokens, kinds = _tokens(said, config["vocab_size"], folder.name)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(cut)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(
        [pair if isinstance(pair, str) else " ".join(pair) for pair in said["model"]["merges"]]
    )
    begin = _special(writer, folder, config)
    conversation = template(folder)
    if conversation:
        writer.add_chat_template(conversation)
    begins = tokens[begin] in json.dumps(said.get("post_processor"), ensure_ascii=False)
    writer.add_add_bos_token(begins and not conversation)  # the chat template writes it


def _tokens(said: dict[str, Any], rows: int, name: str) -> tuple[list[str], list[int]]:
    """Text and type of every token, in order; rows of the embedding without a token are named [PAD7]."""
    import gguf

    added = {t["id"]: t for t in said["added_tokens"]}
    texts = {i: t for t, i in said["model"]["vocab"].items()} | {i: t["content"] for i, t in added.items()}
    if max(texts) >= rows:
        raise CourseError(
            f"{name} has {max(texts) + 1} tokens, and its model {rows} embeddings",
            "give it its own tokenizer",
        )
    kind = gguf.TokenType
    kinds = {i: kind.CONTROL if t["special"] else kind.USER_DEFINED for i, t in added.items()}
    return (
        [texts.get(i, f"[PAD{i}]") for i in range(rows)],
        [kinds.get(i, kind.NORMAL if i in texts else kind.UNUSED) for i in range(rows)],
    )


def _special(writer: Any, folder: Path, config: dict[str, Any]) -> int:
    """Write which tokens begin, end and fill; returns the one that begins. llama.cpp makes up a missing one, so none may be."""
    from course_lib.models.files.headers import read_json

    ends = read_json(folder, "generation_config.json").get("eos_token_id", config["eos_token_id"])
    ends = ends if isinstance(ends, list) else [ends]
    if config["bos_token_id"] is None or None in ends or not 1 <= len(ends) <= 3:
        raise CourseError(
            f"{folder.name} begins with token {config['bos_token_id']} and ends with {ends}; llama.cpp needs one "
            "that begins, and one to three that end",
            "name them in config.json",
        )
    writer.add_bos_token_id(config["bos_token_id"])
    for add, token in zip(
        (writer.add_eos_token_id, writer.add_eot_token_id, writer.add_eom_token_id), ends, strict=False
    ):
        add(token)
    if config["pad_token_id"] is not None:
        writer.add_pad_token_id(config["pad_token_id"])
    return int(config["bos_token_id"])


def template(folder: Path) -> str | None:
    """The chat template in a folder, None where there is none."""
    from course_lib.models.files.headers import read_json

    path = folder / "chat_template.jinja"
    said = (
        path.read_text("utf-8")
        if path.is_file()
        else read_json(folder, "tokenizer_config.json").get("chat_template")
    )
    return said if isinstance(said, str) else None
