"""Turn the tokenizer fields of a GGUF file into a tokenizer of transformers that gives the same ids.

NFC is Unicode's form in which a letter and its accent are one character. GGUF is the file format of
llama.cpp.
"""

from __future__ import annotations

from typing import Any

from course_lib.errors import CourseError
from course_lib.models.gguf.tokenizer import KEY, NORMALIZER

# Regular expressions by which tokenizers split a text before BPE (byte-pair encoding) joins parts to tokens.
END = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA_3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|" + END
UPPER, LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
TEKKEN = rf"[^\r\n\p{{L}}\p{{N}}]?[{UPPER}]*[{LOWER}]+|[^\r\n\p{{L}}\p{{N}}]?[{UPPER}]+[{LOWER}]*|\p{{N}}|"
REGEXES = {  # llama.cpp's name of a way to split texts (llama-vocab.cpp) -> its regular expression
    "llama-bpe": LLAMA_3,
    "smaug-bpe": LLAMA_3,
    "qwen2": LLAMA_3.replace("{1,3}", ""),
    "deepseek-r1-qwen": LLAMA_3.replace("{1,3}", ""),
    "tekken": TEKKEN + END.replace(r"[\r\n]*|\s*", r"[\r\n/]*|\s*"),
}
READS_WHOLE_WORDS_FIRST = ("llama-bpe", "tekken")  # tokenizers that take a whole word first, if it is a token
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED = 1, 2, 3, 4, 5  # gguf.TokenType


def unpack_tokenizer(fields: dict[str, Any], name: str) -> Any:
    """Return a tokenizer of transformers for the fields of a GGUF file with decoded arrays.

    Raises CourseError for a kind that is not supported. The caller has to check that the ids are the same.
    """
    from tokenizers import AddedToken, processors
    from transformers import PreTrainedTokenizerFast

    tokens: list[str] = fields[f"{KEY}tokens"]
    types: list[int] = fields[f"{KEY}token_type"]
    is_spm = fields[f"{KEY}model"] == "llama"  # a tokenizer of SentencePiece
    backend = _with_byte_fallback(fields, types) if is_spm else _byte_level(fields, name)
    marks = {i: token for i, token in enumerate(tokens) if types[i] in (UNKNOWN, CONTROL, USER_DEFINED)}
    for i, token in marks.items():
        is_special = types[i] != USER_DEFINED
        backend.add_tokens([AddedToken(token, special=is_special, normalized=False)])
    names = {"bos": f"{KEY}bos_token_id", "eos": f"{KEY}eos_token_id", "unk": f"{KEY}unknown_token_id"}
    names["pad"] = f"{KEY}padding_token_id"
    ids = {role: fields[key] for role, key in names.items() if key in fields}
    pattern = "$A"
    if fields.get(f"{KEY}add_bos_token", is_spm):
        pattern = f"{tokens[ids['bos']]} {pattern}"
    if fields.get(f"{KEY}add_eos_token", False):
        pattern = f"{pattern} {tokens[ids['eos']]}"
    ends = [(tokens[i], i) for role, i in ids.items() if role in ("bos", "eos")]
    if pattern != "$A":
        backend.post_processor = processors.TemplateProcessing(single=pattern, special_tokens=ends)
    texts = {f"{role}_token": tokens[i] for role, i in ids.items()}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, clean_up_tokenization_spaces=False, **texts)
    tokenizer.chat_template = fields.get("tokenizer.chat_template")
    return tokenizer


def composes_letters(fields: dict[str, Any]) -> bool:
    """Whether a text must be brought to Unicode NFC first, as by the tokenizer of Qwen."""
    return fields.get(NORMALIZER) == "NFC" or fields.get(f"{KEY}pre") == "qwen2"


def _ids(fields: dict[str, Any]) -> dict[str, int]:
    """Return token -> id. Of two tokens with the same text, the first counts, as in llama.cpp."""
    typed = list(enumerate(zip(fields[f"{KEY}tokens"], fields[f"{KEY}token_type"], strict=True)))
    return {token: i for i, (token, kind) in reversed(typed) if kind != UNUSED}


def _byte_level(fields: dict[str, Any], name: str) -> Any:
    """Return the tokenizer of a vocabulary of BPE on bytes."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    kind = fields.get(f"{KEY}pre", "default")
    if fields[f"{KEY}model"] != "gpt2" or kind not in ("gpt-2", "smollm", *REGEXES):
        what = f"{name} has a tokenizer of the type {fields[f'{KEY}model']}, {kind}; supported are llama "
        what += f"and gpt2 with gpt-2, smollm, {', '.join(REGEXES)}"
        raise CourseError(what, "use the model's own folder")
    merges = [tuple(pair.split(" ")) for pair in fields[f"{KEY}merges"]]
    reads_whole = kind in READS_WHOLE_WORDS_FIRST
    tokenizer = Tokenizer(models.BPE(_ids(fields), merges, ignore_merges=reads_whole))
    steps: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] if kind == "smollm" else []
    if kind in REGEXES:
        steps.append(pre_tokenizers.Split(Regex(REGEXES[kind]), "isolated"))
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=kind not in REGEXES))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    if composes_letters(fields):
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _with_byte_fallback(fields: dict[str, Any], types: list[int]) -> Any:
    """Return the tokenizer of a vocabulary of the library SentencePiece: BPE, merges ordered by scores."""
    from tokenizers import Tokenizer, decoders, models, normalizers
    from transformers.tokenization_utils_base import generate_merges

    tokens, scores = fields[f"{KEY}tokens"], fields[f"{KEY}scores"]
    vocabulary = _ids(fields)
    marks = {token for token, kind in zip(tokens, types, strict=True) if kind not in (NORMAL, USER_DEFINED)}
    merges = generate_merges(vocabulary, dict(zip(tokens, scores, strict=True)), skip_tokens=marks)
    unknown = tokens[fields.get(f"{KEY}unknown_token_id", 0)]
    tokenizer = Tokenizer(
        models.BPE(vocabulary, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True)
    )
    spaces, add_space = normalizers.Replace(" ", "▁"), fields.get(f"{KEY}add_space_prefix", True)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), spaces]) if add_space else spaces
    decoding = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(decoding + ([decoders.Strip(" ", 1, 0)] if add_space else []))
    return tokenizer
