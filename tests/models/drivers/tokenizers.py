"""Small tokenizers of the kinds that real models have, trained on the handbook."""

from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from course_lib import data
from tests.models.drivers.templates import Family

WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}DIGITS"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPLITS = {  # the pattern by which a text is cut before byte-level BPE
    "Llama 3": WORDS.replace("DIGITS", "{1,3}"),
    "Qwen 2": WORDS.replace("DIGITS", ""),
}
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
SPACE = normalizers.Replace(" ", "▁")
VOCABULARY = 1200


def save_tokenizer(folder: Path, family: Family) -> PreTrainedTokenizerFast:
    """Train the tokenizer of a family and save it with the family's chat template."""
    make = _sentencepiece if family.tokenizer in ("Gemma", "Llama 2") else _byte_level
    tokenizer = make(family)
    bos = family.control[0]
    if family.bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, tokenizer.token_to_id(bos))]
        )
    complete = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=bos, eos_token=family.end)
    complete.chat_template = family.template
    complete.save_pretrained(folder)
    return complete


def _prose() -> list[str]:
    return [p.text for language in ("en", "ko") for p in data.load_passages(language=language).values()]


def _byte_level(family: Family) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(ignore_merges=family.tokenizer == "Llama 3"))
    if family.tokenizer == "digits":
        steps = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    else:
        split = pre_tokenizers.Split(Regex(SPLITS[family.tokenizer]), "isolated")
        steps = [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    if family.tokenizer == "Qwen 2":
        tokenizer.normalizer = normalizers.NFC()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(family.control),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*_prose(), "it's  \n\n  12 345\t  x\n\n\n" * 20], trainer)
    return tokenizer


def _sentencepiece(family: Family) -> Tokenizer:
    """BPE with byte fallback and "▁" for a space, as transformers converts it from SentencePiece."""
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Metaspace()
    size = VOCABULARY - len(BYTES) - len(family.control) - 1
    learner.train_from_iterator(_prose(), trainers.BpeTrainer(vocab_size=size, show_progress=False))
    learnt = [token for token, _ in sorted(learner.get_vocab().items(), key=lambda item: item[1])]
    vocabulary = {t: i for i, t in enumerate(dict.fromkeys(["<unk>", *family.control, *BYTES, *learnt]))}
    merges = [
        (token[:i], token[i:])
        for token in learnt
        for i in range(1, len(token))
        if token[:i] in vocabulary and token[i:] in vocabulary
    ]
    tokenizer = Tokenizer(
        models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    gemma = family.tokenizer == "Gemma"
    tokenizer.normalizer = SPACE if gemma else normalizers.Sequence([normalizers.Prepend("▁"), SPACE])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(steps if gemma else [*steps, decoders.Strip(" ", 1, 0)])
    tokenizer.add_special_tokens(["<unk>", *family.control])
    return tokenizer
