"""Turn the tokenizer of a model folder into fields of a GGUF file with which llama.cpp gives the same ids.

BOS and EOS are the tokens for the beginning and the end of a text. A chat template writes the turns of a
conversation as a model reads them. GGUF is the file format of llama.cpp.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from course_lib.errors import CourseError
from course_lib.models.files.headers import read_json
from course_lib.models.gguf.architecture import CONVERT, USE_TRANSFORMERS
from course_lib.models.gguf.vocabulary import Difference, first_difference

# BPE, byte-pair encoding, joins neighbouring parts of a text to tokens by a list of pairs, the merges. These
# are llama.cpp's names for the ways to split a text before BPE on bytes, one for each way (llama-vocab.cpp).
PRE_TOKENIZERS = (
    "gpt-2", "smollm", "llama-bpe", "qwen2", "smaug-bpe", "tekken", "deepseek-llm", "deepseek-coder",
    "deepseek-v3", "gpt-4o", "falcon", "seed-coder", "superbpe", "viking", "poro-chat",
)  # fmt: skip
KEY = "tokenizer.ggml."
NORMALIZER = f"{KEY}normalizer"  # the course's own field: "NFC" if texts must be brought to this form first
BYTE = re.compile(r"<0x[0-9A-F]{2}>")  # a token for one byte, used where no other token fits (byte fallback)


def tokenizer_fields(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Return the GGUF fields of the folder's tokenizer, special tokens and chat template.

    Supported are BPE on bytes (GPT-2, Llama 3, Qwen), and BPE with byte fallback (the library SentencePiece:
    Llama 2, Mistral, Gemma). Of llama.cpp's ways to split texts, the first is chosen that gives the same ids
    as transformers for some 400 probing texts. Qwen's tokenizer composes letters (Unicode NFC), which
    llama.cpp cannot do: then texts in NFC are compared, and a field says so. Raises CourseError for other
    tokenizers, if there is no such way, and if the tokenizer does not fit the model.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        state = json.loads(tokenizer.backend_tokenizer.to_str())
    except (OSError, ValueError, AttributeError, ImportError) as error:
        reason = " ".join(str(error).split())[:200]
        what = f"{folder.name} has no tokenizer that transformers can load: {reason}"
        raise CourseError(what, "save the model's own tokenizer in the folder") from error
    if state["model"]["type"] != "BPE":
        what = f"{folder.name} has a tokenizer of the type {state['model']['type']}; supported is BPE"
        raise CourseError(what, CONVERT)
    shared = {
        **_tokens(state, config["vocab_size"], folder.name),
        **_special_tokens(folder, config, tokenizer),
    }
    closest: Difference | None = None
    composes = (state.get("normalizer") or {}).get("type") == "NFC"
    if composes:
        shared[NORMALIZER] = "NFC"
    for kind in _kinds(state["model"], shared[f"{KEY}tokens"]):
        fields = shared | kind
        found = first_difference(fields, tokenizer, composed=composes)
        if found is None:
            template = chat_template(folder)
            return fields | ({"tokenizer.chat_template": template} if template else {})
        closest = max(closest or found, found)  # the one with the most equal texts
    assert closest
    raise different_ids_error(folder.name, closest)


def _kinds(model: dict[str, Any], tokens: list[str]) -> Iterator[dict[str, Any]]:
    """Yield the fields of each kind of tokenizer of llama.cpp that may give the same ids."""
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    if not model.get("byte_fallback"):
        for pre_tokenizer in PRE_TOKENIZERS:
            yield {f"{KEY}model": "gpt2", f"{KEY}pre": pre_tokenizer, f"{KEY}merges": merges}
        return
    scores = _scores(tokens, merges)
    for add_space in (True, False):
        yield {
            f"{KEY}model": "llama",
            f"{KEY}pre": "default",
            f"{KEY}scores": scores,
            f"{KEY}add_space_prefix": add_space,
        }


def different_ids_error(name: str, found: Difference) -> CourseError:
    """Return the error for a tokenizer that llama.cpp cannot reproduce."""
    what = f"{name}: llama.cpp cannot give the token ids of transformers: {found.text!r} becomes "
    return CourseError(f"{what}{found.llama_cpp} instead of {found.transformers}", USE_TRANSFORMERS)


def _tokens(state: dict[str, Any], rows: int, name: str) -> dict[str, list[Any]]:
    """Return the texts and types of all tokens by id. Unused embedding rows get names such as [PAD7]."""
    from gguf import TokenType

    model, added = state["model"], {token["id"]: token for token in state["added_tokens"]}
    texts = {id_: text for text, id_ in model["vocab"].items()}
    texts |= {id_: token["content"] for id_, token in added.items()}
    if max(texts) >= rows:
        what = f"{name} has {max(texts) + 1} tokens, but the model has only {rows} embeddings"
        raise CourseError(what, "save the model's own tokenizer in the folder")
    types = dict.fromkeys(texts, TokenType.NORMAL)
    if model.get("byte_fallback"):
        types |= {id_: TokenType.BYTE for id_, text in texts.items() if BYTE.fullmatch(text)}
    types |= {i: TokenType.CONTROL if t["special"] else TokenType.USER_DEFINED for i, t in added.items()}
    if (unknown := model["vocab"].get(model.get("unk_token"))) is not None:
        types[unknown] = TokenType.UNKNOWN if model.get("byte_fallback") else types[unknown]
    return {
        f"{KEY}tokens": [texts.get(i, f"[PAD{i}]") for i in range(rows)],
        f"{KEY}token_type": [int(types.get(i, TokenType.UNUSED)) for i in range(rows)],
    }


def _scores(tokens: list[str], merges: list[str]) -> list[float]:
    """Return SentencePiece's scores: the earlier the merge that makes a token, the higher its score."""
    scores: dict[str, float] = {}
    for rank, pair in enumerate(merges):
        scores.setdefault(pair.replace(" ", ""), -float(rank))
    return [scores.get(token, -float(len(merges))) for token in tokens]


def _special_tokens(folder: Path, config: dict[str, Any], tokenizer: Any) -> dict[str, Any]:
    """Return the ids of the BOS, EOS and padding tokens, and which of them the tokenizer adds to a text.

    Raises CourseError if EOS is missing, because llama.cpp would then use a default id, and for a tokenizer
    that adds other tokens.
    """
    eos_ids = read_json(folder, "generation_config.json").get("eos_token_id", config["eos_token_id"])
    eos_ids = eos_ids if isinstance(eos_ids, list) else [eos_ids]
    if None in eos_ids or not 1 <= len(eos_ids) <= 3:
        what = f"{folder.name} has the EOS tokens {eos_ids}; llama.cpp needs one to three"
        raise CourseError(what, "set eos_token_id in config.json and generation_config.json")
    text = tokenizer("a", add_special_tokens=False)["input_ids"]
    with_ends = tokenizer("a")["input_ids"]
    bos = [tokenizer.bos_token_id] if with_ends != text and with_ends[0] == tokenizer.bos_token_id else []
    eos = eos_ids[:1] if with_ends[-1:] == eos_ids[:1] else []
    if with_ends != [*bos, *text, *eos]:
        what = f"{folder.name}: the tokenizer turns 'a' into {with_ends}, without special tokens into {text}"
        raise CourseError(f"{what}; llama.cpp can add only BOS and EOS", USE_TRANSFORMERS)
    first = next(
        id_ for id_ in (*bos, tokenizer.bos_token_id, config["bos_token_id"], eos_ids[0]) if id_ is not None
    )
    fields = {f"{KEY}bos_token_id": first, f"{KEY}add_bos_token": bool(bos)}
    if eos:
        fields[f"{KEY}add_eos_token"] = True
    names = ("eos_token_id", "eot_token_id", "eom_token_id")
    fields |= {KEY + name: id_ for name, id_ in zip(names, eos_ids, strict=False)}
    if config["pad_token_id"] is not None:
        fields[f"{KEY}padding_token_id"] = config["pad_token_id"]
    return fields


def chat_template(folder: Path) -> str | None:
    """Return the chat template of a model folder, of several the one named default; None if it has none."""
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text("utf-8")
    template = read_json(folder, "tokenizer_config.json").get("chat_template")
    if isinstance(template, list):
        template = {named["name"]: named["template"] for named in template}.get("default")
    return template if isinstance(template, str) else None
